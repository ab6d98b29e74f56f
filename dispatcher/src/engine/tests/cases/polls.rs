//! Grabs that wait for work.

use super::*;

fn waiting(max: usize, number: u128) -> Grab {
    Grab { max, wait_ms: 1_000, holder: worker(number), ..plain() }
}

#[test]
fn served_when_jobs_are_read_first_come_first_served() {
    let mut rig = Rig::new();
    let first = rig.start_grab(waiting(1, 1));
    let second = rig.start_grab(waiting(5, 2));
    assert!(rig.answers().is_empty());
    rig.load(&["a", "a", "a"]);
    rig.settle();
    let answers: Vec<_> = rig.answers().into_iter().map(|(r, a)| (r, jobs(&granted(a)))).collect();
    assert_eq!(answers, [(first, vec![1]), (second, vec![2, 3])]);
}

#[test]
fn one_that_wants_other_types_does_not_hold_up_the_next() {
    let mut rig = Rig::new();
    rig.start_grab(Grab { types: Some(vec!["b".to_owned()]), ..waiting(1, 1) });
    let second = rig.start_grab(waiting(1, 2));
    rig.load(&["a"]);
    rig.settle();
    let answers: Vec<_> = rig.answers().into_iter().map(|(r, a)| (r, jobs(&granted(a)))).collect();
    assert_eq!(answers, [(second, vec![1])]);
}

#[test]
fn answered_empty_when_its_time_is_over() {
    let mut rig = Rig::new();
    rig.start_grab(waiting(1, 1));
    assert_eq!(rig.engine.deadline(), Some(rig.now.plus_ms(1_000)));
    rig.pass(999);
    assert!(rig.answers().is_empty());
    rig.pass(1);
    assert!(granted(rig.answer()).is_empty());
    rig.load(&["a"]);
    assert!(rig.take().is_none(), "nobody waits any more");
}

#[test]
fn forgotten_when_the_client_hangs_up() {
    let mut rig = Rig::new();
    let request = rig.start_grab(waiting(1, 1));
    rig.engine.hang_up(request);
    rig.load(&["a"]);
    assert!(rig.take().is_none());
    rig.pass(2_000);
    assert!(rig.answers().is_empty());
    assert_eq!(rig.engine.counts().ready, 1);
}

#[test]
fn served_by_a_lease_that_ends_and_by_one_that_is_given_back() {
    let mut rig = Rig::ready(&["a", "a"]);
    let held = rig.grab(plain());
    let first = rig.start_grab(waiting(1, 2));
    rig.start_results(&[(held[1].lease, Outcome::Decline)]);
    rig.settle();
    let (request, answer) = rig.answers().remove(1);
    assert_eq!((request, jobs(&granted(answer))), (first, vec![2]));
    rig.start_grab(Grab { wait_ms: 60_000, ..waiting(1, 3) });
    rig.pass(LEASE_MS);
    rig.settle();
    let job = granted(rig.answer()).remove(0);
    assert_eq!(job.lease.attempt, 2);
    assert!(job.previous.is_some());
}

#[test]
fn served_by_what_a_refused_grab_gives_back() {
    let mut rig = Rig::ready(&["a"]);
    rig.start_grab(plain());
    rig.take();
    let poll = rig.start_grab(waiting(1, 2));
    rig.engine.refused("bad data");
    rig.settle();
    let answers = rig.answers();
    assert!(matches!(answers[0].1, Answered::Refused(_)));
    assert_eq!(answers[1].0, poll, "{answers:?}");
}

#[test]
fn sent_home_when_the_owner_leaves() {
    let mut rig = Rig::new();
    rig.start_grab(waiting(1, 1));
    rig.engine.close_polls();
    assert!(granted(rig.answer()).is_empty());
}

#[test]
fn whoever_waits_is_named_when_the_queue_is_lost() {
    let mut rig = Rig::ready(&["a", "a"]);
    let first = rig.start_grab(Grab { max: 1, ..plain() });
    rig.take();
    let second = rig.start_grab(Grab { max: 1, ..plain() });
    let third = rig.start_grab(waiting(1, 1));
    assert_eq!(rig.engine.abandon(), [first, second, third]);
}

/// What an event of one type costs while so many wait for another; run by hand, in a release build.
#[test]
#[ignore = "a measurement"]
fn many_who_wait_for_something_else_cost_an_event_nothing() {
    for polls in [0, 1_000] {
        let limits = Limits { window_jobs: 1_000_000, window_bytes: 1 << 30, ..LIMITS };
        let mut rig = Rig::with(SETTINGS, limits);
        for n in 0..polls {
            rig.start_grab(Grab { wait_ms: 600_000, holder: worker(n), ..of_types(&["other"]) });
        }
        let before = std::time::Instant::now();
        for _ in 0..100_000 {
            rig.load(&["a"]);
        }
        println!("{polls} polls: {:?} an event", before.elapsed() / 100_000);
        assert!(rig.answers().is_empty());
    }
}
