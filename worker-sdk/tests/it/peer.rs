//! A dispatcher's side of the HTTP contract, in memory: strict about what a worker sends, and able to lose answers.
//! It stands in for the HTTP peer only; the end-to-end tests use the real one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Serialize;
use tidemill_common::api::{
    self, Answer, GrabRequest, GrabResponse, GrabbedJob, HeartbeatAnswer, HeartbeatRequest,
    HeartbeatResponse, HeartbeatResult, Outcome, Problem, ProblemKind, ResultAnswer, ResultItem,
    ResultsRequest, ResultsResponse, WorkerState,
};
use tidemill_common::id::{QueueName, WorkerInstance};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// What goes wrong with the next call of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request is taken and committed, and its answer is lost.
    LoseAnswer,
    /// 503, nothing taken.
    Unavailable,
    /// Every result is answered `unavailable`.
    NoOwner,
    /// 400: the whole request is refused if it holds more than one result.
    RefuseSeveral,
}

#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) id: u64,
    ends: Instant,
    /// No lease lasts longer.
    over: Option<Instant>,
    instance: WorkerInstance,
}

#[derive(Default)]
pub(crate) struct Books {
    next_id: u64,
    next_lease: u64,
    ready: VecDeque<(u64, String, String, u32)>,
    jobs: HashMap<u64, (String, String, u32)>,
    pub(crate) held: HashMap<String, Held>,
    /// Lease → job and outcome.
    pub(crate) settled: HashMap<String, (u64, Outcome)>,
    answers: HashMap<(WorkerInstance, u64), Vec<GrabbedJob>>,
    pub(crate) faults: HashMap<&'static str, VecDeque<Fault>>,
    pub(crate) calls: HashMap<&'static str, usize>,
    pub(crate) state: WorkerState,
    pub(crate) cancel: HashMap<u64, i32>,
    /// The timeouts of jobs that have one.
    pub(crate) timeouts: HashMap<u64, u64>,
    /// Most jobs that were out at the same time.
    pub(crate) most_held: usize,
    pub(crate) extensions: usize,
    /// Everything that a worker must not do.
    pub(crate) complaints: Vec<String>,
}

pub(crate) struct Peer {
    pub(crate) url: String,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

struct Shared {
    books: Mutex<Books>,
    changed: Notify,
}

impl Peer {
    pub(crate) async fn start() -> Peer {
        let shared = Arc::new(Shared { books: Mutex::default(), changed: Notify::new() });
        let app = Router::new()
            .route("/v1/grab", post(grab))
            .route("/v1/results", post(results))
            .route("/v1/heartbeat", post(heartbeat))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.expect("serve") });
        Peer { url, shared, _server: server }
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.shared.books.lock().expect("no test panics with the books open")
    }

    pub(crate) fn put(&self, job_type: &str, args: &str) -> u64 {
        let mut books = self.books();
        books.next_id += 1;
        let id = books.next_id;
        books.jobs.insert(id, (job_type.to_owned(), args.to_owned(), 0));
        books.ready.push_back((id, job_type.to_owned(), args.to_owned(), 0));
        drop(books);
        self.shared.changed.notify_waiters();
        id
    }

    pub(crate) fn fault(&self, path: &'static str, fault: Fault) {
        self.books().faults.entry(path).or_default().push_back(fault);
    }

    /// Takes every lease away, as a takeover by another worker would.
    pub(crate) fn rob(&self) {
        self.books().held.clear();
        self.shared.changed.notify_waiters();
    }

    pub(crate) fn tell(&self, state: WorkerState) {
        self.books().state = state;
        self.shared.changed.notify_waiters();
    }

    /// Waits until the books say so, looking again after every call.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&Books) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds(&self.books()) {
                return;
            }
            assert!(timeout_at(deadline, changed).await.is_ok(), "never happened: {what}");
        }
    }

    /// How many jobs have each outcome.
    pub(crate) fn outcomes(&self) -> HashMap<&'static str, usize> {
        let mut counts = HashMap::new();
        for (_, outcome) in self.books().settled.values() {
            *counts.entry(outcome.name()).or_default() += 1;
        }
        counts
    }

    pub(crate) fn assert_no_complaints(&self) {
        assert_eq!(self.books().complaints, Vec::<String>::new());
    }
}

