//! `tidemill`: install the schema, administer queues, run the demonstration.

mod connect;
mod consumer;
mod demo;
mod dispatcher;
mod error;
mod job;
mod output;
mod queue;
mod schema;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A queue and job system on PostgreSQL
#[derive(Parser)]
#[command(name = "tidemill", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install, check or print the schema
    #[command(subcommand)]
    Schema(schema::Command),
    /// Create, configure and look at queues
    #[command(subcommand)]
    Queue(queue::Command),
    /// Look at the consumers of queues
    #[command(subcommand)]
    Consumer(consumer::Command),
    /// Cancel jobs
    #[command(subcommand)]
    Job(job::Command),
    /// Run the whole pipeline on a private PostgreSQL under pgbench's load, and check every row
    Demo(demo::Options),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Schema(command) => schema::run(command).await,
        Command::Queue(command) => queue::run(command).await,
        Command::Consumer(command) => consumer::run(command).await,
        Command::Job(command) => job::run(command).await,
        Command::Demo(options) => Box::pin(demo::run(options)).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidemill: {}", error.sentence());
            error.exit_code()
        }
    }
}
