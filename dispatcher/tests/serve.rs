//! The server of one queue against a real database: what is answered is committed, what a dead owner promised is kept.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::{Rig, complete, grab};
use tidemill_common::api::{Answer, Outcome, PreviousEnd};
use tidemill_common::db::Type;
use tidemill_common::testing::wait_for;
use tidemill_dispatcher::engine::{Answered, Grab};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const TERM_MS: i32 = 1_000;

#[tokio::test]
async fn jobs_are_handed_out_once_and_the_mark_moves_over_the_completed_ones() {
    let mut rig = Rig::new("{}").await;
    rig.produce("send", 10).await;
    let server = rig.server(TERM_MS).await;

    let first = server.grab(grab(4)).await;
    let second = server.grab(grab(100)).await;
    let jobs: BTreeSet<i64> = first.iter().chain(&second).map(|job| job.lease.job).collect();
    assert_eq!((first.len(), second.len(), jobs.len()), (4, 6, 10));

    let results = first.iter().chain(&second).map(|job| (Some(job.lease), complete())).collect();
    let answered = server.handle.results(results).await.unwrap();
    assert!(matches!(answered, Answered::Results(answers) if answers == [Answer::Ok; 10]));

    server.stop().await;
    let mark = "select sub_last_tick from pgq.subscription";
    assert_eq!(rig.count(mark).await, 2, "who leaves moves the mark over what is completed");
    let again = rig.server(TERM_MS).await;
    assert!(again.grab(Grab { wait_ms: 0, ..grab(10) }).await.is_empty());
    assert_eq!(again.result(first[0].lease, complete()).await, Answer::Already);
    assert_eq!(rig.count("select count(*) from tidemill.journal_1_0").await, 3);
}

#[tokio::test]
async fn a_successor_keeps_the_leases_of_a_dead_owner() {
    let mut rig = Rig::new("{}").await;
    rig.produce("send", 3).await;
    let dead = rig.server(TERM_MS).await;
    let held = dead.grab(grab(2)).await;
    dead.kill().await;

    let server = rig.server(TERM_MS).await;
    let free = server.grab(grab(10)).await;
    assert_eq!(free.len(), 1, "only the job that nobody holds");
    assert_eq!(server.result(held[0].lease, complete()).await, Answer::Ok);
    assert_eq!(server.result(held[0].lease, complete()).await, Answer::Already);
    let failed = Outcome::PermFail { message: "no such user".to_owned() };
    assert_eq!(server.result(held[0].lease, failed).await, Answer::Stale, "it was completed");
}

#[tokio::test]
async fn a_lease_that_ended_is_stale_and_its_job_goes_to_somebody_else() {
    let mut rig = Rig::new("{}").await;
    rig.produce("send", 1).await;
    let server = rig.server(TERM_MS).await;
    let first = server.grab(Grab { lease_ms: Some(50), ..grab(1) }).await.remove(0);
    let second = server.grab(grab(1)).await.remove(0);
    assert_eq!((second.lease.job, second.lease.attempt), (first.lease.job, 2));
    assert!(second.inserted_at == first.inserted_at && second.ends_at > first.ends_at);
    assert_eq!(second.previous.as_ref().unwrap().ended, PreviousEnd::Expired);
    assert_eq!(server.result(first.lease, complete()).await, Answer::Stale);
    assert_eq!(server.result(second.lease, complete()).await, Answer::Ok);
}

