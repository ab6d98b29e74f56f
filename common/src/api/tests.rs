//! The examples of the contract, taken literally, and what must be refused, with its place.

use serde_json::json;

use super::*;

fn faults<T: serde::de::DeserializeOwned + Validate + std::fmt::Debug>(body: &str) -> Vec<(String, String)> {
    parse::<T>(body.as_bytes()).unwrap_err().into_iter().map(|v| (v.pointer, v.detail)).collect()
}

#[test]
fn one_job_and_many_jobs_are_told_apart_and_keep_their_text() {
    let one = ProduceRequest::parse(
        br#"{"type":"send_email", "args":{"to": "a@example.org",  "n":1.0},
            "run_at":"2026-12-01T08:00:00Z", "delay_ms":0, "max_attempts":25, "priority":0,
            "key":"tenant-7", "coalesce_key":"example.org", "cancel_key":"42",
            "unique":{"key":"welcome-7","scope":"unfinished"}, "timeout_ms":30000, "trace":"00-1-2-01"}"#,
    )
    .unwrap();
    let (job_type, args, options) = one.jobs.into_iter().next().unwrap().into_parts();
    assert_eq!(job_type, "send_email");
    assert_eq!(args.unwrap().get(), r#"{"to": "a@example.org",  "n":1.0}"#);
    assert_eq!(options.cancel_key, Some(42));

    let many =
        ProduceRequest::parse(br#"{"jobs":[{"type":"a"},{"type":"b","args":null,"cancel_key":7}]}"#).unwrap();
    assert_eq!(many.jobs.len(), 2);
    assert_eq!(many.jobs[1].cancel_key, Some(7));
}

#[test]
fn a_faulty_produce_says_where() {
    let refused = |body: &str| {
        let violation = ProduceRequest::parse(body.as_bytes()).unwrap_err().remove(0);
        (violation.pointer, violation.detail)
    };
    assert_eq!(refused(r#"{"jobs":[{"type":"a"},{"typo":"b"}]}"#).0, "/jobs/1/typo");
    assert!(refused(r#"{"type":"a","args":{},"retries":3}"#).1.contains("unknown field `retries`"));
    assert!(refused(r#"{"args":{}}"#).1.contains("missing field `type`"));
    assert_eq!(refused(r#"{"type":""}"#).0, "/type");
    assert_eq!(refused(r#"{"jobs":[{"type":"a","queue":"b"}]}"#).0, "/jobs/0/queue");
    assert_eq!(refused(r#"{"jobs":[]}"#).0, "/jobs");
    assert_eq!(refused(r#"{"type":"a","delay_ms":5,"run_at":"2026-12-01T08:00:00Z"}"#).0, "/delay_ms");
    assert!(refused(r#"{"type":"a""#).1.contains("line 1"));
    assert!(refused(r#"{"type":"a"} x"#).1.contains("trailing"));
    assert_eq!(refused(r#"{"type":"a\u0000"}"#).0, "/type");
}

#[test]
fn what_postgresql_cannot_store_is_refused_with_its_place() {
    let place = |args: &str| {
        let body = format!(r#"{{"type":"a","args":{args}}}"#);
        ProduceRequest::parse(body.as_bytes()).err().map(|mut v| v.remove(0).pointer)
    };
    assert_eq!(place(r#"{"x":[1,{"y/z":"a\u0000"}]}"#).as_deref(), Some("/args/x/1/y~1z"));
    assert_eq!(place(r#"{"x\u0000":1}"#).as_deref(), Some("/args"));
    assert_eq!(place(r#""\ud800""#).as_deref(), Some("/args"));
    assert_eq!(place(r#""\udc00\ud800""#).as_deref(), Some("/args"));
    assert_eq!(place(r#""\ud83d\ude00 \\u0000 \\\\u0000 \n""#), None);
    assert_eq!(place(r#""\\\u0000""#).as_deref(), Some("/args"));
    assert_eq!(
        place(&format!("{}\"\\u0000\"{}", "[".repeat(500), "]".repeat(500))).as_deref(),
        Some("/args")
    );
}

#[test]
fn the_grab_of_the_contract_parses() {
    let grab: GrabRequest = parse(
        br#"{"queues":["mail"], "types":["send_email"], "max":10, "lease_ms":60000, "wait_ms":20000,
            "transactional":false, "request":"17",
            "worker":{"instance":"6f0c0000-0000-4000-8000-000000000000","host":"web-3","pid":4711,"name":"mailer","version":"1.4"},
            "where":{"coalesce_key":{"prefix":"gmail.com"}, "args":{"customer":7}, "id":"123"},
            "results":[{"lease":"x","outcome":"complete"}]}"#,
    )
    .unwrap();
    assert_eq!(grab.request, Some(17));
    assert!(matches!(grab.filter.unwrap().coalesce_key, Some(KeyFilter::Prefix { .. })));
    assert!(matches!(grab.results[0].outcome, Outcome::Complete { result: None }));
}

#[test]
fn grab_limits_are_kept() {
    let grab = |fields: serde_json::Value| {
        let mut body = json!({"queues":["q"],"worker":{"instance":"6f0c0000-0000-4000-8000-000000000000"}});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        parse::<GrabRequest>(body.to_string().as_bytes()).err().map(|mut v| v.remove(0).pointer)
    };
    assert_eq!(grab(json!({})), None);
    assert_eq!(grab(json!({"max":1001})).as_deref(), Some("/max"));
    assert_eq!(grab(json!({"max":0})).as_deref(), Some("/max"));
    assert_eq!(grab(json!({"wait_ms":30001})).as_deref(), Some("/wait_ms"));
    assert_eq!(grab(json!({"lease_ms":999})).as_deref(), Some("/lease_ms"));
    assert_eq!(grab(json!({"lease_ms":86_400_001})).as_deref(), Some("/lease_ms"));
    assert_eq!(grab(json!({"queues":[]})).as_deref(), Some("/queues"));
    assert_eq!(grab(json!({"queues":["a b"]})).as_deref(), Some("/queues/0"));
    assert_eq!(grab(json!({"types":["x".repeat(256)]})).as_deref(), Some("/types/0"));
    assert_eq!(grab(json!({"where":{"coalesce_key":7}})).as_deref(), Some("/where/coalesce_key"));
    assert_eq!(grab(json!({"where":{"nope":7}})).as_deref(), Some("/where/nope"));
    assert_eq!(grab(json!({"request":"x"})).as_deref(), Some("/request"));
}

#[test]
fn results_are_flat_objects_and_come_back_as_they_went() {
    let text = r#"{"results":[{"lease":"a","outcome":"complete","result":{"messages": 3}},{"lease":"b","outcome":"temp_fail","message":"451 try later","retry_in_ms":60000},{"lease":"c","outcome":"perm_fail","message":"550 no such user"},{"lease":"d","outcome":"decline"},{"lease":"e","outcome":"replace","jobs":[{"type":"notify","args":{},"queue":"other"}]}]}"#;
    let request: ResultsRequest = parse(text.as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&request).unwrap(), text);
}

#[test]
fn a_result_with_a_field_of_another_outcome_is_refused() {
    let refused = |item: &str| faults::<ResultsRequest>(&format!(r#"{{"results":[{item}]}}"#)).remove(0);
    assert_eq!(
        refused(r#"{"lease":"a","outcome":"complete","message":"x"}"#),
        ("/results/0".to_owned(), "`complete` takes `result` only at line 1 column 61".to_owned())
    );
    assert!(refused(r#"{"lease":"a","outcome":"replace"}"#).1.contains("missing field `jobs`"));
    assert!(refused(r#"{"lease":"a","outcome":"done"}"#).1.contains("unknown variant `done`"));
    assert_eq!(refused(r#"{"lease":"","outcome":"decline"}"#).0, "/results/0/lease");
    let long = "x".repeat(4097);
    assert_eq!(
        refused(&format!(r#"{{"lease":"a","outcome":"perm_fail","message":"{long}"}}"#)).0,
        "/results/0/message"
    );
    assert_eq!(refused(r#"{"lease":"a","outcome":"complete","result":["\u0000"]}"#).0, "/results/0/result/0");
}

#[test]
fn answers_tolerate_what_a_later_version_adds() {
    let grab: GrabResponse = serde_json::from_value(json!({
        "jobs":[{"id":"123","queue":"mail","type":"send_email","args":{"to":"a"},"attempt":1,"max_attempts":25,
            "lease":"opaque","lease_ends_at":"2026-12-01T08:00:00Z","inserted_at":"2026-12-01T08:00:00Z",
            "reissued":true,"previous":{"instance":"6f0c0000-0000-4000-8000-000000000000","host":"h","pid":1,
            "ended":"expired","at":"2026-12-01T08:00:00Z"},"origin":null,"extra":null,"progress":null,
            "coalesce_key":null,"key":null,"trace":null,"later":1}],
        "results":[{"lease":"x","answer":"ok","later":1}], "state":"quiet", "later":{}
    }))
    .unwrap();
    assert_eq!(grab.state, WorkerState::Quiet);
    assert_eq!(grab.jobs[0].previous.as_ref().unwrap().ended, PreviousEnd::Expired);
}

#[test]
fn a_problem_names_its_kind_and_the_faults() {
    let violations = ProduceRequest::parse(br#"{"type":""}"#).unwrap_err();
    let problem = serde_json::to_value(Problem::invalid(violations)).unwrap();
    assert_eq!(problem["type"], "/problems/invalid-request");
    assert_eq!(problem["status"], 400);
    assert_eq!(problem["errors"][0]["pointer"], "/type");
    let back: Problem = serde_json::from_value(problem).unwrap();
    assert_eq!(back.kind(), Some(ProblemKind::InvalidRequest));
}

#[test]
fn a_selection_of_dead_letters_is_never_everything_by_accident() {
    assert!(parse::<DeadSelection>(b"{}").is_err());
    assert!(parse::<DeadSelection>(br#"{"ids":["1"],"all":true}"#).is_err());
    assert!(parse::<DeadSelection>(br#"{"ids":["1"],"type":"x"}"#).is_err());
    assert!(parse::<DeadSelection>(br#"{"all":true,"type":"x"}"#).is_ok());
}
