//! Leases that end, and leases that are extended.

use super::*;
use tidemill_common::api::PreviousEnd;

#[test]
fn an_ended_lease_is_issued_again_with_its_previous_holder() {
    let mut rig = Rig::ready(&["a"]);
    let first = rig.grab_one();
    assert_eq!(rig.engine.deadline(), Some(first.ends_at));
    rig.now = Micros(first.ends_at.0 - 1);
    rig.engine.advance(rig.now);
    assert_eq!(rig.grab(plain()).len(), 0, "not a microsecond early");
    rig.now = first.ends_at;
    rig.engine.advance(rig.now);
    let second = rig.grab_one();
    assert_eq!((second.lease.job, second.lease.attempt), (1, 2));
    let previous = second.previous.unwrap();
    assert_eq!((previous.ended, previous.at), (PreviousEnd::Expired, first.ends_at.timestamp()));
    assert_eq!(previous.instance.0, worker(1).instance);
    assert_eq!(previous.pid, Some(4000));
}

#[test]
fn an_ended_lease_is_a_recorded_failure() {
    let mut rig = Rig::ready(&["a"]);
    rig.grab_one();
    rig.pass(LEASE_MS);
    let flushed = rig.commit().unwrap();
    assert!(flushed.records.is_empty());
    assert_eq!(cold(&flushed, "fail", "reason"), ["expired"]);
    assert_eq!(cold(&flushed, "fail", "holder")[0]["host"], "host1");
}

#[test]
fn the_last_attempt_ends_among_the_dead() {
    let mut rig = Rig::ready(&["a"]);
    for attempt in 1..=SETTINGS.max_attempts {
        assert_eq!(rig.grab_one().lease.attempt, attempt);
        assert_eq!(rig.engine.low_water(), 0);
        rig.pass(LEASE_MS);
        if attempt < SETTINGS.max_attempts {
            rig.settle();
        }
    }
    let flushed = rig.commit().unwrap();
    assert_eq!(cold(&flushed, "dead", "reason"), ["exhausted"]);
    assert_eq!(cold(&flushed, "dead", "attempt"), [SETTINGS.max_attempts]);
    assert_eq!(rig.grab(plain()).len(), 0);
    assert_eq!(rig.engine.low_water(), 1);
}

#[test]
fn an_entry_that_comes_with_its_attempts_used_up_is_not_given_out() {
    let mut rig = Rig::new();
    let mut reput = row(1, "a");
    reput.owner = Some(SUB);
    reput.retry = Some(2);
    reput.event.extra[0] = Some(format!(r#"{{"attempt":{}}}"#, SETTINGS.max_attempts));
    rig.engine.load(1, vec![reput], true);
    assert_eq!(rig.engine.low_water(), 0, "not before the commit");
    let flushed = rig.commit().unwrap();
    assert_eq!(cold(&flushed, "dead", "put"), [2]);
    assert_eq!(rig.grab(plain()).len(), 0);
    assert_eq!(rig.engine.low_water(), 1);
}

#[test]
fn an_extension_counts_from_its_commit() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab_one();
    rig.pass(9_000);
    let until = match rig.heartbeat(job.lease, LEASE_MS) {
        Extended::Until(until) => until,
        other => panic!("{other:?}"),
    };
    assert_eq!(until, rig.now.plus_ms(LEASE_MS));
    rig.pass(9_999);
    assert_eq!(rig.grab(plain()).len(), 0);
    rig.pass(1);
    assert_eq!(rig.grab_one().lease.attempt, 2);
    assert_eq!(rig.heartbeat(job.lease, LEASE_MS), Extended::Stale);
}

#[test]
fn an_extension_never_shortens() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab_one();
    assert_eq!(rig.heartbeat(job.lease, 1), Extended::Until(job.ends_at));
}

#[test]
fn a_lease_whose_extension_is_being_committed_does_not_end() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab_one();
    rig.start_heartbeat(job.lease, LEASE_MS);
    rig.take();
    rig.pass(2 * LEASE_MS);
    assert!(rig.answers().is_empty(), "not before the commit");
    assert_eq!(rig.engine.counts().ready, 0, "the commit decides");
    rig.engine.committed(rig.now, ColdAnswers::default());
    assert_eq!(extended(rig.answer()), Extended::Until(rig.now.plus_ms(LEASE_MS)));
    rig.pass(LEASE_MS);
    assert_eq!(rig.engine.counts().ready, 1);
}

