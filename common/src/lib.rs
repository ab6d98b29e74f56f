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

/// An error and its causes in one line, for a log field: `move batch: no answer within 10000 ms`. Of a
/// server's error, message and SQLSTATE: the detail may quote a row, and payloads do not belong into logs.
#[must_use]
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = one_cause(cause);
        // Some libraries repeat the cause in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    // One line: nothing a server says may look like a log line of its own.
    text.replace('\n', " ")
}

fn one_cause(cause: &(dyn std::error::Error + 'static)) -> String {
    #[cfg(feature = "server")]
    if let Some(server) = cause.downcast_ref::<tokio_postgres::error::DbError>() {
        return format!("{} (SQLSTATE {})", server.message(), server.code().code());
    }
    cause.to_string()
}
