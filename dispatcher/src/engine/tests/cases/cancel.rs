//! Cancel: what ends at once, what is told, and what happens to the rest when it is read.

use super::*;
use crate::engine::Target;
use crate::engine::record::Resolution;

const KEY: &str = r#"{"cancel_key":"42"}"#;

/// The waiting room has nothing of the key; the snapshot sees the transactions below 50.
const NOTHING: &str = r#"{"cancel":[{"gone":0,"leased":[],"others":[],"snapshot":"50:50:","more":false}]}"#;

fn keyed(job: i64) -> LogRow {
    let mut row = row(job, "a");
    row.event.extra[0] = Some(KEY.to_owned());
    row
}

/// A rig whose window holds jobs 1, 2, … with the key.
fn rig(count: i64) -> Rig {
    let mut rig = Rig::new();
    (rig.tick, rig.next_job) = (1, count + 1);
    rig.engine.load(1, (1..=count).map(keyed).collect(), true);
    rig
}

fn start(rig: &mut Rig, target: Target) -> RequestId {
    let request = rig.request();
    rig.engine.cancel(request, target, 7);
    request
}

/// How many ended and how many are told.
fn cancelled(answered: Answered) -> (u64, u64) {
    match answered {
        Answered::Cancelled { cancelled, told } => (cancelled, told),
        other => panic!("no answer to a cancellation: {other:?}"),
    }
}