impl Books {
    pub(crate) fn completed(&self) -> HashSet<u64> {
        let complete =
            |(id, outcome): &(u64, Outcome)| matches!(outcome, Outcome::Complete { .. }).then_some(*id);
        self.settled.values().filter_map(complete).collect()
    }

    /// Of the next job that is put.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id + 1
    }

    fn fault(&mut self, path: &'static str) -> Option<Fault> {
        *self.calls.entry(path).or_default() += 1;
        self.faults.get_mut(path).and_then(VecDeque::pop_front)
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let over: Vec<String> =
            self.held.iter().filter(|(_, held)| held.ends <= now).map(|(lease, _)| lease.clone()).collect();
        for lease in over {
            if let Some(held) = self.held.remove(&lease) {
                self.put_again(held.id);
            }
        }
    }

    fn put_again(&mut self, id: u64) {
        if let Some((job_type, args, attempt)) = self.jobs.get(&id) {
            self.ready.push_back((id, job_type.clone(), args.clone(), *attempt));
        }
    }

    fn settle(&mut self, item: &ResultItem) -> Answer {
        if let Some((_, before)) = self.settled.get(&item.lease) {
            return if before.name() == item.outcome.name() { Answer::Already } else { Answer::Stale };
        }
        let Some(held) = self.held.remove(&item.lease) else { return Answer::Stale };
        self.settled.insert(item.lease.clone(), (held.id, item.outcome.clone()));
        if let Some(job) = self.jobs.get_mut(&held.id)
            && matches!(item.outcome, Outcome::Decline)
        {
            job.2 -= 1;
        }
        Answer::Ok
    }

    fn settle_all(&mut self, items: &[ResultItem], fault: Option<Fault>) -> Vec<ResultAnswer> {
        let answer = |item: &ResultItem, books: &mut Books| match fault {
            Some(Fault::NoOwner) => Answer::Unavailable,
            _ => books.settle(item),
        };
        items
            .iter()
            .map(|item| ResultAnswer {
                lease: item.lease.clone(),
                answer: answer(item, self),
                ids: None,
                detail: None,
            })
            .collect()
    }

    fn take(&mut self, request: &GrabRequest) -> Vec<GrabbedJob> {
        self.expire();
        let mut taken = Vec::new();
        let mut rest = VecDeque::new();
        while let Some((id, job_type, args, attempt)) = self.ready.pop_front() {
            let wanted = request.types.as_ref().is_none_or(|types| types.contains(&job_type));
            if !wanted || taken.len() >= request.max as usize {
                rest.push_back((id, job_type, args, attempt));
                continue;
            }
            self.next_lease += 1;
            let lease = format!("lease-{}", self.next_lease);
            let timeout_ms = self.timeouts.get(&id).copied();
            let over = timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
            let ends = Instant::now() + Duration::from_millis(request.lease_ms.unwrap_or(60_000));
            let ends = over.map_or(ends, |over| ends.min(over));
            self.held.insert(lease.clone(), Held { id, ends, over, instance: request.worker.instance });
            if let Some(job) = self.jobs.get_mut(&id) {
                job.2 += 1;
            }
            taken.push(GrabbedJob {
                id: id.to_string().parse().expect("a number is a job id"),
                queue: queue(),
                job_type,
                args: api::RawValue::from_string(args).expect("tests give JSON"),
                attempt: attempt + 1,
                max_attempts: 25,
                timeout_ms,
                lease,
                lease_ends_at: "2026-12-01T08:00:00Z".parse().expect("a time"),
                inserted_at: "2026-12-01T08:00:00Z".parse().expect("a time"),
                reissued: attempt > 0,
                previous: None,
                origin: None,
                extra: None,
                progress: None,
                coalesce_key: None,
                key: None,
                trace: None,
            });
        }
        self.ready = rest;
        self.most_held = self.most_held.max(self.held.len());
        taken
    }
}

fn queue() -> QueueName {
    "test".parse().expect("a name")
}

