//! `tidemill-dispatcher`: hands out the events of job queues as jobs.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidemill_common::service::main("dispatcher", tidemill_dispatcher::build)
}
