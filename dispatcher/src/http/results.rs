//! Results: `POST /v1/results`, and the `results` of a grab.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use futures_util::future::join_all;
use std::time::Duration;
use tidemill_common::api::{Answer, Outcome, ResultAnswer, ResultItem, ResultsRequest, ResultsResponse};

use super::auth::{Caller, Scope};
use super::body::{self, Json};
use super::forward::{Call, Passport};
use super::group::{Groups, Place, merge, pick};
use super::job;
use super::problem::Refusal;
use super::state::ApiState;
use crate::command::{NamedLease, QueueHandle};
use crate::engine::{Answered, Decided};
use tidemill_common::id::JobId;

/// Items whose data the database refuses are searched for one by one; after so many the others must be sent again.
const REFUSED: usize = 32;

/// Outcomes of any leases, mixed.
pub(super) async fn results(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ResultsResponse>, Refusal> {
    caller.check_somewhere(Scope::Work)?;
    let request: ResultsRequest = body::parsed(&headers, body, &state.limits).await?;
    check_new_jobs(&caller, &request.results)?;
    let results = hand_in(&state, &caller, &passport, request.results).await;
    Ok(body::ok(ResultsResponse { results }))
}

/// The jobs of a replace: for another queue than the replaced job's the caller needs the right to produce there.
pub(super) fn check_new_jobs(caller: &Caller, results: &[ResultItem]) -> Result<(), Refusal> {
    for item in results {
        let Outcome::Replace { jobs } = &item.outcome else { continue };
        for job in jobs {
            if let Some(queue) = &job.queue {
                caller.check(Scope::Produce, queue.as_str())?;
            }
        }
    }
    Ok(())
}

/// Hands the results to the owners of their queues, all at once; answered when all is committed.
pub(super) async fn hand_in(
    state: &ApiState,
    caller: &Caller,
    passport: &Passport,
    items: Vec<ResultItem>,
) -> Vec<ResultAnswer> {
    let leases: Vec<NamedLease> = items.iter().map(|item| item.lease.parse().ok()).collect();
    let groups = Groups::of(state, caller, passport, &leases).await;
    let asked = groups.places.iter().map(async |(place, indices)| {
        let verdicts = match place {
            Place::Here(queue_id) => {
                let mine: Vec<_> = indices
                    .iter()
                    .filter_map(|index| Some((*leases.get(*index)?, items.get(*index)?.outcome.clone())))
                    .collect();
                match groups.handle(*queue_id) {
                    Some(handle) => here(handle, &mine).await,
                    None => Vec::new(),
                }
            }
            Place::There(address) => there(state, passport, address, pick(&items, indices)).await,
            Place::Nobody => Vec::new(),
            Place::Stale => vec![Verdict::new(Answer::Stale); indices.len()],
        };
        (indices.clone(), verdicts)
    });
    let verdicts = merge(items.len(), join_all(asked).await, &Verdict::new(Answer::Unavailable));
    items.into_iter().zip(verdicts).map(|(item, verdict)| verdict.on(item.lease)).collect()
}

/// What became of one result.
#[derive(Debug, Clone)]
struct Verdict {
    answer: Answer,
    /// Of the new jobs, if it is a replace.
    ids: Option<Vec<JobId>>,
    detail: Option<String>,
}

impl Verdict {
    fn new(answer: Answer) -> Self {
        Self { answer, ids: None, detail: None }
    }

    fn of(decided: &Decided) -> Self {
        Self { answer: decided.answer, ids: children(decided), detail: None }
    }

    fn on(self, lease: String) -> ResultAnswer {
        ResultAnswer { lease, answer: self.answer, ids: self.ids, detail: self.detail }
    }
}

/// The ids of the jobs that exist instead, if all are known.
pub(super) fn children(decided: &Decided) -> Option<Vec<JobId>> {
    let new = decided.children.as_ref().filter(|new| new.ids.len() as u64 == new.count)?;
    new.ids.iter().map(|job| job::id(*job).ok()).collect()
}

/// Asks the owner in this process. If the database refuses the data, halves are tried, until the item is found.
async fn here(handle: &QueueHandle, items: &[(NamedLease, Outcome)]) -> Vec<Verdict> {
    let mut verdicts = vec![Verdict::new(Answer::Unavailable); items.len()];
    let mut open = vec![(0, items.len())];
    let mut refused = 0;
    while let Some((from, to)) = open.pop() {
        let part = items.get(from..to).unwrap_or_default();
        match handle.results(part.to_vec()).await {
            Ok(Answered::Results(answers)) => {
                for (verdict, decided) in verdicts.iter_mut().skip(from).zip(answers) {
                    *verdict = Verdict::of(&decided);
                }
            }
            Ok(Answered::Refused(why)) if part.len() == 1 => {
                if let Some(verdict) = verdicts.get_mut(from) {
                    *verdict = Verdict { answer: Answer::Refused, ids: None, detail: Some(why) };
                }
                refused += 1;
            }
            Ok(Answered::Refused(_)) if refused < REFUSED => {
                let middle = from + (to - from) / 2;
                open.extend([(middle, to), (from, middle)]);
            }
            Ok(
                Answered::Refused(_)
                | Answered::Grab { .. }
                | Answered::Heartbeat(_)
                | Answered::Lent { .. }
                | Answered::Cancelled { .. }
                | Answered::Paused,
            )
            | Err(_) => {}
        }
    }
    verdicts
}

/// Asks another dispatcher. Whatever goes wrong there: repeat.
async fn there(
    state: &ApiState,
    passport: &Passport,
    address: &str,
    results: Vec<ResultItem>,
) -> Vec<Verdict> {
    let path = "/v1/results";
    let call = Call { state, passport, address, method: Method::POST, path, wait: Duration::ZERO };
    match call.ask::<ResultsResponse>(&ResultsRequest { results }).await {
        Ok(response) => {
            let verdict = |r: ResultAnswer| Verdict { answer: r.answer, ids: r.ids, detail: r.detail };
            response.results.into_iter().map(verdict).collect()
        }
        Err(_) => Vec::new(),
    }
}
