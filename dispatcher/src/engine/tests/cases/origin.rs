//! Where moved events came from.

use super::*;
use crate::engine::{Moved, Origin, Place};

fn moved(first: i64, source: &str, events: impl IntoIterator<Item = i64>) -> Moved {
    let place = Place { source: source.to_owned(), queue: "q".to_owned() };
    Moved { first, place, events: events.into_iter().collect() }
}

fn told(origin: Option<&Origin>) -> Option<(&str, i64)> {
    origin.map(|origin| (&*origin.place.source, origin.event))
}

#[test]
fn a_job_is_granted_with_its_origin() {
    let mut rig = Rig::new();
    rig.engine.learn(1, vec![moved(2, "a", 101..=102), moved(4, "b", [7, 9])]);
    rig.load(&["t"; 6]);
    let held = rig.grab(plain());
    let expected = [None, Some(("a", 101)), Some(("a", 102)), Some(("b", 7)), Some(("b", 9)), None];
    assert_eq!(held.iter().map(|job| told(job.origin.as_ref())).collect::<Vec<_>>(), expected);

    // Given out again, also much later, and by itself.
    assert_eq!(rig.result(held[1].lease, Outcome::Decline), Answer::Ok);
    assert_eq!(told(rig.grab_one().origin.as_ref()), Some(("a", 101)));
    assert_eq!(rig.result(held[4].lease, temp_fail(Some(1))), Answer::Ok);
    rig.engine.learn(2, vec![moved(5, "b", [9])]);
    rig.engine.load(2, vec![LogRow { owner: Some(SUB), retry: Some(1), ..row(5, "t") }], true);
    let again = rig.grab_one();
    assert_eq!((again.lease.put, told(again.origin.as_ref())), (1, Some(("b", 9))));
}

#[test]
fn a_lease_in_the_waiting_room_is_repeated_with_its_origin() {
    let mut rig = Rig::new();
    rig.engine.learn(1, vec![moved(1, "a", [101])]);
    rig.load(&["t"]);
    let grab = Grab { transactional: true, number: Some(1), ..plain() };
    let first = rig.grab(grab.clone());
    assert_eq!(told(first[0].origin.as_ref()), Some(("a", 101)));
    rig.start_grab(grab);
    let there = r#"{"again":[{"until":9000000000,"time":1,"type":"t","data":"{}",
                    "origin":{"source":"a","queue":"q","id":"101"}}]}"#;
    rig.commit_answering(there).unwrap();
    let again = granted(rig.answer());
    assert_eq!((again[0].lease, again[0].origin.clone()), (first[0].lease, first[0].origin.clone()));
}

#[test]
fn what_is_known_of_an_id_is_kept_once() {
    let mut rig = Rig::new();
    rig.engine.learn(1, vec![moved(5, "a", [105])]);
    rig.engine.learn(2, vec![moved(8, "a", [108])]);
    rig.engine.learn(3, vec![moved(3, "a", 103..=110)]);
    rig.engine.learn(4, vec![moved(4, "a", [104]), moved(11, "a", [200, 300])]);
    assert_eq!(rig.engine.origins.runs(), 6, "3 to 4, 5, 6 to 7, 8, 9 to 10, 11 to 12");
    for job in 3..=10 {
        assert_eq!(told(rig.engine.origins.of(job).as_ref()), Some(("a", 100 + job)));
    }
    assert_eq!(told(rig.engine.origins.of(12).as_ref()), Some(("a", 300)));
    assert_eq!((rig.engine.origins.of(2), rig.engine.origins.of(13)), (None, None));
}

#[test]
fn origins_are_forgotten_with_the_jobs_that_are_done() {
    let mut rig = Rig::new();
    // One job stays, and with it its origin.
    rig.engine.learn(1, vec![moved(1, "a", [101])]);
    rig.load(&["kept"]);
    for n in 2..=10_000_i64 {
        rig.engine.learn(n, vec![moved(n, &format!("source {}", n % 7), [100 + n])]);
        rig.load(&["t"]);
        let job = rig.grab(of_types(&["t"])).remove(0);
        let source = format!("source {}", n % 7);
        assert_eq!(told(job.origin.as_ref()), Some((&*source, 100 + n)));
        if n == 1_000 {
            assert_eq!(rig.engine.origins.runs(), 1_000, "the mark stands");
            let kept = rig.grab_one();
            assert_eq!(told(kept.origin.as_ref()), Some(("a", 101)));
            assert_eq!(rig.result(kept.lease, complete()), Answer::Ok);
        }
        assert_eq!(rig.result(job.lease, complete()), Answer::Ok);
    }
    let runs = rig.engine.origins.runs();
    assert!(runs <= 200, "{runs}");
}
