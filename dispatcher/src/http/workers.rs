//! Workers: `GET /v1/workers`, and the orders `POST /v1/workers/{instance}/quiet`, `…/terminate` and `…/resume`.
//!
//! Each dispatcher knows the workers that called it ([`super::roster`]) and those that hold leases of its queues; a list
//! asks the others, too, and puts together what they know of the same worker; the leases that live in the waiting room
//! are counted in the database. An order is a row of the database, where
//! every dispatcher looks ([`crate::steering`]); who takes one makes the others look at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::Method;
use futures_util::future::join_all;
use jiff::Timestamp;
use tidemill_common::api::{ProblemKind, WorkerInfo, WorkerList, WorkerOrder, WorkerRecord, WorkerState};
use tidemill_common::id::{QueueName, WorkerInstance};
use tidemill_common::queue::work;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::auth::{Caller, Scope};
use super::body::{self, Json};
use super::forward::{Call, Passport};
use super::look::addresses;
use super::params::InPath;
use super::problem::Refusal;
use super::roster::Known;
use super::state::ApiState;
use crate::engine::record::Holder;
use crate::routes::Owner;

/// Those who do not look at once when they are told to will do so by themselves: an order does not wait for them longer.
const LOOK: Duration = Duration::from_secs(1);

/// The workers of the queues that the token may read. What a dispatcher knows that does not answer is missing.
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
) -> Result<Json<WorkerList>, Refusal> {
    caller.check_somewhere(Scope::Read)?;
    let mut session = state.pool.session().await?;
    // One clock for all dispatchers.
    let clock = Clock {
        instant: Instant::now(),
        time: work::clock(&mut session).await.map_err(|error| Refusal::database(&error))?,
    };
    // Counted once for all dispatchers.
    let outside = match passport.forwarded {
        true => Vec::new(),
        false => work::waiting_leases(&mut session).await.map_err(|error| Refusal::database(&error))?,
    };
    drop(session);
    let mut all: HashMap<WorkerInstance, WorkerRecord> = HashMap::new();
    for record in here(&state, &caller, clock).await {
        add(&mut all, record);
    }
    if !passport.forwarded {
        let readable = outside.into_iter().filter(|leases| caller.may(Scope::Read, &leases.queue));
        readable.filter_map(|leases| holds(&state, leases)).for_each(|record| add(&mut all, record));
        let others = addresses(&state, &state.routes.all());
        let asked = others
            .iter()
            .map(|address| call(&state, &passport, address, Method::GET, "/v1/workers").ask(&()));
        let lists: Vec<Result<WorkerList, Refusal>> = join_all(asked).await;
        for record in lists.into_iter().flatten().flat_map(|list| list.workers) {
            add(&mut all, record);
        }
    }
    let mut workers: Vec<WorkerRecord> = all.into_values().collect();
    workers.sort_by(|a, b| order(&a.worker).cmp(&order(&b.worker)));
    Ok(body::ok(WorkerList { workers }))
}

fn order(worker: &WorkerInfo) -> (Option<&str>, Option<u32>, WorkerInstance) {
    (worker.host.as_deref(), worker.pid, worker.instance)
}

/// Finish what it has, grab nothing.
pub(super) async fn quiet(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
    InPath(instance): InPath<String>,
) -> Result<Json<WorkerOrder>, Refusal> {
    steer(&state, &caller, &passport, &instance, WorkerState::Quiet).await
}

/// Hand back what is not begun, finish the rest, exit.
pub(super) async fn terminate(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
    InPath(instance): InPath<String>,
) -> Result<Json<WorkerOrder>, Refusal> {
    steer(&state, &caller, &passport, &instance, WorkerState::Terminate).await
}

/// Take an order back.
pub(super) async fn resume(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
    InPath(instance): InPath<String>,
) -> Result<Json<WorkerOrder>, Refusal> {
    steer(&state, &caller, &passport, &instance, WorkerState::Run).await
}

