//! Pause and resume.

use clap::Args;
use tidemill_common::{
    db::Session,
    id::QueueName,
    queue::dispatch::{self, Paused},
};

use super::{Kind, id_of, must_exist, parse_name};
use crate::{connect::Database, error::CliError, output::say};

#[derive(Args)]
pub(crate) struct Pause {
    name: String,
    /// Only jobs of this type; may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only jobs with this key; may be repeated
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    database: Database,
}

/// More than this cannot be paused.
const TOO_MANY: &str = "54000";

pub(super) async fn set(wanted: &Pause, is_paused: bool) -> Result<(), CliError> {
    let name = parse_name(&wanted.name)?;
    let session = &mut wanted.database.session().await?;
    if must_exist(session, &name).await? != Kind::Jobs {
        return Err(CliError::Refused(format!(
            "{name} is not a job queue: its consumers decide what they read."
        )));
    }
    let queue_id = id_of(session, &name).await?;
    let some = |names: &[String]| (!names.is_empty()).then(|| names.to_vec());
    let (types, keys) = (some(&wanted.types), some(&wanted.keys));
    match dispatch::pause(session, queue_id, (types.as_deref(), keys.as_deref()), is_paused).await {
        Ok(paused) => say(format!("Queue {name}: {}.", describe(&paused))),
        Err(error) if error.code().is_some_and(|code| code.code() == TOO_MANY) => {
            Err(CliError::Refused("At most 1,000 types and 1,000 keys of a queue can be paused.".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// What of a job queue is paused now.
pub(super) async fn paused(session: &mut Session, name: &QueueName) -> Result<Paused, CliError> {
    let queue_id = id_of(session, name).await?;
    Ok(dispatch::paused(session, queue_id).await?.unwrap_or_default())
}

/// For people: `paused`, `types a, b paused`, `nothing is paused`.
pub(super) fn describe(paused: &Paused) -> String {
    let names = |what: &str, names: &[String]| match names {
        [] => None,
        [one] => Some(format!("{what} {one} paused")),
        all => Some(format!("{what}s {} paused", all.join(", "))),
    };
    let whole = paused.queue.then(|| "paused as a whole".to_owned());
    let parts: Vec<String> =
        whole.into_iter().chain(names("type", &paused.types)).chain(names("key", &paused.keys)).collect();
    if parts.is_empty() { "nothing is paused".to_owned() } else { parts.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_paused_is_a_sentence() {
        let mut paused = Paused::default();
        assert_eq!(describe(&paused), "nothing is paused");
        paused.types = vec!["a".to_owned(), "b".to_owned()];
        paused.keys = vec!["tenant-9".to_owned()];
        assert_eq!(describe(&paused), "types a, b paused; key tenant-9 paused");
        paused.queue = true;
        assert_eq!(describe(&paused), "paused as a whole; types a, b paused; key tenant-9 paused");
    }
}
