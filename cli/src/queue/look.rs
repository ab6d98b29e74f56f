//! List and status.

use serde::Serialize;
use tidemill_common::{
    db::{Session, Type},
    id::QueueName,
    queue::dispatch::Paused,
};

use super::{Kind, id_of, must_exist, pause};
use crate::{
    consumer::{self, Consumer, consumers},
    error::CliError,
    output::{self, Format, say},
    table::{Align, Table, age, grouped},
};

/// A queue as the list shows it.
#[derive(Serialize)]
struct Queue {
    queue: String,
    /// `events` or `jobs`.
    kind: String,
    /// Since the last tick, seconds.
    tick_age_seconds: Option<f64>,
    last_tick: Option<i64>,
    /// Events after the last tick.
    new_events: i64,
    /// Over the last ticks.
    events_per_second: Option<f64>,
    consumers: i64,
    /// Address of the dispatcher that owns a job queue now.
    owner: Option<String>,
}

const QUEUES: &str = "
select i.queue_name::text,
       case when j.queue_id is null then 'events' else 'jobs' end,
       extract(epoch from i.ticker_lag)::float8, i.last_tick_id::int8, i.ev_new::int8, i.ev_per_sec::float8,
       (select count(*) from pgq.subscription s where s.sub_queue = q.queue_id),
       case when o.until > clock_timestamp() then o.address end
  from pgq.get_queue_info() i
  join pgq.queue q on q.queue_name = i.queue_name
  left join tidemill.job_queue j on j.queue_id = q.queue_id
  left join tidemill.owner o on o.queue_id = q.queue_id
 where $1::text is null or q.queue_name = $1
 order by 1";

async fn queues(session: &mut Session, name: Option<&str>) -> Result<Vec<Queue>, CliError> {
    let rows = session.query("list queues", QUEUES, &[(&name, Type::TEXT)]).await?;
    Ok(rows
        .iter()
        .map(|row| Queue {
            queue: row.get(0),
            kind: row.get(1),
            tick_age_seconds: row.get(2),
            last_tick: row.get(3),
            new_events: row.get::<_, Option<i64>>(4).unwrap_or(0),
            events_per_second: row.get(5),
            consumers: row.get(6),
            owner: row.get(7),
        })
        .collect())
}

fn table(queues: &[Queue]) -> Table {
    let mut table = Table::new(&[
        ("QUEUE", Align::Left),
        ("KIND", Align::Left),
        ("NEW", Align::Right),
        ("EVENTS/S", Align::Right),
        ("LAST TICK", Align::Right),
        ("AGE", Align::Right),
        ("CONSUMERS", Align::Right),
        ("OWNER", Align::Left),
    ]);
    for q in queues {
        table.row([
            q.queue.clone(),
            q.kind.clone(),
            grouped(q.new_events),
            q.events_per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}")),
            q.last_tick.map_or_else(|| "-".to_owned(), |tick| tick.to_string()),
            age(q.tick_age_seconds),
            q.consumers.to_string(),
            q.owner.clone().unwrap_or_else(|| if q.kind == "jobs" { "nobody" } else { "" }.to_owned()),
        ]);
    }
    table
}

pub(super) async fn list(session: &mut Session, format: &Format) -> Result<(), CliError> {
    let queues = queues(session, None).await?;
    output::list(format, &queues, || table(&queues), "No queues: `tidemill queue create NAME` makes one.")
}

/// What only a job queue has.
#[derive(Serialize)]
struct Jobs {
    lease_ms: i32,
    max_attempts: i32,
    backoff: String,
    backoff_base_ms: i32,
    backoff_cap_ms: i32,
    /// `None`: as the owner is configured.
    window_jobs: Option<i32>,
    window_bytes: Option<i64>,
    /// As `PUT /v1/queues/{queue}` takes them; `None`: there are none.
    limits: Option<serde_json::Value>,
    /// Its producers end the ticker's sleep.
    doorbell: bool,
    epoch: i64,
    /// What is left of the owner's term; 0 when nobody owns the queue.
    owner_left_ms: i64,
    /// Rows of the waiting room, counted up to [`COUNTED`].
    delayed: i64,
    retry: i64,
    leased: i64,
    parked: i64,
    /// Dead letters, counted up to [`COUNTED`].
    dead: i64,
}

/// No count goes further: looking at a queue stays cheap, however much is in it.
const COUNTED: i64 = 100_000;

#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    queue: Queue,
    settings: Settings,
    jobs: Option<Jobs>,
    /// Of a job queue: what is not handed out now.
    paused: Option<Paused>,
    consumers: Vec<Consumer>,
}

#[derive(Serialize)]
struct Settings {
    ticker_max_count: i32,
    ticker_max_lag: String,
    ticker_idle_period: String,
    ticker_paused: bool,
    external_ticker: bool,
    rotation_period: String,
}

async fn settings(session: &mut Session, queue_id: i32) -> Result<Settings, CliError> {
    const SETTINGS: &str = "
        select queue_ticker_max_count, queue_ticker_max_lag::text, queue_ticker_idle_period::text, queue_ticker_paused,
               queue_external_ticker, queue_rotation_period::text
          from pgq.queue where queue_id = $1";
    let row = session.query_one("read queue settings", SETTINGS, &[(&queue_id, Type::INT4)]).await?;
    Ok(Settings {
        ticker_max_count: row.get(0),
        ticker_max_lag: row.get(1),
        ticker_idle_period: row.get(2),
        ticker_paused: row.get(3),
        external_ticker: row.get(4),
        rotation_period: row.get(5),
    })
}

