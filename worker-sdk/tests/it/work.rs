//! Jobs are carried out, and results arrive whatever happens to the calls.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_common::api::Outcome as Wire;
use tidemill_worker::{
    Failure, Job, JobKind, NewJob, Outcome, RunError, Summary, UnknownType, Worker, WorkerBuilder,
};
use tokio::sync::{Barrier, Notify};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::peer::{Fault, Peer};

#[derive(Serialize, Deserialize)]
pub(crate) struct Number {
    pub(crate) n: u64,
}

impl JobKind for Number {
    const TYPE: &'static str = "number";
}

/// A worker that runs beside the test.
pub(crate) struct Running {
    pub(crate) shutdown: CancellationToken,
    task: JoinSet<Result<Summary, RunError>>,
}

impl Running {
    pub(crate) fn start(builder: WorkerBuilder) -> Running {
        let shutdown = CancellationToken::new();
        let worker = builder.build().expect("a good worker");
        let ended = shutdown.clone().cancelled_owned();
        let mut task = JoinSet::new();
        task.spawn(worker.run(ended));
        Running { shutdown, task }
    }

    pub(crate) async fn ended(&mut self) -> Result<Summary, RunError> {
        self.task.join_next().await.expect("asked once").expect("no panic")
    }

    pub(crate) async fn stop(mut self) -> Summary {
        self.shutdown.cancel();
        self.ended().await.expect("a worker that ran")
    }
}

pub(crate) fn builder(peer: &Peer) -> WorkerBuilder {
    Worker::builder(&peer.url).queue("test").lease(Duration::from_secs(3)).drain(Duration::from_secs(5))
}

fn args(n: u64) -> String {
    format!("{{\"n\":{n}}}")
}

#[tokio::test]
async fn every_job_is_carried_out_once_and_completed() {
    let peer = Peer::start().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let jobs: HashSet<u64> = (0..2_000).map(|n| peer.put("number", &args(n))).collect();
    let worker =
        Running::start(builder(&peer).concurrency(8).prefetch(4).register(move |job: Job<Number>| {
            sink.lock().unwrap().push(job.args.n);
            async { Ok(()) }
        }));
    peer.until("all completed", |books| books.completed() == jobs).await;
    let summary = worker.stop().await;

    assert_eq!(summary.succeeded, 2_000);
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, (0..2_000).collect::<Vec<_>>());
    assert!(peer.books().most_held <= 8 * 4 * 2, "prefetch is bounded: {}", peer.books().most_held);
    let calls: usize = peer.books().calls.values().sum();
    assert!(calls < 400, "results travel in batches with the next grab: {calls} calls for 2000 jobs");
    peer.assert_no_complaints();
}

#[tokio::test]
async fn handlers_that_were_quick_run_side_by_side_when_they_wait_or_panic() {
    let peer = Peer::start().await;
    for n in 0..404 {
        peer.put("number", &args(n));
    }
    let (all_four, tasks) = (Arc::new(Barrier::new(4)), Arc::new(Mutex::new(HashSet::new())));
    let seen = Arc::clone(&tasks);
    let worker = Running::start(builder(&peer).concurrency(4).register(move |job: Job<Number>| {
        let (all_four, seen) = (Arc::clone(&all_four), Arc::clone(&seen));
        async move {
            seen.lock().unwrap().insert(tokio::task::id());
            match job.args.n {
                0..400 => assert!(job.args.n % 100 != 50, "panics"),
                _ => {
                    all_four.wait().await;
                }
            }
            Ok(())
        }
    }));
    peer.until("all that did not panic", |books| books.completed().len() == 400).await;
    let panicked =
        peer.books().settled.values().filter(|(_, said)| matches!(said, Wire::TempFail { .. })).count();
    assert!(panicked >= 4, "{panicked}");
    let tasks = tasks.lock().unwrap().len();
    assert!(tasks < 404, "some had no task of their own: {tasks} tasks for 404 jobs");
    worker.stop().await;
}

