//! Priorities: a point is worth a minute of waiting, once and for all.

use std::collections::HashSet;

use super::*;
use crate::engine::{Filter, Paused};

const MINUTE_MS: u64 = 60_000;

/// The next job of the log, with this priority.
fn job(rig: &mut Rig, kind: &str, priority: i32) -> LogRow {
    let mut row = rig.row(kind);
    if priority != 0 {
        row.event.extra[0] = Some(format!(r#"{{"priority":{priority}}}"#));
    }
    row
}

/// Reads one more complete range.
fn load(rig: &mut Rig, jobs: &[(&str, i32)]) {
    let rows = jobs.iter().map(|(kind, priority)| job(rig, kind, *priority)).collect();
    rig.tick += 1;
    rig.engine.load(rig.tick, rows, true);
}

fn ready(jobs: &[(&str, i32)]) -> Rig {
    let mut rig = Rig::new();
    load(&mut rig, jobs);
    rig
}

fn find(coalesce_key: &str) -> Grab {
    let coalesce_key = Some(tidemill_common::api::KeyFilter::Exact(coalesce_key.to_owned()));
    Grab { filter: Some(Box::new(Filter { coalesce_key, ..Filter::default() })), ..plain() }
}

#[test]
fn the_higher_one_goes_first_and_equal_ones_as_they_were_read() {
    let jobs_by_priority = [("a", 0), ("a", 5), ("a", -1), ("a", 1_000), ("a", 5), ("a", -1_000), ("a", 0)];
    assert_eq!(jobs(&ready(&jobs_by_priority).grab(plain())), [4, 2, 5, 1, 7, 3, 6]);
}

#[test]
fn whatever_its_type() {
    let mut rig = ready(&[("a", 0), ("b", 1), ("c", 2), ("a", 3), ("b", 0)]);
    assert_eq!(jobs(&rig.grab(Grab { max: 1, ..of_types(&["a", "b"]) })), [4]);
    assert_eq!(jobs(&rig.grab(Grab { max: 2, ..of_types(&["b", "a"]) })), [2, 1]);
    assert_eq!(jobs(&rig.grab(plain())), [3, 5]);
}

#[test]
fn a_point_is_a_minute_of_waiting() {
    let mut rig = ready(&[("a", 0)]);
    rig.pass(MINUTE_MS - 1);
    load(&mut rig, &[("b", 1)]);
    assert_eq!(jobs(&rig.grab(plain())), [2, 1]);

    let mut rig = ready(&[("a", 0)]);
    rig.pass(MINUTE_MS);
    load(&mut rig, &[("b", 1)]);
    assert_eq!(jobs(&rig.grab(plain())), [1, 2], "it has waited for as long as the point is worth");
}

#[test]
fn who_waits_loses_nothing_to_those_that_come_later() {
    let limits = Limits { window_jobs: 10_000, ..LIMITS };
    let mut rig = Rig::with(SETTINGS, limits);
    load(&mut rig, &[("a", -1_000)]);
    for newest in 2..=1_001 {
        load(&mut rig, &[("a", 0)]);
        let lease = rig.grab_one().lease;
        assert_eq!((lease.job, rig.result(lease, complete())), (newest, Answer::Ok));
        rig.pass(MINUTE_MS);
    }
    load(&mut rig, &[("a", 0)]);
    assert_eq!(jobs(&rig.grab(plain())), [1, 1_002]);
}

#[test]
fn what_is_ready_again_has_its_place() {
    let mut rig = ready(&[("a", 0), ("a", 2), ("a", 1), ("a", 2)]);
    let held = rig.grab(Grab { max: 2, ..plain() });
    assert_eq!(jobs(&held), [2, 4]);
    assert_eq!(rig.result(held[0].lease, Outcome::Decline), Answer::Ok);
    rig.pass(LEASE_MS);
    rig.settle();
    assert_eq!(jobs(&rig.grab(plain())), [2, 4, 3, 1]);
}

#[test]
fn what_was_put_again_has_its_priority_still() {
    let mut rig = ready(&[("a", 1)]);
    let mut again = LogRow { owner: Some(SUB), retry: Some(1), ..rig.row("a") };
    let extra = r#"{"attempt":1,"extra1":"{\"priority\":2,\"max_attempts\":9}"}"#;
    again.event.extra[0] = Some(extra.to_owned());
    rig.engine.load(2, vec![again], true);
    assert_eq!(jobs(&rig.grab(plain())), [2, 1]);
}

#[test]
fn who_waits_gets_the_first_of_all_that_is_read_at_once() {
    let mut rig = Rig::new();
    rig.start_grab(Grab { max: 1, wait_ms: 1_000, ..plain() });
    rig.start_grab(Grab { max: 1, wait_ms: 1_000, ..of_types(&["b"]) });
    load(&mut rig, &[("a", 0), ("b", 2), ("b", 1)]);
    rig.settle();
    let told: Vec<_> = rig.answers().into_iter().map(|(_, answer)| jobs(&granted(answer))).collect();
    assert_eq!(told, [[2], [3]]);
}

/// A lease that ended before its job was read makes a new owner look at once who could have the job.
#[test]
fn also_of_a_new_owner() {
    let mut rig = ready(&[("a", 0)]);
    rig.grab_one();
    rig.pass(2 * LEASE_MS);
    let mut rig = rig.successor();
    rig.start_grab(Grab { max: 1, wait_ms: 1_000, ..plain() });
    load(&mut rig, &[("a", 0), ("a", 1)]);
    rig.settle();
    assert_eq!(jobs(&granted(rig.answer())), [2]);
}

#[test]
fn a_search_takes_the_first_that_it_wants() {
    let mut rig = Rig::new();
    let rows = [0, 3, 1, 3].map(|priority| {
        let mut row = rig.row("a");
        row.event.extra[0] = Some(format!(r#"{{"priority":{priority},"coalesce_key":"k"}}"#));
        row
    });
    rig.engine.load(1, rows.to_vec(), true);
    assert_eq!(jobs(&rig.grab(Grab { max: 3, ..find("k") })), [2, 4, 3]);
}

/// The walk goes by rank, in portions; what becomes ready where it has been comes before what it finds further on.
#[test]
fn a_search_that_goes_on_misses_nothing_that_comes_before() {
    let keyed = |rig: &mut Rig, priority: i32| {
        let mut row = rig.row("a");
        row.event.extra[0] = Some(format!(r#"{{"priority":{priority},"coalesce_key":"k"}}"#));
        row
    };
    let limits = Limits { window_jobs: 100_000, window_bytes: 1 << 30, ..LIMITS };
    let mut rig = Rig::with(SETTINGS, limits);
    let mut rows: Vec<_> = (0..50_000).map(|_| rig.row("a")).collect();
    rows.extend([keyed(&mut rig, 0), keyed(&mut rig, -1)]);
    rig.engine.load(1, rows, true);
    rig.start_grab(Grab { max: 2, ..find("k") });
    rig.pass(0);
    assert!(rig.answers().is_empty(), "20,000 entries a look");
    let rows = vec![keyed(&mut rig, -2), keyed(&mut rig, 1), rig.row("a"), keyed(&mut rig, 2)];
    rig.engine.load(2, rows, true);
    rig.pass(0);
    rig.settle();
    assert_eq!(jobs(&granted(rig.answer())), [50_006, 50_004]);
    assert_eq!(jobs(&rig.grab(Grab { max: 9, ..of_types(&["a"]) }))[0], 1);
}

#[test]
fn a_search_that_goes_on_comes_to_what_is_further_on_in_its_turn() {
    let limits = Limits { window_jobs: 100_000, window_bytes: 1 << 30, ..LIMITS };
    let mut rig = Rig::with(SETTINGS, limits);
    let mut rows: Vec<_> = (0..50_000).map(|_| rig.row("a")).collect();
    rows[49_999].event.extra[0] = Some(r#"{"coalesce_key":"k"}"#.to_owned());
    rig.engine.load(1, rows, true);
    rig.start_grab(Grab { max: 1, ..find("k") });
    let mut later = rig.row("a");
    later.event.extra[0] = Some(r#"{"coalesce_key":"k"}"#.to_owned());
    rig.engine.load(2, vec![later], true);
    for _ in 0..3 {
        rig.pass(0);
    }
    rig.settle();
    assert_eq!(jobs(&granted(rig.answer())), [50_000]);
}

#[test]
fn what_was_paused_has_its_place() {
    let mut rig = ready(&[("a", 0), ("b", 1), ("a", 2)]);
    let types = |number, types: &[&str]| {
        let types: HashSet<String> = types.iter().map(|&kind| kind.to_owned()).collect();
        Paused { number, types, ..Paused::default() }
    };
    rig.engine.pause(types(1, &["a"]));
    load(&mut rig, &[("a", 3), ("b", 4)]);
    assert_eq!(jobs(&rig.grab(Grab { max: 1, ..plain() })), [5]);
    rig.engine.pause(types(2, &[]));
    assert_eq!(jobs(&rig.grab(plain())), [4, 3, 2, 1]);
}

#[test]
fn the_oldest_ready_job_is_the_one_that_waits_longest() {
    let oldest = |rig: &Rig| rig.engine.counts().oldest_ready.map(|at| at.0);
    let mut rig = ready(&[("a", 0)]);
    load(&mut rig, &[("a", 1), ("b", 0), ("a", -1), ("a", 2)]);
    // The rows say that job 1 was inserted at 1, and so on.
    assert_eq!(oldest(&rig), Some(1));
    assert_eq!(jobs(&rig.grab(Grab { max: 2, ..of_types(&["a"]) })), [5, 2]);
    assert_eq!(oldest(&rig), Some(1));
    let held = rig.grab_one();
    assert_eq!((held.lease.job, oldest(&rig)), (1, Some(3)));
    assert_eq!(jobs(&rig.grab(of_types(&["b"]))), [3]);
    assert_eq!(oldest(&rig), Some(4), "it is behind the others, and they are gone");
    load(&mut rig, &[("a", 9)]);
    assert_eq!(oldest(&rig), Some(4));
    assert_eq!(rig.result(held.lease, Outcome::Decline), Answer::Ok);
    assert_eq!(oldest(&rig), Some(1));
    rig.engine.pause(Paused { number: 1, queue: true, ..Paused::default() });
    assert_eq!(oldest(&rig), None);
}

/// What is far behind the others would hold the mark for hours.
#[test]
fn what_was_overtaken_by_a_window_of_jobs_goes_first() {
    let limits = Limits { window_jobs: 10, ask_ms: HOLD_MS, ..LIMITS };
    let mut rig = Rig::with(SETTINGS, limits);
    load(&mut rig, &[("a", -1_000), ("a", -1_000)]);
    let mut passed = 0;
    loop {
        load(&mut rig, &[("a", 0)]);
        rig.pass(HOLD_MS / 30);
        let job = rig.grab_one().lease;
        assert_eq!(rig.result(job, complete()), Answer::Ok);
        if job.job == 1 {
            break;
        }
        passed += 1;
        assert!(passed < 100, "it waits for ever");
    }
    assert!((18..=21).contains(&passed), "after two windows, not after {passed} jobs");
    let job = rig.grab_one().lease;
    assert_eq!((job.job, rig.result(job, complete())), (2, Answer::Ok));
    assert!(rig.engine.low_water() > 1);
    assert_eq!(rig.grab_one().lease.job, rig.next_job - 1);
}

#[test]
fn what_nobody_asks_for_is_parked_as_it_was_read() {
    let limits = Limits { window_jobs: 600, hold_ms: 30_000, ..LIMITS };
    let mut rig = Rig::with(SETTINGS, limits);
    let all: Vec<_> = (0..600).map(|n| ("a", n % 7)).collect();
    load(&mut rig, &all);
    rig.pass(2 * ASK_MS);
    rig.start_grab(Grab { wait_ms: 60_000, ..of_types(&["b"]) });
    rig.pass(1_000);
    let parked = rig.commit().map(|flushed| cold(&flushed, "wait", "job").len());
    assert_eq!(parked, Some(500));
    assert_eq!(rig.engine.counts().oldest_ready, Some(Micros(501)), "500 at a time, and those first");
}

#[test]
fn whatever_cannot_be_a_priority_is_none() {
    for nonsense in
        ["1001", "-1001", "99999999999999999999", "1.5", "1e2", "\"9\"", "null", "true", "[1]", "{}"]
    {
        let mut rig = ready(&[("a", 0), ("a", 1)]);
        let mut row = rig.row("a");
        row.event.extra[0] = Some(format!(r#"{{"priority":{nonsense},"max_attempts":9}}"#));
        rig.engine.load(2, vec![row], true);
        let given = rig.grab(plain());
        assert_eq!((jobs(&given), given[2].max_attempts), (vec![2, 1, 3], 9), "{nonsense}");
    }
}
