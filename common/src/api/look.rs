//! Look and steer: queues, jobs, dead letters, workers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    At, Faults, JobOptions, Origin, Progress, QueueLimits, Validate, WorkerInfo, WorkerState, check_text,
    check_type_name, decimal, limit,
};
use crate::id::{JobId, QueueName, WorkerInstance};

/// `GET /v1/queues`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct QueueList {
    /// Every job queue that the token may read, by name.
    pub queues: Vec<QueueInfo>,
}

/// `GET /v1/queues/{queue}`. From the engine's memory, never by a scan.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct QueueInfo {
    /// Its name.
    pub queue: QueueName,
    /// Who serves it; absent while nobody does.
    #[serde(default)]
    pub owner: Option<QueueOwner>,
    /// Jobs in the window that can be leased now. More may be in the log that is not read yet.
    pub ready: u64,
    /// Jobs in the window that are ready and held back by limits.
    #[serde(default)]
    pub limited: u64,
    /// Jobs that are leased; of those whose lease lives in the waiting room, up to 10,000 are counted.
    pub leased: u64,
    /// Jobs that wait to be due, for a retry, or for somebody who asks for their type: counted up to 10,000.
    pub waiting: u64,
    /// Dead letters, counted up to 10,000.
    pub dead: u64,
    /// How long the oldest ready job has been waiting; absent if none is ready.
    #[serde(default)]
    pub oldest_ready_age_ms: Option<u64>,
    /// Jobs per second; absent while nobody serves it.
    #[serde(default)]
    pub rates: Option<Rates>,
    /// Is it paused as a whole?
    #[serde(default)]
    pub paused: bool,
    /// Job types that are paused by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paused_types: Vec<String>,
    /// Keys that are paused by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paused_keys: Vec<String>,
    /// What is in force.
    pub settings: QueueSettings,
}

/// The dispatcher that owns a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct QueueOwner {
    /// The dispatcher process.
    pub instance: WorkerInstance,
    /// Where it listens.
    pub address: String,
    /// Its epoch.
    #[serde(with = "decimal")]
    #[cfg_attr(feature = "openapi", schemars(with = "String"))]
    pub epoch: i64,
}

/// Jobs per second: over the last minute, or since the queue changed hands, if that is less. From the owner's memory.
/// What happens in the waiting room without the owner is not counted: a worker's own transaction that completes a job,
/// and a lease that ends there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Rates {
    /// Read from the log: new jobs, and those that were put back there.
    pub loaded: f64,
    /// Leased.
    pub leased: f64,
    /// Completed or replaced.
    pub completed: f64,
    /// Attempts that failed, or whose lease ended without a result.
    pub failed: f64,
}

/// `PUT /v1/queues/{queue}`: creates a job queue or changes its settings. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QueueSettings {
    /// The lease of a grab that names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Attempts of a job that names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The wait after a `temp_fail` that names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// How much of the log the owner holds in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowSettings>,
    /// How many jobs are leased at once, and how many a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<QueueLimits>,
    /// Does a producer end the ticker's sleep? Jobs start some milliseconds sooner, while there is little traffic. Its
    /// producers cannot use `PREPARE TRANSACTION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doorbell: Option<bool>,
}

/// How much of the log the owner of a queue reads ahead and holds in memory. In a change, 0 means: as the dispatcher is
/// configured. A smaller window than before gives nothing back that it holds already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WindowSettings {
    /// Jobs, ready and leased; at most 10,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u64>,
    /// Bytes of them, 1 MiB to 64 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// How long a failed job waits, always with full jitter: a random time up to a bound that grows with the attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected {\"base_ms\":…,\"cap_ms\":…} or the name of a preset"
)]
pub enum Backoff {
    /// `min(cap_ms, base_ms × 2^(attempt − 1))`.
    Exponential {
        /// The bound after the first attempt.
        base_ms: u64,
        /// The highest bound.
        cap_ms: u64,
    },
    /// One that has a name.
    Preset(BackoffPreset),
}

/// A back-off that is known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BackoffPreset {
    /// As mail is delivered: bounds of 2, 10 and 30 minutes, 1, 2, 4, 6, 8, 10 and 12 hours, then 14 hours. With the
    /// default of 25 attempts the last one comes five days after the first on average, ten at most.
    Mail,
}

