//! The schema's functions against a real PostgreSQL, one session or several.

mod batch;
mod bound;
mod bulk;
mod cancel;
mod coop;
mod crowd;
mod details;
mod early_tick;
mod ext;
mod insert;
mod job_mutants;
mod like_pgq;
mod look;
mod node;
mod node_like_pgq;
mod pages;
mod pause;
mod produce;
mod retry;
mod roles;
mod rotate;
mod schema;
mod steer;
mod support;
mod tick;
mod triggers;
