//! The HTTP contract of the dispatcher, version 1, as types: what a worker or a producer sends and what it gets back.
//!
//! Requests refuse unknown fields and name them; answers tolerate fields that a later version adds. `args` and results
//! stay the JSON text that was sent ([`RawValue`]): they are checked, never decoded and encoded again. Times are
//! RFC 3339 in UTC ([`jiff::Timestamp`]), durations are integers whose names end in `_ms`, numbers that a JavaScript
//! client could not hold travel as strings. Fields whose feature a dispatcher does not have yet are parsed all the
//! same: the dispatcher refuses them with a sentence instead of ignoring them.
//!
//! [`parse`] is the one way in for a request body: syntax, shape, then limits; each fault with a JSON pointer.

mod check;
mod decimal;
mod grab;
mod heartbeat;
mod limits;
mod look;
mod problem;
mod produce;
mod result;
#[cfg(feature = "openapi")]
mod schema;
mod times;

pub use check::{At, Faults, Validate, Violation, check_json, check_text, check_type_name, limit, parse};
pub use grab::{
    GrabRequest, GrabResponse, GrabbedJob, KeyFilter, Origin, Previous, PreviousEnd, Where, WorkerInfo,
    WorkerState,
};
pub use heartbeat::{
    HeartbeatAnswer, HeartbeatItem, HeartbeatRequest, HeartbeatResponse, HeartbeatResult, Progress,
};
pub use limits::{Limit, QueueLimits};
pub use look::{
    Backoff, BackoffPreset, CancelAnswer, CancelKeyRequest, CancelRequest, Child, DeadJob, DeadPage,
    DeadSelection, FailureRecord, Holder, JobDetails, JobPage, JobState, JobSummary, PauseAnswer,
    PauseRequest, PurgeAnswer, QueueInfo, QueueList, QueueOwner, QueueSettings, Rates, RedriveAnswer,
    WindowSettings, WorkerList, WorkerOrder, WorkerRecord,
};
pub use problem::{Problem, ProblemKind};
pub use produce::{
    InsertedJob, JobOptions, NewJob, ProduceRequest, ProduceResponse, StreamProduceResponse, Unique,
    UniqueScope,
};
pub use result::{
    Answer, Outcome, ReplaceResponse, ResultAnswer, ResultItem, ResultsRequest, ResultsResponse,
};

/// JSON text kept as it came.
pub use serde_json::value::RawValue;

#[cfg(test)]
mod tests;
