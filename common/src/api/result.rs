//! Complete: what became of leased jobs. `POST /v1/results`, and `results` of a grab.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::check::{check_json, check_size};
use super::{At, Faults, NewJob, Validate, check_text, decimal, limit};
use crate::id::JobId;

/// `POST /v1/results`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResultsRequest {
    /// Outcomes may be mixed.
    pub results: Vec<ResultItem>,
}

impl Validate for ResultsRequest {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        check_results(&self.results, at.field("results"), faults);
    }
}

pub(super) fn check_results(results: &[ResultItem], at: At<'_>, faults: &mut Faults) {
    faults.require(
        results.len() <= limit::RESULTS,
        at,
        format_args!("must hold at most {} results", limit::RESULTS),
    );
    for (index, result) in results.iter().enumerate() {
        result.validate(at.item(index), faults);
    }
}

/// The outcome of one lease.
#[derive(Debug, Clone)]
pub struct ResultItem {
    /// The token that came with the job.
    pub lease: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a worker says about a job. Repeating it with the same lease is harmless.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Done.
    Complete {
        /// Any JSON of at most 64 KiB; shown in the job's details as long as these are.
        result: Option<Box<RawValue>>,
    },
    /// Failed; try again later.
    TempFail {
        /// At most 4 KiB.
        message: String,
        /// Absent: the queue's back-off.
        retry_in_ms: Option<u64>,
    },
    /// Failed for good: a dead letter.
    PermFail {
        /// At most 4 KiB.
        message: String,
    },
    /// Given back; the attempt does not count.
    Decline,
    /// Done, and these jobs exist instead, in one transaction.
    Replace {
        /// May name another queue.
        jobs: Vec<NewJob>,
    },
}

impl Outcome {
    /// Its name in the contract.
    pub const fn name(&self) -> &'static str {
        match self {
            Outcome::Complete { .. } => "complete",
            Outcome::TempFail { .. } => "temp_fail",
            Outcome::PermFail { .. } => "perm_fail",
            Outcome::Decline => "decline",
            Outcome::Replace { .. } => "replace",
        }
    }
}

impl Validate for ResultItem {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        check_text(&self.lease, 1, limit::LEASE_BYTES, at.field("lease"), faults);
        match &self.outcome {
            Outcome::Complete { result: Some(result) } => {
                let at = at.field("result");
                check_json(result, at, faults);
                check_size(result, limit::RESULT_BYTES, at, faults);
            }
            Outcome::Complete { result: None } | Outcome::Decline => {}
            Outcome::TempFail { message, retry_in_ms } => {
                check_text(message, 0, limit::MESSAGE_BYTES, at.field("message"), faults);
                if let Some(retry_in_ms) = retry_in_ms {
                    faults.range(*retry_in_ms, 0, limit::DELAY_MS, at.field("retry_in_ms"));
                }
            }
            Outcome::PermFail { message } => {
                check_text(message, 0, limit::MESSAGE_BYTES, at.field("message"), faults);
            }
            Outcome::Replace { jobs } => {
                let at = at.field("jobs");
                faults.require(
                    jobs.len() <= limit::PRODUCE_JOBS,
                    at,
                    format_args!("must hold at most {} jobs: send more as NDJSON", limit::PRODUCE_JOBS),
                );
                for (index, job) in jobs.iter().enumerate() {
                    job.validate(at.item(index), faults);
                }
            }
        }
    }
}

/// The shape on the wire: one flat object. Not an internally tagged enum, which would decode `result` on the way.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flat<L> {
    lease: L,
    outcome: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_in_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jobs: Option<Vec<NewJob>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    Complete,
    TempFail,
    PermFail,
    Decline,
    Replace,
}

impl Serialize for ResultItem {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut flat = Flat {
            lease: self.lease.as_str(),
            outcome: Name::Decline,
            result: None,
            message: None,
            retry_in_ms: None,
            jobs: None,
        };
        match &self.outcome {
            Outcome::Complete { result } => {
                flat.outcome = Name::Complete;
                flat.result.clone_from(result);
            }
            Outcome::TempFail { message, retry_in_ms } => {
                flat.outcome = Name::TempFail;
                flat.message = Some(message.clone());
                flat.retry_in_ms = *retry_in_ms;
            }
            Outcome::PermFail { message } => {
                flat.outcome = Name::PermFail;
                flat.message = Some(message.clone());
            }
            Outcome::Decline => {}
            Outcome::Replace { jobs } => {
                flat.outcome = Name::Replace;
                flat.jobs = Some(jobs.clone());
            }
        }
        flat.serialize(to)
    }
}

impl<'de> Deserialize<'de> for ResultItem {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ResultItem, D::Error> {
        let flat: Flat<String> = Flat::deserialize(from)?;
        let Flat { lease, outcome, result, message, retry_in_ms, jobs } = flat;
        let outcome = match (outcome, result, message, retry_in_ms, jobs) {
            (Name::Complete, result, None, None, None) => Outcome::Complete { result },
            (Name::TempFail, None, message, retry_in_ms, None) => {
                Outcome::TempFail { message: message.unwrap_or_default(), retry_in_ms }
            }
            (Name::PermFail, None, message, None, None) => {
                Outcome::PermFail { message: message.unwrap_or_default() }
            }
            (Name::Decline, None, None, None, None) => Outcome::Decline,
            (Name::Replace, None, None, None, Some(jobs)) => Outcome::Replace { jobs },
            (Name::Replace, None, None, None, None) => return Err(D::Error::missing_field("jobs")),
            (name, ..) => {
                let allowed = match name {
                    Name::Complete => "`complete` takes `result` only",
                    Name::TempFail => "`temp_fail` takes `message` and `retry_in_ms` only",
                    Name::PermFail => "`perm_fail` takes `message` only",
                    Name::Decline => "`decline` takes no other field",
                    Name::Replace => "`replace` takes `jobs` only",
                };
                return Err(D::Error::custom(allowed));
            }
        };
        Ok(ResultItem { lease, outcome })
    }
}

/// The answer to `POST /v1/results`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ResultsResponse {
    /// In the order of the request.
    pub results: Vec<ResultAnswer>,
}

/// What the dispatcher did with one result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ResultAnswer {
    /// The token of the request.
    pub lease: String,
    /// What happened.
    pub answer: Answer,
    /// Of a `replace`: the new jobs' ids; the first range if it is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<JobId>>,
    /// Why this one item was refused (a data error); only with [`Answer::Refused`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The fate of one finishing call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Committed.
    Ok,
    /// It was committed before: the same call, repeated.
    Already,
    /// The lease ended, was taken over, or never was; nothing changed.
    Stale,
    /// The job was cancelled; nothing else changed.
    Cancelled,
    /// The queue has no owner at this moment: repeat.
    Unavailable,
    /// The item itself cannot be stored: repeating it is useless, the other items are not affected.
    Refused,
}

impl Answer {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Already => "already",
            Self::Stale => "stale",
            Self::Cancelled => "cancelled",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
        }
    }
}

/// The answer to `POST /v1/leases/{lease}/replace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ReplaceResponse {
    /// `ok` or `already`.
    pub answer: Answer,
    /// How many jobs.
    #[serde(with = "decimal")]
    #[cfg_attr(feature = "openapi", schemars(with = "String"))]
    pub inserted: u64,
}
