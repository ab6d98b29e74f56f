//! Work: `POST /v1/grab`. Results first, then jobs of the first queue that has some, then waiting.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONNECTION;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidemill_common::api::{GrabRequest, GrabResponse, ResultItem, Where, WorkerState, parse};
use tidemill_common::id::QueueName;
use tidemill_common::lease::Lease;
use tokio::time::{Instant, timeout};

use super::answer::{self, Results};
use super::auth::{Caller, Scope};
use super::body;
use super::forward::{Call, Passport};
use super::job::Jobs;
use super::problem::Refusal;
use super::results::{self, hand_in};
use super::state::ApiState;
use crate::command::{NamedLease, QueueHandle};
use crate::engine::record::Holder;
use crate::engine::{Answered, Filter, Grab};
use crate::routes::{Owner, Route};

/// A worker that does not heed that it gets no more jobs, and would wait for some, waits so long: it must not ask in a
/// storm.
const HEED: Duration = Duration::from_secs(1);

/// A queue to grab from, and who owns it now.
struct Source {
    name: QueueName,
    route: Route,
    owner: Owner,
}

/// Hands in results and gets jobs.
pub(super) async fn grab(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let bytes = body::json(&headers, body, &state.limits).await?;
    let mut request: GrabRequest = parse(&bytes).map_err(Refusal::invalid)?;
    results::check_new_jobs(&caller, &request.results)?;
    for queue in &request.queues {
        caller.check(Scope::Work, queue.as_str())?;
    }
    let _place = if request.wait_ms > 0 { Some(state.waiting_place()?) } else { None };
    let sources = sources(&state, &caller, &passport, &request.queues).await?;
    let results = std::mem::take(&mut request.results);
    state.roster.hear(&request.worker, &request.queues, Instant::now());
    let held_back = state.steering.state(request.worker.instance.0) != WorkerState::Run;
    let worker = Worker { state: &state, passport: &passport, request: &request, held_back };
    if state.shutdown.is_wanted() {
        let answers = hand_in(&state, &caller, &passport, results).await;
        return Ok(worker.closing(&Jobs::NONE, &Results::Ready(answers)));
    }
    if let [source] = sources.as_slice()
        && let Some(leases) = leases_of(source, &results)
    {
        match &source.owner {
            Owner::Here if !results.is_empty() => {
                if let Some(answer) = worker.both(source, leases, &results).await? {
                    return Ok(answer);
                }
            }
            Owner::There(address) => return worker.relay(address, bytes, !results.is_empty()).await,
            Owner::Here | Owner::Nobody => {}
        }
    }
    worker.one_after_the_other(&caller, &sources, results).await
}

/// The leases of these results, if all are of this queue: then they can travel with the grab.
fn leases_of(source: &Source, results: &[ResultItem]) -> Option<Vec<Lease>> {
    let queue_id = source.route.seen.borrow().queue.queue_id;
    let lease =
        |item: &ResultItem| item.lease.parse().ok().filter(|lease: &Lease| lease.queue_id == queue_id);
    results.iter().map(lease).collect()
}

/// Where each queue is, named once.
async fn sources(
    state: &ApiState,
    caller: &Caller,
    passport: &Passport,
    queues: &[QueueName],
) -> Result<Vec<Source>, Refusal> {
    let mut sources: Vec<Source> = Vec::with_capacity(queues.len());
    for name in queues {
        if sources.iter().any(|source| source.name == *name) {
            continue;
        }
        let Some(route) = state.routes.find(name.as_str()) else {
            return Err(unseen(state, caller, Scope::Work, name.as_str()).await);
        };
        let owner = match route.owner(state.me) {
            Owner::There(_) if passport.forwarded => Owner::Nobody,
            owner => owner,
        };
        sources.push(Source { name: name.clone(), route, owner });
    }
    Ok(sources)
}

/// A queue that was not seen: new, or none, or only PgQ's. The database knows.
pub(super) async fn unseen(state: &ApiState, caller: &Caller, scope: Scope, queue: &str) -> Refusal {
    let mut session = match state.pool.session().await {
        Ok(session) => session,
        Err(refusal) => return refusal,
    };
    match super::look::missing(&mut session, queue).await {
        Ok(None) => Refusal::no_owner(queue),
        Ok(Some(refusal)) => caller.unknown_queue(scope, queue, refusal),
        Err(error) => Refusal::database(&error),
    }
}

