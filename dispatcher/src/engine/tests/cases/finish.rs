//! Results: ok, already, stale, and what each outcome writes.

use super::*;
use crate::engine::record::Resolution;
use tidemill_common::api::RawValue;

#[test]
fn complete_is_one_small_record() {
    let mut rig = Rig::ready(&["a", "a"]);
    let held = rig.grab(plain());
    rig.start_results(&[(held[0].lease, complete())]);
    rig.start_results(&[(held[1].lease, complete())]);
    let flushed = rig.commit().unwrap();
    let [Record::Resolved { how: Resolution::Completed, entries }] = &flushed.records[..] else {
        panic!("one record for both: {flushed:?}")
    };
    assert_eq!(entries.len(), 2);
    assert!(flushed.cold.is_null());
    assert_eq!(rig.answers().len(), 2);
}

#[test]
fn a_result_is_written_beside_the_record_as_it_came() {
    let with =
        |json: &str| Outcome::Complete { result: Some(RawValue::from_string(json.to_owned()).unwrap()) };
    let mut rig = Rig::ready(&["a"; 3]);
    let held = rig.grab(plain());
    let text = r#"{"n": 1.50, "nul": "\u0000"}"#;
    rig.start_results(&[(held[0].lease, with(text)), (held[1].lease, complete())]);
    let flushed = rig.commit().unwrap();
    assert_eq!(flushed.cold, serde_json::json!({"result": [{"job": 1, "result": text}]}));
    assert!(matches!(&flushed.records[..], [Record::Resolved { entries, .. }] if entries.len() == 2));
    assert_eq!(decided(rig.answer()), [Answer::Ok, Answer::Ok]);
    assert_eq!(rig.result(held[0].lease, with("1")), Answer::Already, "the first one counts");

    assert_eq!(rig.result(held[2].lease, Outcome::Decline), Answer::Ok);
    let held = rig.grab(Grab { transactional: true, ..plain() }).remove(0);
    rig.start_results(&[(held.lease, with("7"))]);
    let flushed = rig.commit_answering(r#"{"finish":["ok"]}"#).unwrap();
    assert_eq!(cold(&flushed, "finish", "result"), ["7"]);
}

#[test]
fn the_same_again_is_already_another_outcome_is_stale() {
    let outcomes = [complete(), temp_fail(None), perm_fail(), Outcome::Decline];
    for (i, outcome) in outcomes.iter().enumerate() {
        let mut rig = Rig::ready(&["a"]);
        let lease = rig.grab_one().lease;
        assert_eq!(rig.result(lease, outcome.clone()), Answer::Ok);
        for (j, again) in outcomes.iter().enumerate() {
            let expected = if i == j { Answer::Already } else { Answer::Stale };
            assert_eq!(rig.result(lease, again.clone()), expected, "{outcome:?}, then {again:?}");
        }
    }
}

#[test]
fn the_same_again_in_one_request_or_during_the_commit_is_already() {
    let mut rig = Rig::ready(&["a"]);
    let lease = rig.grab_one().lease;
    rig.start_results(&[(lease, complete()), (lease, complete()), (lease, perm_fail())]);
    rig.take();
    rig.start_results(&[(lease, complete()), (lease, Outcome::Decline)]);
    assert!(rig.answers().is_empty());
    rig.engine.committed(rig.now, ColdAnswers::default());
    rig.settle();
    let answers: Vec<_> = rig.answers().into_iter().map(|(_, a)| decided(a)).collect();
    assert_eq!(answers[0], [Answer::Ok, Answer::Already, Answer::Stale]);
    assert_eq!(answers[1], [Answer::Already, Answer::Stale]);
}

#[test]
fn already_is_not_said_of_a_result_that_was_refused() {
    let mut rig = Rig::ready(&["a"]);
    let lease = rig.grab_one().lease;
    rig.start_results(&[(lease, complete())]);
    rig.take();
    rig.start_results(&[(lease, complete())]);
    rig.engine.refused("bad data");
    rig.settle();
    let answers = rig.answers();
    assert!(matches!(answers[0].1, Answered::Refused(_)), "{answers:?}");
    assert!(matches!(&answers[1].1, Answered::Results(r) if r[..] == [Answer::Unavailable]), "{answers:?}");
    assert_eq!(rig.result(lease, complete()), Answer::Ok, "the lease is live: ask again");
}

#[test]
fn complete_is_not_already_done_when_the_job_is_being_buried() {
    let mut rig = Rig::ready(&["a"]);
    for _ in 1..SETTINGS.max_attempts {
        rig.grab_one();
        rig.pass(LEASE_MS);
        rig.settle();
    }
    let lease = rig.grab_one().lease;
    rig.pass(LEASE_MS);
    rig.start_results(&[(lease, complete())]);
    rig.settle();
    assert_eq!(decided(rig.answer()), [Answer::Stale]);
}

#[test]
fn only_the_newest_lease_finishes() {
    let mut rig = Rig::ready(&["a"]);
    let old = rig.grab_one().lease;
    rig.pass(LEASE_MS);
    assert_eq!(rig.result(old, complete()), Answer::Stale, "ended, given to nobody yet");
    let new = rig.grab_one().lease;
    assert_eq!(rig.result(old, complete()), Answer::Stale);
    assert_eq!(rig.result(new, complete()), Answer::Ok);
    assert_eq!(rig.result(old, complete()), Answer::Stale);
}

#[test]
fn forged_leases_are_stale() {
    let mut rig = Rig::ready(&["a"]);
    let lease = rig.grab_one().lease;
    let forged = [
        Lease { nonce: lease.nonce ^ 1, ..lease },
        Lease { attempt: 2, ..lease },
        Lease { queue_id: QUEUE + 1, ..lease },
        Lease { epoch: EPOCH + 1, ..lease },
        Lease { number: lease.number + 1, ..lease },
    ];
    for forged in forged {
        assert_eq!(rig.result(forged, complete()), Answer::Stale, "{forged}");
        assert_eq!(rig.heartbeat(forged, 1), Extended::Stale, "{forged}");
    }
    assert_eq!(rig.result(lease, complete()), Answer::Ok);
}

#[test]
fn an_entry_nobody_knows_is_asked_of_the_waiting_room() {
    let mut rig = Rig::ready(&["a"]);
    let lease = Lease { put: 1, job: 99, ..rig.grab_one().lease };
    rig.start_results(&[(lease, temp_fail(Some(250)))]);
    let flushed = rig.commit_answering(r#"{"finish":["unavailable"],"extend":[]}"#).unwrap();
    assert_eq!(cold(&flushed, "finish", "delay_ms"), [250]);
    assert_eq!(cold(&flushed, "finish", "put"), [1]);
    assert_eq!(decided(rig.answer()), [Answer::Unavailable]);
}

#[test]
fn temp_fail_waits_for_its_back_off_within_bounds() {
    let mut rig = Rig::with(QueueSettings { max_attempts: 1_000, ..SETTINGS }, LIMITS);
    let mut widest = 0;
    for n in 0..300 {
        let attempt = n % 10;
        let mut reput = row(i64::from(n), "a");
        reput.owner = Some(SUB);
        reput.retry = Some(attempt + 1);
        reput.event.extra[0] = Some(format!(r#"{{"attempt":{attempt}}}"#));
        rig.engine.load(i64::from(n) + 1, vec![reput], true);
        let lease = rig.grab_one().lease;
        rig.start_results(&[(lease, temp_fail(None))]);
        let flushed = rig.commit().unwrap();
        rig.answers();
        let due = cold(&flushed, "wait", "due_ms")[0].as_u64().unwrap();
        let ceiling = SETTINGS.backoff.bound_ms(attempt + 1);
        assert!(due <= ceiling, "attempt {}: {due} ms", attempt + 1);
        widest = widest.max(due);
        assert_eq!(cold(&flushed, "wait", "attempt"), [attempt + 1]);
        assert_eq!(cold(&flushed, "wait", "put"), [attempt + 2]);
        assert_eq!(cold(&flushed, "wait", "kind"), ["retry"]);
        assert_eq!(cold(&flushed, "wait", "previous")[0]["ended"], "failed");
        assert_eq!(cold(&flushed, "fail", "reason"), ["failed"]);
    }
    assert!(widest > SETTINGS.backoff.bound_ms(1_000) / 2, "jitter goes up to the cap");
}

#[test]
fn temp_fail_takes_the_workers_own_delay() {
    let mut rig = Rig::ready(&["a"]);
    let lease = rig.grab_one().lease;
    rig.start_results(&[(lease, temp_fail(Some(86_400_000)))]);
    assert_eq!(cold(&rig.commit().unwrap(), "wait", "due_ms"), [86_400_000]);
    assert_eq!(rig.engine.low_water(), 1);
}

#[test]
fn temp_fail_of_the_last_attempt_is_a_dead_letter() {
    let mut rig = Rig::with(QueueSettings { max_attempts: 1, ..SETTINGS }, LIMITS);
    rig.load(&["a"]);
    let lease = rig.grab_one().lease;
    rig.start_results(&[(lease, temp_fail(None))]);
    let flushed = rig.commit().unwrap();
    assert!(flushed.cold["wait"].is_null());
    assert_eq!(cold(&flushed, "dead", "reason"), ["exhausted"]);
    assert_eq!(cold(&flushed, "dead", "message"), ["no luck"]);
    assert_eq!(cold(&flushed, "fail", "attempt"), [1]);
    assert_eq!(decided(rig.answer()), [Answer::Ok]);
}

#[test]
fn perm_fail_is_a_dead_letter_at_once() {
    let mut rig = Rig::ready(&["a"]);
    let lease = rig.grab_one().lease;
    rig.start_results(&[(lease, perm_fail())]);
    let flushed = rig.commit().unwrap();
    assert_eq!(cold(&flushed, "dead", "reason"), ["perm_fail"]);
    assert_eq!(cold(&flushed, "dead", "put"), [0]);
    assert!(matches!(flushed.records[..], [Record::Resolved { how: Resolution::Failed, .. }]));
    assert_eq!(rig.engine.counts().leased, 0);
}

#[test]
fn decline_does_not_count_however_often() {
    let mut rig = Rig::ready(&["a"]);
    for _ in 0..10 {
        let job = rig.grab_one();
        assert_eq!(job.lease.attempt, 1);
        assert_eq!(rig.result(job.lease, Outcome::Decline), Answer::Ok);
    }
    let job = rig.grab_one();
    let previous = job.previous.unwrap();
    assert_eq!(previous.ended, tidemill_common::api::PreviousEnd::Declined);
    assert_eq!(previous.host.as_deref(), Some("host1"));
}
