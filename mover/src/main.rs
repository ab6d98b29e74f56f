//! `tidemill-mover`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidemill_common::service::main("mover", tidemill_mover::build)
}