/// One worker's request.
struct Worker<'a> {
    state: &'a ApiState,
    passport: &'a Passport,
    request: &'a GrabRequest,
    /// Told to be quiet or to terminate: its results are taken, and a repeated grab gets the same jobs, but no others.
    held_back: bool,
}

impl Worker<'_> {
    fn answer(&self, jobs: &Jobs, results: &Results<'_>) -> Response {
        answer::grabbed(jobs, results, self.state.steering.state(self.request.worker.instance.0))
    }

    /// An answer of a process that is about to leave: the next request goes elsewhere.
    fn closing(&self, jobs: &Jobs, results: &Results<'_>) -> Response {
        let mut response = self.answer(jobs, results);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }

    /// Results and grab in one go, at the owner in this process. `None`: the database refused the data, which is then
    /// looked for item by item.
    async fn both(
        &self,
        source: &Source,
        leases: Vec<Lease>,
        results: &[ResultItem],
    ) -> Result<Option<Response>, Refusal> {
        let named: Vec<(NamedLease, _)> = leases
            .into_iter()
            .zip(results)
            .map(|(lease, item)| (Some(lease), item.outcome.clone()))
            .collect();
        match source.route.handle.grab(self.order(Duration::ZERO), named).await {
            Ok(Answered::Grab { jobs, results: answers }) => {
                let jobs = Jobs::Here(source.name.clone(), jobs);
                Ok(Some(self.answer(&jobs, &Results::Decided(results, answers))))
            }
            Ok(Answered::Refused(_)) => Ok(None),
            Ok(
                Answered::Results(_)
                | Answered::Heartbeat(_)
                | Answered::Lent { .. }
                | Answered::Cancelled { .. }
                | Answered::Paused,
            )
            | Err(_) => Err(Refusal::no_owner(source.name.as_str())),
        }
    }

    /// The whole request to the one owner of all it is about.
    async fn relay(&self, address: &str, bytes: Bytes, has_results: bool) -> Result<Response, Refusal> {
        let wait = Duration::from_millis(self.request.wait_ms);
        let relayed = self.call(address, wait).relay(bytes);
        tokio::select! {
            relayed = relayed => relayed,
            // Results never wait for jobs, and their answers must be told.
            () = self.leaving(), if !has_results => Ok(self.closing(&Jobs::NONE, &Results::NONE)),
        }
    }

    async fn one_after_the_other(
        &self,
        caller: &Caller,
        sources: &[Source],
        results: Vec<ResultItem>,
    ) -> Result<Response, Refusal> {
        // Results are answered when they are committed, not when jobs arrive.
        let wait =
            if results.is_empty() { Duration::from_millis(self.request.wait_ms) } else { Duration::ZERO };
        let (wait, pause) =
            if self.held_back { (Duration::ZERO, wait.min(HEED)) } else { (wait, Duration::ZERO) };
        let has_results = !results.is_empty();
        let answers = Results::Ready(match has_results {
            true => hand_in(self.state, caller, self.passport, results).await,
            false => Vec::new(),
        });
        match self.fetch(sources, wait).await {
            Ok(jobs) if self.state.shutdown.is_wanted() => Ok(self.closing(&jobs, &answers)),
            Ok(jobs) => {
                if jobs.is_empty() && !pause.is_zero() {
                    // An error says that the time is over.
                    drop(timeout(pause, self.leaving()).await);
                }
                Ok(self.answer(&jobs, &answers))
            }
            // What became of the results must be told.
            Err(_) if has_results => Ok(self.answer(&Jobs::NONE, &answers)),
            Err(refusal) => Err(refusal),
        }
    }

    /// Jobs of the first queue that has some. Only if none has: waits at all of them, and leaves the others when the
    /// first one answers; a lease they may have granted in that very moment is given back by their owners.
    async fn fetch(&self, sources: &[Source], wait: Duration) -> Result<Jobs, Refusal> {
        let end = Instant::now() + wait;
        let mut open: Vec<&Source> = sources.iter().collect();
        if sources.len() > 1 {
            let again = self.state.repeats.find(self.request.worker.instance.0, self.request.request);
            open.sort_by_key(|source| Some(&source.name) != again.as_ref());
            let mut empty = Vec::new();
            let mut refused = None;
            for source in open {
                match self.ask(source, Duration::ZERO).await {
                    Ok(jobs) if !jobs.is_empty() => return Ok(self.got(source, jobs)),
                    Ok(_) => empty.push(source),
                    Err(refusal) => refused = Some(refusal),
                }
            }
            match refused {
                Some(refusal) if empty.is_empty() => return Err(refusal),
                _ if wait.is_zero() => return Ok(Jobs::NONE),
                _ => open = empty,
            }
        }
        let left = end.saturating_duration_since(Instant::now());
        let mut asked: FuturesUnordered<_> =
            open.iter().map(|source| async move { (*source, self.ask(source, left).await) }).collect();
        let mut answer = None;
        loop {
            tokio::select! {
                next = asked.next() => match next {
                    Some((source, Ok(jobs))) if !jobs.is_empty() => return Ok(self.got(source, jobs)),
                    Some((_, Ok(_))) => answer = Some(Ok(Jobs::NONE)),
                    Some((_, Err(refusal))) => answer = Some(answer.unwrap_or(Err(refusal))),
                    None => return answer.unwrap_or(Ok(Jobs::NONE)),
                },
                () = self.leaving(), if !left.is_zero() => return Ok(Jobs::NONE),
            }
        }
    }

    fn got(&self, source: &Source, jobs: Jobs) -> Jobs {
        if let Some(number) = self.request.request {
            self.state.repeats.remember(self.request.worker.instance.0, number, source.name.clone());
        }
        jobs
    }

    /// Asks one queue's owner for jobs.
    async fn ask(&self, source: &Source, wait: Duration) -> Result<Jobs, Refusal> {
        match &source.owner {
            Owner::Here => self.here(&source.name, &source.route.handle, wait).await,
            Owner::There(address) => {
                let request = GrabRequest {
                    queues: vec![source.name.clone()],
                    wait_ms: millis(wait),
                    results: Vec::new(),
                    ..self.request.clone()
                };
                Ok(Jobs::There(self.call(address, wait).ask::<GrabResponse>(&request).await?.jobs))
            }
            Owner::Nobody => Err(Refusal::no_owner(source.name.as_str())),
        }
    }

    async fn here(&self, name: &QueueName, handle: &QueueHandle, wait: Duration) -> Result<Jobs, Refusal> {
        let answered = tokio::select! {
            // What was granted in the same moment is handed out.
            biased;
            answered = handle.grab(self.order(wait), Vec::new()) => answered,
            () = self.ordered(), if !wait.is_zero() => return Ok(Jobs::NONE),
        };
        match answered {
            Ok(Answered::Grab { jobs, .. }) => Ok(Jobs::Here(name.clone(), jobs)),
            Ok(Answered::Refused(why)) => Err(Refusal::fault("", why)),
            Ok(
                Answered::Results(_)
                | Answered::Heartbeat(_)
                | Answered::Lent { .. }
                | Answered::Cancelled { .. }
                | Answered::Paused,
            )
            | Err(_) => Err(Refusal::no_owner(name.as_str())),
        }
    }

    fn order(&self, wait: Duration) -> Grab {
        let worker = &self.request.worker;
        Grab {
            types: self.request.types.clone(),
            max: if self.held_back { 0 } else { self.request.max as usize },
            lease_ms: self.request.lease_ms,
            wait_ms: millis(wait),
            transactional: self.request.transactional,
            number: self.request.request,
            filter: self.request.filter.as_ref().map(|wanted| Box::new(filter(wanted))),
            holder: Arc::new(Holder {
                instance: worker.instance.0,
                host: worker.host.clone().unwrap_or_default(),
                pid: worker.pid.unwrap_or(0),
            }),
        }
    }

    fn call<'a>(&'a self, address: &'a str, wait: Duration) -> Call<'a> {
        let Self { state, passport, .. } = *self;
        Call { state, passport, address, method: Method::POST, path: "/v1/grab", wait }
    }

    /// Who is told to be quiet or to terminate waits no longer.
    async fn ordered(&self) {
        self.state.steering.ordered(self.request.worker.instance.0).await;
    }

    async fn leaving(&self) {
        self.state.shutdown.wanted().await;
    }
}

/// What the engine compares. An id that is none of ours is the id of no job.
fn filter(wanted: &Where) -> Filter {
    Filter {
        id: wanted.id.as_ref().map(|id| id.as_str().parse().unwrap_or(-1)),
        coalesce_key: wanted.coalesce_key.clone(),
        args: wanted.args.as_ref().and_then(|args| serde_json::from_str(args.get()).ok()),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
