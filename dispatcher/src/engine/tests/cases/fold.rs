//! What a new owner makes of the journal of the one before.

use super::*;
use tidemill_common::api::PreviousEnd;

/// Three jobs in one range; the owner did `act`; the successor has read the same range.
fn after(act: impl FnOnce(&mut Rig)) -> Rig {
    let mut rig = Rig::ready(&["a", "a", "a"]);
    act(&mut rig);
    let mut next = rig.successor();
    next.load(&["a", "a", "a"]);
    next.engine.recovered();
    next
}

#[test]
fn leased_entries_stay_leased_until_their_end() {
    let mut leases = Vec::new();
    let mut next = after(|rig| leases = rig.grab(Grab { max: 2, ..plain() }));
    assert_eq!(jobs(&next.grab(plain())), [3]);
    assert_eq!(next.result(leases[0].lease, complete()), Answer::Ok, "the old lease is good");
    assert_eq!(next.engine.deadline(), Some(leases[1].ends_at));
    next.pass(LEASE_MS);
    next.settle();
    let again = next.grab_one();
    assert_eq!((again.lease.job, again.lease.attempt), (2, 2));
    assert_eq!(again.previous.unwrap().ended, PreviousEnd::Expired);
    assert_eq!(next.result(leases[1].lease, complete()), Answer::Stale);
}

#[test]
fn leases_that_ended_in_between_end_when_they_are_read() {
    let mut next = after(|rig| {
        rig.grab(plain());
        rig.now = rig.now.plus_ms(LEASE_MS);
    });
    assert_eq!(next.engine.counts().ready, 3);
    assert_eq!(next.grab_one().lease.attempt, 2);
}

#[test]
fn an_exhausted_lease_that_ended_in_between_is_a_dead_letter() {
    let mut rig = Rig::ready(&["a"]);
    for _ in 0..SETTINGS.max_attempts {
        rig.grab_one();
        rig.now = rig.now.plus_ms(LEASE_MS);
        rig.engine.advance(rig.now);
    }
    // The dead letter itself was not committed.
    let mut next = rig.successor();
    next.load(&["a"]);
    let flushed = next.commit().unwrap();
    assert_eq!(cold(&flushed, "dead", "reason"), ["exhausted"]);
    assert_eq!(next.engine.low_water(), 1);
}

#[test]
fn extended_leases_keep_their_later_end() {
    let mut until = Extended::Stale;
    let next = after(|rig| {
        let lease = rig.grab_one().lease;
        rig.pass(5_000);
        until = rig.heartbeat(lease, 3 * LEASE_MS);
    });
    assert_eq!(next.engine.deadline().map(Extended::Until), Some(until));
}

#[test]
fn an_extension_of_an_older_lease_changes_nothing() {
    let mut rig = Rig::ready(&["a"]);
    let old = rig.grab_one();
    rig.pass(LEASE_MS);
    rig.settle();
    let new = rig.grab_one();
    let extended = Record::Extended {
        entry: record::EntryKey { job: 1, put: 0 },
        lease: record::LeaseKey { epoch: EPOCH, number: old.lease.number },
        ms: 10 * LEASE_MS,
    };
    rig.journal.push((rig.now, vec![extended], serde_json::json!({})));
    let mut next = rig.successor();
    next.load(&["a"]);
    assert_eq!(next.engine.deadline(), Some(new.ends_at));
}

#[test]
fn released_entries_are_ready_and_uncounted() {
    let mut next = after(|rig| {
        let lease = rig.grab_one().lease;
        rig.result(lease, Outcome::Decline);
    });
    let job = next.grab_one();
    assert_eq!((job.lease.job, job.lease.attempt), (1, 1));
    assert_eq!(job.previous.unwrap().ended, PreviousEnd::Declined);
}

#[test]
fn resolved_entries_are_gone_whatever_resolved_them() {
    let mut next = after(|rig| {
        let held = rig.grab(Grab { max: 2, ..plain() });
        rig.result(held[0].lease, complete());
        rig.result(held[1].lease, temp_fail(None));
        rig.grab(Grab { transactional: true, ..plain() });
    });
    assert_eq!(next.grab(plain()).len(), 0);
    assert_eq!(next.engine.low_water(), 1);
}

#[test]
fn an_entry_put_again_is_not_the_one_before() {
    let mut rig = Rig::ready(&["a"]);
    let lease = rig.grab_one().lease;
    rig.result(lease, temp_fail(None));
    let mut next = rig.successor();
    let mut again = LogRow { owner: Some(SUB), retry: Some(1), ..row(1, "a") };
    again.event.extra[0] = Some(r#"{"attempt":1}"#.to_owned());
    next.engine.load(1, vec![row(1, "a"), again], true);
    let job = next.grab_one();
    assert_eq!((job.lease.put, job.lease.attempt), (1, 2));
}

#[test]
fn already_reaches_back_through_the_journal() {
    let mut leases = Vec::new();
    let mut next = after(|rig| {
        leases = rig.grab(plain()).iter().map(|job| job.lease).collect();
        let outcomes = [complete(), temp_fail(None), Outcome::Decline];
        rig.results(&leases.iter().copied().zip(outcomes).collect::<Vec<_>>());
    });
    let answers = next.results(&[
        (leases[0], complete()),
        (leases[0], Outcome::Decline),
        (leases[1], temp_fail(None)),
        (leases[1], complete()),
        (leases[2], Outcome::Decline),
        (leases[2], complete()),
    ]);
    use Answer::{Already, Stale};
    assert_eq!(answers, [Already, Stale, Already, Stale, Already, Stale]);
}

#[test]
fn a_lease_whose_entry_is_not_read_yet_is_unavailable_not_stale() {
    let mut rig = Rig::ready(&["a"]);
    let lease = rig.grab_one().lease;
    let mut next = rig.successor();
    assert_eq!(next.result(lease, complete()), Answer::Unavailable);
    assert_eq!(next.heartbeat(lease, 1), Extended::Unavailable);
    next.load(&["a"]);
    assert_eq!(next.heartbeat(lease, 1), Extended::Until(rig.now.plus_ms(LEASE_MS)));
    assert_eq!(next.result(lease, complete()), Answer::Ok);
}

#[test]
fn numbers_of_leases_begin_again_under_the_new_epoch() {
    let mut old = Vec::new();
    let mut next = after(|rig| old = rig.grab(Grab { max: 1, ..plain() }));
    let new = next.grab_one();
    assert_eq!((new.lease.epoch, new.lease.number), (EPOCH + 1, old[0].lease.number));
    assert_eq!(next.result(Lease { epoch: EPOCH, ..new.lease }, complete()), Answer::Stale);
}
