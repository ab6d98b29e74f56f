//! Leases: extended while a handler works, given up when they are lost.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_common::api::WorkerState;
use tidemill_worker::{Job, StopReason};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::peer::{Fault, Peer};
use crate::work::{Number, Running, builder};

#[tokio::test]
async fn a_handler_that_outlives_its_lease_keeps_it() {
    let peer = Peer::start().await;
    peer.put("number", "{\"n\":1}");
    let gate = Arc::new(Notify::new());
    let runs = Arc::new(AtomicUsize::new(0));
    let (wait, count) = (Arc::clone(&gate), Arc::clone(&runs));
    // Answers to heartbeats are lost too.
    peer.fault("/v1/heartbeat", Fault::LoseAnswer);
    peer.fault("/v1/heartbeat", Fault::Unavailable);
    let worker =
        Running::start(builder(&peer).lease(Duration::from_secs(2)).register(move |_: Job<Number>| {
            let wait = Arc::clone(&wait);
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                wait.notified().await;
                Ok(())
            }
        }));
    // Two leases' worth of extensions.
    peer.until("extended", |books| books.extensions >= 7).await;
    gate.notify_one();
    peer.until("completed", |books| books.completed().len() == 1).await;
    worker.stop().await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_stale_lease_stops_the_handler_and_then_drops_it() {
    let peer = Peer::start().await;
    peer.put("number", "{\"n\":1}");
    let told = Arc::new(Mutex::new(None));
    let dropped = Arc::new(Notify::new());
    let (tell, signal) = (Arc::clone(&told), Arc::clone(&dropped));
    let mut worker =
        Running::start(builder(&peer).lease(Duration::from_secs(1)).register(move |job: Job<Number>| {
            let (tell, signal) = (Arc::clone(&tell), NotifyOnDrop(Arc::clone(&signal)));
            async move {
                let _signal = signal;
                *tell.lock().unwrap() = Some(job.stop().requested().await);
                // Does not heed it.
                std::future::pending::<()>().await;
                Ok(())
            }
        }));
    peer.until("leased", |books| books.held.len() == 1).await;
    peer.rob();
    dropped.notified().await;
    assert_eq!(*told.lock().unwrap(), Some(StopReason::LeaseLost));
    worker.shutdown.cancel();
    let summary = worker.ended().await.unwrap();
    assert_eq!((summary.succeeded, summary.lost), (0, 1));
    assert!(peer.books().settled.is_empty(), "no result of a lost lease");
}

struct NotifyOnDrop(Arc<Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_lease_that_cannot_be_extended_is_not_trusted_to_its_end() {
    let peer = Peer::start().await;
    for _ in 0..1_000 {
        peer.fault("/v1/heartbeat", Fault::Unavailable);
    }
    peer.put("number", "{\"n\":1}");
    let stopped = Arc::new(Mutex::new(None));
    let record = Arc::clone(&stopped);
    let worker =
        Running::start(builder(&peer).lease(Duration::from_secs(2)).register(move |job: Job<Number>| {
            let record = Arc::clone(&record);
            async move {
                let started = Instant::now();
                let reason = job.stop().requested().await;
                *record.lock().unwrap() = Some((reason, started.elapsed()));
                Ok(())
            }
        }));
    // Its result still counts: it was in time, and the dispatcher decides.
    peer.until("completed", |books| books.completed().len() == 1).await;
    let (reason, after) = stopped.lock().unwrap().expect("the handler heard of it before the lease ended");
    assert_eq!(reason, StopReason::LeaseLost);
    assert!(after < Duration::from_secs(2), "{after:?}");
    drop(worker);
}

#[tokio::test]
async fn a_cancelled_job_hears_the_code() {
    let peer = Peer::start().await;
    let id = peer.put("number", "{\"n\":1}");
    peer.books().cancel.insert(id, 7);
    let worker = Running::start(builder(&peer).lease(Duration::from_secs(1)).register(
        |job: Job<Number>| async move {
            match job.stop().requested().await {
                StopReason::Cancelled(7) => Ok(()),
                other => panic!("{other:?}"),
            }
        },
    ));
    peer.until("completed", |books| books.completed().contains(&id)).await;
    worker.stop().await;
}

#[tokio::test]
async fn handlers_that_block_the_runtime_do_not_starve_the_heartbeat() {
    let peer = Peer::start().await;
    peer.put("number", "{\"n\":1}");
    // The worker has a runtime of its own, with one thread, and its handler blocks it.
    let builder = builder(&peer).lease(Duration::from_secs(1)).register(|job: Job<Number>| async move {
        let started = std::time::Instant::now();
        while started.elapsed() < Duration::from_millis(2_500) && job.stop().reason().is_none() {
            std::hint::spin_loop();
        }
        assert_eq!(job.stop().reason(), None);
        Ok(())
    });
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let shutdown = tokio::time::sleep_until(Instant::now() + Duration::from_secs(4));
            builder.build().unwrap().run(shutdown).await.unwrap()
        })
    });
    peer.until("completed", |books| books.completed().len() == 1).await;
    assert_eq!(thread.join().unwrap().succeeded, 1);
}

#[tokio::test]
async fn a_quiet_worker_grabs_nothing_until_it_may_run_again() {
    let peer = Peer::start().await;
    let worker = Running::start(builder(&peer).register(|_: Job<Number>| async { Ok(()) }));
    peer.until("it polls", |books| books.calls.contains_key("/v1/grab")).await;
    peer.tell(WorkerState::Quiet);
    // It asks by heartbeat whether it may go on.
    peer.until("it asks", |books| books.calls.contains_key("/v1/heartbeat")).await;
    let grabs = peer.books().calls["/v1/grab"];
    let id = peer.put("number", "{\"n\":1}");
    let asks = peer.books().calls["/v1/heartbeat"];
    peer.until("it asks again", |books| books.calls["/v1/heartbeat"] > asks).await;
    assert_eq!(peer.books().calls["/v1/grab"], grabs);
    peer.tell(WorkerState::Run);
    peer.until("it runs again", |books| books.completed().contains(&id)).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_told_to_terminate_drains_and_returns() {
    let peer = Peer::start().await;
    let mut worker = Running::start(builder(&peer).register(|_: Job<Number>| async { Ok(()) }));
    let id = peer.put("number", "{\"n\":1}");
    peer.until("done", |books| books.completed().contains(&id)).await;
    peer.tell(WorkerState::Terminate);
    assert_eq!(worker.ended().await.unwrap().succeeded, 1);
}
