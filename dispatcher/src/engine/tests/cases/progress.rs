//! What a running job says of itself: heard with the heartbeat, told to its next attempt.

use super::*;
use tidemill_common::api::{NewJob, Progress};

fn report(percent: u8) -> Arc<Progress> {
    Arc::new(Progress { percent: Some(percent), ..Progress::default() })
}

fn start_report(rig: &mut Rig, lease: Lease, percent: u8) {
    let request = rig.request();
    let beat = Beat { lease: Some(lease), ms: Some(LEASE_MS), progress: Some(report(percent)) };
    rig.engine.heartbeat(request, &[beat]);
}

fn heard(rig: &Rig, job: i64) -> Option<u8> {
    rig.engine.progress(job)?.percent
}

fn told(granted: &Granted) -> Option<u8> {
    granted.progress.as_ref()?.percent
}

/// A job that has reported 40 percent.
fn reported() -> (Rig, Granted) {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab_one();
    assert_eq!(told(&job), None);
    start_report(&mut rig, job.lease, 40);
    rig.settle();
    assert!(matches!(extended(rig.answer()), Extended::Until(_)));
    (rig, job)
}

#[test]
fn the_last_report_counts_once_its_extension_is_committed() {
    let (mut rig, job) = reported();
    start_report(&mut rig, job.lease, 60);
    assert_eq!(heard(&rig, 1), Some(40), "not before the commit");
    rig.settle();
    rig.answer();
    assert_eq!(heard(&rig, 1), Some(60));
    rig.heartbeat(job.lease, LEASE_MS);
    assert_eq!(heard(&rig, 1), Some(60), "a heartbeat without a report changes nothing");
}

#[test]
fn the_next_holder_hears_it_whoever_ended_the_lease() {
    let (mut rig, _) = reported();
    rig.pass(2 * LEASE_MS);
    rig.settle();
    let next = rig.grab_one();
    assert_eq!((told(&next), next.lease.attempt), (Some(40), 2), "expired");
    assert_eq!(rig.result(next.lease, Outcome::Decline), Answer::Ok);
    let next = rig.grab_one();
    assert_eq!(told(&next), Some(40), "declined");

    assert_eq!(rig.result(next.lease, temp_fail(Some(1))), Answer::Ok);
    let again = LogRow { retry: Some(1), ..row(1, "a") };
    rig.engine.load(2, vec![again], true);
    let next = rig.grab_one();
    assert_eq!((told(&next), next.lease.put), (Some(40), 1), "failed, and put into the log again");
}

#[test]
fn a_lease_that_is_not_live_reports_nothing() {
    let (mut rig, job) = reported();
    start_report(&mut rig, Lease { nonce: job.lease.nonce ^ 1, ..job.lease }, 99);
    rig.pass(2 * LEASE_MS);
    start_report(&mut rig, job.lease, 99);
    rig.settle();
    assert_eq!(heard(&rig, 1), Some(40));
}

#[test]
fn a_finished_job_is_forgotten() {
    let child = || NewJob::new("child", None, tidemill_common::api::JobOptions::default());
    for outcome in [complete(), perm_fail(), Outcome::Replace { jobs: vec![child()] }] {
        let (mut rig, job) = reported();
        rig.start_results(&[(job.lease, outcome.clone())]);
        assert_eq!(heard(&rig, 1), Some(40), "not before the commit");
        rig.settle();
        assert_eq!(heard(&rig, 1), None, "{outcome:?}");
    }
    let (mut rig, _) = reported();
    for _ in 1..SETTINGS.max_attempts {
        rig.pass(2 * LEASE_MS);
        rig.settle();
        rig.grab_one();
    }
    assert_eq!(heard(&rig, 1), Some(40));
    rig.pass(2 * LEASE_MS);
    rig.settle();
    assert_eq!(heard(&rig, 1), None, "its attempts are used up");
}

#[test]
fn a_lease_in_the_waiting_room_reports_if_its_row_is_there() {
    let mut rig = Rig::ready(&["a"]);
    let job = rig.grab(Grab { transactional: true, ..plain() }).remove(0);
    for (end, expected) in [("0", None), ("-1", None), ("77", Some(7))] {
        start_report(&mut rig, job.lease, 7);
        rig.commit_answering(&format!(r#"{{"extend":[{end}]}}"#)).unwrap();
        rig.answer();
        assert_eq!(heard(&rig, 1), expected, "{end}");
    }
    rig.start_results(&[(job.lease, temp_fail(None))]);
    rig.commit_answering(r#"{"finish":["ok"]}"#).unwrap();
    assert_eq!(heard(&rig, 1), Some(7), "it will be tried again");
    let next = Lease { number: 9, attempt: 2, ..job.lease };
    rig.start_results(&[(next, complete())]);
    rig.commit_answering(r#"{"finish":["ok"]}"#).unwrap();
    assert_eq!(heard(&rig, 1), None);
}

#[test]
fn a_stream_that_replaced_its_job_ends_it() {
    let (mut rig, job) = reported();
    let request = rig.request();
    rig.engine.lend(request, Some(&job.lease));
    rig.settle();
    assert_eq!(heard(&rig, 1), Some(40), "its lease goes on in the waiting room");
    rig.engine.streamed(&job.lease, 5);
    assert_eq!(heard(&rig, 1), None);
}
