//! What the end-to-end tests share: real PostgreSQL, real binaries, and books that must agree.

pub mod api;
pub mod jobs;
pub mod ledger;
pub mod pipeline;