async fn jobs(session: &mut Session, queue_id: i32) -> Result<Jobs, CliError> {
    const JOBS: &str = "
        select j.lease_ms, j.max_attempts, j.backoff_base_ms, j.backoff_cap_ms, o.epoch,
               case when o.until > clock_timestamp()
                    then ceil(extract(epoch from o.until - clock_timestamp()) * 1000)::int8 else 0 end,
               w.delayed, w.retry, w.leased,
               (select count(*) from (select 1 from tidemill.dead d where d.queue_id = j.queue_id limit $2) d),
               j.backoff, w.parked, j.window_jobs, j.window_bytes, j.doorbell, j.limits
          from tidemill.job_queue j
          join tidemill.owner o on o.queue_id = j.queue_id,
               lateral (select count(*) filter (where kind = 'delayed') as delayed,
                               count(*) filter (where kind = 'retry')   as retry,
                               count(*) filter (where kind = 'leased')  as leased,
                               count(*) filter (where kind = 'parked')  as parked
                          from (select kind from tidemill.waiting w where w.queue_id = j.queue_id limit $2) w) w
         where j.queue_id = $1";
    let row =
        session.query_one("read job queue", JOBS, &[(&queue_id, Type::INT4), (&COUNTED, Type::INT8)]).await?;
    Ok(Jobs {
        lease_ms: row.get(0),
        max_attempts: row.get(1),
        backoff: row.get(10),
        parked: row.get(11),
        window_jobs: row.get(12),
        window_bytes: row.get(13),
        doorbell: row.get(14),
        limits: row.get(15),
        backoff_base_ms: row.get(2),
        backoff_cap_ms: row.get(3),
        epoch: row.get(4),
        owner_left_ms: row.get(5),
        delayed: row.get(6),
        retry: row.get(7),
        leased: row.get(8),
        dead: row.get(9),
    })
}

pub(super) async fn status(session: &mut Session, name: &QueueName, format: &Format) -> Result<(), CliError> {
    let kind = must_exist(session, name).await?;
    let queue_id = id_of(session, name).await?;
    let Some(queue) = queues(session, Some(name.as_ref())).await?.pop() else {
        return Err(CliError::Refused(format!("Queue {name} has just been dropped.")));
    };
    let status = Status {
        queue,
        settings: settings(session, queue_id).await?,
        jobs: match kind {
            Kind::Jobs => Some(jobs(session, queue_id).await?),
            Kind::Events => None,
        },
        paused: match kind {
            Kind::Jobs => Some(pause::paused(session, name).await?),
            Kind::Events => None,
        },
        consumers: consumers(session, Some(name.as_ref())).await?,
    };
    if format.json { output::json(&status) } else { say(describe(&status)) }
}

/// How much of the log its owner may hold in memory.
fn window(jobs: &Jobs) -> String {
    let count = jobs.window_jobs.map(|jobs| format!("{} jobs", grouped(jobs.into())));
    let bytes = jobs.window_bytes.map(|bytes| format!("{} bytes", grouped(bytes)));
    let own: Vec<String> = count.into_iter().chain(bytes).collect();
    match own.len() {
        0 => "as the dispatcher is configured".to_owned(),
        1 => format!("{}, the rest as the dispatcher is configured", own.join(", ")),
        _ => own.join(", "),
    }
}

/// The status for people: one fact a line, then the consumers.
fn describe(status: &Status) -> String {
    let Status { queue, settings, jobs, paused, consumers } = status;
    let mut facts = vec![
        ("queue", queue.queue.clone()),
        ("kind", queue.kind.clone()),
        ("new events", grouped(queue.new_events)),
        ("last tick", format!("{} ago", age(queue.tick_age_seconds))),
        (
            "ticker",
            format!(
                "at {} events or after {}, idle every {}{}{}",
                settings.ticker_max_count,
                settings.ticker_max_lag,
                settings.ticker_idle_period,
                if settings.ticker_paused { ", paused" } else { "" },
                if settings.external_ticker { ", external" } else { "" },
            ),
        ),
        ("rotation", format!("every {}", settings.rotation_period)),
    ];
    if let Some(paused) = paused {
        facts.push(("paused", pause::describe(paused)));
    }
    if let Some(jobs) = jobs {
        let count = |n: i64| if n < COUNTED { grouped(n) } else { format!("{} or more", grouped(n)) };
        let owner = match &queue.owner {
            Some(address) => format!("{address}, epoch {}, for {} ms more", jobs.epoch, jobs.owner_left_ms),
            None => format!("nobody (last epoch {})", jobs.epoch),
        };
        facts.extend([
            ("owner", owner),
            ("lease", format!("{} ms, at most {} attempts", jobs.lease_ms, jobs.max_attempts)),
            (
                "back-off",
                match jobs.backoff.as_str() {
                    "exponential" => {
                        format!("{} ms, growing to {} ms", jobs.backoff_base_ms, jobs.backoff_cap_ms)
                    }
                    preset => preset.to_owned(),
                },
            ),
            ("window", window(jobs)),
            (
                "waiting room",
                format!(
                    "{} delayed, {} to retry, {} leased, {} parked",
                    count(jobs.delayed),
                    count(jobs.retry),
                    count(jobs.leased),
                    count(jobs.parked)
                ),
            ),
            ("dead letters", count(jobs.dead)),
        ]);
        if let Some(limits) = &jobs.limits {
            facts.push(("limits", limits.to_string()));
        }
        if jobs.doorbell {
            facts.push(("doorbell", "ends the ticker's sleep".to_owned()));
        }
    }
    let mut out: String = facts.iter().map(|(name, value)| format!("{name:<14}{value}\n")).collect();
    if !consumers.is_empty() {
        out += &format!("\n{}", consumer::table(consumers));
    }
    out
}
