//! Telling the dispatcher what became of jobs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tidemill_common::api::{self, Answer, ResultAnswer, ResultsRequest, ResultsResponse};
use tokio::time::Instant;

use super::super::outbox::{Outbox, Pending};
use super::grab::Grab;
use super::{CALL_TIMEOUT, Lane};
use crate::client::CallError;

/// How long results wait for a grab to travel with.
const LINGER: Duration = Duration::from_millis(5);
/// The same while a grab is under way that does not wait for work, only for its results to be committed.
const PATIENCE: Duration = Duration::from_millis(100);

/// Results on their way without a grab.
pub(super) struct Sending {
    results: Vec<Pending>,
    call: BoxFuture<'static, Result<ResultsResponse, CallError>>,
}

impl Lane {
    pub(super) fn now_and(&self) -> Instant {
        // A result is worth sending until its lease is over by any reckoning, extensions in doubt included.
        Instant::now() + self.leases.length() * 2 + CALL_TIMEOUT
    }

    pub(super) fn tell(&mut self, lease: &str, outcome: api::Outcome) {
        let give_up_at = self.now_and();
        self.outbox.push(Pending::new(lease, outcome, give_up_at));
    }

    pub(super) fn flush_at(&self) -> Option<Instant> {
        let since = self.outbox.since()?;
        let at = match &self.grab {
            _ if self.drain.is_some() => since,
            Grab::Asked(asked) if asked.wait.is_zero() => since.max(asked.started + PATIENCE),
            // A grab that found work would have been answered by now: this one waits.
            Grab::Asked(asked) => since.max(asked.started + LINGER),
            Grab::Rest { .. } => since + LINGER,
            Grab::Lost { .. } => since,
        };
        Some(self.send_not_before.map_or(at, |not_before| at.max(not_before)))
    }

    pub(super) fn begin_send(&mut self) {
        if self.send.is_some() || self.flush_at().is_none_or(|at| Instant::now() < at) {
            return;
        }
        let results = self.outbox.take();
        let request =
            ResultsRequest { results: results.iter().map(|pending| pending.item.clone()).collect() };
        let client = Arc::clone(&self.client);
        let call = async move { client.post("/v1/results", &request, CALL_TIMEOUT).await }.boxed();
        self.send = Some(Sending { results, call });
    }

    pub(super) fn on_sent(&mut self, answer: Result<ResultsResponse, CallError>) {
        let Some(Sending { results, .. }) = self.send.take() else { return };
        match answer {
            Ok(answer) => self.settle(results, answer.results),
            Err(CallError::Refused(problem)) => {
                tracing::error!(results = results.len(), problem = problem.detail, "results were refused");
                self.send_not_before = Some(self.send_backoff.until(None));
                if results.len() > 1 {
                    self.give_up_over(results, Outbox::one_by_one);
                } else {
                    for pending in results {
                        self.refused(pending, &problem.detail);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    results = results.len(),
                    "results are not answered"
                );
                self.send_not_before = Some(self.send_backoff.until(error.retry_after()));
                self.give_back(results);
            }
        }
    }

    /// Matches results with their answers.
    pub(super) fn settle(&mut self, results: Vec<Pending>, answers: Vec<ResultAnswer>) {
        if results.is_empty() {
            return;
        }
        let mut unanswered = results.into_iter();
        let mut again = Vec::new();
        for ResultAnswer { lease, answer, detail, .. } in answers {
            // The answers are in the order of the request; one that is not there was not answered.
            let Some(pending) = unanswered.by_ref().find_map(|pending| {
                let is_it = pending.item.lease == lease;
                if is_it {
                    return Some(pending);
                }
                again.push(pending);
                None
            }) else {
                break;
            };
            match answer {
                Answer::Ok | Answer::Already => {
                    self.summary.count(&pending.item.outcome);
                    self.leases.release(&lease);
                }
                Answer::Stale | Answer::Cancelled => {
                    self.summary.lost += 1;
                    self.leases.release(&lease);
                }
                Answer::Unavailable => again.push(pending),
                Answer::Refused => {
                    let detail = detail.unwrap_or_default();
                    tracing::error!(problem = detail, "a result was refused");
                    self.refused(pending, &detail);
                }
            }
        }
        again.extend(unanswered);
        if again.is_empty() {
            self.send_backoff.reset();
            self.send_not_before = None;
        } else {
            self.send_not_before = Some(self.send_backoff.until(None));
        }
        self.give_back(again);
    }

    pub(super) fn refused(&mut self, pending: Pending, why: &str) {
        let lease = pending.item.lease.clone();
        match pending.instead(why) {
            Some(instead) => self.outbox.push(instead),
            None => self.leases.release(&lease),
        }
    }

    pub(super) fn give_back(&mut self, results: Vec<Pending>) {
        self.give_up_over(results, Outbox::put_back);
    }

    pub(super) fn give_up_over(
        &mut self,
        results: Vec<Pending>,
        how: fn(&mut Outbox, Vec<Pending>) -> Vec<String>,
    ) {
        for lease in how(&mut self.outbox, results) {
            tracing::warn!("a result is given up: its lease is over and no dispatcher took it");
            self.summary.unsent += 1;
            self.leases.release(&lease);
        }
    }
}

pub(super) async fn sent(send: &mut Option<Sending>) -> Result<ResultsResponse, CallError> {
    match send {
        Some(send) => (&mut send.call).await,
        None => std::future::pending().await,
    }
}
