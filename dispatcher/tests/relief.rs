//! What would hold the mark or fill the window goes on in the waiting room, against a real database.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::{Rig, Server, complete, grab};
use tidemill_common::api::{Answer, Outcome, PreviousEnd};
use tidemill_common::testing::wait_for;
use tidemill_dispatcher::engine::{Answered, Beat, Grab, Limits};

const TERM_MS: i32 = 1_000;

fn of(kind: &str, max: usize) -> Grab {
    Grab { types: Some(vec![kind.to_owned()]), ..grab(max) }
}

/// Grabs and completes jobs of a type until so many are done; the ticker does its work meanwhile.
async fn work(rig: &mut Rig, server: &Server, kind: &str, count: usize) -> BTreeSet<i64> {
    let (mut seen, mut results) = (BTreeSet::new(), Vec::new());
    while seen.len() < count || !results.is_empty() {
        let (answered, ()) = tokio::join!(
            server.handle.grab(Grab { wait_ms: 200, ..of(kind, 300) }, std::mem::take(&mut results)),
            rig.tick()
        );
        let Answered::Grab { jobs, results: answers } = answered.unwrap() else {
            panic!("no answer to a grab")
        };
        assert!(answers.iter().all(|answer| *answer == Answer::Ok), "{answers:?}");
        for job in jobs {
            assert_eq!(job.event.kind.as_deref(), Some(kind));
            let ended = job.previous.as_ref().map(|previous| previous.ended);
            assert_eq!(ended, (job.lease.attempt == 2).then_some(PreviousEnd::Failed));
            assert!(seen.insert(job.lease.job), "job {} was given out twice", job.lease.job);
            results.push((Some(job.lease), complete()));
        }
    }
    seen
}

#[tokio::test]
async fn a_type_without_workers_does_not_stop_the_others_and_is_done_when_they_come() {
    let mut rig = Rig::new("{}").await;
    rig.limits = Limits { hold_ms: 300, ask_ms: 50, ..rig.limits };
    rig.produce("idle", 5_000).await;
    rig.produce("busy", 100).await;
    let server = rig.server(TERM_MS).await;
    // One of them failed before, and is put into the log again: it is parked with its attempt and its history.
    let first = server.grab(of("idle", 1)).await.remove(0);
    let failed = Outcome::TempFail { message: "451 try later".to_owned(), retry_in_ms: Some(1) };
    assert_eq!(server.result(first.lease, failed).await, Answer::Ok);
    rig.promote().await;
    assert_eq!(work(&mut rig, &server, "busy", 100).await.len(), 100);
    let parked = "select count(*) from tidemill.waiting where kind = 'parked' and due = 'infinity'";
    assert!(rig.count(parked).await >= 4_000, "no more than the window holds is left in the log");

    // What is parked survives its owner, and costs nothing while nobody asks.
    server.kill().await;
    let server = rig.server(TERM_MS).await;
    let counts = server.handle.count().await.unwrap();
    assert_eq!(counts.parked as i64, rig.count(parked).await);
    assert_eq!(rig.count("select tidemill.promote_due(1000)::bigint").await, 0, "never due by itself");

    assert_eq!(work(&mut rig, &server, "idle", 5_000).await.len(), 5_000);
    assert_eq!(rig.count("select count(*) from tidemill.waiting").await, 0);
    server.stop().await;
    let behind = "select count(*) from pgq.tick t, pgq.subscription s where t.tick_id > s.sub_last_tick";
    assert_eq!(rig.count(behind).await, 0, "the mark is where the log ends");
}

#[tokio::test]
async fn a_lease_that_lasts_long_moves_with_its_end_and_is_finished_there() {
    let mut rig = Rig::new("{}").await;
    rig.limits = Limits { hold_ms: 100, ..rig.limits };
    rig.produce("slow", 2).await;
    let server = rig.server(TERM_MS).await;
    let jobs = server.grab(grab(2)).await;
    let session = &mut rig.session;
    wait_for("the leases in the waiting room", Duration::from_secs(10), async || {
        let sql = "select count(*) from tidemill.waiting where kind = 'leased'";
        (session.query_one("count", sql, &[]).await.unwrap().get::<_, i64>(0) == 2).then_some(())
    })
    .await;
    let ends = "select count(*) from tidemill.waiting where due > clock_timestamp() + interval '50 s'";
    assert_eq!(rig.count(ends).await, 2, "they keep their ends");

    let beat = Beat { lease: Some(jobs[0].lease), ms: Some(3_600_000), progress: None };
    let Answered::Heartbeat(extended) = server.handle.heartbeat(vec![beat]).await.unwrap() else {
        panic!("no answer to a heartbeat")
    };
    assert!(matches!(extended[0], tidemill_dispatcher::engine::Extended::Until(_)), "{extended:?}");
    assert_eq!(server.result(jobs[0].lease, complete()).await, Answer::Ok);
    assert_eq!(server.result(jobs[0].lease, complete()).await, Answer::Already);
    server.kill().await;
    let server = rig.server(TERM_MS).await;
    assert_eq!(server.result(jobs[1].lease, complete()).await, Answer::Ok, "whoever owns the queue");
    assert_eq!(rig.count("select count(*) from tidemill.waiting").await, 0);
    server.stop().await;
    let behind = "select count(*) from pgq.tick t, pgq.subscription s where t.tick_id > s.sub_last_tick";
    assert_eq!(rig.count(behind).await, 0, "nothing holds the mark");
}
