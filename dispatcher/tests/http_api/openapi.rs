//! `/openapi.json` says what the API does: every operation is called with the document's own examples, and every answer
//! is held against the document's schemas.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use std::collections::BTreeSet;

use crate::support::{Node, Said, World, grab, said};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidemill_dispatcher::http::{Limits, Tokens};

const SCOPES: [&str; 4] = ["produce", "work", "read", "admin"];

/// The document, with its schemas made strict: the server sends no field that is not described.
struct Document(Value);

impl Document {
    fn operations(&self) -> Vec<Operation<'_>> {
        let paths = self.0["paths"].as_object().unwrap();
        let of = |(path, methods): (&'_ String, &'_ Value)| -> Vec<(String, String, Value)> {
            let methods = methods.as_object().unwrap();
            methods.iter().map(|(name, about)| (path.clone(), name.to_uppercase(), about.clone())).collect()
        };
        let all = paths.iter().flat_map(of);
        all.map(|(path, method, about)| Operation { document: self, path, method, about }).collect()
    }

    #[track_caller]
    fn check(&self, schema: &Value, value: &Value) {
        let root = json!({"allOf": [schema], "components": self.0["components"]});
        let validator = jsonschema::options().should_validate_formats(true).build(&root).unwrap();
        let faults: Vec<String> =
            validator.iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        assert!(faults.is_empty(), "{faults:#?}\nin {value:#}\nby {schema:#}");
    }
}

fn make_strict(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("properties").is_some_and(Value::is_object) {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
            fields.values_mut().for_each(make_strict);
        }
        Value::Array(items) => items.iter_mut().for_each(make_strict),
        _ => {}
    }
}

struct Operation<'a> {
    document: &'a Document,
    path: String,
    method: String,
    about: Value,
}

/// What stands in the place of the examples' names.
#[derive(Default)]
struct Real {
    lease: String,
    id: String,
    worker: String,
}

impl Operation<'_> {
    fn id(&self) -> &str {
        self.about["operationId"].as_str().unwrap()
    }

    fn scope(&self) -> Option<&str> {
        self.about["security"][0]["token"][0].as_str()
    }

    fn example(&self, name: &str) -> String {
        let all = self.about["parameters"].as_array();
        let found = all.into_iter().flatten().find(|one| one["name"] == name);
        let example = &found.unwrap_or_else(|| panic!("no parameter {name}"))["example"];
        example.as_str().map_or_else(|| example.to_string(), str::to_owned)
    }

    /// The path and the query, filled in.
    fn url(&self, real: &Real) -> String {
        let mut url = self.path.clone();
        for (name, with) in
            [("queue", "mail"), ("id", &*real.id), ("lease", &*real.lease), ("instance", &*real.worker)]
        {
            if url.contains(&format!("{{{name}}}")) {
                assert!(!self.example(name).is_empty());
                url = url.replace(&format!("{{{name}}}"), with);
            }
        }
        let parameters = self.about["parameters"].as_array();
        for one in parameters.into_iter().flatten().filter(|one| one["in"] == "query") {
            let name = one["name"].as_str().unwrap();
            self.document.check(&one["schema"], &one["example"]);
            url.push_str(&format!(
                "{}{name}={}",
                if url.contains('?') { '&' } else { '?' },
                self.example(name)
            ));
        }
        assert!(!url.contains('{'), "{url}");
        url
    }

    /// Every form of the body: media type and text. The examples are valid themselves.
    fn bodies(&self, real: &Real) -> Vec<(String, String)> {
        let Some(forms) = self.about["requestBody"]["content"].as_object() else {
            return vec![(String::new(), String::new())];
        };
        let text = |(media, form): (&String, &Value)| {
            let text = if media == "application/json" {
                self.document.check(&form["schema"], &form["example"]);
                form["example"].to_string()
            } else {
                let text = form["example"].as_str().unwrap();
                for line in text.lines() {
                    let schema = &form["schema"]["contentSchema"];
                    self.document.check(schema, &serde_json::from_str(line).unwrap());
                }
                text.to_owned()
            };
            (media.clone(), text.replace("l-1-7-123-1-0-4-89abcdef01234567", &real.lease))
        };
        forms.iter().map(text).collect()
    }

    async fn call(&self, node: &Node, url: &str, (media, text): &(String, String)) -> Said {
        let mut request = node.request(Method::from_bytes(self.method.as_bytes()).unwrap(), url);
        if !media.is_empty() {
            request = request.header("content-type", media).body(text.clone());
        }
        let answer = said(request.send().await.unwrap()).await;
        let described = &self.about["responses"][answer.status.to_string()];
        let form = &described["content"][&answer.media];
        assert!(form.is_object(), "{} answers what is not described: {answer:?}", self.id());
        self.document.check(&form["schema"], &answer.body);
        answer
    }
}

async fn document(node: &Node) -> Document {
    let mut document = node.get("/openapi.json").await.good();
    document["components"]["schemas"].as_object_mut().unwrap().values_mut().for_each(make_strict);
    Document(document)
}