async fn steer(
    state: &ApiState,
    caller: &Caller,
    passport: &Passport,
    instance: &str,
    told: WorkerState,
) -> Result<Json<WorkerOrder>, Refusal> {
    caller.check_somewhere(Scope::Admin)?;
    let instance: Uuid = instance
        .parse()
        .map_err(|_| Refusal::fault("", "the path must name a worker by its instance, a UUID"))?;
    let order = WorkerOrder { instance: WorkerInstance(instance), state: told };
    if passport.forwarded {
        look(state).await?;
        if state.steering.state(instance) == told && told != WorkerState::Run {
            return Ok(body::ok(order));
        }
    }
    let known = match known(state, instance).await {
        None if passport.forwarded => return Err(unknown(instance)),
        None => match elsewhere(state, passport, order).await {
            Ok(()) => None,
            // It may have been heard of before all dispatchers began.
            Err(refusal) if refusal.kind() == Some(ProblemKind::UnknownWorker) => {
                Some(outside(state, instance).await?.ok_or(refusal)?)
            }
            Err(refusal) => return Err(refusal),
        },
        known => known,
    };
    if let Some(queues) = known {
        if !queues.iter().all(|queue| caller.may(Scope::Admin, queue.as_str()))
            || (queues.is_empty() && !caller.may_everywhere(Scope::Admin))
        {
            return Err(Refusal::new(
                ProblemKind::Forbidden,
                "the token does not have the scope `admin` for all queues of this worker",
            ));
        }
        let mut session = state.pool.session().await?;
        work::steer(&mut session, instance, told).await.map_err(|error| Refusal::database(&error))?;
    }
    tracing::info!(worker.instance = %instance, state = told.as_str(), "a worker is steered");
    look(state).await?;
    if !passport.forwarded {
        // What they answer is no matter: the order is committed.
        drop(timeout(LOOK, tell(state, passport, order)).await);
    }
    Ok(body::ok(order))
}

async fn look(state: &ApiState) -> Result<(), Refusal> {
    let mut session = state.pool.session().await?;
    state.steering.read(&mut session).await.map_err(|error| Refusal::database(&error))
}

fn unknown(instance: Uuid) -> Refusal {
    let detail =
        format!("no dispatcher has heard of a worker `{instance}` lately: it has ended, or not begun");
    Refusal::new(ProblemKind::UnknownWorker, detail)
}

/// The queues of a worker that this process knows: it called, or holds leases, or was steered before.
async fn known(state: &ApiState, instance: Uuid) -> Option<Vec<QueueName>> {
    if let Some(queues) = state.roster.queues(instance) {
        return Some(queues);
    }
    if let Some(holding) = holdings(state).await.remove(&instance) {
        return Some(holding.leased.into_iter().map(|(queue, _)| queue).collect());
    }
    (state.steering.state(instance) != WorkerState::Run).then(Vec::new)
}

/// The queues of a worker that holds leases in the waiting room.
async fn outside(state: &ApiState, instance: Uuid) -> Result<Option<Vec<QueueName>>, Refusal> {
    let mut session = state.pool.session().await?;
    let leases = work::waiting_leases(&mut session).await.map_err(|error| Refusal::database(&error))?;
    let mine = leases.into_iter().filter(|leases| leases.holder.instance.0 == instance);
    let queues: Vec<QueueName> = mine.filter_map(|leases| leases.queue.parse().ok()).collect();
    Ok((!queues.is_empty()).then_some(queues))
}

/// Lets a dispatcher that knows the worker give the order.
async fn elsewhere(state: &ApiState, passport: &Passport, order: WorkerOrder) -> Result<(), Refusal> {
    let mut refusal = unknown(order.instance.0);
    for answer in tell(state, passport, order).await {
        match answer {
            Ok(_) => return Ok(()),
            Err(other) if other.kind() == Some(ProblemKind::UnknownWorker) => {}
            // It may be the one that knows.
            Err(other) => refusal = other,
        }
    }
    Err(refusal)
}

/// Passes an order on to all others.
async fn tell(
    state: &ApiState,
    passport: &Passport,
    order: WorkerOrder,
) -> Vec<Result<WorkerOrder, Refusal>> {
    let verb = match order.state {
        WorkerState::Run => "resume",
        WorkerState::Quiet => "quiet",
        WorkerState::Terminate => "terminate",
    };
    let path = format!("/v1/workers/{}/{verb}", order.instance);
    let others = addresses(state, &state.routes.all());
    let asked = others.iter().map(|address| call(state, passport, address, Method::POST, &path).ask(&()));
    join_all(asked).await
}

fn call<'a>(
    state: &'a ApiState,
    passport: &'a Passport,
    address: &'a str,
    method: Method,
    path: &'a str,
) -> Call<'a> {
    Call { state, passport, address, method, path, wait: Duration::ZERO }
}

/// The leases of one worker.
struct Holding {
    holder: Arc<Holder>,
    /// How many, by queue.
    leased: Vec<(QueueName, u64)>,
}

/// Who holds leases of the queues that this process owns.
async fn holdings(state: &ApiState) -> HashMap<Uuid, Holding> {
    let mut all: HashMap<Uuid, Holding> = HashMap::new();
    for route in state.routes.all() {
        if route.owner(state.me) != Owner::Here {
            continue;
        }
        let Ok(queue) = route.seen.borrow().queue.name.parse::<QueueName>() else { continue };
        // A queue that changes hands at this moment is counted by nobody.
        for (holder, count) in route.handle.holders().await.unwrap_or_default() {
            let holding =
                all.entry(holder.instance).or_insert_with(|| Holding { holder, leased: Vec::new() });
            holding.leased.push((queue.clone(), count));
        }
    }
    all
}

