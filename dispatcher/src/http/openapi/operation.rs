//! One operation: its route, and what there is to say about it.

use axum::http::Method;
use axum::routing::MethodRouter;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;
use tidemill_common::api::ProblemKind::{
    self, Conflict, Forbidden, Internal, InvalidRequest, TooLarge, Unauthorized, Unavailable, UnknownQueue,
    UnsupportedMediaType,
};

use crate::http::auth::Scope;
use crate::http::state::ApiState;

/// Makes the schema of one type.
pub(super) type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// A method of a path.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// Unique; what generated clients call it.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    /// What the token must allow; `None`: no token is asked for.
    pub(super) scope: Option<Scope>,
    pub(super) query: Vec<Query>,
    pub(super) headers: Vec<Header>,
    pub(super) bodies: Vec<Body>,
    pub(super) answers: Vec<Answer>,
    pub(super) problems: Vec<ProblemKind>,
    pub(super) route: MethodRouter<ApiState>,
}

/// A parameter of the query; all are optional.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) schema: MakeSchema,
    pub(super) example: Value,
}

/// A header that a request may have.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) schema: Value,
    pub(super) example: &'static str,
}

/// A form of the request's body.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) media: &'static str,
    /// Of NDJSON: of one line.
    pub(super) schema: MakeSchema,
    /// Of NDJSON: an array of the lines.
    pub(super) example: Value,
}

/// A success.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) about: &'static str,
    /// More than one: which, depends on the request's form.
    pub(super) schemas: Vec<MakeSchema>,
}

/// One JSON value a line.
pub(super) const LINES: &str = "application/x-ndjson";

impl Operation {
    pub(super) fn new(
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        route: MethodRouter<ApiState>,
    ) -> Self {
        let (scope, query, headers, bodies) = (None, vec![], vec![], vec![]);
        let (answers, problems) = (vec![], vec![]);
        Self { method, path, id, summary, scope, query, headers, bodies, answers, problems, route }
    }

    /// Who may, and the problems that every call may meet.
    pub(super) fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self.also(&[Unauthorized, Forbidden, Internal, Unavailable])
    }

    /// It is about a queue that must be there, and be a job queue.
    pub(super) fn of_queue(self) -> Self {
        self.also(&[UnknownQueue, Conflict])
    }

    pub(super) fn query<T: JsonSchema>(
        mut self,
        name: &'static str,
        about: &'static str,
        example: Value,
    ) -> Self {
        self.query.push(Query { name, about, schema: SchemaGenerator::subschema_for::<T>, example });
        self.also(&[InvalidRequest])
    }

    pub(super) fn header(mut self, header: Header) -> Self {
        self.headers.push(header);
        self.also(&[InvalidRequest])
    }

    /// A body of JSON.
    pub(super) fn json<T: JsonSchema>(self, example: Value) -> Self {
        self.body::<T>("application/json", example)
    }

    /// A body of lines, each such a value.
    pub(super) fn lines<T: JsonSchema>(self, examples: Value) -> Self {
        self.body::<T>(LINES, examples)
    }

    fn body<T: JsonSchema>(mut self, media: &'static str, example: Value) -> Self {
        self.bodies.push(Body { media, schema: SchemaGenerator::subschema_for::<T>, example });
        self.also(&[InvalidRequest, TooLarge, UnsupportedMediaType])
    }

    pub(super) fn answer<T: JsonSchema>(self, status: u16, about: &'static str) -> Self {
        self.answers(status, about, vec![SchemaGenerator::subschema_for::<T>])
    }

    pub(super) fn answers(mut self, status: u16, about: &'static str, schemas: Vec<MakeSchema>) -> Self {
        self.answers.push(Answer { status, about, schemas });
        self
    }

    /// These may happen, too.
    pub(super) fn also(mut self, problems: &[ProblemKind]) -> Self {
        for problem in problems {
            if !self.problems.contains(problem) {
                self.problems.push(*problem);
            }
        }
        self
    }
}
