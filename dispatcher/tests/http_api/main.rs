//! The HTTP API, version 1, against a real database, with the routers of one or two dispatchers in this process.

mod contract;
mod forward;
mod limits;
mod replace;
mod search;
mod support;
