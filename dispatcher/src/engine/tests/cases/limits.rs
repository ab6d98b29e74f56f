//! Limits: who is held back, what comes back when, and what is counted.

use tidemill_common::api::{Limit, QueueLimits};

use super::*;
use crate::engine::record::LeaseKey;
use crate::engine::{Filter, LentLease};

fn leased(leased: u64) -> Limit {
    Limit { leased: Some(leased), per_second: None }
}

fn rate(per_second: f64) -> Limit {
    Limit { leased: None, per_second: Some(per_second) }
}

fn of_queue(limit: Limit) -> QueueLimits {
    QueueLimits { queue: Some(limit), ..QueueLimits::default() }
}

fn of_type(kind: &str, limit: Limit) -> QueueLimits {
    QueueLimits { types: [(kind.to_owned(), limit)].into(), ..QueueLimits::default() }
}

fn of_key(limit: Limit) -> QueueLimits {
    QueueLimits { key: Some(limit), ..QueueLimits::default() }
}

fn limited(limits: &QueueLimits) -> Rig {
    let mut rig = Rig::new();
    limit(&mut rig, limits);
    rig
}

/// As the shell does it, with an empty waiting room.
fn limit(rig: &mut Rig, limits: &QueueLimits) {
    rig.engine.set_limits(limits);
    if rig.engine.wants_lent() {
        rig.engine.count_lent(Vec::new());
    }
}

