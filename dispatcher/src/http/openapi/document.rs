//! The document, from the list of operations.

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use tidemill_common::api::{Problem, ProblemKind};

use super::operation::{Answer, Body, LINES, Operation, Query};

/// The variable parts of paths: name, meaning, example.
const IN_PATH: [(&str, &str, &str); 4] = [
    ("queue", "A job queue's name.", "mail"),
    ("id", "A job's id.", "123"),
    ("lease", "The token that came with the job.", "l-1-7-123-1-0-4-89abcdef01234567"),
    ("instance", "A worker's instance.", "6f0c0000-0000-4000-8000-000000000000"),
];

/// The whole document.
pub(super) fn assemble(operations: &[Operation]) -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|all| all.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        methods[operation.method.as_str().to_lowercase()] = describe(operation, &mut generator);
    }
    generator.subschema_for::<Problem>();
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Tidemill dispatcher",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Jobs from PostgreSQL: produce, lease, finish, look, steer.",
            "description": "Ids are opaque strings, times RFC 3339 in UTC, durations integers in `_ms`, large \
                            numbers strings. Unknown fields of a request are refused; clients ignore unknown fields \
                            of an answer. A success means that it is committed.",
            "license": {"name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {"token": {
                "type": "http", "scheme": "bearer",
                "description": "Scopes `produce`, `work`, `read`, `admin`, each for all queues or for some. A \
                                dispatcher that listens on loopback only may take every call.",
            }},
        },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut out = json!({"operationId": operation.id, "summary": operation.summary});
    out["security"] = match operation.scope {
        Some(scope) => json!([{"token": [scope.name()]}]),
        None => json!([]),
    };
    let in_path = IN_PATH.iter().filter(|(name, ..)| operation.path.contains(&format!("{{{name}}}")));
    let mut parameters: Vec<Value> = in_path
        .map(|(name, about, example)| {
            json!({"name": name, "in": "path", "required": true, "description": about,
                   "schema": {"type": "string"}, "example": example})
        })
        .collect();
    parameters.extend(operation.query.iter().map(|query| in_query(query, generator)));
    parameters.extend(operation.headers.iter().map(|header| {
        json!({"name": header.name, "in": "header", "required": false, "description": header.about,
               "schema": header.schema, "example": header.example})
    }));
    if !parameters.is_empty() {
        out["parameters"] = parameters.into();
    }
    if !operation.bodies.is_empty() {
        let bodies: Map<_, _> =
            operation.bodies.iter().map(|body| (body.media.to_owned(), content(body, generator))).collect();
        out["requestBody"] = json!({"required": true, "content": bodies});
    }
    let mut responses: Map<_, _> = operation
        .answers
        .iter()
        .map(|answer| (answer.status.to_string(), success(answer, generator)))
        .collect();
    responses.extend(problems(&operation.problems, generator));
    out["responses"] = responses.into();
    out
}

fn in_query(query: &Query, generator: &mut SchemaGenerator) -> Value {
    json!({"name": query.name, "in": "query", "required": false, "description": query.about,
           "schema": (query.schema)(generator), "example": query.example})
}

/// The text of lines is no JSON: its schema is that of one line, beside the text's.
fn content(body: &Body, generator: &mut SchemaGenerator) -> Value {
    let schema = (body.schema)(generator);
    if body.media != LINES {
        return json!({"schema": schema, "example": body.example});
    }
    let lines: String =
        body.example.as_array().into_iter().flatten().map(|line| format!("{line}\n")).collect();
    json!({"schema": {"type": "string", "description": "One JSON value a line.", "contentMediaType": LINES,
                      "contentSchema": schema},
           "example": lines})
}

fn success(answer: &Answer, generator: &mut SchemaGenerator) -> Value {
    let mut schemas: Vec<Value> = answer.schemas.iter().map(|schema| schema(generator).to_value()).collect();
    let schema = if schemas.len() == 1 { schemas.remove(0) } else { json!({"anyOf": schemas}) };
    json!({"description": answer.about, "content": {"application/json": {"schema": schema}}})
}

/// By status: kinds that share one are told apart by `type`.
fn problems(kinds: &[ProblemKind], generator: &mut SchemaGenerator) -> Vec<(String, Value)> {
    let mut by_status: BTreeMap<u16, Vec<ProblemKind>> = BTreeMap::new();
    for kind in kinds {
        by_status.entry(kind.status()).or_default().push(*kind);
    }
    let describe = |(status, kinds): (u16, Vec<ProblemKind>)| {
        let problem = generator.subschema_for::<Problem>();
        let types: Vec<_> = kinds.iter().map(|kind| kind.as_type()).collect();
        let titles: Vec<_> = kinds.iter().map(|kind| kind.title()).collect();
        let mut response = json!({
            "description": titles.join("; or: "),
            "content": {Problem::MEDIA_TYPE: {"schema": {
                "allOf": [problem], "properties": {"type": {"enum": types}, "status": {"const": status}},
            }}},
        });
        if matches!(status, 429 | 503) {
            response["headers"] = json!({"Retry-After": {
                "required": true, "description": "Seconds.", "schema": {"type": "integer", "minimum": 1},
            }});
        }
        (status.to_string(), response)
    };
    by_status.into_iter().map(describe).collect()
}
