//! `tidemill job`: what is done about single jobs.

use clap::{Args, Subcommand};
use tidemill_common::api::{CancelAnswer, CancelKeyRequest, CancelRequest};

use crate::{dispatcher::Dispatcher, error::CliError, output::say, queue::parse_name};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Cancel a job, or all jobs that carry a key
    ///
    /// What nobody works on ends; handlers that run are told with the next answer to their heartbeat, and decide.
    Cancel(Cancel),
}

#[derive(Args)]
pub(crate) struct Cancel {
    queue: String,
    /// The job
    #[arg(required_unless_present = "cancel_key", conflicts_with = "cancel_key")]
    id: Option<String>,
    /// All jobs with this key for cancelling
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    cancel_key: Option<i64>,
    /// What handlers are told: any integer but 0
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    code: i32,
    #[command(flatten)]
    dispatcher: Dispatcher,
}

pub(crate) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Cancel(wanted) => cancel(&wanted).await,
    }
}

async fn cancel(wanted: &Cancel) -> Result<(), CliError> {
    let Cancel { queue, id, cancel_key, code, dispatcher } = wanted;
    let (queue, code) = (parse_name(queue)?, *code);
    let answer: CancelAnswer = match (id, cancel_key) {
        (_, Some(cancel_key)) => {
            let request = CancelKeyRequest { cancel_key: *cancel_key, code };
            dispatcher.post(&queue, "/cancel", &request).await?
        }
        (Some(id), None) => {
            if id.parse::<i64>().is_err() {
                return Err(CliError::Usage(format!("\"{id}\" is no job: an id is a number.")));
            }
            dispatcher.post(&queue, &format!("/jobs/{id}/cancel"), &CancelRequest { code }).await?
        }
        (None, None) => return Err(CliError::Usage("Say which job, or which --cancel-key.".to_owned())),
    };
    say(format!("Queue {queue}: {}.", describe(answer)))
}

/// For people: `2 jobs are cancelled, 1 that runs is told`.
fn describe(CancelAnswer { cancelled, told }: CancelAnswer) -> String {
    let ended = match cancelled {
        0 => "no job is cancelled".to_owned(),
        1 => "1 job is cancelled".to_owned(),
        many => format!("{many} jobs are cancelled"),
    };
    match told {
        0 => ended,
        1 => format!("{ended}, 1 that runs is told"),
        many => format!("{ended}, {many} that run are told"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_sentence() {
        let say = |cancelled, told| describe(CancelAnswer { cancelled, told });
        assert_eq!(say(0, 0), "no job is cancelled");
        assert_eq!(say(1, 1), "1 job is cancelled, 1 that runs is told");
        assert_eq!(say(2, 3), "2 jobs are cancelled, 3 that run are told");
    }
}
