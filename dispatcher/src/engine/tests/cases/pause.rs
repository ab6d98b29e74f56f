//! Pause: what is held back is not handed out, keeps its place, and is parked only when it is in the way.

use std::collections::HashSet;

use super::*;
use crate::engine::Paused;

fn names(names: &[&str]) -> HashSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn types(number: i64, paused: &[&str]) -> Paused {
    Paused { number, types: names(paused), ..Paused::default() }
}

fn whole(number: i64) -> Paused {
    Paused { number, queue: true, ..Paused::default() }
}

#[test]
fn a_paused_type_stays_and_keeps_its_place() {
    let mut rig = Rig::ready(&["a", "b", "a", "b"]);
    rig.engine.pause(types(1, &["a"]));
    let counts = rig.engine.counts();
    assert_eq!((counts.ready, counts.leased, counts.paused), (2, 0, 2));
    rig.load(&["a", "b"]);
    assert_eq!(jobs(&rig.grab(Grab { max: 2, ..plain() })), [2, 4]);
    rig.engine.pause(types(2, &[]));
    assert_eq!(jobs(&rig.grab(plain())), [1, 3, 5, 6]);
}

#[test]
fn nothing_of_a_paused_queue_is_handed_out_and_results_go_on() {
    let mut rig = Rig::ready(&["a", "a", "a"]);
    let job = rig.grab_one();
    let other = rig.grab_one();
    rig.engine.pause(whole(1));
    assert_eq!(jobs(&rig.grab(plain())), NONE);
    rig.start_grab(Grab { wait_ms: 60_000, ..plain() });
    assert_eq!(rig.result(job.lease, complete()), Answer::Ok);
    assert_eq!(rig.result(other.lease, Outcome::Decline), Answer::Ok);
    rig.load(&["a"]);
    assert!(rig.answers().is_empty(), "it waits as if there were nothing");
    rig.engine.pause(Paused { number: 2, ..Paused::default() });
    rig.settle();
    assert_eq!(jobs(&granted(rig.answer())), [2, 3, 4]);
}

#[test]
fn a_key_is_paused_whatever_the_type() {
    let mut rig = Rig::new();
    let mut keyed = [row(1, "a"), row(2, "b"), row(3, "a")];
    keyed[0].event.extra[0] = Some(r#"{"key":"x"}"#.to_owned());
    keyed[1].event.extra[0] = Some(r#"{"coalesce_key":"x", "key": "y"}"#.to_owned());
    rig.engine.pause(Paused { number: 1, keys: names(&["x"]), ..Paused::default() });
    rig.engine.load(1, keyed.to_vec(), true);
    assert_eq!(jobs(&rig.grab(plain())), [2, 3]);
}

#[test]
fn an_older_reading_changes_nothing() {
    let mut rig = Rig::ready(&["a"]);
    rig.engine.pause(whole(2));
    rig.engine.pause(types(1, &[]));
    assert_eq!(jobs(&rig.grab(plain())), NONE);
    assert_eq!(*rig.engine.paused(), whole(2));
}

#[test]
fn who_searches_does_not_find_it() {
    let mut rig = Rig::ready(&["a"]);
    rig.engine.pause(types(1, &["a"]));
    let filter = Some(Box::new(crate::engine::Filter { id: Some(1), ..Default::default() }));
    let search = Grab { wait_ms: 60_000, filter, ..plain() };
    rig.start_grab(search);
    assert!(rig.answers().is_empty());
    rig.engine.pause(types(2, &[]));
    rig.settle();
    assert_eq!(jobs(&granted(rig.answer())), [1]);
}

/// A full window of a paused type, and somebody who waits for anything.
fn full(paused: Paused) -> Rig {
    let mut rig = Rig::ready(&["a"; 100]);
    rig.engine.pause(paused);
    rig.start_grab(Grab { wait_ms: 3_600_000, ..plain() });
    rig.pass(HOLD_MS / 30);
    rig
}

#[test]
fn a_paused_type_that_is_in_the_way_is_parked_until_it_is_resumed() {
    let mut rig = full(types(1, &["a"]));
    let flushed = rig.commit().unwrap();
    assert_eq!(cold(&flushed, "wait", "kind"), ["parked"; 100]);
    let counts = rig.engine.counts();
    assert_eq!((counts.parked, rig.engine.low_water()), (100, 1), "the log can be rotated");
    rig.pass(20_000);
    assert!(rig.take().is_none(), "nobody calls it back");
    rig.engine.pause(types(2, &[]));
    let flushed = rig.take().unwrap();
    assert_eq!(cold(&flushed, "unpark", "type"), ["a"]);
}

#[test]
fn a_queue_that_is_paused_as_a_whole_waits_in_the_log() {
    let mut rig = full(whole(1));
    assert!(rig.take().is_none());
    rig.pass(HOLD_MS);
    assert!(rig.take().is_none());
    assert_eq!(rig.engine.counts().parked, 0);
}

#[test]
fn of_a_type_some_of_whose_keys_are_paused_the_others_come_back() {
    let mut fold = Fold::default();
    fold.parked("a".to_owned(), 3);
    let mut rig = Rig::new();
    rig.engine = Engine::new((QUEUE, SUB), EPOCH, SETTINGS, LIMITS, 0, fold, SmallRng::seed_from_u64(2));
    rig.engine.pause(Paused { number: 1, keys: names(&["x"]), ..Paused::default() });
    rig.start_grab(Grab { wait_ms: 3_600_000, ..plain() });
    let flushed = rig.commit_answering(r#"{"unpark":[0]}"#).unwrap();
    assert_eq!(cold(&flushed, "unpark", "without"), [&serde_json::json!(["x"])]);
    rig.pass(20_000);
    assert!(rig.take().is_none(), "all that are left are paused");
    rig.engine.pause(types(2, &[]));
    let flushed = rig.take().unwrap();
    assert_eq!(cold(&flushed, "unpark", "without"), [&serde_json::Value::Null]);
}

#[test]
fn an_order_is_answered_after_what_was_granted_before() {
    let mut rig = Rig::ready(&["a", "a"]);
    rig.start_grab(Grab { max: 1, ..plain() });
    let request = rig.request();
    rig.engine.order_pause(request, whole(1));
    rig.start_grab(plain());
    assert!(rig.answers().is_empty());
    rig.settle();
    let answers: Vec<Answered> = rig.answers().into_iter().map(|(_, answered)| answered).collect();
    assert!(
        matches!(&answers[..], [Answered::Grab { jobs: one, .. }, Answered::Paused, Answered::Grab { jobs: none, .. }]
            if one.len() == 1 && none.is_empty()),
        "{answers:?}"
    );
}
