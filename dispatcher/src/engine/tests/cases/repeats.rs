//! A grab with a number, asked again after a lost answer.

use super::*;

fn numbered(number: u64) -> Grab {
    Grab { max: 2, number: Some(number), ..plain() }
}

#[test]
fn gets_the_same_jobs_under_the_same_leases() {
    let mut rig = Rig::ready(&["a"; 4]);
    let first = rig.grab(numbered(1));
    let again = rig.grab(numbered(1));
    let leases = |jobs: &[Granted]| jobs.iter().map(|job| (job.lease, job.ends_at)).collect::<Vec<_>>();
    assert_eq!(leases(&again), leases(&first));
    assert_eq!(jobs(&rig.grab(numbered(2))), [3, 4]);
}

#[test]
fn of_another_worker_is_another_grab() {
    let mut rig = Rig::ready(&["a"; 4]);
    assert_eq!(jobs(&rig.grab(numbered(1))), [1, 2]);
    assert_eq!(jobs(&rig.grab(Grab { holder: worker(2), ..numbered(1) })), [3, 4]);
}

#[test]
fn gets_what_is_left_of_them() {
    let mut rig = Rig::ready(&["a"; 4]);
    let first = rig.grab(numbered(1));
    assert_eq!(rig.result(first[0].lease, complete()), Answer::Ok);
    assert_eq!(jobs(&rig.grab(numbered(1))), [2]);
}

#[test]
fn while_the_first_is_being_committed_both_are_answered() {
    let mut rig = Rig::ready(&["a"; 4]);
    rig.start_grab(numbered(1));
    rig.take();
    rig.start_grab(numbered(1));
    rig.engine.committed(rig.now, ColdAnswers::default());
    rig.settle();
    let answers: Vec<_> = rig.answers().into_iter().map(|(_, a)| jobs(&granted(a))).collect();
    assert_eq!(answers, [[1, 2], [1, 2]]);
}

#[test]
fn while_the_first_waits_sends_it_home_and_waits_instead() {
    let mut rig = Rig::new();
    let first = rig.start_grab(Grab { wait_ms: 1_000, ..numbered(1) });
    let second = rig.start_grab(Grab { wait_ms: 1_000, ..numbered(1) });
    let (request, answer) = rig.answers().remove(0);
    assert_eq!((request, granted(answer).len()), (first, 0));
    rig.load(&["a"]);
    rig.settle();
    let (request, answer) = rig.answers().remove(0);
    assert_eq!((request, jobs(&granted(answer))), (second, vec![1]));
}

#[test]
fn while_the_first_waits_brings_its_results_home() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab_one();
    rig.start_grab(Grab { wait_ms: 1_000, ..numbered(1) });
    let second = rig.request();
    rig.engine.grab(second, Grab { wait_ms: 1_000, ..numbered(1) }, &[(Some(job.lease), complete())]);
    rig.settle();
    let answers = rig.answers();
    let Some((_, Answered::Grab { results, .. })) = answers.iter().find(|(request, _)| *request == second)
    else {
        panic!("no answer to the second: {answers:?}")
    };
    assert_eq!(results, &[Answer::Ok]);
    assert_eq!(rig.engine.low_water(), 1);
}

#[test]
fn never_gets_the_lease_of_another_job_that_came_into_the_place() {
    let mut old = Rig::ready(&["a", "a"]);
    let held = old.grab(Grab { max: 2, ..plain() });
    old.result(held[0].lease, Outcome::Decline);
    let mut next = old.successor();
    next.engine.load(1, vec![row(1, "a")], false);
    let grab = Grab { transactional: true, number: Some(1), holder: worker(2), ..plain() };
    next.start_grab(grab.clone());
    next.take();
    next.start_grab(grab);
    next.engine.committed(next.now, ColdAnswers::default());
    next.engine.load(1, vec![row(2, "a")], true);
    next.settle();
    let answers: Vec<_> = next.answers().into_iter().map(|(_, answer)| jobs(&granted(answer))).collect();
    assert_eq!(answers, [vec![1], vec![]]);
}

#[test]
fn of_which_nothing_is_left_gets_other_jobs() {
    let mut rig = Rig::ready(&["a"; 3]);
    assert_eq!(jobs(&rig.grab(numbered(1))), [1, 2]);
    rig.pass(LEASE_MS);
    rig.settle();
    assert_eq!(jobs(&rig.grab(Grab { max: 2, holder: worker(2), ..plain() })), [1, 2]);
    assert_eq!(jobs(&rig.grab(numbered(1))), [3]);
}