impl Validate for QueueSettings {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        if let Some(lease_ms) = self.lease_ms {
            faults.range(lease_ms, limit::LEASE_MIN_MS, limit::LEASE_MAX_MS, at.field("lease_ms"));
        }
        if let Some(attempts) = self.max_attempts {
            faults.range(attempts, 1, limit::ATTEMPTS, at.field("max_attempts"));
        }
        if let Some(backoff) = &self.backoff {
            let at = at.field("backoff");
            if let Backoff::Exponential { base_ms, cap_ms } = *backoff {
                faults.range(base_ms, 1, limit::DELAY_MS, at.field("base_ms"));
                faults.range(cap_ms, base_ms, limit::DELAY_MS, at.field("cap_ms"));
            }
        }
        if let Some(WindowSettings { jobs, bytes }) = self.window {
            let at = at.field("window");
            if let Some(jobs) = jobs.filter(|jobs| *jobs != 0) {
                faults.range(jobs, 1, limit::WINDOW_JOBS, at.field("jobs"));
            }
            if let Some(bytes) = bytes.filter(|bytes| *bytes != 0) {
                faults.range(bytes, limit::WINDOW_BYTES_MIN, limit::WINDOW_BYTES_MAX, at.field("bytes"));
            }
        }
        if let Some(limits) = &self.limits {
            limits.validate(at.field("limits"), faults);
        }
    }
}

/// `POST …/pause` and `…/resume`: some types and keys, or, with neither, the queue as a whole. Each is independent of the
/// others: a queue that is resumed still holds back the types that were paused by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// Job types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<String>>,
    /// Keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
}

impl Validate for PauseRequest {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        for (names, field) in [(&self.types, "types"), (&self.keys, "keys")] {
            if let Some(names) = names {
                faults.require(
                    (1..=limit::PAUSED).contains(&names.len()),
                    at.field(field),
                    format_args!("must hold 1 to {} names", limit::PAUSED),
                );
            }
        }
        for (index, name) in self.types.iter().flatten().enumerate() {
            check_type_name(name, at.field("types").item(index), faults);
        }
        for (index, key) in self.keys.iter().flatten().enumerate() {
            check_text(key, 1, limit::KEY_BYTES, at.field("keys").item(index), faults);
        }
    }
}

/// The answer: what of the queue is paused now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct PauseAnswer {
    /// The queue as a whole.
    pub paused: bool,
    /// Job types.
    pub paused_types: Vec<String>,
    /// Keys.
    pub paused_keys: Vec<String>,
}

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Can be leased.
    Ready,
    /// A worker has it.
    Leased,
    /// Delayed, or waiting for a retry.
    Waiting,
    /// Complete.
    Done,
    /// A dead letter.
    Dead,
    /// Cancelled.
    Cancelled,
    /// Replaced by other jobs.
    Replaced,
}

/// `GET /v1/queues/{queue}/jobs/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct JobDetails {
    /// Its id.
    pub id: JobId,
    /// Its queue.
    pub queue: QueueName,
    /// Its type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Where it is.
    pub state: JobState,
    /// Its arguments.
    pub args: Box<RawValue>,
    /// Its options.
    #[serde(default)]
    pub options: JobOptions,
    /// Attempts so far.
    pub attempts: u32,
    /// After this many it is dead.
    pub max_attempts: u32,
    /// When it was produced.
    pub inserted_at: Timestamp,
    /// When it may run, if it waits.
    #[serde(default)]
    pub run_at: Option<Timestamp>,
    /// Every failure, the oldest first.
    #[serde(default)]
    pub failures: Vec<FailureRecord>,
    /// Who has it now.
    #[serde(default)]
    pub holder: Option<Holder>,
    /// When the lease ends.
    #[serde(default)]
    pub lease_ends_at: Option<Timestamp>,
    /// Where it came from, if it was moved, for as long as the mover's destination keeps that.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// The jobs that replaced it, in the order given: the first 1,000.
    #[serde(default)]
    pub children: Vec<Child>,
    /// What its worker handed in with `complete`; as long as the job's part of the log is kept.
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    /// What its worker reported last, to this owner of the queue; none of a finished job.
    #[serde(default)]
    pub progress: Option<Progress>,
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct FailureRecord {
    /// Which attempt.
    pub attempt: u32,
    /// When, by database time.
    pub at: Timestamp,
    /// What the worker said.
    pub message: String,
    /// Who said it.
    #[serde(default)]
    pub holder: Option<Holder>,
}

/// A worker that holds or held a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Holder {
    /// Its instance.
    pub instance: WorkerInstance,
    /// Its host.
    #[serde(default)]
    pub host: Option<String>,
    /// Its process.
    #[serde(default)]
    pub pid: Option<u32>,
}

