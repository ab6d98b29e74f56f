//! Produce and work Tidemill jobs from Rust.
//!
//! ```no_run
//! use serde::{Deserialize, Serialize};
//! use tidemill_worker::{Failure, Job, JobKind, Worker, shutdown_signal};
//!
//! #[derive(Serialize, Deserialize)]
//! struct SendEmail {
//!     to: String,
//! }
//!
//! impl JobKind for SendEmail {
//!     const TYPE: &'static str = "send_email";
//! }
//!
//! async fn send_email(job: Job<SendEmail>) -> Result<(), Failure> {
//!     if !job.args.to.contains('@') {
//!         return Err(Failure::permanent("not an address"));
//!     }
//!     // Any error, through `?`, means: try again later.
//!     deliver(&job.args.to).await?;
//!     Ok(())
//! }
//! # async fn deliver(_: &str) -> std::io::Result<()> { Ok(()) }
//!
//! # async fn work() -> Result<(), Box<dyn std::error::Error>> {
//! Worker::builder("http://localhost:8080")
//!     .queue("mail")
//!     .register(send_email)
//!     .concurrency(16)
//!     .build()?
//!     .run(shutdown_signal()?)
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! **At least once.** A job is carried out again when its worker dies, or its lease is lost, before the result is
//! committed. A handler should be able to bear that. Work whose effects are in the job queue's own database can be
//! done exactly once: [`Transactional`].
//!
//! **What happens by itself.** Jobs are fetched ahead while handlers are quick, results travel in batches with the next
//! request, leases of long jobs are extended, a lost answer is asked for again, another dispatcher is tried, and on
//! shutdown nothing is lost: what was not started is given back.
//!
//! **Timeouts.** An attempt of a job that was produced with a timeout ([`JobOptions::timeout`]) is asked to stop
//! ([`StopReason::TimedOut`]) and then dropped while its lease still lives, and has failed for now. A handler that blocks
//! its thread can only be asked.
//!
//! **Producing** from a transaction of your own, or through a dispatcher: [`produce`].

mod backoff;
mod client;
mod job;
mod outcome;
mod postgres;
pub mod produce;
mod progress;
mod worker;

pub use client::{CallError, ClientError};
pub use job::{Job, JobKind, Stop, StopReason};
pub use outcome::{Failure, Outcome};
pub use postgres::connect_without_tls;
pub use progress::InvalidProgress;
pub use tidemill_common::api::{GrabbedJob, JobOptions, NewJob, Progress, RawValue, Unique, UniqueScope};
pub use tidemill_common::id::{JobId, QueueName, WorkerInstance};
pub use worker::{
    BuildError, RunError, Summary, Transactional, TransactionalHandler, UnknownType, Worker, WorkerBuilder,
    shutdown_signal,
};

/// The README's example, so that it keeps compiling.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
