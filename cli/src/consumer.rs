//! `tidemill consumer`: who reads the queues, and how far behind.

use clap::Subcommand;
use serde::Serialize;
use tidemill_common::db::{Session, Type};
use tidemill_common::id::QueueName;

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
    /// Bind a consumer to a role: only its members may then read, move and unregister it; registers it if it is new
    ///
    /// An administrator binds any consumer; everybody else one that this call registers, to a role of his own.
    Bind {
        queue: String,
        consumer: String,
        /// A role of PostgreSQL
        role: String,
        #[command(flatten)]
        database: Database,
    },
    /// Let every role that may read use the consumer again
    Unbind {
        queue: String,
        consumer: String,
        #[command(flatten)]
        database: Database,
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
    /// The role that it is bound to.
    pub role: Option<String>,
}

const CONSUMERS: &str = "
select c.queue_name::text, c.consumer_name::text, extract(epoch from c.lag)::float8, extract(epoch from c.last_seen)::float8,
       c.last_tick::int8, c.current_batch::int8, c.pending_events::int8, r.role::text
  from pgq.get_consumer_info($1) c
  left join pgq.queue q on q.queue_name = c.queue_name
  left join pgq.consumer n on n.co_name = c.consumer_name
  left join pgq.subscription s on s.sub_queue = q.queue_id and s.sub_consumer = n.co_id
  left join tidemill.consumer_role r on r.sub_id = s.sub_id
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
            role: row.get(7),
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
        ("ROLE", Align::Left),
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
            c.role.clone().unwrap_or_else(|| "-".to_owned()),
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
        Command::Bind { queue, consumer, role, database } => {
            let queue = parse_name(&queue)?;
            let mut session = database.session().await?;
            must_exist(&mut session, &queue).await?;
            bind(&mut session, &queue, &consumer, &role).await
        }
        Command::Unbind { queue, consumer, database } => {
            let queue = parse_name(&queue)?;
            let mut session = database.session().await?;
            must_exist(&mut session, &queue).await?;
            unbind(&mut session, &queue, &consumer).await
        }
    }
}

async fn bind(session: &mut Session, queue: &QueueName, consumer: &str, role: &str) -> Result<(), CliError> {
    let names = [(&queue.as_ref() as _, Type::TEXT), (&consumer as _, Type::TEXT), (&role as _, Type::TEXT)];
    let bound = session
        .query_one("bind consumer", "select tidemill.bind_consumer($1, $2, quote_ident($3)::regrole)", &names)
        .await?;
    output::say(match bound.get::<_, i32>(0) {
        1 => format!("Consumer {consumer} of queue {queue} is bound to role {role}."),
        _ => format!("Consumer {consumer} of queue {queue} is bound to role {role} already."),
    })
}

async fn unbind(session: &mut Session, queue: &QueueName, consumer: &str) -> Result<(), CliError> {
    let names = [(&queue.as_ref() as _, Type::TEXT), (&consumer as _, Type::TEXT)];
    let unbound =
        session.query_one("unbind consumer", "select tidemill.unbind_consumer($1, $2)", &names).await?;
    output::say(match unbound.get::<_, i32>(0) {
        1 => format!("Consumer {consumer} of queue {queue} is bound to no role any more."),
        _ => format!("Consumer {consumer} of queue {queue} was bound to no role."),
    })
}
