//! The `tidemill-ticker` service.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidemill_common::service::main("ticker", tidemill_ticker::build)
}
