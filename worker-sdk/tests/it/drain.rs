//! Shutting down: nothing new, nothing lost, and in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidemill_worker::{Job, StopReason};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::peer::{Fault, Peer};
use crate::work::{Number, Running, builder};

#[tokio::test]
async fn running_handlers_finish_and_unstarted_jobs_are_given_back() {
    let peer = Peer::start().await;
    let gate = Arc::new(Notify::new());
    let blocked = Arc::new(AtomicUsize::new(0));
    let (wait, count) = (Arc::clone(&gate), Arc::clone(&blocked));
    // Quick at first, so that it fetches ahead; then slow.
    for n in 0..100 {
        peer.put("number", &format!("{{\"n\":{n}}}"));
    }
    let worker =
        Running::start(builder(&peer).lease(Duration::from_secs(30)).concurrency(2).prefetch(10).register(
            move |job: Job<Number>| {
                let (wait, count) = (Arc::clone(&wait), Arc::clone(&count));
                async move {
                    if job.args.n >= 60 {
                        count.fetch_add(1, Ordering::SeqCst);
                        wait.notified().await;
                    }
                    Ok(())
                }
            },
        ));
    peer.until("two are slow, more are fetched", |books| {
        blocked.load(Ordering::SeqCst) == 2 && books.completed().len() == 60 && books.held.len() > 2
    })
    .await;
    let out = peer.books().held.len();
    worker.shutdown.cancel();
    // What was not started is given back at once, while the slow ones go on.
    peer.until("given back", |books| books.held.len() == 2).await;
    gate.notify_waiters();
    let summary = worker.stop().await;
    assert_eq!(summary.succeeded, 62);
    assert_eq!(peer.outcomes().get("decline"), Some(&(out - 2)));
    assert_eq!(blocked.load(Ordering::SeqCst), 2, "nothing is started after the shutdown began");
    assert!(peer.books().held.is_empty());
    peer.assert_no_complaints();
}

#[tokio::test]
async fn a_handler_that_does_not_end_is_asked_then_dropped_and_its_job_given_back() {
    let peer = Peer::start().await;
    peer.put("number", "{\"n\":1}");
    let asked = Arc::new(AtomicUsize::new(0));
    let started = Arc::new(Notify::new());
    let (count, signal) = (Arc::clone(&asked), Arc::clone(&started));
    let worker =
        Running::start(builder(&peer).drain(Duration::from_millis(300)).register(move |job: Job<Number>| {
            let count = Arc::clone(&count);
            signal.notify_one();
            async move {
                if job.stop().requested().await == StopReason::Shutdown {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                std::future::pending::<()>().await;
                Ok(())
            }
        }));
    started.notified().await;
    let began = Instant::now();
    let summary = worker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!((summary.declined, asked.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn jobs_of_a_grab_whose_answer_was_lost_are_given_back_at_shutdown() {
    let peer = Peer::start().await;
    let mut worker = Running::start(builder(&peer).register(|_: Job<Number>| async { Ok(()) }));
    peer.until("it polls", |books| books.calls.contains_key("/v1/grab")).await;
    // The poll that is under way will lose its answer; its jobs are leased to nobody who knows.
    for _ in 0..10 {
        peer.fault("/v1/grab", Fault::LoseAnswer);
    }
    peer.until("a poll that will be lost", |books| books.faults["/v1/grab"].len() < 10).await;
    peer.put("number", "{\"n\":1}");
    peer.until("leased to nobody", |books| books.held.len() == 1).await;
    peer.books().faults.clear();
    worker.shutdown.cancel();
    let summary = worker.ended().await.unwrap();
    assert!(peer.books().held.is_empty());
    assert_eq!(summary.succeeded + summary.declined, 1);
}

#[tokio::test]
async fn a_shutdown_without_any_dispatcher_still_ends() {
    let peer = Peer::start().await;
    peer.put("number", "{\"n\":1}");
    let done = Arc::new(Notify::new());
    let signal = Arc::clone(&done);
    for _ in 0..10_000 {
        peer.fault("/v1/results", Fault::Unavailable);
    }
    let worker =
        Running::start(builder(&peer).drain(Duration::from_millis(200)).register(move |_: Job<Number>| {
            let signal = Arc::clone(&signal);
            async move {
                signal.notify_one();
                Ok(())
            }
        }));
    done.notified().await;
    for _ in 0..10_000 {
        peer.fault("/v1/grab", Fault::Unavailable);
    }
    let started = Instant::now();
    worker.stop().await;
    assert!(started.elapsed() < Duration::from_secs(6));
}
