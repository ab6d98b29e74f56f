//! Making one connection: every address in turn, each within `connect_timeout`, as libpq does it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::poll_fn;
use rand::seq::SliceRandom;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_postgres::config::{LoadBalanceHosts, SslMode as WireMode};
use tokio_postgres::error::DbError;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::cancel::{Peer, cancel};
use super::error::DbCause;
use super::hosts::HostEntry;
use super::statements::Statements;
use super::target::Target;
use super::tls;
use super::url::{Parsed, SslMode};
use crate::service::Wake;

/// So many connections are opened by this process at a time, so that a restarted server is not met by all of
/// them at once. The others queue, but not for long: a server that does not answer must not delay the rest.
static OPENING: Semaphore = Semaphore::const_new(16);
const OPENING_QUEUE: Duration = Duration::from_secs(1);

/// Who wants to hear of notifications, by channel.
pub(super) type Listeners = Arc<Mutex<HashMap<String, Vec<Wake>>>>;

/// What a server says that is no answer.
#[derive(Debug, Default)]
pub(super) struct Asides {
    /// It gave up waiting for a synchronous standby: see [`is_given_up`].
    pub given_up: AtomicBool,
    /// It ended the connection while no call was under way: whatever was sent after that, it never read.
    pub dismissed: AtomicBool,
}

/// An open connection and the task that drives it.
pub(super) struct Link {
    pub client: Client,
    driver: AbortHandle,
    tls: MakeRustlsConnect,
    peer: Peer,
    host: String,
    connect_timeout: Duration,
    /// What the server says outside of answers.
    pub asides: Arc<Asides>,
    /// What was prepared on it.
    pub statements: Statements,
    /// Set while a call is under way: if it is still set when the next one comes, that call was dropped
    /// half-way and its answer is still to come, so the connection is not used again.
    pub busy: bool,
}

impl Link {
    /// False if the connection ended or a call on it was given up.
    pub(super) fn is_usable(&self) -> bool {
        !self.busy && !self.client.is_closed() && !self.driver.is_finished()
    }

    /// The server had ended the connection before the call that failed reached it.
    pub(super) fn is_dismissed(&self) -> bool {
        self.asides.dismissed.load(Ordering::Acquire)
    }

    /// Gives the connection up while the server works for it: asks the server, over a connection of its own,
    /// to stop, and closes this one then. A statement whose client has just gone away would keep its locks
    /// until it ends by itself; and a pooler passes nothing on for a client that has gone.
    pub(super) fn cancel(self) {
        #[expect(clippy::disallowed_methods, reason = "bounded by connect_timeout; nobody waits for it")]
        tokio::spawn(async move {
            let token = self.client.cancel_token();
            // Best effort by its nature: the server says nothing about the outcome either. The empty query is
            // answered when the cancelled one has ended.
            let stopped = async {
                cancel(&token, &self.peer, self.tls.clone(), &self.host).await?;
                Ok::<(), Box<dyn std::error::Error + Send + Sync>>(self.client.batch_execute("").await?)
            };
            if let Ok(Err(error)) = tokio::time::timeout(self.connect_timeout, stopped).await {
                tracing::debug!(error = %crate::error_chain(error.as_ref()), "not cancelled");
            }
            drop(self);
        });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A healthy connection says goodbye by itself when its client goes away; a hung one would not.
        if self.busy {
            self.driver.abort();
        }
    }
}

/// Tries the target's addresses in their order (or at random, if the URL asks for it).
pub(super) async fn connect(
    target: &Target,
    application: &str,
    listeners: &Listeners,
) -> Result<Link, DbCause> {
    let parsed = target.current()?;
    let _permit = tokio::time::timeout(OPENING_QUEUE, OPENING.acquire()).await;
    let mut hosts: Vec<&HostEntry> = parsed.hosts.iter().collect();
    if parsed.load_balance == LoadBalanceHosts::Random {
        hosts.shuffle(&mut rand::rng());
    }
    let mut last = None;
    for host in hosts {
        match connect_host(target, &parsed, host, application, listeners).await {
            Ok(link) => return Ok(link),
            Err(cause) => last = Some(cause),
        }
    }
    Err(last.expect("a parsed URL has at least one host"))
}

