//! The window and the low-water mark.

use super::*;

#[test]
fn the_mark_passes_committed_resolutions_only() {
    let mut rig = Rig::ready(&["a", "a"]);
    let held = rig.grab(plain());
    rig.start_results(&[(held[0].lease, complete()), (held[1].lease, complete())]);
    assert_eq!(rig.engine.low_water(), 0);
    rig.take();
    assert_eq!(rig.engine.low_water(), 0);
    rig.engine.committed(rig.now, ColdAnswers::default());
    assert_eq!(rig.engine.low_water(), 1);
}

#[test]
fn the_mark_stops_at_the_first_unresolved_entry() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.load(&["a"]);
    }
    let held = rig.grab(plain());
    assert_eq!(rig.result(held[1].lease, complete()), Answer::Ok);
    assert_eq!(rig.engine.low_water(), 0);
    assert_eq!(rig.result(held[0].lease, temp_fail(None)), Answer::Ok);
    assert_eq!(rig.engine.low_water(), 2);
    assert_eq!(rig.result(held[2].lease, perm_fail()), Answer::Ok);
    assert_eq!(rig.engine.low_water(), 3);
}

#[test]
fn a_declined_job_holds_the_mark() {
    let mut rig = Rig::ready(&["a"]);
    let lease = rig.grab_one().lease;
    assert_eq!(rig.result(lease, Outcome::Decline), Answer::Ok);
    assert_eq!(rig.engine.low_water(), 0);
}

#[test]
fn a_range_in_pieces_counts_when_its_last_piece_is_there() {
    let mut rig = Rig::new();
    let (one, two) = (rig.row("a"), rig.row("a"));
    rig.engine.load(5, vec![one], false);
    let lease = rig.grab_one().lease;
    assert_eq!(rig.result(lease, complete()), Answer::Ok);
    assert_eq!(rig.engine.low_water(), 0, "more of the range may come");
    rig.engine.load(5, vec![two], false);
    rig.engine.load(5, vec![], true);
    assert_eq!(rig.engine.low_water(), 0);
    let lease = rig.grab_one().lease;
    assert_eq!(rig.result(lease, complete()), Answer::Ok);
    assert_eq!(rig.engine.low_water(), 5);
    rig.engine.load(9, vec![], true);
    assert_eq!(rig.engine.low_water(), 9, "an empty range is passed at once");
}

#[test]
fn other_consumers_retries_are_not_ours() {
    let mut rig = Rig::new();
    let foreign = LogRow { owner: Some(SUB + 1), retry: Some(1), ..row(1, "a") };
    let ours = LogRow { owner: Some(SUB), retry: Some(1), ..row(2, "a") };
    rig.engine.load(1, vec![foreign, ours], true);
    assert_eq!(jobs(&rig.grab(plain())), [2]);
}

#[test]
fn a_job_put_again_shows_its_attempt_its_previous_holder_and_its_own_extra() {
    let mut rig = Rig::new();
    let mut again = LogRow { owner: Some(SUB), retry: Some(2), ..row(1, "a") };
    again.event.extra[0] = Some(
        r#"{"attempt":1,"previous":{"instance":"00000000-0000-0000-0000-000000000009","host":"h","pid":4,
            "ended":"failed","at":"2026-01-02T03:04:05Z"},"extra1":"{\"max_attempts\":9}"}"#
            .to_owned(),
    );
    rig.engine.load(1, vec![again], true);
    let job = rig.grab_one();
    assert_eq!((job.lease.put, job.lease.attempt, job.max_attempts), (2, 2, 9));
    assert_eq!(job.event.extra[0].as_deref(), Some(r#"{"max_attempts":9}"#));
    assert_eq!(job.previous.unwrap().pid, Some(4));
}

#[test]
fn the_same_entry_twice_is_one_job() {
    let mut rig = Rig::new();
    rig.engine.load(1, vec![row(1, "a"), row(1, "a")], true);
    let lease = rig.grab_one().lease;
    assert_eq!(rig.grab(plain()).len(), 0);
    assert_eq!(rig.result(lease, complete()), Answer::Ok);
    assert_eq!(rig.engine.low_water(), 1);
}

#[test]
fn the_window_says_how_much_it_takes() {
    let mut rig = Rig::with(SETTINGS, Limits { window_jobs: 2, ..LIMITS });
    assert_eq!(rig.engine.room().0, 2);
    rig.load(&["a", "a"]);
    assert_eq!(rig.engine.room().0, 0);
    let lease = rig.grab_one().lease;
    assert_eq!(rig.result(lease, complete()), Answer::Ok);
    assert_eq!(rig.engine.room().0, 1);

    let mut rig = Rig::with(SETTINGS, Limits { window_bytes: 1, ..LIMITS });
    rig.load(&["a"]);
    assert_eq!(rig.engine.room().1, 0, "one job may be larger than the window");
    rig.grab_one();
    assert_eq!(rig.engine.counts().leased, 1);
}

#[test]
fn a_job_can_be_looked_at() {
    let mut rig = Rig::ready(&["a"]);
    let seen = rig.engine.find(1).unwrap();
    assert_eq!((seen.entry.attempt, seen.lease, seen.max_attempts), (0, None, SETTINGS.max_attempts));
    let job = rig.grab_one();
    let seen = rig.engine.find(1).unwrap();
    assert_eq!((seen.entry.attempt, seen.lease), (1, Some((job.ends_at, worker(1)))));
    assert_eq!(rig.result(job.lease, complete()), Answer::Ok);
    assert!(rig.engine.find(1).is_none());
}
