//! Work, while it lasts: `POST /v1/heartbeat`.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::check::{check_json, check_size};
use super::{At, Faults, Validate, WorkerInfo, WorkerState, check_text, limit};

/// Extends leases in bulk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HeartbeatRequest {
    /// Who asks.
    pub worker: WorkerInfo,
    /// What it holds.
    pub leases: Vec<HeartbeatItem>,
}

impl Validate for HeartbeatRequest {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        self.worker.validate(at.field("worker"), faults);
        let at = at.field("leases");
        faults.require(
            self.leases.len() <= limit::HEARTBEAT_LEASES,
            at,
            format_args!("must hold at most {} leases", limit::HEARTBEAT_LEASES),
        );
        for (index, lease) in self.leases.iter().enumerate() {
            lease.validate(at.item(index), faults);
        }
    }
}

/// One lease of a heartbeat.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HeartbeatItem {
    /// The token that came with the job.
    pub lease: String,
    /// From now, by database time, but no further than the job's timeout; absent: by the lease of the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extend_ms: Option<u64>,
    /// How far the job is. The queue's owner remembers the last report of an unfinished job, in memory only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

impl Validate for HeartbeatItem {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        check_text(&self.lease, 1, limit::LEASE_BYTES, at.field("lease"), faults);
        if let Some(extend_ms) = self.extend_ms {
            faults.range(extend_ms, limit::LEASE_MIN_MS, limit::LEASE_MAX_MS, at.field("extend_ms"));
        }
        if let Some(progress) = &self.progress {
            progress.validate(at.field("progress"), faults);
        }
    }
}

/// What a running job says about itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// For people; at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// For the next attempt: where to go on; at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Box<RawValue>>,
}

impl Progress {
    /// The same with a percentage, 0 to 100.
    #[must_use]
    pub fn with_percent(self, percent: u8) -> Self {
        Self { percent: Some(percent), ..self }
    }

    /// The same with a message for people.
    #[must_use]
    pub fn with_message(self, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..self }
    }

    /// The same with where the next attempt can go on.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn with_checkpoint(self, checkpoint: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self { checkpoint: Some(serde_json::value::to_raw_value(checkpoint)?), ..self })
    }

    /// Where the attempt can go on, if that was said.
    ///
    /// # Errors
    /// It was written by another program, or version, than this one.
    pub fn read_checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        self.checkpoint.as_ref().map(|json| serde_json::from_str(json.get())).transpose()
    }
}

impl Validate for Progress {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        if let Some(percent) = self.percent {
            faults.range(percent, 0, 100, at.field("percent"));
        }
        if let Some(message) = &self.message {
            check_text(message, 0, limit::MESSAGE_BYTES, at.field("message"), faults);
        }
        if let Some(checkpoint) = &self.checkpoint {
            let at = at.field("checkpoint");
            check_json(checkpoint, at, faults);
            check_size(checkpoint, limit::CHECKPOINT_BYTES, at, faults);
        }
    }
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct HeartbeatResponse {
    /// In the order of the request.
    pub leases: Vec<HeartbeatResult>,
    /// What the worker is to do.
    #[serde(default)]
    pub state: WorkerState,
}

/// What became of one lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct HeartbeatResult {
    /// The token of the request.
    pub lease: String,
    /// What happened.
    pub answer: HeartbeatAnswer,
    /// The new end, by database time; absent if stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ends_at: Option<Timestamp>,
    /// Not 0: somebody wants the job stopped, with this code.
    #[serde(default)]
    pub cancel: i32,
}

/// The fate of one extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HeartbeatAnswer {
    /// Committed.
    Ok,
    /// The lease ended or was taken over.
    Stale,
    /// The queue has no owner at this moment: repeat.
    Unavailable,
}
