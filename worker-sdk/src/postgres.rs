//! What the SDK needs to know about PostgreSQL: opening a connection, and what an error means for a transaction.

use std::error::Error;
use std::io;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

/// Makes connections for [`crate::Transactional`] without TLS: for Unix sockets and loopback. For anything else give
/// a function of your own that connects with TLS.
///
/// Dead peers are noticed within about ten seconds, and only a primary is taken.
pub fn connect_without_tls(
    mut config: Config,
) -> impl Fn() -> BoxFuture<'static, Result<Client, tokio_postgres::Error>> + Send + Sync + 'static {
    config
        .connect_timeout(Duration::from_secs(5))
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(10))
        .target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
    move || {
        let config = config.clone();
        async move {
            let (client, connection) = config.connect(NoTls).await?;
            let drive = async move {
                if let Err(error) = connection.await {
                    tracing::warn!(error = &error as &dyn Error, "a database connection is lost");
                }
            };
            #[expect(clippy::disallowed_methods, reason = "the connection's task ends with its client")]
            tokio::spawn(drive);
            Ok(client)
        }
        .boxed()
    }
}

/// What an error in a transaction means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The connection is of no use any more: the server is away, or is not the one to write to.
    Lost,
    /// The same transaction may succeed if it is repeated: serialization failure, deadlock.
    Repeat,
    /// One of the leases is not live.
    Stale,
    /// The statement itself failed.
    Failed,
}

pub(crate) fn meaning(error: &tokio_postgres::Error) -> Meaning {
    let Some(code) = error.code() else {
        // Not the server's word: the connection, unless it is about converting values.
        let io = error.source().is_some_and(<dyn Error>::is::<io::Error>);
        return if error.is_closed() || io { Meaning::Lost } else { Meaning::Failed };
    };
    match code.code() {
        "TM002" => Meaning::Stale,
        code if code.starts_with("08") || code.starts_with("57P") || code.starts_with("53") => Meaning::Lost,
        _ if *code == SqlState::READ_ONLY_SQL_TRANSACTION => Meaning::Lost,
        _ if *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED => {
            Meaning::Repeat
        }
        _ => Meaning::Failed,
    }
}