async fn connect_host(
    target: &Target,
    parsed: &Parsed,
    host: &HostEntry,
    application: &str,
    listeners: &Listeners,
) -> Result<Link, DbCause> {
    let mode = parsed.mode_for(host);
    let tls = tls::connector(mode, &parsed.tls)?;
    let mut last = None;
    for address in addresses(parsed, host).await? {
        for wire in wire_modes(mode) {
            let config = config(target, parsed, host, address, application, wire);
            let attempt = tokio::time::timeout(parsed.connect_timeout, config.connect(tls.clone()));
            match attempt.await {
                Ok(Ok((client, connection))) => {
                    let asides = Arc::<Asides>::default();
                    let driver = drive(connection, Arc::clone(listeners), Arc::clone(&asides));
                    let (connect_timeout, peer) = (parsed.connect_timeout, peer(host, address));
                    let host = host.host.clone();
                    let (busy, statements) = (false, Statements::new(false));
                    return Ok(Link {
                        client,
                        driver,
                        tls,
                        peer,
                        host,
                        connect_timeout,
                        asides,
                        statements,
                        busy,
                    });
                }
                Ok(Err(source)) => last = Some(DbCause::Connect { host: host.to_string(), source }),
                Err(_) => {
                    let limit = parsed.connect_timeout;
                    last = Some(DbCause::ConnectTimeout { host: host.to_string(), limit });
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| DbCause::Resolve {
        host: host.host.clone(),
        source: std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"),
    }))
}

fn peer(host: &HostEntry, address: Option<IpAddr>) -> Peer {
    match address {
        Some(address) => Peer::Tcp((address, host.port).into()),
        None => Peer::Unix(Path::new(&host.host).join(format!(".s.PGSQL.{}", host.port))),
    }
}

/// `allow` means: without TLS first, with it if that was refused.
fn wire_modes(mode: SslMode) -> Vec<WireMode> {
    match mode {
        SslMode::Disable => vec![WireMode::Disable],
        SslMode::Allow => vec![WireMode::Disable, WireMode::Require],
        SslMode::Prefer => vec![WireMode::Prefer],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => vec![WireMode::Require],
    }
}

/// The name's addresses, looked up anew at each connect: after a failover they have changed.
async fn addresses(parsed: &Parsed, host: &HostEntry) -> Result<Vec<Option<IpAddr>>, DbCause> {
    if host.is_unix() {
        return Ok(vec![None]);
    }
    if let Some(address) = host.address.or_else(|| host.host.parse().ok()) {
        return Ok(vec![Some(address)]);
    }
    let look_up = tokio::net::lookup_host((host.host.as_str(), host.port));
    match tokio::time::timeout(parsed.connect_timeout, look_up).await {
        Ok(Ok(found)) => {
            let mut found: Vec<_> = found.map(|address| Some(address.ip())).collect();
            if parsed.load_balance == LoadBalanceHosts::Random {
                found.shuffle(&mut rand::rng());
            }
            Ok(found)
        }
        Ok(Err(source)) => Err(DbCause::Resolve { host: host.host.clone(), source }),
        Err(_) => Err(DbCause::ConnectTimeout { host: host.host.clone(), limit: parsed.connect_timeout }),
    }
}

fn config(
    target: &Target,
    parsed: &Parsed,
    host: &HostEntry,
    address: Option<IpAddr>,
    application: &str,
    wire: WireMode,
) -> Config {
    let mut config = Config::new();
    config.host(&host.host).port(host.port);
    if let Some(address) = address {
        config.hostaddr(address);
    }
    if let Some(dbname) = target.dbname() {
        config.dbname(dbname);
    }
    if let Some(user) = &parsed.user {
        config.user(user);
    }
    if let Some(password) = &parsed.password {
        config.password(password.reveal());
    }
    if let Some(options) = &parsed.options {
        config.options(options);
    }
    config
        .application_name(parsed.application_name.as_deref().unwrap_or(application))
        .ssl_mode(wire)
        .ssl_negotiation(parsed.ssl_negotiation)
        .channel_binding(parsed.channel_binding)
        .target_session_attrs(parsed.session_attrs)
        .connect_timeout(parsed.connect_timeout)
        .keepalives(parsed.keepalives)
        .keepalives_idle(parsed.keepalives_idle)
        .keepalives_interval(parsed.keepalives_interval)
        .keepalives_retries(parsed.keepalives_count)
        .tcp_user_timeout(parsed.tcp_user_timeout);
    config
}

/// Moves bytes between client and socket until either ends, and passes notifications on.
fn drive<T>(mut connection: Connection<Socket, T>, listeners: Listeners, asides: Arc<Asides>) -> AbortHandle
where
    T: TlsStream + Unpin + Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "the task belongs to the link, which ends it")]
    let task = tokio::spawn(async move {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            match message {
                Ok(AsyncMessage::Notification(notification)) => {
                    wake(&listeners, Some(notification.channel()));
                }
                // Before the answer of the call that it belongs to is passed on.
                Ok(AsyncMessage::Notice(notice)) if is_given_up(&notice) => {
                    asides.given_up.store(true, Ordering::Release);
                }
                Ok(_) => {}
                Err(error) => {
                    // An error that answers a call goes to that call. Noted before the connection, and with it what
                    // was sent meanwhile, is dropped.
                    asides.dismissed.store(error.as_db_error().is_some(), Ordering::Release);
                    break;
                }
            }
        }
        // Whoever listens should look: what happens from now on is not announced to it.
        wake(&listeners, None);
    });
    task.abort_handle()
}

/// A commit whose wait for a synchronous standby was cancelled succeeds, with a warning. Its text is translated and its
/// SQLSTATE is that of any warning; the routine's name is the same in PostgreSQL 14 to 18.
fn is_given_up(notice: &DbError) -> bool {
    notice.routine() == Some("SyncRepWaitForLSN")
}

fn wake(listeners: &Listeners, channel: Option<&str>) {
    let listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, wakes) in listeners.iter() {
        if channel.is_none_or(|channel| channel == name) {
            wakes.iter().for_each(Wake::wake);
        }
    }
}
