//! PgQ's own programs, from the distribution, unchanged, against our schema; and our ticker against the real extension.
//! `scripts/prepare-pgq.sh` installs them. What is not installed is ignored, with its reason.

mod consumer;
mod coop;
mod londiste;
mod pgqd;
mod queue_mover;
mod real_pgq;
mod support;
