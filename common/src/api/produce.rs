//! Produce: `POST /v1/queues/{queue}/jobs`.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::check::{check_json, shape};
use super::{At, Faults, Validate, Violation, check_text, check_type_name, decimal, limit, parse};
use crate::id::{JobId, QueueName};

/// A job to be put into a queue. Only `type` is required.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// The job's type: 1 to 255 bytes.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Arguments, any JSON. Absent is the same as `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Box<RawValue>>,
    /// The queue; only for the jobs of a `replace`, where absent is the replaced job's queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueName>,
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// Not before this long from now, by database time; not together with `run_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Attempts before it is dead; absent: the queue's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Higher goes first, -1000 to 1000; absent: 0. A point counts as a minute of waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The key of concurrency and rate limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Jobs of one coalescing key may be grabbed together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coalesce_key: Option<String>,
    /// An integer by which many jobs are cancelled at once.
    #[serde(default, with = "decimal::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<String>"))]
    pub cancel_key: Option<i64>,
    /// Keeps a second copy out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// How long one attempt may take, counted from its grab: its lease ends then, however often it is extended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// Everything about a new job but type, arguments and queue: what is stored with it as JSON, and the `i_options` of
/// `tidemill.insert_job`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct JobOptions {
    /// See [`NewJob::run_at`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// See [`NewJob::delay_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// See [`NewJob::max_attempts`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// See [`field@NewJob::priority`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// See [`NewJob::key`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// See [`NewJob::coalesce_key`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coalesce_key: Option<String>,
    /// See [`NewJob::cancel_key`].
    #[serde(default, with = "decimal::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<String>"))]
    pub cancel_key: Option<i64>,
    /// See [`NewJob::unique`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// See [`NewJob::timeout_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// See [`NewJob::trace`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

impl JobOptions {
    /// Higher goes first: see [`field@NewJob::priority`].
    #[must_use]
    pub fn priority(self, priority: i32) -> JobOptions {
        JobOptions { priority: Some(priority), ..self }
    }

    /// One attempt may take so long: see [`NewJob::timeout_ms`].
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> JobOptions {
        JobOptions { timeout_ms: Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)), ..self }
    }

    /// No option set?
    pub fn is_empty(&self) -> bool {
        *self == JobOptions::default()
    }
}

impl NewJob {
    /// A job of this type with these arguments and options, for the queue of the call.
    pub fn new(job_type: impl Into<String>, args: Option<Box<RawValue>>, options: JobOptions) -> NewJob {
        let JobOptions {
            run_at,
            delay_ms,
            max_attempts,
            priority,
            key,
            coalesce_key,
            cancel_key,
            unique,
            timeout_ms,
            trace,
        } = options;
        NewJob {
            job_type: job_type.into(),
            args,
            queue: None,
            run_at,
            delay_ms,
            max_attempts,
            priority,
            key,
            coalesce_key,
            cancel_key,
            unique,
            timeout_ms,
            trace,
        }
    }

    /// Higher goes first: see [`field@NewJob::priority`].
    #[must_use]
    pub fn priority(self, priority: i32) -> NewJob {
        NewJob { priority: Some(priority), ..self }
    }

    /// One attempt may take so long: see [`NewJob::timeout_ms`].
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> NewJob {
        NewJob { timeout_ms: JobOptions::default().timeout(timeout).timeout_ms, ..self }
    }

    /// Type, arguments, options.
    pub fn into_parts(self) -> (String, Option<Box<RawValue>>, JobOptions) {
        let options = JobOptions {
            run_at: self.run_at,
            delay_ms: self.delay_ms,
            max_attempts: self.max_attempts,
            priority: self.priority,
            key: self.key,
            coalesce_key: self.coalesce_key,
            cancel_key: self.cancel_key,
            unique: self.unique,
            timeout_ms: self.timeout_ms,
            trace: self.trace,
        };
        (self.job_type, self.args, options)
    }
}

