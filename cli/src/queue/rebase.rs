//! `tidemill queue rebase`: after a restore, a copy, a failover that lost something, or `pg_upgrade`.
//!
//! The work is done in SQL, one transaction per queue, and may be interrupted anywhere and repeated. What is left to do
//! here is to bring together the source and the destinations that its queues are moved to.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tidemill_common::db::{Row, Session, Type};

use crate::{connect::Database, error::CliError, output::say};

#[derive(Args)]
pub(crate) struct Rebase {
    /// Where a mover brings events of this database, as a name or URL; may be repeated. Nothing that is there comes again
    #[arg(long, value_name = "NAME|URL")]
    destination: Vec<String>,
    /// This database is not moved from any more: a copy for tests, for example
    #[arg(long, conflicts_with = "destination")]
    no_destination: bool,
    /// Rebase although nothing is wrong as far as the server can tell: its disks were set back to an older state
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    database: Database,
}

/// A queue with a large backlog is rewritten.
const DEADLINE: Duration = Duration::from_secs(3600);

/// `lock_not_available`.
const LOCKED: &str = "55P03";

/// What `tidemill.rebase_plan` says.
struct Plan {
    needed: bool,
    reason: Option<String>,
    own_rows: bool,
    system_identifier: i64,
    database_oid: i64,
    /// The epoch of the ticks that are there.
    epoch: i64,
}

/// A database that events of this one are moved to, and where it stands in each queue: marks as
/// `tidemill.rebase_queue` takes them.
struct Destination {
    session: Session,
    positions: Vec<(String, Value)>,
}

pub(super) async fn rebase(options: &Rebase) -> Result<(), CliError> {
    let mut session = options.database.session().await?.with_deadline(DEADLINE);
    let mut destinations = Vec::new();
    for name in &options.destination {
        let session = options.database.other(name).await?.with_deadline(DEADLINE);
        destinations.push(Destination { session, positions: Vec::new() });
    }
    let mut planned = plan(&mut session).await?;
    if !planned.needed && options.force {
        session.execute("doubt the ticks", "select tidemill.doubt_ticks()", &[]).await?;
        planned = plan(&mut session).await?;
    }
    if !planned.needed {
        // An earlier rebase may have been interrupted before it told the destinations.
        return match carry_on(&mut session, &mut destinations).await? {
            0 => Err(CliError::Refused(format!(
                "Database {} needs no rebase: its ticks were cut here, and none is lost.",
                session.target().name()
            ))),
            carried => say(format!("Already rebased; {carried} positions carried over.")),
        };
    }
    let queues = queues(&mut session, options).await?;
    for destination in &mut destinations {
        destination.positions = positions(&mut session, &mut destination.session, &planned).await?;
    }
    say(describe(session.target().name(), &planned))?;
    for queue in &queues {
        let positions = destinations.iter().flat_map(|d| &d.positions);
        let here: Vec<&Value> = positions.filter(|(of, _)| of == queue).map(|(_, mark)| mark).collect();
        let row = session
            .query_one(
                "rebase queue",
                "select how, events from tidemill.rebase_queue($1, $2)",
                &[(queue, Type::TEXT), (&json!(here), Type::JSONB)],
            )
            .await
            .map_err(|error| match error.code() {
                Some(code) if code.code() == LOCKED => CliError::Refused(format!(
                    "Queue {queue} is in use by somebody who does not let go, a pg_dump for example; nothing is lost: \
                     repeat the command."
                )),
                _ => error.into(),
            })?;
        say(match row.get(0) {
            "kept" => format!("{queue}: its ticks stay."),
            "translated" => format!("{queue}: translated, {} events.", row.get::<_, i64>(1)),
            _ => format!("{queue}: done before."),
        })?;
    }
    let row = session.query_one("finish the rebase", "select tidemill.rebase_done()", &[]).await?;
    let carried = carry_on(&mut session, &mut destinations).await?;
    let told = if carried == 0 { String::new() } else { format!(" {carried} positions carried over.") };
    say(format!("Epoch {}: the queues go on.{told}", row.get::<_, i64>(0)))
}

async fn plan(session: &mut Session) -> Result<Plan, CliError> {
    let sql = "select needed, reason, own_rows, old_system_identifier, old_database_oid, epoch - 1
                 from tidemill.rebase_plan()";
    let row = session.query_one("plan the rebase", sql, &[]).await?;
    // All null where no queue was ever created.
    Ok(Plan {
        needed: row.get(0),
        reason: row.get(1),
        own_rows: row.get(2),
        system_identifier: row.get::<_, Option<i64>>(3).unwrap_or(0),
        database_oid: row.get::<_, Option<i64>>(4).unwrap_or(0),
        epoch: row.get::<_, Option<i64>>(5).unwrap_or(0),
    })
}