/// What a waiting room without the job answers.
fn others(job: i64) -> String {
    format!(r#"{{"cancel":[{{"gone":0,"leased":[],"others":[{job}],"more":false}}]}}"#)
}

/// Cancels the key, to the end.
fn cancel(rig: &mut Rig) -> (u64, u64) {
    start(rig, Target::Key(42));
    rig.commit_answering(NOTHING).unwrap();
    while let Some(flushed) = rig.take() {
        let items = cold(&flushed, "cancel", "job");
        let answers = items
            .iter()
            .map(|job| serde_json::json!({"gone": 0, "leased": [], "others": [job], "more": false}));
        let answers = serde_json::json!({"cancel": answers.collect::<Vec<_>>()});
        rig.write(flushed, serde_json::json!({}), serde_json::from_value(answers).unwrap());
    }
    cancelled(rig.answer())
}

#[test]
fn what_is_ready_ends_once_it_is_written_down() {
    let mut rig = rig(3);
    rig.load(&["a"]);
    start(&mut rig, Target::Key(42));
    let flushed = rig.commit_answering(NOTHING).unwrap();
    assert_eq!((cold(&flushed, "cancel", "key"), flushed.records.len()), (vec![&serde_json::json!(42)], 0));
    assert!(rig.answers().is_empty(), "not before their end is committed");
    rig.start_grab(plain());
    rig.settle();
    let answers: Vec<_> = rig.answers().into_iter().map(|(_, answered)| answered).collect();
    assert!(
        matches!(&answers[..], [Answered::Cancelled { cancelled: 3, told: 0 }, Answered::Grab { jobs, .. }] if jobs.len() == 1),
        "nobody got them meanwhile: {answers:?}"
    );
    assert_eq!(rig.engine.low_water(), 1);
    let mut journal = rig.journal.iter().flat_map(|(_, records, _)| records);
    assert!(journal.any(|record| matches!(record, Record::Resolved { how: Resolution::Cancelled, entries } if entries.len() == 3)));
}

#[test]
fn it_is_counted_and_its_details_are_noted() {
    let mut rig = rig(2);
    start(&mut rig, Target::Key(42));
    rig.commit_answering(NOTHING).unwrap();
    let flushed = rig.commit().unwrap();
    let mut ended = cold(&flushed, "cancelled", "job");
    ended.sort_by_key(|job| job.as_i64());
    assert_eq!(
        (ended, cold(&flushed, "cancelled", "cancelled")),
        (vec![&serde_json::json!(1), &serde_json::json!(2)], vec![&serde_json::json!(7); 2])
    );
    assert_eq!(cancelled(rig.answer()), (2, 0));
}

#[test]
fn a_running_job_is_told_and_its_handler_decides() {
    for (outcome, answer) in [
        (complete(), Answer::Ok),
        (perm_fail(), Answer::Ok),
        (temp_fail(None), Answer::Cancelled),
        (Outcome::Decline, Answer::Cancelled),
    ] {
        let mut rig = rig(1);
        let job = rig.grab_one();
        assert!(matches!(rig.heartbeat(job.lease, LEASE_MS), Extended::Until(_)));
        assert_eq!(cancel(&mut rig), (0, 1));
        assert!(matches!(rig.heartbeat(job.lease, LEASE_MS), Extended::Stopping(_, 7)));
        assert_eq!(rig.result(job.lease, outcome.clone()), answer, "{outcome:?}");
        let again = if answer == Answer::Ok { Answer::Already } else { Answer::Cancelled };
        assert_eq!(rig.result(job.lease, outcome), again);
        rig.pass(3_600_000);
        assert_eq!((jobs(&rig.grab(plain())), rig.engine.low_water()), (NONE.to_vec(), 1));
    }
}

#[test]
fn a_lease_that_ends_is_the_end() {
    let mut rig = rig(1);
    let job = rig.grab_one();
    cancel(&mut rig);
    rig.pass(LEASE_MS + 1);
    let flushed = rig.commit().unwrap();
    assert_eq!(cold(&flushed, "fail", "reason"), ["expired"]);
    assert_eq!(cold(&flushed, "cancelled", "job"), [1]);
    assert_eq!(flushed.cold["ended"], serde_json::json!([1]));
    assert_eq!(rig.result(job.lease, complete()), Answer::Cancelled);
}

#[test]
fn what_is_read_later_is_hit_if_the_snapshot_sees_it() {
    let mut rig = rig(0);
    assert_eq!(cancel(&mut rig), (0, 0));
    rig.engine.load(2, vec![keyed(49), keyed(50), row(10, "a")], true);
    rig.settle();
    assert_eq!(jobs(&rig.grab(plain())), [50, 10]);
    assert_eq!(rig.engine.find(49).map(|seen| seen.entry.key.job), None);
}

#[test]
fn a_job_that_is_read_while_it_is_being_cancelled_is_never_ready() {
    let mut rig = Rig::new();
    start(&mut rig, Target::Job(5));
    rig.take().unwrap();
    rig.engine.load(1, vec![row(5, "a")], true);
    assert_eq!(rig.engine.counts().ready, 0);
    rig.engine.committed(rig.now, serde_json::from_str(&others(5)).unwrap());
    rig.commit_answering(&others(5)).unwrap();
    let flushed = rig.commit().unwrap();
    assert_eq!(flushed.cold["ended"], serde_json::json!([5]), "what was written down in the meantime");
    assert_eq!(cancelled(rig.answer()), (1, 0));
}

#[test]
fn a_job_that_is_done_meanwhile_leaves_nothing_behind() {
    let mut rig = rig(1);
    let job = rig.grab_one();
    rig.start_results(&[(job.lease, complete())]);
    start(&mut rig, Target::Job(1));
    rig.commit_answering(&others(1)).unwrap();
    let flushed = rig.commit().unwrap();
    assert_eq!(flushed.cold["ended"], serde_json::json!([1]));
    let answers: Vec<_> = rig.answers().into_iter().map(|(_, answered)| answered).collect();
    assert!(matches!(answers[1], Answered::Cancelled { cancelled: 0, told: 0 }), "{answers:?}");
}

#[test]
fn a_lease_that_moves_takes_it_along() {
    let limits = Limits { hold_ms: 30_000, ..LIMITS };
    let mut rig = Rig::with(QueueSettings { lease_ms: 3_600_000, ..SETTINGS }, limits);
    rig.engine.load(1, vec![keyed(1)], true);
    let job = rig.grab_one();
    cancel(&mut rig);
    rig.pass(31_000);
    let flushed = rig.commit_answering(&others(1)).unwrap();
    assert_eq!(cold(&flushed, "wait", "job"), [1]);
    assert_eq!(cold(&flushed, "cancel", "job"), [1]);
    assert_eq!(cold(&flushed, "wait", "cancel_key"), [42]);
    rig.start_results(&[(job.lease, temp_fail(None))]);
    let flushed = rig.commit_answering(r#"{"finish":["cancelled"]}"#).unwrap();
    assert_eq!(cold(&flushed, "finish", "cancel"), [7]);
    assert_eq!(decided(rig.answer()), [Answer::Cancelled]);
}

#[test]
fn a_refused_sweep_leaves_the_jobs_ready() {
    let mut rig = rig(2);
    start(&mut rig, Target::Key(42));
    rig.commit_answering(NOTHING).unwrap();
    rig.take().unwrap();
    rig.engine.refused("bad data");
    assert!(matches!(rig.answer(), Answered::Refused(_)));
    assert_eq!(rig.engine.counts().ready, 2);
}

#[test]
fn many_entries_end_in_portions() {
    let mut rig = Rig::with(SETTINGS, Limits { window_jobs: 3_000, ..LIMITS });
    rig.engine.load(1, (1..=2_500).map(keyed).collect(), true);
    start(&mut rig, Target::Key(42));
    rig.commit_answering(NOTHING).unwrap();
    let mut portions = Vec::new();
    while let Some(flushed) = rig.commit() {
        portions.push(cold(&flushed, "cancelled", "job").len());
    }
    assert_eq!(portions, [1_000, 1_000, 500]);
    assert_eq!(cancelled(rig.answer()), (2_500, 0));
}

#[test]
fn the_waiting_room_is_asked_until_nothing_is_left_there() {
    let mut rig = rig(0);
    start(&mut rig, Target::Key(42));
    let more = r#"{"cancel":[{"gone":1000,"leased":[8],"others":[9],"snapshot":"5:5:","more":true}]}"#;
    rig.commit_answering(more).unwrap();
    let since = rig.now.0;
    let flushed = rig.commit_answering(NOTHING).unwrap();
    assert_eq!(cold(&flushed, "cancel", "since"), [since]);
    assert_eq!(cancelled(rig.answer()), (1_001, 1));
    assert_eq!(rig.engine.cancels.code(9), Some(7), "it is on its way into the log");
}

#[test]
fn it_is_forgotten_when_the_database_says_so() {
    let mut rig = rig(1);
    cancel(&mut rig);
    rig.pass(1_000);
    let flushed = rig.commit_answering(r#"{"prune":[{"keys":[],"jobs":[]}]}"#).unwrap();
    assert_eq!(flushed.cold["prune"], serde_json::json!([true]));
    rig.pass(60_000);
    assert!(rig.take().is_none(), "the mark has not moved since");
    rig.tick = 2;
    rig.load(&[]);
    rig.pass(1_000);
    rig.commit_answering(r#"{"prune":[{"keys":[42],"jobs":[]}]}"#).unwrap();
    rig.load(&[]);
    rig.pass(60_000);
    assert!(rig.take().is_none(), "nothing is left to do");
}
