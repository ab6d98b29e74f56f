//! Lists of the window's jobs.

use super::*;
use crate::engine::Listing;

/// The ids on a page, and how many steps it took.
fn page(rig: &Rig, leased: bool, kind: Option<&str>, after: i64, limit: usize) -> (Vec<i64>, usize) {
    let mut listing = Listing::new(leased, kind.map(str::to_owned), after, limit);
    let mut steps = 0;
    while !listing.is_done() {
        rig.engine.list(&mut listing);
        steps += 1;
    }
    (listing.into_jobs().iter().map(|job| job.job).collect(), steps)
}

#[test]
fn ready_and_leased_jobs_are_listed_by_id() {
    let mut rig = Rig::ready(&["a", "b", "a", "b", "a"]);
    // Read last, and yet the lowest id: a job that was put again.
    rig.engine.load(2, vec![row(-1, "b")], true);
    let ids = |leased, kind| page(&rig, leased, kind, i64::MIN, 10).0;
    assert_eq!(ids(false, None), [-1, 1, 2, 3, 4, 5]);
    assert_eq!(ids(true, None), NONE);
    assert_eq!(ids(false, Some("b")), [-1, 2, 4]);

    rig.start_grab(Grab { max: 2, ..of_types(&["a"]) });
    let ids = |rig: &Rig, leased| page(rig, leased, None, i64::MIN, 10).0;
    assert_eq!((ids(&rig, false), ids(&rig, true)), (vec![-1, 1, 2, 3, 4, 5], vec![]), "not committed yet");
    rig.settle();
    assert_eq!((ids(&rig, false), ids(&rig, true)), (vec![-1, 2, 4, 5], vec![1, 3]));
    let lease = granted(rig.answer())[0].lease;
    rig.start_results(&[(lease, complete())]);
    assert_eq!(ids(&rig, true), [1, 3], "not committed yet");
    rig.settle();
    assert_eq!(ids(&rig, true), [3]);
}

#[test]
fn a_page_holds_the_lowest_ids_whatever_their_order_in_the_window() {
    let mut rig = Rig::with(SETTINGS, Limits { window_jobs: 10_000, window_bytes: 1 << 30, ..LIMITS });
    // 7 has no common factor with 5,000: every id once, in no order.
    let rows = (0..5_000).map(|n| row(1 + n * 7 % 5_000, if n % 2 == 0 { "a" } else { "b" })).collect();
    rig.engine.load(1, rows, true);
    let mut after = 0;
    for first in (1..5_000).step_by(100) {
        let (ids, steps) = page(&rig, false, None, after, 100);
        assert_eq!((ids, steps), ((first..first + 100).collect(), 3));
        after = first + 99;
    }
    assert_eq!(page(&rig, false, None, after, 100).0, NONE);
    let (ids, _) = page(&rig, false, Some("a"), 0, 1_000);
    assert_eq!(ids.len(), 1_000, "a page of one type is full, too");
}

#[test]
fn the_window_goes_on_changing_between_the_steps() {
    let mut rig = Rig::with(SETTINGS, Limits { window_jobs: 10_000, window_bytes: 1 << 30, ..LIMITS });
    rig.engine.load(1, (1..=3_000).map(|job| row(job, "a")).collect(), true);
    let mut listing = Listing::new(false, None, 0, 3_000);
    rig.engine.list(&mut listing);
    assert!(!listing.is_done());
    let held = rig.grab(plain());
    rig.results(&held.iter().map(|job| (job.lease, complete())).collect::<Vec<_>>());
    // They get the seats that are free.
    rig.engine.load(2, (3_001..=3_005).map(|job| row(job, "a")).collect(), true);
    rig.engine.list(&mut listing);
    assert!(listing.is_done());
    let ids: Vec<i64> = listing.into_jobs().iter().map(|job| job.job).collect();
    assert_eq!(ids, (1..=3_000).collect::<Vec<_>>(), "each job that was there all the time, and none twice");
}
