//! How many jobs went through.

use super::*;

fn tally(rig: &Rig) -> (u64, u64, u64, u64) {
    let tally = rig.engine.tally();
    (tally.loaded, tally.leased, tally.completed, tally.failed)
}

#[test]
fn what_is_committed_is_counted() {
    let mut rig = Rig::ready(&["a"; 8]);
    assert_eq!(tally(&rig), (8, 0, 0, 0));
    let request = rig.start_grab(Grab { max: 6, ..plain() });
    assert_eq!(tally(&rig), (8, 0, 0, 0), "not committed yet");
    rig.settle();
    assert_eq!(tally(&rig), (8, 6, 0, 0));
    let mut answers = rig.answers();
    assert_eq!(answers[0].0, request);
    let held = granted(answers.remove(0).1);
    let replace = Outcome::Replace { jobs: Vec::new() };
    let outcomes = [complete(), complete(), replace, temp_fail(None), perm_fail(), Outcome::Decline];
    let results: Vec<_> = held.iter().map(|job| job.lease).zip(outcomes).collect();
    rig.results(&results);
    assert_eq!(tally(&rig), (8, 6, 3, 2));
    rig.results(&results);
    assert_eq!(tally(&rig), (8, 6, 3, 2), "a repetition is no result");
}

#[test]
fn a_lease_that_ends_is_a_failed_attempt() {
    let mut rig = Rig::ready(&["a"]);
    for attempt in 1..=3 {
        rig.grab_one();
        rig.pass(LEASE_MS + 1);
        rig.settle();
        assert_eq!(tally(&rig), (1, attempt, 0, attempt));
    }
}

#[test]
fn what_the_waiting_room_takes_is_counted() {
    let mut rig = Rig::ready(&["a"; 4]);
    let held = rig.grab(Grab { transactional: true, max: 4, ..plain() });
    let outcomes = [complete(), Outcome::Replace { jobs: Vec::new() }, temp_fail(None), Outcome::Decline];
    let results: Vec<_> = held.iter().map(|job| job.lease).zip(outcomes).collect();
    rig.start_results(&results[..3]);
    rig.commit_answering(r#"{"finish":["ok",{"ids":[]},"ok"]}"#).unwrap();
    assert_eq!(tally(&rig), (4, 4, 2, 1));
    rig.start_results(&results[3..]);
    rig.commit_answering(r#"{"finish":["stale"]}"#).unwrap();
    rig.engine.streamed(&held[3].lease, 7);
    assert_eq!(tally(&rig), (4, 4, 3, 1), "a stale result is none, a streamed replace is one");
}
