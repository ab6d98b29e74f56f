//! Unique keys: the flush that ends a job frees its key, and no other flush does.

use super::*;
use serde_json::json;

/// A rig whose window holds these: a job with a key, and one without.
fn rig() -> Rig {
    let mut rig = Rig::new();
    let (mut unique, plain) = (rig.row("a"), rig.row("a"));
    unique.event.extra[0] = Some(r#"{"unique": {"key": "k"}}"#.to_owned());
    rig.tick += 1;
    rig.engine.load(rig.tick, vec![unique, plain], true);
    rig
}

/// What the next flush frees.
fn freed(rig: &mut Rig) -> serde_json::Value {
    rig.commit().unwrap().cold["release"].clone()
}

#[test]
fn every_end_of_a_job_frees_its_key_in_the_same_flush() {
    for outcome in [complete(), perm_fail(), Outcome::Replace { jobs: Vec::new() }] {
        let mut rig = rig();
        let held = rig.grab(plain());
        rig.start_results(&[(held[0].lease, outcome.clone()), (held[1].lease, outcome.clone())]);
        assert_eq!(freed(&mut rig), json!([1]), "{outcome:?}: one of both has a key");
    }
}

#[test]
fn a_job_that_goes_on_keeps_its_key() {
    for outcome in [temp_fail(None), Outcome::Decline] {
        let mut rig = rig();
        let held = rig.grab(plain());
        rig.start_results(&[(held[0].lease, outcome.clone())]);
        assert_eq!(freed(&mut rig), json!(null), "{outcome:?}");
    }
    let mut rig = rig();
    rig.start_grab(Grab { transactional: true, ..plain() });
    assert_eq!(freed(&mut rig), json!(null), "it goes on in the waiting room");
}

#[test]
fn the_last_attempt_frees_it_and_so_does_its_end_by_time() {
    let mut rig = rig();
    for attempt in 1..=SETTINGS.max_attempts {
        let lease = rig.grab_one().lease;
        rig.pass(LEASE_MS + 1);
        if attempt < SETTINGS.max_attempts {
            assert_eq!((lease.job, lease.attempt), (1, attempt));
        }
    }
    rig.start_grab(plain());
    let flushes: Vec<_> = std::iter::from_fn(|| rig.commit()).collect();
    let freed: Vec<_> =
        flushes.iter().map(|flushed| &flushed.cold["release"]).filter(|r| !r.is_null()).collect();
    assert_eq!(freed, [&json!([1])]);
}

#[test]
fn a_cancelled_job_frees_it() {
    let mut rig = rig();
    let request = rig.request();
    rig.engine.cancel(request, crate::engine::Target::Job(1), 7);
    let call =
        rig.commit_answering(r#"{"cancel":[{"gone":0,"leased":[],"others":[1],"more":false}]}"#).unwrap();
    assert!(call.cold["release"].is_null());
    assert_eq!(freed(&mut rig), json!([1]));
}

#[test]
fn a_job_that_was_put_again_still_has_its_key() {
    let mut rig = Rig::new();
    let mut row = rig.row("a");
    (row.owner, row.retry) = (Some(SUB), Some(1));
    row.event.extra[0] = Some(json!({"attempt": 1, "extra1": r#"{"unique": {"key": "k"}}"#}).to_string());
    rig.engine.load(1, vec![row], true);
    let lease = rig.grab_one().lease;
    rig.start_results(&[(lease, complete())]);
    assert_eq!(freed(&mut rig), json!([1]));
}
