//! `tidemill queue`: create, drop, configure and look at queues.

mod change;
mod look;
mod pause;
mod rebase;

use clap::{Args, Subcommand};
use tidemill_common::{
    config::nearest,
    db::{Session, Type},
    id::QueueName,
};

use crate::{connect::Database, error::CliError, output::Format};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Create a queue; it is no error if it exists
    Create {
        /// 1 to 63 letters, digits, or any of _.:-
        name: String,
        /// A job queue: dispatchers lease its events to workers as jobs
        #[arg(long)]
        jobs: bool,
        #[arg(value_name = "KEY=VALUE", help = SETTINGS)]
        settings: Vec<String>,
        #[command(flatten)]
        database: Database,
    },
    /// Drop a queue and everything in it
    Drop {
        name: String,
        /// Also when consumers are still attached, or it is a job queue
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        database: Database,
    },
    /// Change settings of a queue, all or none
    Config(Config),
    /// List the queues
    List {
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        format: Format,
    },
    /// Hand no jobs out any more: of some types and keys, or, with neither, of the queue as a whole
    ///
    /// Producing goes on, and what is leased may be finished. Each is independent of the others.
    Pause(pause::Pause),
    /// Take a pause back: of some types and keys, or, with neither, of the queue as a whole
    Resume(pause::Pause),
    /// Make the queues of a database work again that was restored, copied, failed over, set back or upgraded
    ///
    /// Until then they are refused with `NeedsRebase` (TM003): inserts go on, batches wait. Afterwards every event that was
    /// not consumed is delivered once to each consumer: also those that were inserted meanwhile, those of an open batch,
    /// again in full, and jobs that were not done. Interrupt and repeat it as you like.
    Rebase(rebase::Rebase),
    /// One queue in full
    Status {
        name: String,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        format: Format,
    },
}

const SETTINGS: &str = "\
    ticker_max_count, ticker_max_lag, ticker_idle_period, ticker_paused, rotation_period, external_ticker; for job queues \
    also lease_ms, max_attempts, backoff (exponential, mail, or {\"base_ms\":1000,\"cap_ms\":3600000}), \
    backoff_base_ms, backoff_cap_ms, window_jobs, window_bytes, doorbell (true or false), limits \
    ({\"queue\":{\"leased\":200,\"per_second\":100},\"types\":{\"mail\":{\"leased\":20}},\"key\":{\"leased\":1}}; {} lifts them)";

#[derive(Args)]
pub(crate) struct Config {
    name: String,
    /// What to change.
    #[arg(required = true, value_name = "KEY=VALUE", help = SETTINGS)]
    settings: Vec<String>,
    #[command(flatten)]
    database: Database,
}

pub(crate) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Create { name, jobs, settings, database } => {
            let name = parse_name(&name)?;
            let settings = change::parse_settings(&settings)?;
            change::create(&mut database.session().await?, &name, jobs, &settings).await
        }
        Command::Drop { name, force, database } => {
            let name = parse_name(&name)?;
            change::drop(&mut database.session().await?, &name, force).await
        }
        Command::Config(Config { name, settings, database }) => {
            let name = parse_name(&name)?;
            let settings = change::parse_settings(&settings)?;
            change::configure(&mut database.session().await?, &name, &settings).await
        }
        Command::List { database, format } => look::list(&mut database.session().await?, &format).await,
        Command::Pause(wanted) => pause::set(&wanted, true).await,
        Command::Resume(wanted) => pause::set(&wanted, false).await,
        Command::Rebase(options) => rebase::rebase(&options).await,
        Command::Status { name, database, format } => {
            let name = parse_name(&name)?;
            look::status(&mut database.session().await?, &name, &format).await
        }
    }
}

/// A queue's name as it was typed; a usage error says what a name may be.
pub(crate) fn parse_name(name: &str) -> Result<QueueName, CliError> {
    name.parse().map_err(|error| CliError::Usage(format!("\"{name}\" is no queue: {error}.")))
}

/// What kind of queue it is, or that there is none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Events,
    Jobs,
}

/// The queue's kind. No such queue: the error names the nearest ones.
pub(crate) async fn must_exist(session: &mut Session, name: &QueueName) -> Result<Kind, CliError> {
    const QUEUES: &str = "
        select q.queue_name::text, exists (select 1 from tidemill.job_queue j where j.queue_id = q.queue_id)
          from pgq.queue q order by 1";
    let rows = session.query("look up queue", QUEUES, &[]).await?;
    let names: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    match rows.iter().find(|row| row.get::<_, &str>(0) == name.as_ref()) {
        Some(row) if row.get(1) => Ok(Kind::Jobs),
        Some(_) => Ok(Kind::Events),
        None => {
            let advice = match (nearest(name.as_ref(), names.iter().copied()), names.as_slice()) {
                (_, []) => format!("it has none: `tidemill queue create {name}` makes one"),
                (None, all) => format!("it has {}", some_of(all)),
                (Some(near), _) => format!("the nearest name is {near}"),
            };
            Err(CliError::Refused(format!(
                "There is no queue \"{name}\" in database {}; {advice}.",
                session.target().name()
            )))
        }
    }
}

/// The first names of a list that may be long.
fn some_of(names: &[&str]) -> String {
    const SHOWN: usize = 10;
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

/// The queue's id; it has been seen to exist.
async fn id_of(session: &mut Session, name: &QueueName) -> Result<i32, CliError> {
    let row = session
        .query_one(
            "look up queue",
            "select queue_id from pgq.queue where queue_name = $1",
            &[(&name.as_ref(), Type::TEXT)],
        )
        .await?;
    Ok(row.get(0))
}