#[tokio::test]
async fn a_failed_job_comes_back_and_in_the_end_is_a_dead_letter() {
    let mut rig = Rig::new(r#"{"max_attempts": 2}"#).await;
    rig.produce("send", 1).await;
    let server = rig.server(TERM_MS).await;
    let failed = || Outcome::TempFail { message: "451 try later".to_owned(), retry_in_ms: Some(1) };

    let first = server.grab(grab(1)).await.remove(0);
    assert_eq!(server.result(first.lease, failed()).await, Answer::Ok);
    rig.promote().await;
    let second = server.grab(grab(1)).await.remove(0);
    assert_eq!((second.lease.attempt, second.lease.put), (2, 1));
    let previous = second.previous.clone().unwrap();
    assert_eq!((previous.ended, previous.host.as_deref()), (PreviousEnd::Failed, Some("test")));
    assert_eq!(second.event.data.as_deref(), Some("1"));
    assert_eq!(second.event.extra, [None, None, None, None], "the worker sees its extras untouched");

    assert_eq!(server.result(second.lease, failed()).await, Answer::Ok);
    let dead = "select count(*) from tidemill.dead where reason = 'exhausted' and message = '451 try later'";
    assert_eq!(rig.count(dead).await, 1);
    assert_eq!(rig.count("select count(*) from tidemill.failure").await, 2);
    assert_eq!(rig.count("select count(*) from tidemill.waiting").await, 0);
}

#[tokio::test]
async fn a_transactional_worker_completes_with_its_effects_or_not_at_all() {
    let mut rig = Rig::new("{}").await;
    rig.session.batch("effects", "create table effect (job bigint)").await.unwrap();
    rig.produce("send", 2).await;
    let server = rig.server(TERM_MS).await;
    let jobs = server.grab(Grab { transactional: true, ..grab(2) }).await;
    let leases: Vec<String> = jobs.iter().map(|job| job.lease.to_string()).collect();
    let complete_jobs = "select tidemill.complete_jobs($1)";

    for expected in [None, Some("TM002")] {
        let mut tx = rig.session.begin("work").await.unwrap();
        tx.execute("effect", "insert into effect select 1", &[]).await.unwrap();
        let done = tx.execute("complete", complete_jobs, &[(&leases[..1].to_vec(), Type::TEXT_ARRAY)]).await;
        match expected {
            None => {
                done.unwrap();
                tx.commit().await.unwrap();
            }
            Some(code) => assert_eq!(done.unwrap_err().code().unwrap().code(), code),
        }
    }
    assert_eq!(rig.count("select count(*) from effect").await, 1);

    // The other one over HTTP: the row decides there too.
    assert_eq!(server.result(jobs[1].lease, complete()).await, Answer::Ok);
    assert_eq!(server.result(jobs[1].lease, complete()).await, Answer::Already);
    assert_eq!(rig.count("select count(*) from tidemill.waiting").await, 0);
}

#[tokio::test]
async fn a_lease_in_the_waiting_room_that_ended_is_refused_and_its_job_comes_back() {
    let mut rig = Rig::new("{}").await;
    rig.produce("send", 1).await;
    let server = rig.server(TERM_MS).await;
    let first = server.grab(Grab { transactional: true, lease_ms: Some(50), ..grab(1) }).await.remove(0);
    rig.promote().await;
    let token = first.lease.to_string();
    let late =
        rig.session.execute("complete", "select tidemill.complete_job($1)", &[(&token, Type::TEXT)]).await;
    assert_eq!(late.unwrap_err().code().unwrap().code(), "TM002");
    let second = server.grab(grab(1)).await.remove(0);
    assert_eq!(second.lease.attempt, 2);
    assert_eq!(second.previous.unwrap().ended, PreviousEnd::Expired);
    assert_eq!(rig.count("select count(*) from tidemill.failure where reason = 'expired'").await, 1);
    let forged = tidemill_common::lease::Lease { transactional: true, ..second.lease };
    assert_eq!(server.result(forged, complete()).await, Answer::Stale);
    assert_eq!(server.result(second.lease, complete()).await, Answer::Ok);
}

#[tokio::test]
async fn an_owner_whose_epoch_has_passed_writes_nothing() {
    let mut rig = Rig::new("{}").await;
    rig.produce("send", 1).await;
    let server = rig.server(60_000).await;
    let job = server.grab(grab(1)).await.remove(0);
    let written = rig.count("select count(*) from tidemill.journal_1_0").await;
    rig.session
        .batch("another owner", "update tidemill.owner set epoch = epoch + 1, holder = gen_random_uuid()")
        .await
        .unwrap();
    let answer = server.handle.results(vec![(Some(job.lease), complete())]).await;
    assert!(answer.is_err(), "unavailable: {answer:?}");
    assert_eq!(rig.count("select count(*) from tidemill.journal_1_0").await, written);
}

#[tokio::test]
async fn a_tick_larger_than_the_window_is_handed_out_in_pieces_and_every_job_once() {
    let mut rig = Rig::new("{}").await;
    // One transaction larger than a piece of 100 rows, many smaller ones, and one larger than the window of 1000.
    let insert = "insert into pgq.event_1_0 (ev_time, ev_type, ev_data) select now(), 'send', n::text \
                  from generate_series(1, $1) n";
    for count in [250].into_iter().chain([3; 100]).chain([1_500]) {
        rig.session.execute("produce", insert, &[(&count, Type::INT4)]).await.unwrap();
    }
    rig.tick().await;
    assert_eq!(rig.count("select count(*) from pgq.tick").await, 2);

    let server = rig.server(TERM_MS).await;
    let (mut seen, mut results) = (BTreeSet::new(), Vec::new());
    while seen.len() < 2_050 || !results.is_empty() {
        let Answered::Grab { jobs, results: answers } =
            server.handle.grab(grab(700), std::mem::take(&mut results)).await.unwrap()
        else {
            panic!("not the answer to a grab");
        };
        assert!(answers.iter().all(|answer| *answer == Answer::Ok), "{answers:?}");
        for job in jobs {
            assert!(seen.insert(job.lease.job), "job {} was given out twice", job.lease.job);
            results.push((Some(job.lease), complete()));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_read_may_take_longer_than_other_calls_and_does_not_cost_the_queue_its_owner() {
    let mut rig = Rig::new("{}").await;
    let slow = "alter function tidemill.read_ahead rename to read_ahead_at_once;
        create function tidemill.read_ahead(int4, int4, int8, int8, int8, int8, int4, int8)
        returns table (ev_txid int8, ev_id int8, ev_time timestamptz, ev_owner int4, ev_retry int4, ev_type text,
                       ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
        language sql as $$
            select r.* from pg_sleep(3), tidemill.read_ahead_at_once($1, $2, $3, $4, $5, $6, $7, $8) r $$";
    rig.session.batch("slow reads down", slow).await.unwrap();
    rig.deadline = Duration::from_secs(2);
    rig.produce("send", 1).await;
    let server = rig.server(TERM_MS).await;
    assert_eq!(server.grab(grab(1)).await.len(), 1);
    assert_eq!(rig.count("select epoch from tidemill.owner").await, 1, "nobody had to take it over again");
    server.stop().await;
}

#[tokio::test]
async fn requests_that_come_while_a_flush_is_about_to_begin_share_it() {
    const WORKERS: usize = 24;
    let mut rig = Rig::new("{}").await;
    rig.produce("send", WORKERS as i32).await;
    let server = rig.server(TERM_MS).await;
    wait_for("the jobs are read", Duration::from_secs(10), async || {
        (server.handle.count().await.unwrap().ready == WORKERS).then_some(())
    })
    .await;

    let ask = |_| {
        let handle = server.handle.clone();
        async move { handle.grab(grab(1), Vec::new()).await.unwrap() }
    };
    let grabbed = in_turn((0..WORKERS).map(ask)).await;
    let finish = |answered| {
        let Answered::Grab { jobs, .. } = answered else { panic!("not the answer to a grab: {answered:?}") };
        let (handle, lease) = (server.handle.clone(), jobs[0].lease);
        async move { handle.results(vec![(Some(lease), complete())]).await.unwrap() }
    };
    for answered in in_turn(grabbed.into_iter().map(finish)).await {
        assert!(matches!(&answered, Answered::Results(results) if *results == [Answer::Ok]), "{answered:?}");
    }
    let rows = "select count(*) from tidemill.journal_1_0";
    assert_eq!(rig.count(rows).await, 2, "one for all grabs, and one for all results");
    server.stop().await;
}

/// Makes these requests, each of a task that is made ready by the one before it, when that has made its own. All tasks,
/// the server's too, are on one thread: in which order they run does not depend on how long anything takes.
async fn in_turn<F>(requests: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let (turn, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for request in requests {
        let (turn, waiting) = (Arc::clone(&turn), Arc::clone(&waiting));
        tasks.spawn(async move {
            waiting.fetch_add(1, Ordering::Relaxed);
            let permit = turn.acquire().await.expect("nobody closes it");
            tokio::join!(biased; request, async { drop(permit) }).0
        });
    }
    while waiting.load(Ordering::Relaxed) < tasks.len() {
        tokio::task::yield_now().await;
    }
    turn.add_permits(1);
    tasks.join_all().await
}