#[tokio::test]
async fn nothing_is_fetched_ahead_while_handlers_are_slow() {
    let peer = Peer::start().await;
    for n in 0..20 {
        peer.put("number", &args(n));
    }
    let go = Arc::new(Notify::new());
    let started = Arc::new(AtomicUsize::new(0));
    let (gate, count) = (Arc::clone(&go), Arc::clone(&started));
    let worker = Running::start(builder(&peer).concurrency(4).prefetch(3).register(move |_: Job<Number>| {
        let gate = Arc::clone(&gate);
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            gate.notified().await;
            Ok(())
        }
    }));
    peer.until("four are out", |books| books.held.len() == 4).await;
    // Heartbeats come and go; still four.
    peer.until("extended", |books| books.extensions >= 8).await;
    assert_eq!(peer.books().most_held, 4);
    assert_eq!(started.load(Ordering::SeqCst), 4);
    go.notify_waiters();
    peer.until("the four are complete", |books| books.completed().len() >= 4).await;
    drop(worker);
}

#[tokio::test]
async fn outcomes_reach_the_dispatcher_as_they_were_meant() {
    let peer = Peer::start().await;
    for n in 0..8 {
        peer.put("number", &args(n));
    }
    peer.put("number", "\"not a number\"");
    let worker = Running::start(builder(&peer).register(|job: Job<Number>| async move {
        match job.args.n {
            0 => Ok(Outcome::Complete),
            1 => Ok(Outcome::with(&vec![1, 2])?),
            2 => Ok(Outcome::Replace(vec![NewJob::new("other", None, Default::default())])),
            3 => Err(Failure::temporary("later").retry_in(Duration::from_secs(7))),
            4 => Err(Failure::permanent("never")),
            5 => Err(Failure::decline()),
            6 => panic!("number {}", job.args.n),
            _ => Err(std::io::Error::other("disk full").into()),
        }
    }));
    peer.until("all settled", |books| books.settled.len() == 9).await;
    worker.stop().await;

    let books = peer.books();
    let mut told: Vec<(u64, Wire)> = books.settled.values().cloned().collect();
    told.sort_by_key(|(id, _)| *id);
    let told: Vec<Wire> = told.into_iter().map(|(_, outcome)| outcome).collect();
    assert!(matches!(&told[0], Wire::Complete { result: None }));
    assert!(matches!(&told[1], Wire::Complete { result: Some(result) } if result.get() == "[1,2]"));
    assert!(matches!(&told[2], Wire::Replace { jobs } if jobs[0].job_type == "other"));
    assert!(matches!(&told[3], Wire::TempFail { message, retry_in_ms: Some(7_000) } if message == "later"));
    assert!(matches!(&told[4], Wire::PermFail { message } if message == "never"));
    assert!(matches!(&told[5], Wire::Decline));
    assert!(
        matches!(&told[6], Wire::TempFail { message, .. } if message == "the handler panicked: number 6")
    );
    assert!(matches!(&told[7], Wire::TempFail { message, retry_in_ms: None } if message == "disk full"));
    assert!(
        matches!(&told[8], Wire::TempFail { message, .. } if message.contains("do not fit the type `number`"))
    );
}

#[tokio::test]
async fn a_result_is_not_delayed_by_the_grab_that_waits() {
    let peer = Peer::start().await;
    peer.put("number", &args(1));
    // The grab after the first one would wait for ten seconds.
    let worker = Running::start(
        builder(&peer)
            .lease(Duration::from_secs(60))
            .wait(Duration::from_secs(10))
            .register(|_: Job<Number>| async { Ok(()) }),
    );
    let started = tokio::time::Instant::now();
    peer.until("completed", |books| books.completed().len() == 1).await;
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(peer.books().calls.get("/v1/results"), Some(&1));
    // Shutting down does not wait for the poll either.
    worker.stop().await;
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn an_idle_worker_asks_rarely() {
    let peer = Peer::start().await;
    let worker = Running::start(
        builder(&peer)
            .lease(Duration::from_secs(60))
            .wait(Duration::from_millis(500))
            .register(|_: Job<Number>| async { Ok(()) }),
    );
    let started = tokio::time::Instant::now();
    peer.until("five polls", |books| books.calls.get("/v1/grab") == Some(&5)).await;
    assert!(started.elapsed() >= Duration::from_secs(2), "each one waits: {:?}", started.elapsed());
    assert_eq!(peer.books().calls.len(), 1, "and nothing else is called");
    worker.stop().await;
}

#[tokio::test]
async fn lost_answers_lose_no_job_and_repeat_none() {
    let peer = Peer::start().await;
    for path in ["/v1/grab", "/v1/results"] {
        for _ in 0..3 {
            peer.fault(path, Fault::LoseAnswer);
            peer.fault(path, Fault::Unavailable);
        }
    }
    let jobs: HashSet<u64> = (0..200).map(|n| peer.put("number", &args(n))).collect();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let worker = Running::start(builder(&peer).lease(Duration::from_secs(60)).concurrency(4).register(
        move |_: Job<Number>| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        },
    ));
    peer.until("all completed", |books| books.completed() == jobs).await;
    worker.stop().await;
    assert_eq!(seen.load(Ordering::SeqCst), 200, "a grab repeated under its number gets the same jobs");
    peer.assert_no_complaints();
}

