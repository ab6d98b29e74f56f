//! The time of an attempt: no lease of it lasts longer, whoever extends it and whoever owns the queue.

use super::*;

/// The next jobs of the log; `None`: without a timeout.
fn timed(timeouts: &[Option<u64>]) -> Vec<LogRow> {
    let row = |(job, timeout): (i64, &Option<u64>)| {
        let mut row = row(job, "a");
        row.event.extra[0] = timeout.map(|ms| format!(r#"{{"timeout_ms":{ms}}}"#));
        row
    };
    (1..).zip(timeouts).map(row).collect()
}

fn rig(timeouts: &[Option<u64>]) -> Rig {
    let mut rig = Rig::new();
    rig.engine.load(1, timed(timeouts), true);
    rig
}

fn until(extended: Extended) -> Micros {
    match extended {
        Extended::Until(until) => until,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_grab_gets_no_longer_lease() {
    for (timeout, length) in [(1, 1), (LEASE_MS - 1, LEASE_MS - 1), (LEASE_MS + 1, LEASE_MS)] {
        let mut rig = rig(&[Some(timeout)]);
        let job = rig.grab_one();
        assert_eq!(job.ends_at, rig.now.plus_ms(length), "{timeout}");
        assert_eq!(job.timeout_ms.map(|ms| u64::from(ms.get())), Some(timeout));
    }
}

#[test]
fn no_heartbeat_extends_a_lease_beyond_it() {
    let timeout = LEASE_MS + 5_000;
    for (short_ms, end_ms) in [(1, timeout - 1), (0, timeout), (-1, timeout)] {
        let mut rig = rig(&[Some(timeout)]);
        let job = rig.grab_one();
        let since = rig.now;
        rig.pass(9_000);
        // The commit takes a millisecond.
        let wanted = (timeout - 9_001).checked_add_signed(-short_ms).unwrap();
        assert_eq!(until(rig.heartbeat(job.lease, wanted)), since.plus_ms(end_ms), "{short_ms}");
    }
}

#[test]
fn a_lease_that_has_all_its_time_costs_no_record() {
    let mut rig = rig(&[Some(LEASE_MS + 5_000)]);
    let job = rig.grab_one();
    let end = rig.now.plus_ms(LEASE_MS + 5_000);
    assert_eq!(until(rig.heartbeat(job.lease, 60_000)), end);
    rig.start_heartbeat(job.lease, 60_000);
    assert!(rig.take().is_none());
    assert_eq!(until(extended(rig.answer())), end);
}

#[test]
fn it_ends_like_any_other_to_the_microsecond() {
    let mut rig = rig(&[Some(15_000)]);
    let job = rig.grab_one();
    let end = rig.now.plus_ms(15_000);
    rig.heartbeat(job.lease, 60_000);
    rig.now = Micros(end.0 - 1);
    rig.engine.advance(rig.now);
    assert_eq!(rig.engine.counts().ready, 0);
    assert_eq!(rig.engine.deadline(), Some(end));
    rig.now = end;
    rig.engine.advance(rig.now);
    let flushed = rig.commit().unwrap();
    assert_eq!(cold(&flushed, "fail", "reason"), ["expired"]);
    assert_eq!(cold(&flushed, "fail", "message"), ["the attempt's time of 15000 ms was over"]);
    assert_eq!(rig.result(job.lease, complete()), Answer::Stale);
    assert_eq!(rig.heartbeat(job.lease, LEASE_MS), Extended::Stale);
    let again = rig.grab_one();
    assert_eq!((again.lease.attempt, again.previous.unwrap().at), (2, end.timestamp()));
    assert_eq!(again.ends_at, rig.now.plus_ms(LEASE_MS), "each attempt has its own time");
}

#[test]
fn a_lease_that_ends_before_says_so() {
    let mut rig = rig(&[Some(15_000)]);
    rig.grab_one();
    rig.pass(LEASE_MS);
    let flushed = rig.commit().unwrap();
    assert_eq!(cold(&flushed, "fail", "message"), ["the lease ended without a result"]);
}

#[test]
fn the_last_attempt_is_a_dead_letter_that_says_why() {
    let mut rig = rig(&[Some(500)]);
    for _ in 1..SETTINGS.max_attempts {
        rig.grab_one();
        rig.pass(500);
        rig.settle();
    }
    rig.grab_one();
    rig.pass(500);
    let flushed = rig.commit().unwrap();
    for section in ["fail", "dead"] {
        assert_eq!(cold(&flushed, section, "message"), ["the attempt's time of 500 ms was over"]);
    }
}

/// Jobs without a timeout before, between and after others.
const MIXED: [Option<u64>; 6] = [None, Some(2_000), Some(2_000), None, Some(LEASE_MS + 1), Some(1)];
const ENDS: [u64; 6] = [LEASE_MS, 2_000, 2_000, LEASE_MS, LEASE_MS, 1];

#[test]
fn leases_of_different_lengths_in_one_grab_end_each_in_its_time() {
    let mut rig = rig(&MIXED);
    let granted = rig.grab(plain());
    let ends: Vec<Micros> = granted.iter().map(|job| job.ends_at).collect();
    assert_eq!(ends, ENDS.map(|ms| rig.now.plus_ms(ms)));
    let runs = rig.journal[0].1.iter().map(|record| match record {
        Record::Leased { first, ms, entries, .. } => (*first, *ms, entries.len()),
        other => panic!("{other:?}"),
    });
    let expected = [(1, LEASE_MS, 1), (2, 2_000, 2), (4, LEASE_MS, 2), (6, 1, 1)];
    assert_eq!(runs.collect::<Vec<_>>(), expected);

    // And so for a new owner.
    let mut successor = rig.successor();
    successor.engine.load(1, timed(&MIXED), true);
    successor.engine.recovered();
    for (job, end) in granted.iter().zip(ends) {
        let (seen, _) = successor.engine.find(job.lease.job).unwrap().lease.unwrap();
        assert_eq!(seen, end, "job {}", job.lease.job);
    }
}

#[test]
fn a_repeated_grab_gets_all_its_lengths_from_a_new_owner() {
    let mut rig = rig(&MIXED);
    let numbered = Grab { number: Some(7), ..plain() };
    let first = rig.grab(numbered.clone());
    let mut successor = rig.successor();
    successor.engine.load(1, timed(&MIXED), true);
    successor.engine.recovered();
    assert_eq!(jobs(&successor.grab(numbered)), jobs(&first));
}

#[test]
fn a_new_owner_counts_from_the_grab() {
    let mut rig = rig(&[Some(15_000)]);
    let job = rig.grab_one();
    let end = rig.now.plus_ms(15_000);
    rig.pass(9_000);
    // The journal says: for a minute from here.
    rig.heartbeat(job.lease, 60_000);
    let mut successor = rig.successor();
    successor.engine.load(1, timed(&[Some(15_000)]), true);
    successor.engine.recovered();
    assert_eq!(successor.engine.find(1).unwrap().lease.unwrap().0, end);
    successor.now = Micros(end.0 - 1);
    successor.engine.advance(successor.now);
    assert_eq!(until(successor.heartbeat(job.lease, 60_000)), end);
    assert_eq!(successor.grab(plain()).len(), 0);
    successor.now = end;
    successor.engine.advance(end);
    assert_eq!(successor.grab_one().previous.unwrap().at, end.timestamp());
}

#[test]
fn a_lease_extended_twice_by_a_journal_alone_did_not_end_after_the_next_began() {
    let mut rig = rig(&[Some(15_000)]);
    let job = rig.grab_one();
    rig.heartbeat(job.lease, 60_000);
    rig.pass(15_000);
    rig.settle();
    let again = rig.grab_one();
    let mut successor = rig.successor();
    successor.engine.load(1, timed(&[Some(15_000)]), true);
    successor.engine.recovered();
    let sighting = successor.engine.find(1).unwrap();
    assert!(sighting.entry.previous.unwrap().at <= rig.now.timestamp());
    assert_eq!(sighting.lease.unwrap().0, again.ends_at);
}

#[test]
fn the_waiting_room_is_told_the_bound() {
    let mut rig = rig(&[Some(2_000), None, Some(LEASE_MS + 1)]);
    rig.start_grab(Grab { transactional: true, ..plain() });
    let flushed = rig.commit().unwrap();
    assert_eq!(cold(&flushed, "wait", "due_ms"), [2_000, LEASE_MS, LEASE_MS]);
    assert_eq!(flushed.cold["wait"][0]["over_ms"], 2_000);
    assert_eq!(flushed.cold["wait"][1].get("over_ms"), None);
    assert_eq!(flushed.cold["wait"][2]["over_ms"], LEASE_MS + 1);
}

#[test]
fn a_lease_that_moves_there_keeps_the_bound_of_its_grab() {
    let mut rig = rig(&[Some(15_000)]);
    let job = rig.grab_one();
    let (end, over) = (job.ends_at, rig.now.plus_ms(15_000));
    rig.pass(1_000);
    let request = rig.request();
    rig.engine.lend(request, Some(&job.lease));
    let flushed = rig.commit().unwrap();
    assert_eq!(cold(&flushed, "wait", "due"), [end.0]);
    assert_eq!(cold(&flushed, "wait", "over_at"), [over.0]);
}

#[test]
fn a_job_put_again_has_its_time_again() {
    let mut reput = row(1, "a");
    (reput.owner, reput.retry) = (Some(SUB), Some(1));
    reput.event.extra[0] = Some(r#"{"attempt":1,"extra1":"{\"timeout_ms\":700}"}"#.to_owned());
    let mut rig = Rig::new();
    rig.engine.load(1, vec![reput], true);
    let job = rig.grab_one();
    assert_eq!((job.lease.attempt, job.ends_at), (2, rig.now.plus_ms(700)));
}
