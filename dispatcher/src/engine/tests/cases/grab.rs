//! Which jobs a grab gets, and when.

use super::*;

#[test]
fn oldest_first_over_all_types() {
    let mut rig = Rig::ready(&["b", "a", "b", "c", "a"]);
    assert_eq!(jobs(&rig.grab(plain())), [1, 2, 3, 4, 5]);
}

#[test]
fn only_the_types_asked_for_oldest_first() {
    let mut rig = Rig::ready(&["b", "a", "b", "c", "a"]);
    assert_eq!(jobs(&rig.grab(of_types(&["a", "b", "nothing"]))), [1, 2, 3, 5]);
    assert_eq!(jobs(&rig.grab(of_types(&["a"]))), NONE);
    assert_eq!(jobs(&rig.grab(plain())), [4]);
}

#[test]
fn never_more_than_max() {
    let mut rig = Rig::ready(&["a"; 5]);
    assert_eq!(jobs(&rig.grab(Grab { max: 3, ..plain() })), [1, 2, 3]);
    assert_eq!(jobs(&rig.grab(Grab { max: 0, ..plain() })), NONE);
    assert_eq!(jobs(&rig.grab(plain())), [4, 5]);
}

#[test]
fn a_job_of_no_type_goes_to_grabs_for_all_types() {
    let mut rig = Rig::new();
    let nameless = LogRow { event: Event::default(), ..row(1, "") };
    rig.engine.load(1, vec![nameless], true);
    assert_eq!(jobs(&rig.grab(of_types(&["a"]))), NONE);
    assert_eq!(jobs(&rig.grab(plain())), [1]);
}

#[test]
fn nothing_is_answered_before_the_commit_and_the_lease_counts_from_it() {
    let mut rig = Rig::ready(&["a"]);
    rig.start_grab(plain());
    rig.take();
    rig.pass(5_000);
    assert!(rig.answers().is_empty());
    rig.engine.committed(rig.now, ColdAnswers::default());
    let job = granted(rig.answer()).remove(0);
    assert_eq!(job.ends_at, rig.now.plus_ms(LEASE_MS));
    assert_eq!((job.lease.attempt, job.lease.put, job.lease.epoch, job.lease.queue_id), (1, 0, EPOCH, QUEUE));
    assert_eq!(job.previous, None);
}

#[test]
fn two_grabs_in_one_flush_share_nothing() {
    let mut rig = Rig::ready(&["a", "a"]);
    let first = rig.start_grab(Grab { max: 1, ..plain() });
    let second = rig.start_grab(Grab { max: 1, holder: worker(2), ..plain() });
    rig.commit();
    let answers: Vec<_> = rig.answers().into_iter().map(|(r, a)| (r, jobs(&granted(a)))).collect();
    assert_eq!(answers, [(first, vec![1]), (second, vec![2])]);
}

#[test]
fn results_with_a_grab_are_answered_at_commit_and_never_wait_for_jobs() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab_one();
    let request = rig.request();
    rig.engine.grab(request, Grab { wait_ms: 30_000, ..plain() }, &[(Some(job.lease), complete())]);
    assert!(rig.answers().is_empty(), "not before the commit");
    rig.commit();
    let Answered::Grab { jobs, results } = rig.answer() else { panic!("a grab's answer") };
    assert!(jobs.is_empty());
    assert_eq!(results, [Answer::Ok]);
}

#[test]
fn results_and_jobs_come_in_one_answer() {
    let mut rig = Rig::ready(&["a", "a"]);
    let job = rig.grab_one();
    let request = rig.request();
    rig.engine.grab(request, plain(), &[(Some(job.lease), complete()), (None, complete())]);
    rig.commit();
    let Answered::Grab { jobs: granted, results } = rig.answer() else { panic!("a grab's answer") };
    assert_eq!(jobs(&granted), [2]);
    assert_eq!(results, [Answer::Ok, Answer::Stale]);
}

#[test]
fn the_queues_limit_of_attempts_or_the_jobs_own() {
    let mut rig = Rig::new();
    let mut own = row(2, "a");
    own.event.extra[0] = Some(r#"{"max_attempts":9}"#.to_owned());
    let mut foreign = row(3, "a");
    foreign.event.extra[0] = Some("not options".to_owned());
    rig.engine.load(1, vec![row(1, "a"), own, foreign], true);
    let limits: Vec<_> = rig.grab(plain()).iter().map(|job| job.max_attempts).collect();
    assert_eq!(limits, [SETTINGS.max_attempts, 9, SETTINGS.max_attempts]);
}

#[test]
fn undelivered_jobs_are_given_back_uncounted_and_first() {
    let mut rig = Rig::ready(&["a", "a"]);
    let job = rig.grab_one();
    rig.engine.undelivered(std::slice::from_ref(&job));
    rig.settle();
    let again = rig.grab_one();
    assert_eq!((again.lease.job, again.lease.attempt), (1, 1));
    assert_ne!(again.lease.number, job.lease.number);
    assert_eq!(rig.result(job.lease, complete()), Answer::Stale);
    assert_eq!(rig.result(again.lease, complete()), Answer::Ok);
}

#[test]
fn a_transactional_grant_leaves_the_window_for_the_waiting_room() {
    let mut rig = Rig::ready(&["a"]);
    rig.start_grab(Grab { transactional: true, lease_ms: Some(5_000), ..plain() });
    let flushed = rig.commit().unwrap();
    let job = granted(rig.answer()).remove(0);
    assert!(job.lease.transactional);
    assert_eq!(job.ends_at, rig.now.plus_ms(5_000));
    assert_eq!(cold(&flushed, "wait", "job"), [1]);
    assert_eq!(cold(&flushed, "wait", "put"), [1]);
    assert_eq!(cold(&flushed, "wait", "attempt"), [1]);
    assert_eq!(cold(&flushed, "wait", "kind"), ["leased"]);
    assert_eq!(cold(&flushed, "wait", "due_ms"), [5_000]);
    assert_eq!(cold(&flushed, "wait", "no"), [job.lease.number]);
    assert_eq!(cold(&flushed, "wait", "nonce"), [job.lease.nonce.cast_signed()]);
    assert_eq!(rig.engine.low_water(), 1, "the log is done with it");
    assert_eq!(rig.engine.counts().leased, 0);
    // Its result is for the waiting room to decide.
    rig.start_results(&[(job.lease, complete())]);
    let flushed = rig.commit_answering(r#"{"finish":["ok"],"extend":[]}"#).unwrap();
    assert!(flushed.records.is_empty());
    assert_eq!(cold(&flushed, "finish", "outcome"), ["complete"]);
    assert_eq!(decided(rig.answer()), [Answer::Ok]);
}

#[test]
fn answers_that_nobody_waits_for_are_not_given_to_the_next() {
    let mut rig = Rig::ready(&["a", "a"]);
    let held = rig.grab(Grab { transactional: true, ..plain() });
    rig.engine.undelivered(&held[..1]);
    rig.start_results(&[(held[1].lease, complete())]);
    rig.commit_answering(r#"{"finish":["ok","stale"],"extend":[]}"#);
    assert_eq!(decided(rig.answer()), [Answer::Stale]);
}