async fn grab(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let request: GrabRequest = match api::parse(&body) {
        Ok(request) => request,
        Err(faults) => return complain(&shared, faults),
    };
    let key = (request.worker.instance, request.request.unwrap_or_default());
    let until = Instant::now() + Duration::from_millis(request.wait_ms);
    let (fault, answers) = {
        let mut books = shared.books.lock().expect("the books");
        let fault = books.fault("/v1/grab");
        if fault == Some(Fault::Unavailable) {
            return problem(ProblemKind::Unavailable, "no owner yet");
        }
        let answers = books.settle_all(&request.results, fault);
        (fault, answers)
    };
    shared.changed.notify_waiters();
    let response = loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        {
            let mut books = shared.books.lock().expect("the books");
            let state = books.state;
            // The same request again ends the one that waits, with the same answer.
            let repeated = books.answers.contains_key(&key);
            let jobs = match books.answers.get(&key) {
                Some(jobs) => jobs.clone(),
                None if state == WorkerState::Run => books.take(&request),
                None => Vec::new(),
            };
            let enough = repeated || !jobs.is_empty() || !answers.is_empty() || state != WorkerState::Run;
            if enough || Instant::now() >= until {
                books.answers.insert(key, jobs.clone());
                break GrabResponse { jobs, results: answers, state };
            }
        }
        // Also wakes for leases that end.
        let soon = (Instant::now() + Duration::from_millis(50)).min(until);
        drop(timeout_at(soon, changed).await);
    };
    shared.changed.notify_waiters();
    reply(&response, fault)
}

async fn results(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let request: ResultsRequest = match api::parse(&body) {
        Ok(request) => request,
        Err(faults) => return complain(&shared, faults),
    };
    let (response, fault) = {
        let mut books = shared.books.lock().expect("the books");
        books.expire();
        let fault = books.fault("/v1/results");
        match fault {
            Some(Fault::Unavailable) => return problem(ProblemKind::Unavailable, "no owner yet"),
            Some(Fault::RefuseSeveral) if request.results.len() > 1 => {
                return problem(ProblemKind::InvalidRequest, "one of them is wrong");
            }
            _ => {}
        }
        (ResultsResponse { results: books.settle_all(&request.results, fault) }, fault)
    };
    shared.changed.notify_waiters();
    reply(&response, fault)
}

async fn heartbeat(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let request: HeartbeatRequest = match api::parse(&body) {
        Ok(request) => request,
        Err(faults) => return complain(&shared, faults),
    };
    let (response, fault) = {
        let mut books = shared.books.lock().expect("the books");
        books.expire();
        let fault = books.fault("/v1/heartbeat");
        if fault == Some(Fault::Unavailable) {
            return problem(ProblemKind::Unavailable, "no owner yet");
        }
        let mut leases = Vec::new();
        for item in request.leases {
            let extend = Duration::from_millis(item.extend_ms.unwrap_or_default());
            let held =
                books.held.get_mut(&item.lease).filter(|held| held.instance == request.worker.instance);
            let answer = match held {
                Some(held) => {
                    let ends = Instant::now() + extend;
                    held.ends = held.over.map_or(ends, |over| ends.min(over));
                    HeartbeatAnswer::Ok
                }
                None => HeartbeatAnswer::Stale,
            };
            books.extensions += usize::from(answer == HeartbeatAnswer::Ok);
            let id = books.held.get(&item.lease).map(|held| held.id);
            let cancel = id.and_then(|id| books.cancel.get(&id).copied()).unwrap_or_default();
            leases.push(HeartbeatResult { lease: item.lease, answer, lease_ends_at: None, cancel });
        }
        (HeartbeatResponse { leases, state: books.state }, fault)
    };
    shared.changed.notify_waiters();
    reply(&response, fault)
}

fn reply(answer: &impl Serialize, fault: Option<Fault>) -> Response {
    if fault == Some(Fault::LoseAnswer) {
        // The head arrives, the body breaks off.
        let broken = futures_util::stream::once(async { Err::<Bytes, _>(io::Error::other("cut")) });
        return Response::new(Body::from_stream(broken));
    }
    axum::Json(answer).into_response()
}

fn problem(kind: ProblemKind, detail: &str) -> Response {
    let problem = Problem::new(kind, detail);
    let status = StatusCode::from_u16(problem.status).expect("a status");
    (status, [(header::CONTENT_TYPE, Problem::MEDIA_TYPE)], axum::Json(problem)).into_response()
}

fn complain(shared: &Shared, faults: Vec<api::Violation>) -> Response {
    let problem = Problem::invalid(faults);
    shared.books.lock().expect("the books").complaints.push(problem.detail.clone());
    (StatusCode::BAD_REQUEST, axum::Json(problem)).into_response()
}
