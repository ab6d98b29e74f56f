//! Timeouts: a handler that does not end in its time is stopped, and its failure is heard under its live lease.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_common::api::Outcome;
use tidemill_worker::{Job, StopReason};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::peer::{Fault, Peer};
use crate::work::{Number, Running, builder};

/// A job whose attempts may take so long.
fn put(peer: &Peer, n: u64, timeout: Duration) -> u64 {
    let mut books = peer.books();
    let id = books.next_id();
    books.timeouts.insert(id, u64::try_from(timeout.as_millis()).expect("a short time"));
    drop(books);
    assert_eq!(peer.put("number", &format!("{{\"n\":{n}}}")), id);
    id
}

#[tokio::test]
async fn a_handler_that_hangs_is_asked_then_dropped_and_its_failure_told_in_time() {
    let peer = Peer::start().await;
    let id = put(&peer, 1, Duration::from_secs(2));
    let (heard, dropped) = (Arc::new(Mutex::new(None)), Arc::new(AtomicUsize::new(0)));
    let (tell, count) = (Arc::clone(&heard), Arc::clone(&dropped));
    // The lease is much shorter: its heartbeats go on, and do not help.
    let worker =
        Running::start(builder(&peer).lease(Duration::from_secs(1)).register(move |job: Job<Number>| {
            let (tell, dropped) = (Arc::clone(&tell), CountDrop(Arc::clone(&count)));
            async move {
                let (_dropped, started) = (dropped, Instant::now());
                let reason = job.stop().requested().await;
                *tell.lock().unwrap() = Some((reason, started.elapsed()));
                std::future::pending::<()>().await;
                Ok(())
            }
        }));
    peer.until("told", |books| !books.settled.is_empty()).await;
    let (settled, outcome) = peer.books().settled.values().next().cloned().unwrap();
    assert_eq!(settled, id);
    assert!(matches!(outcome, Outcome::TempFail { message, .. } if message == "timed out after 2000 ms"));
    let (reason, after) = heard.lock().unwrap().expect("it was asked first");
    assert_eq!((reason, dropped.load(Ordering::SeqCst)), (StopReason::TimedOut, 1));
    assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&after), "{after:?}");
    assert!(peer.books().extensions > 0);
    let summary = worker.stop().await;
    assert_eq!((summary.failed, summary.lost), (1, 0));
    peer.assert_no_complaints();
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_handler_that_heeds_the_stop_has_its_say() {
    let peer = Peer::start().await;
    let id = put(&peer, 1, Duration::from_secs(1));
    let worker = Running::start(builder(&peer).register(|job: Job<Number>| async move {
        assert_eq!(job.stop().requested().await, StopReason::TimedOut);
        Ok(())
    }));
    peer.until("completed", |books| books.completed().contains(&id)).await;
    assert_eq!(worker.stop().await.succeeded, 1);
}

#[tokio::test]
async fn a_handler_that_ends_in_time_hears_nothing() {
    let peer = Peer::start().await;
    for n in 0..500 {
        put(&peer, n, Duration::from_secs(60));
    }
    let worker = Running::start(builder(&peer).register(|job: Job<Number>| async move {
        assert_eq!(job.stop().reason(), None);
        Ok(())
    }));
    peer.until("completed", |books| books.completed().len() == 500).await;
    assert_eq!(worker.stop().await.succeeded, 500);
}

#[tokio::test]
async fn a_job_whose_time_ran_down_before_its_turn_is_given_back() {
    let peer = Peer::start().await;
    // Quick at first, so that more are fetched ahead; then all but those with a timeout block.
    for n in 0..60 {
        peer.put("number", &format!("{{\"n\":{n}}}"));
    }
    let (gate, begun) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Vec::new())));
    let (wait, seen) = (Arc::clone(&gate), Arc::clone(&begun));
    let worker =
        Running::start(builder(&peer).lease(Duration::from_secs(30)).concurrency(2).prefetch(10).register(
            move |job: Job<Number>| {
                let wait = Arc::clone(&wait);
                seen.lock().unwrap().push(job.args.n);
                async move {
                    if job.args.n >= 100 {
                        wait.notified().await;
                    }
                    Ok(())
                }
            },
        ));
    peer.until("quick ones", |books| books.completed().len() == 60).await;
    for n in 100..102 {
        peer.put("number", &format!("{{\"n\":{n}}}"));
    }
    peer.until("both are busy", |_| begun.lock().unwrap().contains(&101)).await;
    let late = put(&peer, 200, Duration::from_millis(900));
    peer.until("fetched ahead, and given back", |books| {
        books.settled.values().any(|(id, said)| *id == late && matches!(said, Outcome::Decline))
    })
    .await;
    assert!(!begun.lock().unwrap().contains(&200));
    gate.notify_waiters();
    worker.stop().await;
}

#[tokio::test]
async fn a_job_with_hardly_any_time_is_begun_all_the_same() {
    let peer = Peer::start().await;
    put(&peer, 1, Duration::from_millis(1));
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    // Its time counts from the request, which takes longer.
    let worker = Running::start(builder(&peer).wait(Duration::ZERO).register(move |_: Job<Number>| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    }));
    peer.until("begun", |_| begun.load(Ordering::SeqCst) > 0).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_job_whose_grab_was_answered_too_late_is_given_back() {
    let peer = Peer::start().await;
    let id = put(&peer, 1, Duration::from_millis(1_200));
    // Asked again four times: that takes a third of a second, and not a whole one.
    for _ in 0..4 {
        peer.fault("/v1/grab", Fault::LoseAnswer);
    }
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let worker = Running::start(builder(&peer).register(move |_: Job<Number>| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    }));
    peer.until("given back, or begun", |books| {
        books.settled.values().any(|(settled, said)| *settled == id && matches!(said, Outcome::Decline))
            || begun.load(Ordering::SeqCst) > 0
    })
    .await;
    assert_eq!(begun.load(Ordering::SeqCst), 0);
    worker.stop().await;
}
