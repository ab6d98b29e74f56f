//! The dispatcher: owns job queues, leases jobs to workers over HTTP, records results.

pub mod engine;
