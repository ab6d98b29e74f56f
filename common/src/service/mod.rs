//! The skeleton of every service: a set of [`Step`]s run by one loop, and around it configuration, logs,
//! probes, metrics, signals and exit codes.

mod admin;
mod context;
mod drive;
mod main;
mod metrics;
mod pace;
mod shutdown;
mod step;
mod tasks;
mod telemetry;
mod wake;

pub use admin::{Condition, Readiness};
pub use context::Context;
pub use main::{EXIT_CONFIG, EXIT_FAILURE, Options, main, run};
pub use metrics::{LabelLimit, SECONDS_BUCKETS};
pub use pace::Pace;
pub use shutdown::Shutdown;
pub use step::{Classified, Progress, Step, StepError};
pub use tasks::{BoxError, Tasks};
pub use wake::Wake;
