//! Work: `POST /v1/grab`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::check::check_json;
use super::result::check_results;
use super::{
    At, Faults, Progress, ResultAnswer, ResultItem, Validate, check_text, check_type_name, decimal, limit,
    times,
};
use crate::id::{JobId, QueueName, WorkerInstance};

/// Asks for jobs and hands in the results of earlier ones.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GrabRequest {
    /// The first one with work answers.
    pub queues: Vec<QueueName>,
    /// Absent: all types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<String>>,
    /// At most this many jobs.
    #[serde(default = "one")]
    pub max: u32,
    /// How long each lease is to be; absent: the queue's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// How long to wait for the first job; 0: answer at once.
    #[serde(default)]
    pub wait_ms: u64,
    /// The worker will finish in its own database transaction.
    #[serde(default)]
    pub transactional: bool,
    /// Counts the grabs of one worker instance; the same number again gets the same answer.
    #[serde(default, with = "decimal::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<String>"))]
    pub request: Option<u64>,
    /// Who asks.
    pub worker: WorkerInfo,
    /// Only jobs like this.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<Where>,
    /// Taken before the grab.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<ResultItem>,
}

fn one() -> u32 {
    1
}

impl Validate for GrabRequest {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        faults.require(!self.queues.is_empty(), at.field("queues"), "must name at least one queue");
        faults.require(
            self.queues.len() <= limit::GRAB_QUEUES,
            at.field("queues"),
            format_args!("must name at most {} queues", limit::GRAB_QUEUES),
        );
        if let Some(types) = &self.types {
            let at = at.field("types");
            faults.require(!types.is_empty(), at, "must name at least one type, or be absent for all");
            faults.require(
                types.len() <= limit::GRAB_TYPES,
                at,
                format_args!("must name at most {} types", limit::GRAB_TYPES),
            );
            for (index, name) in types.iter().enumerate() {
                check_type_name(name, at.item(index), faults);
            }
        }
        faults.range(self.max, 1, limit::GRAB_JOBS, at.field("max"));
        if let Some(lease_ms) = self.lease_ms {
            faults.range(lease_ms, limit::LEASE_MIN_MS, limit::LEASE_MAX_MS, at.field("lease_ms"));
        }
        faults.range(self.wait_ms, 0, limit::WAIT_MS, at.field("wait_ms"));
        self.worker.validate(at.field("worker"), faults);
        if let Some(filter) = &self.filter {
            filter.validate(at.field("where"), faults);
        }
        check_results(&self.results, at.field("results"), faults);
    }
}

/// Who a worker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WorkerInfo {
    /// New at every start of the worker.
    pub instance: WorkerInstance,
    /// For people: where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// For people: its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// For people: what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people: which version of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Validate for WorkerInfo {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        for (name, text) in [("host", &self.host), ("name", &self.name), ("version", &self.version)] {
            if let Some(text) = text {
                check_text(text, 0, limit::WORKER_TEXT_BYTES, at.field(name), faults);
            }
        }
    }
}

/// Which jobs a grab wants. All given conditions hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Where {
    /// The coalescing key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coalesce_key: Option<KeyFilter>,
    /// The arguments contain this JSON (as PostgreSQL's `@>`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Box<RawValue>>,
    /// This one job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<JobId>,
}

impl Validate for Where {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        if let Some(key) = &self.coalesce_key {
            let (KeyFilter::Exact(text) | KeyFilter::Prefix { prefix: text }) = key;
            check_text(text, 1, limit::KEY_BYTES, at.field("coalesce_key"), faults);
        }
        if let Some(args) = &self.args {
            check_json(args, at.field("args"), faults);
        }
    }
}

/// A key, or the beginning of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(untagged, deny_unknown_fields, expecting = "expected a key or {\"prefix\":\"…\"}")]
pub enum KeyFilter {
    /// Exactly this key.
    Exact(String),
    /// Any key that begins so.
    Prefix {
        /// The beginning.
        prefix: String,
    },
}

/// The answer to a grab.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct GrabResponse {
    /// Empty if there was no work.
    pub jobs: Vec<GrabbedJob>,
    /// In the order of the request's `results`.
    #[serde(default)]
    pub results: Vec<ResultAnswer>,
    /// What the worker is to do.
    #[serde(default)]
    pub state: WorkerState,
}

/// What a dispatcher wants of a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Go on.
    #[default]
    Run,
    /// Finish, grab nothing.
    Quiet,
    /// Hand back, exit.
    Terminate,
}

impl WorkerState {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Quiet => "quiet",
            Self::Terminate => "terminate",
        }
    }
}

/// A leased job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct GrabbedJob {
    /// Its id, the same in every attempt.
    pub id: JobId,
    /// The queue it came from.
    pub queue: QueueName,
    /// Its type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Its arguments, byte by byte as they are stored.
    pub args: Box<RawValue>,
    /// 1 for the first lease. Declined leases do not count.
    pub attempt: u32,
    /// After this many it is dead.
    pub max_attempts: u32,
    /// How long this attempt may take, counted from its grab, if that is limited: the lease is not extended further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The token that every finishing call names.
    pub lease: String,
    /// By database time. A worker counts from the start of its request instead.
    #[serde(deserialize_with = "times::lease_ends_at")]
    pub lease_ends_at: Timestamp,
    /// When the job was produced.
    #[serde(deserialize_with = "times::inserted_at")]
    pub inserted_at: Timestamp,
    /// Was it leased before?
    #[serde(default)]
    pub reissued: bool,
    /// The holder before, if `reissued`.
    #[serde(default)]
    pub previous: Option<Previous>,
    /// Where a moved event came from.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// `ev_extra1` to `ev_extra4` of a plain PgQ event.
    #[serde(default)]
    pub extra: Option<Vec<Option<String>>>,
    /// What an earlier attempt reported last, if that was to this owner of the queue: it is kept in memory only.
    #[serde(default)]
    pub progress: Option<Progress>,
    /// See [`super::NewJob::coalesce_key`].
    #[serde(default)]
    pub coalesce_key: Option<String>,
    /// See [`super::NewJob::key`].
    #[serde(default)]
    pub key: Option<String>,
    /// See [`super::NewJob::trace`].
    #[serde(default)]
    pub trace: Option<String>,
}

/// Who held a job before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Previous {
    /// Its worker instance.
    pub instance: WorkerInstance,
    /// Its host.
    #[serde(default)]
    pub host: Option<String>,
    /// Its process.
    #[serde(default)]
    pub pid: Option<u32>,
    /// How its lease ended.
    pub ended: PreviousEnd,
    /// When.
    pub at: Timestamp,
}

/// How a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PreviousEnd {
    /// No result in time.
    Expired,
    /// `temp_fail`.
    Failed,
    /// `decline`.
    Declined,
}

/// The source of a moved event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Origin {
    /// The source database's name in the mover's configuration.
    pub source: String,
    /// The queue there.
    pub queue: String,
    /// The event's id there.
    pub id: String,
}