#[tokio::test]
async fn results_without_an_owner_are_repeated_until_there_is_one() {
    let peer = Peer::start().await;
    let jobs: HashSet<u64> = (0..50).map(|n| peer.put("number", &args(n))).collect();
    for path in ["/v1/grab", "/v1/results"] {
        for _ in 0..4 {
            peer.fault(path, Fault::NoOwner);
        }
    }
    let worker = Running::start(builder(&peer).register(|_: Job<Number>| async { Ok(()) }));
    peer.until("all completed", |books| books.completed() == jobs).await;
    let summary = worker.stop().await;
    assert_eq!((summary.succeeded, summary.lost, summary.unsent), (50, 0, 0));
}

#[tokio::test]
async fn one_result_that_is_refused_does_not_spoil_the_others() {
    let peer = Peer::start().await;
    let jobs: HashSet<u64> = (0..16).map(|n| peer.put("number", &args(n))).collect();
    for _ in 0..3 {
        peer.fault("/v1/results", Fault::RefuseSeveral);
    }
    let worker = Running::start(builder(&peer).register(|_: Job<Number>| async { Ok(()) }));
    peer.until("all completed", |books| books.completed() == jobs).await;
    assert_eq!(worker.stop().await.succeeded, 16);
}

#[tokio::test]
async fn a_result_that_cannot_be_stored_becomes_a_failure() {
    let peer = Peer::start().await;
    peer.put("number", &args(1));
    let worker = Running::start(
        builder(&peer).register(|_: Job<Number>| async { Ok(Outcome::with(&"a\0b".to_owned())?) }),
    );
    peer.until("settled", |books| books.settled.len() == 1).await;
    worker.stop().await;
    peer.assert_no_complaints();
    assert_eq!(peer.outcomes().get("temp_fail"), Some(&1));
}

#[tokio::test]
async fn only_registered_types_are_grabbed_unless_asked_otherwise() {
    let peer = Peer::start().await;
    let other = peer.put("other", "{}");
    let mine = peer.put("number", &args(1));
    let worker = Running::start(builder(&peer).register(|_: Job<Number>| async { Ok(()) }));
    peer.until("mine is done", |books| books.completed().contains(&mine)).await;
    worker.stop().await;
    assert_eq!(peer.books().settled.len(), 1);

    let worker = Running::start(
        builder(&peer).unknown_types(UnknownType::PermFail).register(|_: Job<Number>| async { Ok(()) }),
    );
    peer.until("the other is dead", |books| books.settled.values().any(|(id, _)| *id == other)).await;
    worker.stop().await;
    assert_eq!(peer.outcomes().get("perm_fail"), Some(&1));
}

#[tokio::test]
async fn another_dispatcher_is_asked_when_one_is_away() {
    let peer = Peer::start().await;
    let id = peer.put("number", &args(1));
    // Port 1 refuses.
    let worker = Running::start(
        Worker::builder("http://127.0.0.1:1")
            .or(&peer.url)
            .queue("test")
            .register(|_: Job<Number>| async { Ok(()) }),
    );
    peer.until("done", |books| books.completed().contains(&id)).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_hopeless_first_request_ends_the_worker() {
    let peer = Peer::start().await;
    let url = format!("{}/no/such/path", peer.url);
    let started = Worker::builder(url).queue("test").register(|_: Job<Number>| async { Ok(()) });
    // axum answers an unknown path without a problem's body: something else lives there, so it is asked again.
    let mut worker = Running::start(started);
    worker.shutdown.cancel();
    worker.ended().await.expect("nothing hopeless was said");

    let short = builder(&peer).queue("another").lease(Duration::from_millis(10));
    assert!(short.register(|_: Job<Number>| async { Ok(()) }).build().is_err());
}