#[test]
fn a_lease_whose_extension_is_refused_ends_in_its_time() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab_one();
    rig.start_heartbeat(job.lease, LEASE_MS);
    rig.take();
    rig.pass(2 * LEASE_MS);
    rig.engine.refused("bad data");
    assert!(matches!(rig.answer(), Answered::Refused(_)));
    rig.pass(0);
    assert_eq!(rig.engine.counts().ready, 1);
}

#[test]
fn two_extensions_at_once_hold_the_lease_for_the_longer() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab_one();
    rig.start_heartbeat(job.lease, 5 * LEASE_MS);
    rig.start_heartbeat(job.lease, LEASE_MS);
    rig.commit();
    rig.answers();
    rig.pass(4 * LEASE_MS);
    assert_eq!(rig.engine.counts().ready, 0);
    assert_eq!(rig.result(job.lease, complete()), Answer::Ok);
}

#[test]
fn finished_and_foreign_leases_cannot_be_extended() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab_one();
    assert_eq!(rig.result(job.lease, complete()), Answer::Ok);
    assert_eq!(rig.heartbeat(job.lease, LEASE_MS), Extended::Stale);
    let request = rig.request();
    rig.engine.heartbeat(request, &[Beat::default()]);
    assert_eq!(extended(rig.answer()), Extended::Stale);
}

#[test]
fn a_lease_in_the_waiting_room_is_extended_there() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab(Grab { transactional: true, ..plain() }).remove(0);
    for (row, expected) in
        [("77", Extended::Until(Micros(77))), ("0", Extended::Stale), ("-1", Extended::Unavailable)]
    {
        rig.start_heartbeat(job.lease, 1_234);
        let flushed = rig.commit_answering(&format!(r#"{{"finish":[],"extend":[{row}]}}"#)).unwrap();
        assert_eq!(cold(&flushed, "extend", "ms"), [1_234]);
        assert_eq!(extended(rig.answer()), expected);
    }
}

#[test]
fn an_extension_committed_while_a_result_waits_is_not_stale() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab_one();
    rig.start_heartbeat(job.lease, 3 * LEASE_MS);
    rig.take();
    rig.start_results(&[(job.lease, complete())]);
    rig.start_heartbeat(job.lease, LEASE_MS);
    rig.engine.committed(rig.now, ColdAnswers::default());
    assert_eq!(extended(rig.answer()), Extended::Until(rig.now.plus_ms(3 * LEASE_MS)));
    for _ in 0..2 {
        rig.take();
        rig.engine.refused("bad data");
    }
    rig.settle();
    let answers = rig.answers();
    assert!(matches!(answers[0].1, Answered::Refused(_)), "{answers:?}");
    assert!(
        matches!(&answers[1].1, Answered::Heartbeat(e) if e[..] == [Extended::Unavailable]),
        "{answers:?}"
    );
    rig.pass(2 * LEASE_MS);
    assert_eq!(rig.result(job.lease, complete()), Answer::Ok, "the extension counts");
}

#[test]
fn ends_of_leases_that_are_finished_do_not_pile_up() {
    let mut rig = Rig::with(SETTINGS, Limits { window_jobs: 2_000, ..LIMITS });
    // One lease stays, and is extended now and then.
    rig.load(&["a"]);
    let held = rig.grab_one();
    for round in 0..60 {
        rig.load(&["a"; 1_000]);
        let jobs = rig.grab(Grab { max: 1_000, ..plain() });
        let done: Vec<_> = jobs.iter().map(|job| (job.lease, complete())).collect();
        assert!(rig.results(&done).iter().all(|answer| *answer == Answer::Ok));
        if round % 20 == 19 {
            assert!(matches!(rig.heartbeat(held.lease, LEASE_MS), Extended::Until(_)));
        }
    }
    assert!(rig.engine.ends.len() < 30_000, "{} ends for one lease", rig.engine.ends.len());
    // Nothing that lives was swept out.
    rig.pass(LEASE_MS);
    rig.settle();
    assert_eq!(rig.grab_one().lease.job, held.lease.job);
}
