//! Create, drop and configure.

use serde_json::{Map, Value};
use tidemill_common::{
    config::nearest,
    db::{Session, Type},
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
/// Settings of job queues, all whole numbers but the back-off's name.
const JOBS: [&str; 5] = ["lease_ms", "max_attempts", "backoff", "backoff_base_ms", "backoff_cap_ms"];

/// The table says what is in range.
const CHECK_VIOLATION: &str = "23514";

/// What `queue config` was asked to change, with known keys only.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    log: Vec<(String, String)>,
    jobs: Map<String, Value>,
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
            if !["exponential", "mail"].contains(&value) {
                return Err(CliError::Usage(format!("backoff=\"{value}\": there are exponential and mail.")));
            }
            settings.jobs.insert(key.to_owned(), value.into());
        } else if JOBS.contains(&key) {
            let Ok(number) = value.parse::<i32>() else {
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

pub(super) async fn create(session: &mut Session, name: &QueueName, jobs: bool) -> Result<(), CliError> {
    let sql = if jobs { "select tidemill.create_job_queue($1)" } else { "select pgq.create_queue($1)" };
    let created: i32 = session.query_one("create queue", sql, &[(&name.as_ref(), Type::TEXT)]).await?.get(0);
    let kind = if jobs { "Job queue" } else { "Queue" };
    say(match created {
        1 => format!("{kind} {name} created."),
        _ => format!("{kind} {name} exists already."),
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
        let keys = settings.jobs.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(CliError::Refused(format!(
            "{name} is not a job queue and has no {keys}: `tidemill queue create {name} --jobs` makes it one."
        )));
    }
    let mut tx = session.begin("configure_queue").await?;
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
        match set {
            Ok(_) => {}
            Err(error) if error.code().is_some_and(|code| code.code() == CHECK_VIOLATION) => {
                return Err(CliError::Refused(
                    "A setting is out of its range: lease_ms is 1000 to 86400000, max_attempts 1 to 1000, \
                     backoff_base_ms 1 to backoff_cap_ms."
                        .to_owned(),
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
    tx.commit().await?;
    say(format!("Queue {name} configured."))
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