fn tokens(world: &World) -> Tokens {
    let file =
        std::env::temp_dir().join(format!("tidemill-openapi-{}-{}", std::process::id(), world.db.name()));
    let hash = |text: &str| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut lines = format!("root {} produce,work,read,admin\n", hash("root"));
    lines.extend(SCOPES.map(|scope| format!("{scope} {} {scope}\n", hash(scope))));
    std::fs::write(&file, lines).unwrap();
    let tokens = Tokens::load(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    tokens
}

/// Two jobs that can be leased, of the examples' kind, and one more that is.
async fn prepare(world: &mut World, node: &mut Node) -> Real {
    node.token = Some("root");
    let job = json!({"type": "send_email", "args": {"to": "a"}, "coalesce_key": "example.org"});
    node.post("/v1/queues/mail/jobs", json!({"jobs": [job, job, job]})).await.good();
    world.tick().await;
    let mut body = grab(&["mail"], 10_000);
    body["max"] = json!(1);
    let worker = body["worker"]["instance"].as_str().unwrap().to_owned();
    let leased = node.post("/v1/grab", body).await.good()["jobs"][0].clone();
    Real {
        lease: leased["lease"].as_str().unwrap().to_owned(),
        id: leased["id"].as_str().unwrap().to_owned(),
        worker,
    }
}

#[tokio::test]
async fn every_operation_answers_as_it_is_described() {
    let mut world = World::new(&["mail"]).await;
    let tokens = tokens(&world);
    let mut node = world.node_with(&["mail"], Limits::default(), Some(tokens)).await;
    let document = document(&node).await;
    let mut called = BTreeSet::new();
    for operation in document.operations() {
        let forms = operation.bodies(&Real::default()).len();
        for form in 0..forms {
            let real = prepare(&mut world, &mut node).await;
            let (url, body) = (operation.url(&real), operation.bodies(&real).swap_remove(form));
            if let Some(scope) = operation.scope() {
                for (token, status) in [(None, 401), (Some("wrong"), 401)] {
                    node.token = token;
                    assert_eq!(operation.call(&node, &url, &body).await.status, status, "{}", operation.id());
                }
                for other in SCOPES.into_iter().filter(|other| *other != scope) {
                    node.token = Some(other);
                    assert_eq!(operation.call(&node, &url, &body).await.status, 403, "{}", operation.id());
                }
            }
            node.token = Some("root");
            if !body.0.is_empty() {
                let broken = operation.call(&node, &url, &(body.0.clone(), "{\"shoe\":1}".to_owned())).await;
                assert_eq!(broken.status, 400, "{}: {broken:?}", operation.id());
                let untyped = operation.call(&node, &url, &("text/plain".to_owned(), body.1.clone())).await;
                assert_eq!(untyped.status, 415, "{}", operation.id());
            }
            let answer = operation.call(&node, &url, &body).await;
            assert!(answer.status < 300, "{}: {answer:?}", operation.id());
            match operation.id() {
                "grab" => assert!(answer.body["jobs"][0]["id"].is_string(), "{answer:?}"),
                "results" => assert_eq!(answer.body["results"][0]["answer"], "ok"),
                "replace" => assert_eq!(answer.body["inserted"], "2"),
                "heartbeat" => assert_eq!(answer.body["leases"][0]["answer"], "ok"),
                "job" => assert_eq!(answer.body["state"], "leased"),
                "workers" => {
                    let of = |worker: &&Value| worker["worker"]["instance"] == real.worker;
                    let worker = answer.body["workers"].as_array().unwrap().iter().find(of);
                    assert_eq!(worker.unwrap()["leased"], 1, "{answer:?}");
                }
                "quiet" | "terminate" => assert_eq!(answer.body["state"], operation.id()),
                "resume" => assert_eq!(answer.body["state"], "run"),
                _ => {}
            }
            if operation.path.contains("{queue}") && operation.method != "PUT" {
                let nowhere = url.replacen("/mail", "/nowhere", 1);
                assert_eq!(operation.call(&node, &nowhere, &body).await.status, 404, "{}", operation.id());
            }
        }
        if operation.path.contains("{instance}") {
            let stranger = uuid::Uuid::new_v4().to_string();
            for (worker, status) in [(&*stranger, 404), ("somebody", 400)] {
                let real = Real { worker: worker.to_owned(), ..Real::default() };
                let answer = operation.call(&node, &operation.url(&real), &Default::default()).await;
                assert_eq!(answer.status, status, "{}", operation.id());
            }
        }
        assert!(called.insert(operation.id().to_owned()), "{} is there twice", operation.id());
    }
    assert!(called.len() >= 17, "{called:?}");
}

#[tokio::test]
async fn the_router_has_no_method_that_is_not_described() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    let document = document(&node).await;
    assert_eq!(document.0["openapi"], "3.1.0");
    let real = Real { lease: "l".to_owned(), id: "1".to_owned(), worker: "w".to_owned() };
    for operation in document.operations() {
        let response = node.request(Method::TRACE, &operation.url(&real)).send().await.unwrap();
        assert_eq!(response.status(), 405, "{}", operation.path);
        let allowed = response.headers()["allow"].to_str().unwrap().to_owned();
        let allowed: BTreeSet<&str> = allowed.split(',').filter(|method| *method != "HEAD").collect();
        let described = document.0["paths"][&operation.path].as_object().unwrap();
        let described: BTreeSet<String> = described.keys().map(|method| method.to_uppercase()).collect();
        assert_eq!(allowed, described.iter().map(String::as_str).collect(), "{}", operation.path);
    }
}
