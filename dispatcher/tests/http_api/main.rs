//! The HTTP API, version 1, against a real database, with the routers of one or two dispatchers in this process.

mod bounded;
mod cancel;
mod contract;
mod details;
mod forward;
mod limits;
mod list;
mod once;
mod openapi;
mod origin;
mod pause;
mod priority;
mod queue;
mod queue_limits;
mod replace;
mod search;
mod support;
mod timeout;
mod tls;
mod unique;
mod workers;