fn describe(database: &str, plan: &Plan) -> String {
    let rows = if plan.own_rows {
        "The rows are the very ones that were written then: the ticks stay"
    } else {
        "The rows were restored: transaction ids are translated to this server's"
    };
    format!("Database {database}: {}.\n{rows}.", plan.reason.as_deref().unwrap_or_default())
}

/// The queues to rebase. Refuses where a queue is moved and nobody said where to: events that the destination has would
/// come there again.
async fn queues(session: &mut Session, options: &Rebase) -> Result<Vec<String>, CliError> {
    const QUEUES: &str = "
        select q.queue_name, exists (select 1 from tidemill.moved_to t where t.queue_id = q.queue_id)
          from pgq.queue q order by 1";
    let rows = session.query("list queues", QUEUES, &[]).await?;
    let name = |row: &Row| row.get::<_, String>(0);
    let moved = rows.iter().find(|row| row.get(1)).map(name);
    if let Some(queue) = moved.filter(|_| options.destination.is_empty() && !options.no_destination) {
        return Err(CliError::Refused(format!(
            "Queue {queue} is moved to another database: name that with --destination, so that nothing comes there \
             twice, or say --no-destination."
        )));
    }
    Ok(rows.iter().map(name).collect())
}

/// Where a destination stands in the old log.
async fn positions(
    source: &mut Session,
    destination: &mut Session,
    plan: &Plan,
) -> Result<Vec<(String, Value)>, CliError> {
    let identity = &[(&plan.system_identifier as _, Type::INT8), (&plan.database_oid as _, Type::INT8)];
    let sql = "select queue, source_epoch, mark from tidemill.source_positions($1, $2)";
    let rows = destination.query("read positions", sql, identity).await?;
    let mut positions = Vec::new();
    for row in rows {
        let (queue, epoch, mut mark): (String, i64, Value) = (row.get(0), row.get(1), row.get(2));
        if epoch != plan.epoch {
            return Err(CliError::Refused(format!(
                "{} stands in epoch {epoch} of queue {queue}, and the ticks here are of epoch {}: compare both sides.",
                destination.target().name(),
                plan.epoch
            )));
        }
        if plan.own_rows {
            mark["moved"] = moved(source, destination, plan, &queue, &mark).await?;
        }
        positions.push((queue, mark));
    }
    Ok(positions)
}

/// Which events that no tick here has seen does the destination have? The server went back: transaction ids alone do
/// not tell, because it has given them again.
async fn moved(
    source: &mut Session,
    destination: &mut Session,
    plan: &Plan,
    queue: &String,
    mark: &Value,
) -> Result<Value, CliError> {
    let snapshot = mark["snapshot"].as_str().unwrap_or_default();
    let doubtful = source
        .query_one(
            "read events in doubt",
            "select coalesce(array_agg(ev_id), '{}'), coalesce(array_agg(ev_time::text), '{}')
               from tidemill.rebase_doubtful($1, $2::text::txid_snapshot)",
            &[(queue, Type::TEXT), (&snapshot, Type::TEXT)],
        )
        .await?;
    let (ids, times): (Vec<i64>, Vec<String>) = (doubtful.get(0), doubtful.get(1));
    let there = destination
        .query_one(
            "look up moved events",
            "select coalesce(jsonb_agg(e), '[]') from tidemill.moved_among($1, $2, $3, $4, $5::timestamptz[]) e",
            &[
                (&plan.system_identifier, Type::INT8),
                (&plan.database_oid, Type::INT8),
                (queue, Type::TEXT),
                (&ids, Type::INT8_ARRAY),
                (&times, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    Ok(there.get(0))
}

/// Tells the destinations that stood in the old log where the same place is now. Returns how many positions changed:
/// those that did before are not counted.
async fn carry_on(session: &mut Session, destinations: &mut [Destination]) -> Result<usize, CliError> {
    let sql = "select queue, old_mark, new_mark from tidemill.rebased_marks()";
    let mut carried = 0;
    for mark in session.query("read rebased marks", sql, &[]).await? {
        let (queue, old, new): (String, Value, Value) = (mark.get(0), mark.get(1), mark.get(2));
        for destination in &mut *destinations {
            let row = destination
                .session
                .query_one(
                    "carry a position over",
                    "select tidemill.rebase_position($1, $2, $3)",
                    &[(&queue, Type::TEXT), (&old, Type::JSONB), (&new, Type::JSONB)],
                )
                .await?;
            carried += usize::from(row.get::<_, bool>(0));
        }
    }
    Ok(carried)
}
