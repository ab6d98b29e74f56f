//! `tidemill-dispatcher`: hands out the events of job queues as jobs.

use std::process::ExitCode;

/// Jobs are read by one thread and freed by another, millions of them: the system's allocator makes these threads wait
/// for each other, a fifth of what a job costs over HTTP.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidemill_common::service::main("dispatcher", tidemill_dispatcher::build)
}
