//! `tidemill consumer`: who reads the queues, and how far behind.

use clap::Subcommand;
use serde::Serialize;
use tidemill_common::db::{Session, Type};

use crate::{
    connect::Database,
    error::CliError,
    output::{self, Format},
    queue::{must_exist, parse_name},
    table::{Align, Table, age, grouped},
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the consumers of one queue, or of all
    List {
        /// Only this queue's
        queue: Option<String>,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        format: Format,
    },
}

/// A subscription: one consumer of one queue.
#[derive(Serialize)]
pub(crate) struct Consumer {
    pub queue: String,
    pub consumer: String,
    /// Age of the tick up to which it has finished, seconds; absent for a member of a group.
    pub lag_seconds: Option<f64>,
    /// Since its last call, seconds.
    pub last_seen_seconds: Option<f64>,
    pub last_tick: Option<i64>,
    pub open_batch: Option<i64>,
    /// Events that it has not finished, by the event sequence.
    pub pending_events: Option<i64>,
}

const CONSUMERS: &str = "
select c.queue_name::text, c.consumer_name::text, extract(epoch from c.lag)::float8, extract(epoch from c.last_seen)::float8,
       c.last_tick::int8, c.current_batch::int8, c.pending_events::int8
  from pgq.get_consumer_info($1) c
 order by 1, 2";

/// The consumers of one queue, or of all.
pub(crate) async fn consumers(session: &mut Session, queue: Option<&str>) -> Result<Vec<Consumer>, CliError> {
    let rows = session.query("list consumers", CONSUMERS, &[(&queue, Type::TEXT)]).await?;
    Ok(rows
        .iter()
        .map(|row| Consumer {
            queue: row.get(0),
            consumer: row.get(1),
            lag_seconds: row.get(2),
            last_seen_seconds: row.get(3),
            last_tick: row.get(4),
            open_batch: row.get(5),
            pending_events: row.get(6),
        })
        .collect())
}

/// Consumers for people.
pub(crate) fn table(consumers: &[Consumer]) -> Table {
    let mut table = Table::new(&[
        ("QUEUE", Align::Left),
        ("CONSUMER", Align::Left),
        ("LAG", Align::Right),
        ("PENDING", Align::Right),
        ("LAST SEEN", Align::Right),
        ("LAST TICK", Align::Right),
        ("OPEN BATCH", Align::Right),
    ]);
    let number = |n: Option<i64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for c in consumers {
        table.row([
            c.queue.clone(),
            c.consumer.clone(),
            age(c.lag_seconds),
            c.pending_events.map_or_else(|| "-".to_owned(), grouped),
            age(c.last_seen_seconds),
            number(c.last_tick),
            number(c.open_batch),
        ]);
    }
    table
}

pub(crate) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::List { queue, database, format } => {
            let queue = queue.as_deref().map(parse_name).transpose()?;
            let mut session = database.session().await?;
            if let Some(queue) = &queue {
                must_exist(&mut session, queue).await?;
            }
            let consumers = consumers(&mut session, queue.as_ref().map(AsRef::as_ref)).await?;
            output::list(&format, &consumers, || table(&consumers), "No consumers.")
        }
    }
}