/// A moment, here and in the database.
#[derive(Debug, Clone, Copy)]
struct Clock {
    instant: Instant,
    time: Timestamp,
}

impl Clock {
    fn time_of(self, past: Instant) -> Option<Timestamp> {
        self.time.checked_sub(self.instant.duration_since(past)).ok()
    }
}

/// Whom this process knows, as far as the caller may.
async fn here(state: &ApiState, caller: &Caller, clock: Clock) -> Vec<WorkerRecord> {
    let may = |queue: &QueueName| caller.may(Scope::Read, queue.as_str());
    let mut holdings = holdings(state).await;
    let mut records = Vec::new();
    for known in state.roster.look(clock.instant, |instance| holdings.contains_key(&instance)) {
        let Known { worker, queues, first, last } = known;
        let leased = holdings.remove(&worker.instance.0).map(|holding| holding.leased).unwrap_or_default();
        let readable =
            if queues.is_empty() { caller.may_everywhere(Scope::Read) } else { queues.iter().any(may) };
        if readable {
            records.push(WorkerRecord {
                state: state.steering.state(worker.instance.0),
                worker,
                queues: queues.into_iter().filter(may).collect(),
                leased: leased.iter().filter(|(queue, _)| may(queue)).map(|(_, count)| count).sum(),
                first_seen_at: clock.time_of(first),
                seen_at: clock.time_of(last),
            });
        }
    }
    // The journal knows them from before this process began.
    for (instance, Holding { holder, mut leased }) in holdings {
        leased.retain(|(queue, _)| may(queue));
        if !leased.is_empty() {
            records.push(WorkerRecord {
                worker: WorkerInfo {
                    instance: WorkerInstance(instance),
                    host: Some(holder.host.clone()).filter(|host| !host.is_empty()),
                    pid: Some(holder.pid).filter(|pid| *pid != 0),
                    name: None,
                    version: None,
                },
                state: state.steering.state(instance),
                leased: leased.iter().map(|(_, count)| count).sum(),
                queues: leased.into_iter().map(|(queue, _)| queue).collect(),
                first_seen_at: None,
                seen_at: None,
            });
        }
    }
    records
}

/// A worker of which nothing is known here but leases in the waiting room.
fn holds(state: &ApiState, leases: work::WaitingLeases) -> Option<WorkerRecord> {
    let tidemill_common::api::Holder { instance, host, pid } = leases.holder;
    Some(WorkerRecord {
        worker: WorkerInfo { instance, host, pid: pid.filter(|pid| *pid != 0), name: None, version: None },
        state: state.steering.state(instance.0),
        leased: leases.count.unsigned_abs(),
        queues: vec![leases.queue.parse().ok()?],
        first_seen_at: None,
        seen_at: None,
    })
}

/// Adds what one dispatcher knows of a worker to what others know: who heard of it last tells who it is; each counts the
/// leases of its own queues.
fn add(all: &mut HashMap<WorkerInstance, WorkerRecord>, record: WorkerRecord) {
    match all.entry(record.worker.instance) {
        Entry::Vacant(place) => drop(place.insert(record)),
        Entry::Occupied(mut place) => {
            let one = place.get_mut();
            let (mut later, earlier) = match one.seen_at >= record.seen_at {
                true => (one.clone(), record),
                false => (record, one.clone()),
            };
            later.leased += earlier.leased;
            later.first_seen_at = [later.first_seen_at, earlier.first_seen_at].into_iter().flatten().min();
            later.queues.extend(earlier.queues);
            later.queues.sort_unstable();
            later.queues.dedup();
            *one = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(host: &str, queues: &[&str], leased: u64, seen: Option<(i64, i64)>) -> WorkerRecord {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (host, instance) = (Some(host.to_owned()), WorkerInstance(Uuid::from_u128(1)));
        WorkerRecord {
            worker: WorkerInfo { instance, host, pid: None, name: None, version: None },
            queues: queues.iter().map(|queue| queue.parse().unwrap()).collect(),
            state: WorkerState::Run,
            leased,
            first_seen_at: seen.map(|(first, _)| at(first)),
            seen_at: seen.map(|(_, last)| at(last)),
        }
    }

    #[test]
    fn what_several_dispatchers_know_of_a_worker_is_put_together() {
        let parts = [
            record("late", &["mail", "sms"], 2, Some((5, 9))),
            record("early", &["mail", "fax"], 3, Some((1, 8))),
            record("journal", &["old"], 4, None),
        ];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut all = HashMap::new();
            for index in order {
                add(&mut all, parts[index].clone());
            }
            let whole = record("late", &["fax", "mail", "old", "sms"], 9, Some((1, 9)));
            assert_eq!(all.into_values().collect::<Vec<_>>(), [whole], "{order:?}");
        }
    }
}