/// One line of a streamed produce.
impl Validate for NewJob {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        check_type_name(&self.job_type, at.field("type"), faults);
        if let Some(args) = &self.args {
            check_json(args, at.field("args"), faults);
        }
        if let Some(delay_ms) = self.delay_ms {
            faults.range(delay_ms, 0, limit::DELAY_MS, at.field("delay_ms"));
            faults.require(
                delay_ms == 0 || self.run_at.is_none(),
                at.field("delay_ms"),
                "give either `run_at` or `delay_ms`, not both",
            );
        }
        if let Some(attempts) = self.max_attempts {
            faults.range(attempts, 1, limit::ATTEMPTS, at.field("max_attempts"));
        }
        if let Some(priority) = self.priority {
            faults.range(priority, -limit::PRIORITY, limit::PRIORITY, at.field("priority"));
        }
        for (name, text) in [("key", &self.key), ("coalesce_key", &self.coalesce_key)] {
            if let Some(text) = text {
                check_text(text, 1, limit::KEY_BYTES, at.field(name), faults);
            }
        }
        if let Some(unique) = &self.unique {
            check_text(&unique.key, 1, limit::KEY_BYTES, at.field("unique").field("key"), faults);
        }
        if let Some(timeout_ms) = self.timeout_ms {
            faults.range(timeout_ms, 1, limit::LEASE_MAX_MS, at.field("timeout_ms"));
        }
        if let Some(trace) = &self.trace {
            check_text(trace, 1, limit::TRACE_BYTES, at.field("trace"), faults);
        }
    }
}

/// A key that keeps a second copy of a job out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Unique {
    /// The key, unique per queue.
    pub key: String,
    /// For how long.
    #[serde(default)]
    pub scope: UniqueScope,
}

/// How long a unique key holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UniqueScope {
    /// Until the job has a final outcome.
    #[default]
    Unfinished,
}

/// The body of a produce call: one job, or `{"jobs":[…]}`.
#[derive(Debug, Clone)]
pub struct ProduceRequest {
    /// In the order of the request.
    pub jobs: Vec<NewJob>,
}

impl ProduceRequest {
    /// Parses and checks either form.
    ///
    /// # Errors
    /// As [`parse`]; also a job that names a queue, which is the path's.
    pub fn parse(body: &[u8]) -> Result<ProduceRequest, Vec<Violation>> {
        #[derive(Deserialize)]
        struct Form {
            jobs: Option<serde::de::IgnoredAny>,
        }
        // Told apart by a field, not by an untagged enum: that would decode `args` on the way.
        let form: Form = shape(body)?;
        if form.jobs.is_some() {
            let jobs = parse::<Many>(body)?.jobs;
            return Ok(ProduceRequest { jobs });
        }
        let One(job) = parse::<One>(body)?;
        Ok(ProduceRequest { jobs: vec![job] })
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct One(NewJob);

impl Validate for One {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        in_path_queue(&self.0, at, faults);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    jobs: Vec<NewJob>,
}

impl Validate for Many {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        let at = at.field("jobs");
        faults.require(!self.jobs.is_empty(), at, "must hold at least one job");
        faults.require(
            self.jobs.len() <= limit::PRODUCE_JOBS,
            at,
            format_args!("must hold at most {} jobs: send more as NDJSON", limit::PRODUCE_JOBS),
        );
        for (index, job) in self.jobs.iter().enumerate() {
            in_path_queue(job, at.item(index), faults);
        }
    }
}

fn in_path_queue(job: &NewJob, at: At<'_>, faults: &mut Faults) {
    faults.require(job.queue.is_none(), at.field("queue"), "the queue is the one in the path");
    job.validate(at, faults);
}

/// `201`, or `200` if every job was a duplicate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ProduceResponse {
    /// In the order of the request.
    pub jobs: Vec<InsertedJob>,
}

impl ProduceResponse {
    /// Was every job a duplicate?
    pub fn is_all_there(&self) -> bool {
        self.jobs.iter().all(|job| job.duplicate)
    }
}

/// One job that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct InsertedJob {
    /// Its id; of a duplicate, the id of the job that was there.
    pub id: JobId,
    /// Was it there already?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// The answer to a streamed produce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct StreamProduceResponse {
    /// How many jobs.
    #[serde(with = "decimal")]
    #[cfg_attr(feature = "openapi", schemars(with = "String"))]
    pub inserted: u64,
    /// How many more were not inserted, because a job with their unique key was there; absent if none.
    #[serde(default, with = "decimal", skip_serializing_if = "is_zero")]
    #[cfg_attr(feature = "openapi", schemars(with = "String"))]
    pub duplicates: u64,
    /// The first one's id; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_id: Option<JobId>,
    /// The last one's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_id: Option<JobId>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
