//! What at least two parts of Tidemill need: identifiers and wire types (feature `wire`), and for the
//! services (feature `server`) database access, configuration and the skeleton they run in.

pub mod api;
pub mod id;
pub mod lease;

#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod db;
#[cfg(feature = "server")]
pub mod failpoint;
#[cfg(feature = "server")]
pub mod queue;
#[cfg(feature = "server")]
pub mod schema;
#[cfg(feature = "server")]
pub mod secret;
#[cfg(feature = "server")]
pub mod service;
#[cfg(feature = "testing")]
pub mod testing;

/// An error and its causes in one line, for a log field: `move batch: no answer within 10000 ms`.
#[must_use]
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat the cause in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    // One line: a server's DETAIL must not look like a log line of its own.
    text.replace('\n', " ")
}
