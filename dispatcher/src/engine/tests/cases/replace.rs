//! Replace: other jobs exist instead, inline or streamed.

use super::*;
use crate::engine::{Children, Decided};
use tidemill_common::api::{JobOptions, NewJob};

fn by(count: usize) -> Outcome {
    let job = || NewJob::new("child", None, JobOptions::default());
    Outcome::Replace { jobs: (0..count).map(|_| job()).collect() }
}

/// What became of one result.
fn told(rig: &mut Rig, lease: Lease, outcome: Outcome) -> (Answer, Vec<i64>) {
    rig.start_results(&[(lease, outcome)]);
    rig.settle();
    let Answered::Results(mut decided) = rig.answer() else { panic!("no answer to results") };
    let Decided { answer, children } = decided.remove(0);
    (answer, children.unwrap_or_default().ids.to_vec())
}

fn lent(rig: &mut Rig, lease: Lease) -> Decided {
    start_lend(rig, lease);
    rig.settle();
    lent_answer(rig)
}

fn start_lend(rig: &mut Rig, lease: Lease) {
    let request = rig.request();
    rig.engine.lend(request, Some(&lease));
}

fn lent_answer(rig: &mut Rig) -> Decided {
    match rig.answer() {
        Answered::Lent { decided, epoch: EPOCH } => decided,
        other => panic!("no answer to a stream: {other:?}"),
    }
}

#[test]
fn the_jobs_and_the_end_of_their_parent_are_one_flush() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab_one();
    rig.start_results(&[(job.lease, by(2))]);
    assert!(rig.answers().is_empty(), "not before the commit");
    let flushed = rig.commit().unwrap();
    assert!(matches!(&flushed.records[..], [Record::Resolved { how: record::Resolution::Replaced, .. }]));
    let jobs = cold(&flushed, "insert", "jobs")[0].as_array().unwrap();
    assert_eq!(cold(&flushed, "insert", "job"), [1]);
    assert_eq!((jobs.len(), &jobs[0]), (2, &serde_json::json!({"type": "child"})));
    assert_eq!(rig.engine.low_water(), 1);
}

#[test]
fn a_repeat_tells_the_same_ids_also_after_a_takeover() {
    let mut rig = Rig::ready(&["a"; 3]);
    let held = rig.grab(plain());
    rig.start_results(&[(held[0].lease, by(2)), (held[1].lease, by(0)), (held[2].lease, by(3))]);
    rig.settle();
    let Answered::Results(decided) = rig.answer() else { panic!() };
    let ids: Vec<_> = decided.iter().map(|d| d.children.clone().unwrap().ids.to_vec()).collect();
    assert_eq!(ids, [vec![1_001, 1_002], vec![], vec![1_001, 1_002, 1_003]]);
    assert_eq!(told(&mut rig, held[2].lease, by(1)), (Answer::Already, ids[2].clone()));
    assert_eq!(told(&mut rig, held[2].lease, complete()), (Answer::Stale, vec![]));
    let mut next = rig.successor();
    for (job, ids) in held.iter().zip(ids) {
        assert_eq!(told(&mut next, job.lease, by(1)), (Answer::Already, ids));
    }
}

#[test]
fn refused_jobs_leave_the_lease_as_it_was() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab_one();
    rig.start_results(&[(job.lease, by(1))]);
    rig.take();
    rig.engine.refused("there is no such queue");
    assert!(matches!(rig.answer(), Answered::Refused(_)));
    assert_eq!(rig.result(job.lease, complete()), Answer::Ok);
}

#[test]
fn a_lease_in_the_waiting_room_is_replaced_there_and_remembered() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab(Grab { transactional: true, ..plain() }).remove(0);
    rig.start_results(&[(job.lease, by(2))]);
    let flushed = rig.commit_answering(r#"{"finish":[{"ids":[7,8]}]}"#).unwrap();
    assert_eq!(cold(&flushed, "finish", "jobs")[0].as_array().unwrap().len(), 2);
    let Answered::Results(decided) = rig.answer() else { panic!() };
    assert_eq!(decided[0].children.as_ref().unwrap().ids[..], [7, 8]);
    assert_eq!(told(&mut rig, job.lease, by(2)), (Answer::Already, vec![7, 8]));
}

#[test]
fn what_the_waiting_room_took_is_known_after_a_takeover() {
    let mut rig = Rig::new();
    let note = serde_json::json!({"finished": [
        [EPOCH, 1, "replace", [7, 8]], [EPOCH, 2, "complete", null], [EPOCH, 3, "replace", 1_000_000]]});
    rig.journal.push((rig.now, Vec::new(), note));
    let lease = |number| Lease {
        transactional: true,
        queue_id: QUEUE,
        epoch: EPOCH,
        number,
        job: number,
        put: 0,
        attempt: 1,
        nonce: 5,
    };
    let mut next = rig.successor();
    assert_eq!(told(&mut next, lease(1), by(2)), (Answer::Already, vec![7, 8]));
    assert_eq!(told(&mut next, lease(2), complete()).0, Answer::Already);
    next.start_results(&[(lease(3), by(1))]);
    next.settle();
    let Answered::Results(decided) = next.answer() else { panic!() };
    assert_eq!(decided[0].children, Some(Children { count: 1_000_000, ..Children::default() }));
}

#[test]
fn a_stream_begins_when_its_lease_is_in_the_waiting_room() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab_one();
    start_lend(&mut rig, job.lease);
    assert!(rig.answers().is_empty(), "not before the commit");
    let flushed = rig.commit().unwrap();
    assert_eq!(cold(&flushed, "wait", "due"), [job.ends_at.0]);
    assert_eq!(lent_answer(&mut rig).answer, Answer::Ok);
    assert_eq!(rig.engine.low_water(), 1);

    // Another one of the same lease asks the row.
    start_lend(&mut rig, job.lease);
    rig.commit_answering(r#"{"extend":[77]}"#).unwrap();
    assert_eq!(lent_answer(&mut rig).answer, Answer::Ok);

    rig.engine.streamed(&job.lease, 5);
    let already = lent(&mut rig, job.lease);
    assert_eq!((already.answer, already.children.unwrap().count), (Answer::Already, 5));
    assert_eq!(rig.result(job.lease, complete()), Answer::Stale);
}

#[test]
fn a_stream_does_not_begin_under_a_lease_that_is_not_live() {
    let mut rig = Rig::ready(&["a", "a"]);
    let held = rig.grab(plain());
    assert_eq!(lent(&mut rig, Lease { nonce: 1, ..held[0].lease }).answer, Answer::Stale, "forged");
    rig.result(held[0].lease, complete());
    assert_eq!(lent(&mut rig, held[0].lease).answer, Answer::Stale, "completed");
    rig.start_results(&[(held[1].lease, complete())]);
    rig.take();
    start_lend(&mut rig, held[1].lease);
    rig.engine.committed(rig.now, ColdAnswers::default());
    rig.settle();
    let answers = rig.answers();
    assert!(
        matches!(&answers[1].1, Answered::Lent { decided, .. } if decided.answer == Answer::Unavailable),
        "being decided: {answers:?}"
    );
}
