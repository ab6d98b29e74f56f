//! Grabs with `where`.

use super::*;
use crate::engine::Filter;
use tidemill_common::api::KeyFilter;

fn searching(filter: Filter) -> Grab {
    Grab { filter: Some(Box::new(filter)), ..plain() }
}

fn args(args: serde_json::Value) -> Grab {
    searching(Filter { args: Some(args), ..Filter::default() })
}

fn job(job: i64, data: &str, extra1: &str) -> LogRow {
    let mut row = row(job, "a");
    row.event.data = Some(data.to_owned());
    row.event.extra[0] = Some(extra1.to_owned());
    row
}

fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.engine.load(
        1,
        vec![
            job(1, r#"{"customer": 7, "city": "Ulm"}"#, r#"{"coalesce_key":"gmail.com:a"}"#),
            job(2, r#"{"customer": 8}"#, r#"{"coalesce_key":"gmail.com:b"}"#),
            job(3, r#"{"customer": 7}"#, r#"{"coalesce_key":"example.org"}"#),
            job(4, "customer=7", "somebody's own"),
            job(5, r#"{"\u0063ustomer": 7}"#, "{}"),
        ],
        true,
    );
    rig
}

#[test]
fn takes_what_contains_the_arguments() {
    assert_eq!(jobs(&rig().grab(args(serde_json::json!({"customer": 7})))), [1, 3, 5]);
    assert_eq!(jobs(&rig().grab(args(serde_json::json!({"city": "Ulm"})))), [1]);
    assert_eq!(jobs(&rig().grab(args(serde_json::json!("customer=7")))), [4], "no JSON is a JSON string");
    assert_eq!(jobs(&rig().grab(Grab { max: 1, ..args(serde_json::json!({"customer": 7})) })), [1]);
}

#[test]
fn takes_a_key_or_its_beginning() {
    let key = |key| searching(Filter { coalesce_key: Some(key), ..Filter::default() });
    assert_eq!(jobs(&rig().grab(key(KeyFilter::Exact("gmail.com:b".to_owned())))), [2]);
    assert_eq!(jobs(&rig().grab(key(KeyFilter::Prefix { prefix: "gmail.com".to_owned() }))), [1, 2]);
    assert_eq!(jobs(&rig().grab(key(KeyFilter::Exact("gmail.com".to_owned())))), NONE);
}

#[test]
fn takes_one_job_if_every_condition_holds() {
    let both = |id| {
        searching(Filter {
            id: Some(id),
            args: Some(serde_json::json!({"customer": 7})),
            ..Filter::default()
        })
    };
    assert_eq!(jobs(&rig().grab(both(3))), [3]);
    assert_eq!(jobs(&rig().grab(both(2))), NONE);
}

#[test]
fn what_it_leaves_keeps_its_place() {
    let mut rig = rig();
    rig.grab(searching(Filter { id: Some(2), ..Filter::default() }));
    assert_eq!(jobs(&rig.grab(plain())), [1, 3, 4, 5]);
}

#[test]
fn wakes_when_a_job_like_that_comes() {
    let mut rig = Rig::new();
    let wanted = args(serde_json::json!({"customer": 7}));
    let request = rig.start_grab(Grab { wait_ms: 1_000, ..wanted });
    rig.engine.load(1, vec![job(1, r#"{"customer": 8}"#, "{}")], true);
    assert!(rig.take().is_none());
    rig.engine.load(2, vec![job(2, r#"{"customer": 7}"#, "{}"), job(3, r#"{"customer": 7}"#, "{}")], true);
    rig.settle();
    let (answered, answer) = rig.answers().remove(0);
    assert_eq!((answered, jobs(&granted(answer))), (request, vec![2, 3]));
}

#[test]
fn wakes_when_such_a_job_is_given_back() {
    let mut rig = rig();
    let held = rig.grab(plain());
    rig.start_grab(Grab { wait_ms: 1_000, holder: worker(2), ..args(serde_json::json!({"customer": 8})) });
    rig.start_results(&[(held[0].lease, Outcome::Decline), (held[1].lease, Outcome::Decline)]);
    rig.settle();
    assert_eq!(jobs(&granted(rig.answers().remove(1).1)), [2]);
}

#[test]
fn goes_on_until_it_has_seen_the_whole_window() {
    let limits = Limits { window_jobs: 100_000, window_bytes: 1 << 30, ..LIMITS };
    let mut rig = Rig::with(SETTINGS, limits);
    let rows = (1..=50_000).map(|n| job(n, "{}", "{}")).collect();
    rig.engine.load(1, rows, true);
    let find = |id| searching(Filter { id: Some(id), ..Filter::default() });
    let request = rig.start_grab(find(49_999));
    assert!(rig.answers().is_empty());
    for _ in 0..2 {
        assert_eq!(rig.engine.deadline(), Some(rig.now), "50,000 entries, 20,000 a look");
        rig.pass(0);
    }
    rig.settle();
    let (answered, answer) = rig.answers().remove(0);
    assert_eq!((answered, jobs(&granted(answer))), (request, vec![49_999]));
    rig.start_grab(find(50_001));
    for _ in 0..3 {
        rig.pass(0);
    }
    assert_eq!(jobs(&granted(rig.answer())), NONE, "nothing is there: it does not wait");
}
