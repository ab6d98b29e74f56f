//! What a handler says about its job.

use std::error::Error;
use std::fmt::{self, Display};
use std::time::Duration;

use serde::Serialize;
use tidemill_common::api;

/// A job is done. `Ok(())` means [`Outcome::Complete`].
#[derive(Debug, Clone, Default)]
pub enum Outcome {
    /// Done.
    #[default]
    Complete,
    /// Done, with a result for whoever asks: see [`Outcome::with`].
    Result(Box<api::RawValue>),
    /// Done, and these jobs exist instead, in one transaction.
    Replace(Vec<api::NewJob>),
}

impl Outcome {
    /// Done, with this result, which the job's details show; as JSON at most 64 KiB, or the attempt has failed.
    ///
    /// # Errors
    /// The value cannot be written as JSON.
    pub fn with(result: &impl Serialize) -> Result<Outcome, serde_json::Error> {
        serde_json::value::to_raw_value(result).map(Outcome::Result)
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Outcome {
        Outcome::Complete
    }
}

impl From<Outcome> for api::Outcome {
    fn from(outcome: Outcome) -> api::Outcome {
        match outcome {
            Outcome::Complete => api::Outcome::Complete { result: None },
            Outcome::Result(result) => api::Outcome::Complete { result: Some(result) },
            Outcome::Replace(jobs) => api::Outcome::Replace { jobs },
        }
    }
}

/// A job is not done.
///
/// Any error becomes a temporary failure through `?`; its message is the error with all its causes. What is hopeless
/// says so with [`Failure::permanent`]. It is not itself an [`Error`], so that `?` can do this.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

#[derive(Debug)]
enum Kind {
    Temporary { retry_in: Option<Duration> },
    Permanent,
    Decline,
}

impl Failure {
    /// Try again later, at the queue's pace.
    pub fn temporary(message: impl Display) -> Failure {
        Failure { kind: Kind::Temporary { retry_in: None }, message: message.to_string(), source: None }
    }

    /// Never try again: the job becomes a dead letter.
    pub fn permanent(message: impl Display) -> Failure {
        Failure { kind: Kind::Permanent, message: message.to_string(), source: None }
    }

    /// Give the job back; the attempt does not count and no failure is recorded.
    pub fn decline() -> Failure {
        Failure { kind: Kind::Decline, message: String::new(), source: None }
    }

    /// Try again after this long instead of at the queue's pace. Makes a failure temporary.
    #[must_use]
    pub fn retry_in(self, wait: Duration) -> Failure {
        Failure { kind: Kind::Temporary { retry_in: Some(wait) }, ..self }
    }

    /// The message that will be recorded.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error it was made of.
    pub(crate) fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.source.as_deref()
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors repeat their cause in their own text.
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        Failure { kind: Kind::Temporary { retry_in: None }, message, source: Some(Box::new(error)) }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Failure> for api::Outcome {
    fn from(failure: Failure) -> api::Outcome {
        let message = storable(failure.message);
        match failure.kind {
            Kind::Temporary { retry_in } => {
                let retry_in_ms = retry_in.map(|wait| millis(wait).min(api::limit::DELAY_MS));
                api::Outcome::TempFail { message, retry_in_ms }
            }
            Kind::Permanent => api::Outcome::PermFail { message },
            Kind::Decline => api::Outcome::Decline,
        }
    }
}

/// A message that the dispatcher takes: no NUL, at most 4 KiB, cut between characters.
fn storable(mut message: String) -> String {
    if message.contains('\0') {
        message = message.replace('\0', "\u{fffd}");
    }
    let mut end = message.len().min(api::limit::MESSAGE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    message
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_a_temporary_failure_with_its_causes() {
        let inner = std::io::Error::other("disk full");
        let failure = Failure::from(std::io::Error::other(inner));
        assert_eq!(failure.message(), "disk full");
        assert!(matches!(api::Outcome::from(failure), api::Outcome::TempFail { retry_in_ms: None, .. }));
    }

    #[test]
    fn a_message_is_made_storable() {
        let failure = Failure::permanent(format!("a\0{}", "ä".repeat(5000)));
        let api::Outcome::PermFail { message } = api::Outcome::from(failure) else { panic!("permanent") };
        assert!(message.len() <= api::limit::MESSAGE_BYTES && message.starts_with("a\u{fffd}ä"));
    }
}