/// Reads jobs of these types and keys.
fn load(rig: &mut Rig, jobs: &[(&str, &str)]) {
    let rows = jobs.iter().map(|(kind, key)| {
        let mut row = rig.row(kind);
        row.event.extra[0] = Some(format!(r#"{{"key":"{key}"}}"#));
        row
    });
    let rows = rows.collect();
    rig.tick += 1;
    rig.engine.load(rig.tick, rows, true);
}

fn counts(rig: &Rig) -> (usize, usize, usize) {
    let counts = rig.engine.counts();
    (counts.ready, counts.limited, counts.leased)
}

fn one() -> Grab {
    Grab { max: 1, ..plain() }
}

fn waiting() -> Grab {
    Grab { wait_ms: 60_000, ..plain() }
}

/// Completes the job; what somebody who waited got then.
fn complete_for(rig: &mut Rig, job: &Granted) -> Vec<i64> {
    rig.start_results(&[(job.lease, complete())]);
    rig.settle();
    let mut got = Vec::new();
    for (_, answer) in rig.answers() {
        match answer {
            Answered::Grab { jobs: granted, .. } => got.extend(jobs(&granted)),
            answer => assert_eq!(decided(answer), [Answer::Ok]),
        }
    }
    got
}

#[test]
fn the_queues_limit_counts_grants_that_are_not_committed_yet() {
    let mut rig = limited(&of_queue(leased(2)));
    rig.load(&["a"; 5]);
    rig.start_grab(one());
    rig.start_grab(plain());
    rig.start_grab(plain());
    rig.settle();
    let got: Vec<_> = rig.answers().into_iter().map(|(_, answer)| granted(answer)).collect();
    assert_eq!(got.iter().map(|granted| jobs(granted)).collect::<Vec<_>>(), [vec![1], vec![2], vec![]]);
    assert_eq!(counts(&rig), (0, 3, 2));
    rig.start_grab(waiting());
    assert_eq!(complete_for(&mut rig, &got[0][0]), [3]);
}

#[test]
fn a_lease_counts_until_its_end_is_committed() {
    let mut rig = limited(&of_queue(leased(1)));
    rig.load(&["a", "a"]);
    let job = rig.grab_one();
    rig.start_results(&[(job.lease, complete())]);
    rig.start_grab(plain());
    assert_eq!(counts(&rig), (0, 1, 1), "its result is being committed");
    rig.settle();
    assert_eq!(counts(&rig), (1, 0, 0));
}

#[test]
fn a_type_at_its_limit_keeps_its_place_and_the_others_go_on() {
    let mut rig = limited(&of_type("a", leased(1)));
    rig.load(&["a", "a", "b", "a", "b"]);
    assert_eq!(jobs(&rig.grab(Grab { max: 2, ..plain() })), [1, 3]);
    assert_eq!(counts(&rig), (1, 2, 2));
    assert_eq!(jobs(&rig.grab(of_types(&["a"]))), NONE);
    rig.start_grab(Grab { wait_ms: 60_000, ..of_types(&["a"]) });
    rig.pass(LEASE_MS + 1);
    rig.settle();
    assert_eq!(jobs(&granted(rig.answer())), [1], "its lease has ended: it is free, and the first again");
}

#[test]
fn of_a_key_one_at_a_time_in_their_order_whatever_the_type() {
    let mut rig = limited(&of_key(leased(1)));
    load(&mut rig, &[("a", "x"), ("b", "x"), ("a", "x"), ("a", "y")]);
    rig.load(&["a", "a"]);
    let first = rig.grab(plain());
    assert_eq!(jobs(&first), [1, 4, 5, 6], "those without a key are free of it");
    assert_eq!(counts(&rig), (0, 2, 4));
    assert_eq!(rig.result(first[0].lease, Outcome::Decline), Answer::Ok);
    let again = rig.grab(plain());
    assert_eq!(jobs(&again), [1]);
    assert_eq!(rig.result(again[0].lease, complete()), Answer::Ok);
    assert_eq!(jobs(&rig.grab(of_types(&["a"]))), [3], "who takes a does not wait for b");
    assert_eq!(jobs(&rig.grab(plain())), NONE);
}

#[test]
fn who_takes_the_place_of_one_that_left_is_the_next_of_its_key() {
    let mut rig = limited(&of_key(leased(1)));
    load(&mut rig, &[("a", "x"), ("a", "x"), ("a", "x")]);
    let first = rig.grab_one();
    assert_eq!(jobs(&rig.grab(plain())), NONE);
    assert_eq!(rig.result(first.lease, complete()), Answer::Ok);
    let request = rig.request();
    rig.engine.cancel(request, crate::engine::Target::Job(2), 1);
    rig.commit_answering(r#"{"cancel":[{"gone":0,"leased":[],"others":[2],"more":false}]}"#);
    rig.settle();
    rig.answers();
    assert_eq!(jobs(&rig.grab(plain())), [3]);
}

#[test]
fn a_rate_lets_one_through_and_then_so_many_a_second() {
    let mut rig = limited(&of_type("a", rate(10.0)));
    rig.load(&["a", "a", "a", "b"]);
    assert_eq!(jobs(&rig.grab(plain())), [1, 4]);
    rig.start_grab(waiting());
    let at = rig.engine.deadline().unwrap();
    rig.engine.advance(Micros(at.0 - 1));
    assert!(rig.take().is_none());
    assert!((95_000..=100_000).contains(&(at.0 - rig.now.0)), "the next is due in {}", at.0 - rig.now.0);
    rig.engine.advance(at);
    rig.settle();
    assert_eq!(jobs(&granted(rig.answer())), [2]);
    rig.pass(5_000);
    assert_eq!(jobs(&rig.grab(plain())), [3]);
}

#[test]
fn a_search_finds_what_could_be_leased_and_nothing_else() {
    let mut rig = limited(&of_key(leased(1)));
    load(&mut rig, &[("a", "x"), ("a", "x"), ("a", "y")]);
    let named = |id| Grab { filter: Some(Box::new(Filter { id: Some(id), ..Filter::default() })), ..plain() };
    let first = rig.grab_one();
    assert_eq!(jobs(&rig.grab(named(2))), NONE);
    rig.start_grab(Grab { wait_ms: 60_000, ..named(2) });
    assert_eq!(jobs(&rig.grab(named(3))), [3]);
    assert_eq!(complete_for(&mut rig, &first), [2]);

    let mut rig = limited(&of_queue(leased(1)));
    rig.load(&["a", "a"]);
    let first = rig.grab_one();
    assert_eq!(jobs(&rig.grab(named(2))), NONE, "it is answered at once");
    rig.start_grab(Grab { wait_ms: 60_000, ..named(2) });
    assert!(rig.engine.deadline().unwrap() > rig.now, "and who waits does not look all the time");
    assert_eq!(complete_for(&mut rig, &first), [2]);
}

#[test]
fn who_searches_and_waits_gets_what_comes_behind_those_that_limits_hold_back() {
    let mut rig = limited(&of_key(leased(1)));
    load(&mut rig, &[("a", "x")]);
    rig.grab_one();
    let any = Filter::default();
    rig.start_grab(Grab { max: 1, filter: Some(Box::new(any)), ..waiting() });
    load(&mut rig, &[("a", "x"), ("a", "y")]);
    rig.settle();
    assert_eq!(jobs(&granted(rig.answer())), [3]);
}

#[test]
fn a_lease_in_the_waiting_room_counts_until_somebody_looked() {
    let mut rig = limited(&of_key(leased(1)));
    load(&mut rig, &[("a", "x"), ("a", "x"), ("a", "x")]);
    let lent = rig.grab(Grab { max: 1, transactional: true, ..plain() }).remove(0);
    rig.start_grab(waiting());
    assert!(rig.take().is_none());
    rig.pass(1_000);
    let asked = rig.engine.survey().unwrap();
    let lease = LeaseKey { epoch: EPOCH, number: lent.lease.number };
    assert_eq!(asked, [(1, lease)]);
    assert_eq!(rig.engine.survey(), None, "once in a while");
    rig.engine.surveyed(&asked, &[lease].into());
    assert!(rig.take().is_none());
    rig.engine.surveyed(&asked, &[].into());
    rig.settle();
    let second = granted(rig.answer()).remove(0);
    assert_eq!((second.lease.job, rig.engine.survey_at()), (2, None), "nothing is there to look for");

    // A result that the waiting room takes frees it at once.
    assert_eq!(rig.result(second.lease, complete()), Answer::Ok);
    let lent = rig.grab(Grab { max: 1, transactional: true, ..plain() }).remove(0);
    load(&mut rig, &[("a", "x")]);
    rig.start_grab(waiting());
    rig.start_results(&[(lent.lease, complete())]);
    rig.commit_answering(r#"{"finish":["ok"]}"#);
    rig.settle();
    assert_eq!(
        rig.answers()
            .into_iter()
            .map(|(_, answer)| matches!(answer, Answered::Grab { .. }))
            .filter(|is| *is)
            .count(),
        1
    );
}

#[test]
fn a_new_owner_counts_what_it_has_not_read_and_what_is_elsewhere() {
    let mut rig = limited(&of_key(leased(1)));
    load(&mut rig, &[("a", "x"), ("a", "y")]);
    assert_eq!(jobs(&rig.grab(plain())), [1, 2]);
    let mut next = rig.successor();
    next.engine.set_limits(&of_key(leased(1)));
    assert!(next.engine.wants_lent());
    next.next_job = 3;
    load(&mut next, &[("a", "z"), ("a", "w")]);
    assert_eq!(jobs(&next.grab(plain())), NONE, "what is elsewhere is not known");
    let lent = LentLease {
        job: 9,
        lease: LeaseKey { epoch: 1, number: 7 },
        kind: "a".to_owned(),
        key: Some("z".to_owned()),
    };
    next.engine.count_lent(vec![lent]);
    assert_eq!(jobs(&next.grab(plain())), NONE, "two leases are not read: they may be of any key");
    next.next_job = 1;
    load(&mut next, &[("a", "x"), ("a", "y")]);
    assert_eq!(jobs(&next.grab(plain())), [4], "one of its key is elsewhere");
}

/// What waits for them may fill the window, so that they are not read before.
#[test]
fn leases_that_are_not_read_hold_nothing_back_once_they_have_ended() {
    let mut rig = limited(&of_key(leased(1)));
    load(&mut rig, &[("a", "x")]);
    rig.grab_one();
    let mut next = rig.successor();
    limit(&mut next, &of_key(leased(1)));
    next.next_job = 2;
    load(&mut next, &[("a", "y")]);
    next.start_grab(waiting());
    next.settle();
    assert!(next.answers().is_empty());
    let end = next.engine.deadline().unwrap();
    next.engine.advance(Micros(end.0 - 1));
    next.settle();
    assert!(next.answers().is_empty());
    next.engine.advance(end);
    next.settle();
    assert_eq!(jobs(&granted(next.answer())), [2]);
}

#[test]
fn lifted_limits_let_all_go_and_new_ones_count_what_is_out() {
    let mut rig = limited(&of_key(leased(1)));
    load(&mut rig, &[("a", "x"), ("a", "x"), ("b", "x"), ("b", "y")]);
    assert_eq!(jobs(&rig.grab(plain())), [1, 4]);
    limit(&mut rig, &of_type("b", leased(1)));
    assert_eq!(jobs(&rig.grab(plain())), [2]);
    limit(&mut rig, &QueueLimits::default());
    assert_eq!(jobs(&rig.grab(plain())), [3]);
    assert_eq!(counts(&rig), (0, 0, 4));
}

#[test]
fn a_key_in_the_way_is_parked_but_for_the_next_few_and_comes_back_when_it_is_free() {
    let mut rig = limited(&of_key(leased(1)));
    load(&mut rig, &[("a", "noisy"); 100]);
    let job = rig.grab(Grab { lease_ms: Some(10 * HOLD_MS), max: 1, ..plain() }).remove(0);
    rig.start_grab(Grab { wait_ms: 10 * HOLD_MS, ..plain() });
    let mut parked = 0;
    for _ in 0..10 {
        rig.pass(HOLD_MS / 30);
        while let Some(flushed) = rig.commit() {
            let kinds = cold(&flushed, "wait", "kind");
            parked += kinds.iter().filter(|kind| **kind == "parked").count();
            assert!(cold(&flushed, "unpark", "key").is_empty(), "it is not free");
        }
    }
    assert_eq!((parked, rig.engine.counts().parked), (83, 83), "sixteen are kept");
    assert_eq!(rig.engine.counts().limited, 16);
    // One after the other; when none is left here, the others come back, a few at a time.
    let mut lease = job.lease;
    let mut calls = Vec::new();
    for _ in 0..17 {
        rig.start_results(&[(lease, complete())]);
        let flushed = rig.take().unwrap();
        let finish = vec!["ok"; cold(&flushed, "finish", "job").len()];
        let answers = serde_json::json!({ "finish": finish });
        rig.write(flushed, serde_json::json!({}), serde_json::from_value(answers).unwrap());
        rig.start_grab(Grab { wait_ms: 10 * HOLD_MS, lease_ms: Some(10 * HOLD_MS), max: 1, ..plain() });
        while let Some(flushed) = rig.take() {
            let unpark = cold(&flushed, "unpark", "limit")
                .iter()
                .map(|limit| limit.as_u64().unwrap())
                .collect::<Vec<_>>();
            calls.extend_from_slice(&unpark);
            let answers = serde_json::json!({ "unpark": unpark });
            rig.write(flushed, serde_json::json!({}), serde_json::from_value(answers).unwrap());
        }
        for (_, answer) in rig.answers() {
            if let Answered::Grab { jobs, .. } = answer
                && let [next] = jobs.as_slice()
            {
                lease = next.lease;
            }
        }
    }
    assert_eq!(calls, [16], "none of them before the last one was done, and then once");
    assert_eq!(rig.engine.counts().parked, 67);
}

#[test]
fn a_queue_at_its_limit_parks_nothing() {
    let mut rig = limited(&of_queue(leased(1)));
    rig.load(&["a"; 100]);
    rig.grab(Grab { lease_ms: Some(10 * HOLD_MS), max: 1, ..plain() });
    rig.start_grab(Grab { wait_ms: 10 * HOLD_MS, ..plain() });
    for _ in 0..5 {
        rig.pass(HOLD_MS / 30);
        while let Some(flushed) = rig.commit() {
            assert!(cold(&flushed, "wait", "kind").iter().all(|kind| **kind != "parked"));
        }
    }
}

#[test]
fn a_type_at_its_limit_is_parked_and_not_called_back_before_it_is_free() {
    let mut rig = limited(&of_type("a", leased(1)));
    rig.load(&["a"; 100]);
    let job = rig.grab(Grab { lease_ms: Some(10 * HOLD_MS), max: 1, ..plain() }).remove(0);
    rig.start_grab(Grab { wait_ms: 10 * HOLD_MS, ..plain() });
    for _ in 0..10 {
        rig.pass(HOLD_MS / 30);
        while let Some(flushed) = rig.commit() {
            assert!(cold(&flushed, "unpark", "type").is_empty());
        }
    }
    assert_eq!((rig.engine.counts().parked, rig.engine.counts().limited), (74, 25));
    drop(job);
}