/// A job that came of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Child {
    /// Its queue.
    pub queue: QueueName,
    /// Its id.
    pub id: JobId,
}

/// `GET /v1/queues/{queue}/jobs`: a page.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct JobPage {
    /// At most the asked number.
    pub jobs: Vec<JobSummary>,
    /// For the next page; absent on the last.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct JobSummary {
    /// Its id.
    pub id: JobId,
    /// Its type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Where it is.
    pub state: JobState,
    /// Attempts so far.
    pub attempts: u32,
    /// When it was produced.
    pub inserted_at: Timestamp,
}

/// `POST …/jobs/{id}/cancel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// What a running handler hears; not 0.
    #[serde(default = "one")]
    pub code: i32,
}

impl Validate for CancelRequest {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        faults.require(self.code != 0, at.field("code"), "must not be 0, which means: not cancelled");
    }
}

/// `POST …/cancel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CancelKeyRequest {
    /// The key that the jobs carry.
    #[serde(with = "decimal")]
    #[cfg_attr(feature = "openapi", schemars(with = "String"))]
    pub cancel_key: i64,
    /// What running handlers hear; not 0.
    #[serde(default = "one")]
    pub code: i32,
}

fn one() -> i32 {
    1
}

impl Validate for CancelKeyRequest {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        CancelRequest { code: self.code }.validate(at, faults);
    }
}

/// The answer to a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct CancelAnswer {
    /// Jobs that will not run.
    #[serde(with = "decimal")]
    #[cfg_attr(feature = "openapi", schemars(with = "String"))]
    pub cancelled: u64,
    /// Running jobs that are told.
    #[serde(with = "decimal")]
    #[cfg_attr(feature = "openapi", schemars(with = "String"))]
    pub told: u64,
}

/// `GET …/dead`: a page of dead letters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct DeadPage {
    /// The oldest first.
    pub jobs: Vec<DeadJob>,
    /// For the next page; absent on the last.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// A job that failed for good.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct DeadJob {
    /// Its id.
    pub id: JobId,
    /// Its type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Its arguments.
    pub args: Box<RawValue>,
    /// Its options.
    #[serde(default)]
    pub options: JobOptions,
    /// Attempts it had.
    pub attempts: u32,
    /// When it died.
    pub died_at: Timestamp,
    /// Its last failure's message.
    pub message: String,
}

/// Which dead letters `POST …/dead/redrive` and `…/dead/purge` take: some ids, or all (of a type).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeadSelection {
    /// These; at most 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<JobId>>,
    /// All of the queue.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// With `all`: of this type only.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub job_type: Option<String>,
}

impl Validate for DeadSelection {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        faults.require(self.ids.is_some() != self.all, at, "give either `ids` or `\"all\": true`");
        faults.require(self.all || self.job_type.is_none(), at.field("type"), "goes with `all` only");
        if let Some(ids) = &self.ids {
            faults.require(
                ids.len() <= limit::SELECTED_IDS,
                at.field("ids"),
                format_args!("must hold at most {} ids", limit::SELECTED_IDS),
            );
        }
        if let Some(name) = &self.job_type {
            check_type_name(name, at.field("type"), faults);
        }
    }
}

/// The answer to a redrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RedriveAnswer {
    /// Dead letters that are jobs again.
    #[serde(with = "decimal")]
    #[cfg_attr(feature = "openapi", schemars(with = "String"))]
    pub redriven: u64,
}

/// The answer to a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct PurgeAnswer {
    /// Dead letters that are gone.
    #[serde(with = "decimal")]
    #[cfg_attr(feature = "openapi", schemars(with = "String"))]
    pub purged: u64,
}

/// `GET /v1/workers`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct WorkerList {
    /// Those heard of lately, and those that hold leases; by host, process and instance.
    pub workers: Vec<WorkerRecord>,
}

/// A worker as the dispatchers know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct WorkerRecord {
    /// Who it is.
    pub worker: WorkerInfo,
    /// Which queues it asked for jobs, at most 20.
    pub queues: Vec<QueueName>,
    /// What it is told.
    pub state: WorkerState,
    /// Leases it holds.
    pub leased: u64,
    /// When it was heard of first; absent: not since the dispatcher started, only its leases are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen_at: Option<Timestamp>,
    /// When it was heard of last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Timestamp>,
}

/// `POST /v1/workers/{instance}/quiet` and the like: from now on the worker is told this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct WorkerOrder {
    /// Which worker.
    pub instance: WorkerInstance,
    /// What it is told.
    pub state: WorkerState,
}
