//! Create, drop and configure.

use serde_json::{Map, Value};
use tidemill_common::{
    api::{Backoff, BackoffPreset, QueueLimits, parse},
    config::nearest,
    db::{DbError, Session, Tx, Type},
    id::QueueName,
};

use super::{Kind, must_exist};
use crate::{error::CliError, output::say};

/// Settings of the log, as `pgq.set_queue_config` knows them.
const LOG: [&str; 6] = [
    "ticker_max_count",
    "ticker_max_lag",
    "ticker_idle_period",
    "ticker_paused",
    "rotation_period",
    "external_ticker",
];
/// Settings of job queues, all whole numbers but the back-off, the limits and the doorbell.
const JOBS: [&str; 9] = [
    "lease_ms",
    "max_attempts",
    "backoff",
    "backoff_base_ms",
    "backoff_cap_ms",
    "window_jobs",
    "window_bytes",
    "limits",
    "doorbell",
];

/// The table says what is in range.
const CHECK_VIOLATION: &str = "23514";
const NUMBER_TOO_LARGE: &str = "22003";

/// What `queue create` or `queue config` was asked to set, with known keys only.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    log: Vec<(String, String)>,
    jobs: Map<String, Value>,
}

impl Settings {
    fn job_keys(&self) -> String {
        self.jobs.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// Checks KEY=VALUE arguments; the error names the key and the nearest known one.
pub(super) fn parse_settings(arguments: &[String]) -> Result<Settings, CliError> {
    let mut settings = Settings::default();
    for argument in arguments {
        let Some((key, value)) = argument.split_once('=') else {
            return Err(CliError::Usage(format!("\"{argument}\" is no setting: write KEY=VALUE.")));
        };
        if LOG.contains(&key) {
            settings.log.push((key.to_owned(), value.to_owned()));
        } else if key == "backoff" {
            settings.jobs.append(&mut parse_backoff(value)?);
        } else if key == "limits" {
            settings.jobs.insert(key.to_owned(), parse_limits(value)?);
        } else if key == "doorbell" {
            let Ok(doorbell) = value.parse::<bool>() else {
                return Err(CliError::Usage(format!("doorbell=\"{value}\" is neither true nor false.")));
            };
            settings.jobs.insert(key.to_owned(), doorbell.into());
        } else if JOBS.contains(&key) {
            let number = match key {
                "window_bytes" => value.parse(),
                _ => value.parse::<i32>().map(i64::from),
            };
            let Ok(number) = number else {
                return Err(CliError::Usage(format!("{key}=\"{value}\" is not a whole number.")));
            };
            settings.jobs.insert(key.to_owned(), number.into());
        } else {
            let known = [LOG.as_slice(), JOBS.as_slice()].concat();
            let advice = match nearest(key, known.iter().copied()) {
                Some(near) => format!("the nearest is {near}"),
                None => format!("there are {}", known.join(", ")),
            };
            return Err(CliError::Usage(format!("There is no setting \"{key}\"; {advice}.")));
        }
    }
    Ok(settings)
}

/// A name, or what `PUT /v1/queues/{queue}` takes for an exponential one.
fn parse_backoff(value: &str) -> Result<Map<String, Value>, CliError> {
    let name = |name: &str| ("backoff".to_owned(), name.into());
    let parsed = match value {
        "exponential" => return Ok(Map::from_iter([name("exponential")])),
        object if object.starts_with('{') => serde_json::from_str(object),
        preset => serde_json::from_value(preset.into()),
    };
    match parsed {
        Ok(Backoff::Preset(BackoffPreset::Mail)) => Ok(Map::from_iter([name("mail")])),
        Ok(Backoff::Exponential { base_ms, cap_ms }) => Ok(Map::from_iter([
            name("exponential"),
            ("backoff_base_ms".to_owned(), base_ms.into()),
            ("backoff_cap_ms".to_owned(), cap_ms.into()),
        ])),
        Err(_) => Err(CliError::Usage(format!(
            "backoff=\"{value}\": there are exponential, mail, and {{\"base_ms\":1000,\"cap_ms\":3600000}}."
        ))),
    }
}

/// What `PUT /v1/queues/{queue}` takes.
fn parse_limits(value: &str) -> Result<Value, CliError> {
    if let Err(faults) = parse::<QueueLimits>(value.as_bytes()) {
        let faults = faults.iter().map(|fault| match fault.pointer.as_str() {
            "" => fault.detail.clone(),
            pointer => format!("{pointer}: {}", fault.detail),
        });
        let faults = faults.collect::<Vec<_>>().join("; ");
        return Err(CliError::Usage(format!("limits=\"{value}\": {faults}.")));
    }
    serde_json::from_str(value).map_err(|error| CliError::Usage(format!("limits: {error}.")))
}

pub(super) async fn create(
    session: &mut Session,
    name: &QueueName,
    jobs: bool,
    settings: &Settings,
) -> Result<(), CliError> {
    if !jobs && !settings.jobs.is_empty() {
        return Err(CliError::Usage(format!("{} goes with --jobs only.", settings.job_keys())));
    }
    let mut tx = session.begin("create_queue").await?;
    let params = [(&name.as_ref() as _, Type::TEXT)];
    let sql = if jobs { "select tidemill.create_job_queue($1)" } else { "select pgq.create_queue($1)" };
    let created: i32 = tx.query_one("create queue", sql, &params).await?.get(0);
    set(&mut tx, name, settings).await?;
    tx.commit().await?;
    let kind = if jobs { "Job queue" } else { "Queue" };
    let is_set = !settings.log.is_empty() || !settings.jobs.is_empty();
    say(match (created, is_set) {
        (1, _) => format!("{kind} {name} created."),
        (_, false) => format!("{kind} {name} exists already."),
        (_, true) => format!("{kind} {name} exists already; it is configured now."),
    })
}

pub(super) async fn drop(session: &mut Session, name: &QueueName, force: bool) -> Result<(), CliError> {
    if must_exist(session, name).await? == Kind::Jobs && !force {
        return Err(CliError::Refused(format!(
            "{name} is a job queue: its jobs would be lost; if that is what you want, use --force."
        )));
    }
    let dropped = session
        .query_one(
            "drop queue",
            "select pgq.drop_queue($1, $2)",
            &[(&name.as_ref(), Type::TEXT), (&force, Type::BOOL)],
        )
        .await;
    match dropped {
        Ok(_) => say(format!("Queue {name} dropped.")),
        Err(error) if error.server_message().is_some_and(|m| m.contains("consumers still attached")) => {
            Err(CliError::Refused(format!(
                "{name} has consumers: see `tidemill consumer list {name}`, and use --force to drop it with them."
            )))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn configure(
    session: &mut Session,
    name: &QueueName,
    settings: &Settings,
) -> Result<(), CliError> {
    if must_exist(session, name).await? == Kind::Events && !settings.jobs.is_empty() {
        return Err(CliError::Refused(format!(
            "{name} is not a job queue and has no {}: `tidemill queue create {name} --jobs` makes it one.",
            settings.job_keys()
        )));
    }
    let mut tx = session.begin("configure_queue").await?;
    set(&mut tx, name, settings).await?;
    tx.commit().await?;
    say(format!("Queue {name} configured."))
}

async fn set(tx: &mut Tx<'_>, name: &QueueName, settings: &Settings) -> Result<(), CliError> {
    for (key, value) in &settings.log {
        tx.query_one(
            "set queue config",
            "select pgq.set_queue_config($1, $2, $3)",
            &[(&name.as_ref(), Type::TEXT), (&key, Type::TEXT), (&value, Type::TEXT)],
        )
        .await?;
    }
    if !settings.jobs.is_empty() {
        let jobs = Value::Object(settings.jobs.clone());
        let set = tx
            .query_one(
                "set job queue settings",
                "select tidemill.create_job_queue($1, $2)",
                &[(&name.as_ref(), Type::TEXT), (&jobs, Type::JSONB)],
            )
            .await;
        set.map_err(out_of_range)?;
    }
    Ok(())
}

fn out_of_range(error: DbError) -> CliError {
    if error.code().is_some_and(|code| [CHECK_VIOLATION, NUMBER_TOO_LARGE].contains(&code.code())) {
        return CliError::Refused(
            "A setting is out of its range: lease_ms is 1000 to 86400000, max_attempts 1 to 1000, \
             backoff_base_ms 1 to backoff_cap_ms, window_jobs 1 to 10000000, window_bytes 1048576 to 68719476736; \
             a window of 0 is the one that the dispatcher is configured with."
                .to_owned(),
        );
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::parse_settings;

    fn parse(arguments: &[&str]) -> Result<super::Settings, String> {
        let owned: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        parse_settings(&owned).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_are_sorted_by_what_they_belong_to() {
        let settings = parse(&["ticker_max_lag=1 s", "lease_ms=5000"]).unwrap();
        assert_eq!(settings.log, [("ticker_max_lag".to_owned(), "1 s".to_owned())]);
        assert_eq!(serde_json::to_string(&settings.jobs).unwrap(), r#"{"lease_ms":5000}"#);
    }

    #[test]
    fn a_back_off_has_the_forms_that_the_api_takes() {
        let jobs = |argument| serde_json::to_string(&parse(&[argument]).unwrap().jobs).unwrap();
        assert_eq!(jobs("backoff=mail"), r#"{"backoff":"mail"}"#);
        assert_eq!(jobs("backoff=exponential"), r#"{"backoff":"exponential"}"#);
        assert_eq!(
            jobs(r#"backoff={"base_ms":10,"cap_ms":20}"#),
            r#"{"backoff":"exponential","backoff_base_ms":10,"backoff_cap_ms":20}"#
        );
        assert_eq!(jobs("window_bytes=68719476736"), r#"{"window_bytes":68719476736}"#);
        assert_eq!(jobs("doorbell=true"), r#"{"doorbell":true}"#);
        assert_eq!(parse(&["doorbell=on"]).unwrap_err(), "doorbell=\"on\" is neither true nor false.");
        for wrong in
            ["backoff=post", r#"backoff={"base_ms":10}"#, r#"backoff={"base_ms":1,"cap_ms":2,"x":3}"#]
        {
            assert!(parse(&[wrong]).unwrap_err().contains("there are exponential, mail, and {\"base_ms\""));
        }
    }

    #[test]
    fn limits_are_those_of_the_api() {
        let jobs = |argument| serde_json::to_string(&parse(&[argument]).unwrap().jobs).unwrap();
        assert_eq!(
            jobs(r#"limits={"key":{"leased":1,"per_second":2.5}}"#),
            r#"{"limits":{"key":{"leased":1,"per_second":2.5}}}"#
        );
        assert_eq!(jobs("limits={}"), r#"{"limits":{}}"#);
        assert_eq!(
            parse(&[r#"limits={"key":{"leased":0}}"#]).unwrap_err(),
            r#"limits="{"key":{"leased":0}}": /key/leased: must be between 1 and 1000000000, and is 0."#
        );
        assert!(parse(&["limits=1"]).is_err());
    }

    #[test]
    fn bad_settings_are_answered_with_what_would_be_right() {
        assert_eq!(
            parse(&["lease=1"]).unwrap_err(),
            "There is no setting \"lease\"; the nearest is lease_ms."
        );
        assert_eq!(parse(&["lease_ms"]).unwrap_err(), "\"lease_ms\" is no setting: write KEY=VALUE.");
        assert_eq!(parse(&["lease_ms=1s"]).unwrap_err(), "lease_ms=\"1s\" is not a whole number.");
        assert!(parse(&["zzz=1"]).unwrap_err().contains("ticker_max_count, ticker_max_lag"));
    }
}
