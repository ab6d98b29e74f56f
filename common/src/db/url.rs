//! A database URL with libpq's names, units and defaults, parsed once into typed settings.
//!
//! `tokio_postgres` alone does not know `sslmode=verify-full` or `sslrootcert`, and takes
//! `tcp_user_timeout` in seconds where libpq has milliseconds.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, SslNegotiation, TargetSessionAttrs};

use super::conninfo;
use super::hosts::{HostEntry, host_list};
use super::tls::{RootCerts, TlsFiles};
use crate::secret::Secret;

/// What is wrong with a database URL. No variant carries a value that could be the password.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Another scheme than libpq's.
    #[error("a database URL begins with postgresql:// or is written key=value")]
    Scheme,
    /// `key` without `=value`.
    #[error("a parameter of the database URL has no \"=\" (is a special character not percent-encoded?)")]
    MissingEquals,
    /// `[::1` without its end.
    #[error("an IPv6 address in the database URL is not closed by \"]\" and followed by \":port\"")]
    Bracket,
    /// `'value` without its end.
    #[error("a quoted value of the database URL is not closed by \"'\"")]
    Quote,
    /// `%zz` or `%00`.
    #[error("invalid percent-encoding in {place} of the database URL")]
    Percent {
        /// Which part.
        place: &'static str,
    },
    /// Nothing libpq knows.
    #[error("unknown parameter \"{name}\" in the database URL{}", nearest_hint(.nearest))]
    Unknown {
        /// As it was written.
        name: String,
        /// The known parameter that looks most like it.
        nearest: Option<&'static str>,
    },
    /// libpq knows it, we do not.
    #[error("parameter \"{0}\" of the database URL is not supported")]
    Unsupported(String),
    /// A value out of its set or range.
    #[error("{name} in the database URL must be {expected}")]
    Value {
        /// Parameter.
        name: &'static str,
        /// What is allowed.
        expected: &'static str,
    },
    /// Lists of different lengths.
    #[error("the database URL names {hosts} hosts but {other} {what}")]
    ListLength {
        /// How many hosts.
        hosts: usize,
        /// How many of the other.
        other: usize,
        /// `port` or `hostaddr`.
        what: &'static str,
    },
    /// TLS was weakened without saying so.
    #[error(
        "sslmode={mode} to {host} does not prove who the server is: use sslmode=verify-full, \
         or set allow_plaintext = true for this database"
    )]
    Plaintext {
        /// The mode of the URL.
        mode: SslMode,
        /// The first host concerned.
        host: String,
    },
    /// The file that holds the URL cannot be read.
    #[error("cannot read the database URL from {}", .path.display())]
    File {
        /// `url_file`.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn nearest_hint(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!(": did you mean \"{name}\"?")).unwrap_or_default()
}

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only if the server insists.
    Allow,
    /// TLS if the server can.
    Prefer,
    /// TLS, with anybody.
    Require,
    /// TLS, with a server our authority signed.
    VerifyCa,
    /// TLS, with the server of this name.
    VerifyFull,
}

impl std::fmt::Display for SslMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SslMode::Disable => "disable",
            SslMode::Allow => "allow",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        })
    }
}

/// A parsed URL.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub hosts: Vec<HostEntry>,
    pub dbname: Option<String>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub options: Option<String>,
    pub application_name: Option<String>,
    /// `None`: verify-full to everything that is not local, no TLS to what is.
    pub ssl_mode: Option<SslMode>,
    pub ssl_negotiation: SslNegotiation,
    pub tls: TlsFiles,
    pub channel_binding: ChannelBinding,
    pub session_attrs: TargetSessionAttrs,
    pub load_balance: LoadBalanceHosts,
    pub connect_timeout: Duration,
    pub keepalives: bool,
    pub keepalives_idle: Duration,
    pub keepalives_interval: Duration,
    pub keepalives_count: u32,
    pub tcp_user_timeout: Duration,
}

const SUPPORTED: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "channel_binding",
    "target_session_attrs",
    "load_balance_hosts",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
];

/// Known to libpq; refused by name, because ignoring one could weaken what the writer asked for.
const REFUSED: &[&str] = &[
    "passfile",
    "require_auth",
    "sslcompression",
    "sslpassword",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "requirepeer",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "min_protocol_version",
    "max_protocol_version",
    "krbsrvname",
    "gsslib",
    "gssencmode",
    "gssdelegation",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "replication",
    "sslkeylogfile",
    "oauth_issuer",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_scope",
];

impl Parsed {
    /// Reads a URL; judges every value but whether weak TLS is allowed ([`Parsed::check_tls`]).
    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        let mut parsed = Self::defaults();
        let (mut hosts, mut addresses, mut ports) = (String::new(), String::new(), String::new());
        for (key, value) in conninfo::parse(text)? {
            match key.as_str() {
                "host" => hosts = value,
                "hostaddr" => addresses = value,
                "port" => ports = value,
                _ => parsed.set(&key, value)?,
            }
        }
        parsed.hosts = host_list(&hosts, &addresses, &ports)?;
        Ok(parsed)
    }

    fn defaults() -> Self {
        Self {
            hosts: Vec::new(),
            dbname: None,
            user: None,
            password: None,
            options: None,
            application_name: None,
            ssl_mode: None,
            ssl_negotiation: SslNegotiation::Postgres,
            tls: TlsFiles::default(),
            channel_binding: ChannelBinding::Prefer,
            session_attrs: TargetSessionAttrs::ReadWrite,
            load_balance: LoadBalanceHosts::Disable,
            connect_timeout: Duration::from_secs(5),
            keepalives: true,
            keepalives_idle: Duration::from_secs(5),
            keepalives_interval: Duration::from_secs(2),
            keepalives_count: 3,
            tcp_user_timeout: Duration::from_secs(8),
        }
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), UrlError> {
        let text = || Some(value.clone()).filter(|text| !text.is_empty());
        match key {
            "dbname" => self.dbname = text(),
            "user" => self.user = text(),
            "password" => self.password = text().map(Secret::from),
            "options" => self.options = text(),
            "application_name" => self.application_name = text(),
            "fallback_application_name" => {}
            "client_encoding" => {
                let name = value.to_ascii_lowercase().replace(['-', '_'], "");
                choose("client_encoding", "UTF8", [("utf8", ()), ("auto", ())], &name)?;
            }
            "sslmode" => self.ssl_mode = Some(ssl_mode(&value)?),
            "sslnegotiation" => {
                let modes = [("postgres", SslNegotiation::Postgres), ("direct", SslNegotiation::Direct)];
                self.ssl_negotiation = choose("sslnegotiation", "postgres or direct", modes, &value)?;
            }
            "sslrootcert" => {
                self.tls.roots = match value.as_str() {
                    "" | "system" => RootCerts::System,
                    path => RootCerts::File(path.into()),
                };
            }
            "sslcert" => self.tls.cert = text().map(PathBuf::from),
            "sslkey" => self.tls.key = text().map(PathBuf::from),
            "channel_binding" => {
                let modes = [
                    ("disable", ChannelBinding::Disable),
                    ("prefer", ChannelBinding::Prefer),
                    ("require", ChannelBinding::Require),
                ];
                self.channel_binding =
                    choose("channel_binding", "disable, prefer or require", modes, &value)?;
            }
            "target_session_attrs" => self.session_attrs = session_attrs(&value)?,
            "load_balance_hosts" => {
                let modes = [("disable", LoadBalanceHosts::Disable), ("random", LoadBalanceHosts::Random)];
                self.load_balance = choose("load_balance_hosts", "disable or random", modes, &value)?;
            }
            "connect_timeout" => self.connect_timeout = seconds("connect_timeout", &value)?,
            "keepalives" => {
                self.keepalives = choose("keepalives", "0 or 1", [("0", false), ("1", true)], &value)?;
            }
            "keepalives_idle" => self.keepalives_idle = seconds("keepalives_idle", &value)?,
            "keepalives_interval" => self.keepalives_interval = seconds("keepalives_interval", &value)?,
            "keepalives_count" => {
                self.keepalives_count = number("keepalives_count", "a number of probes from 1", &value)?;
            }
            "tcp_user_timeout" => {
                let millis: u32 = number("tcp_user_timeout", "a number of milliseconds from 1", &value)?;
                self.tcp_user_timeout = Duration::from_millis(millis.into());
            }
            _ if REFUSED.contains(&key) => return Err(UrlError::Unsupported(key.to_owned())),
            _ => {
                let nearest = crate::config::nearest(key, SUPPORTED.iter().copied());
                return Err(UrlError::Unknown { name: key.to_owned(), nearest });
            }
        }
        Ok(())
    }

    /// How to speak to one of the hosts.
    pub(super) fn mode_for(&self, host: &HostEntry) -> SslMode {
        match self.ssl_mode {
            _ if host.is_unix() => SslMode::Disable,
            // libpq: with a root certificate at hand, `require` checks it.
            Some(SslMode::Require) if self.tls.roots != RootCerts::System => SslMode::VerifyCa,
            Some(mode) => mode,
            None if host.is_local() => SslMode::Disable,
            None => SslMode::VerifyFull,
        }
    }

    /// The first host that would be spoken to without proof of who it is.
    pub(super) fn weak_host(&self) -> Option<(&HostEntry, SslMode)> {
        let mut modes = self.hosts.iter().map(|host| (host, self.mode_for(host)));
        modes.find(|(host, mode)| !host.is_local() && *mode < SslMode::VerifyFull)
    }

    /// Refuses less than `verify-full` to anything that is not local, unless it is allowed by name.
    pub(super) fn check_tls(&self, allow_plaintext: bool) -> Result<(), UrlError> {
        match self.weak_host() {
            Some((host, mode)) if !allow_plaintext => {
                Err(UrlError::Plaintext { mode, host: host.host.clone() })
            }
            _ => Ok(()),
        }
    }
}

fn ssl_mode(value: &str) -> Result<SslMode, UrlError> {
    let modes = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
    choose("sslmode", "disable, allow, prefer, require, verify-ca or verify-full", modes, value)
}

fn session_attrs(value: &str) -> Result<TargetSessionAttrs, UrlError> {
    let modes = [
        ("any", TargetSessionAttrs::Any),
        ("read-write", TargetSessionAttrs::ReadWrite),
        ("primary", TargetSessionAttrs::ReadWrite),
        ("read-only", TargetSessionAttrs::ReadOnly),
    ];
    choose("target_session_attrs", "any, read-write, primary or read-only", modes, value)
}

fn choose<T, const N: usize>(
    name: &'static str,
    expected: &'static str,
    choices: [(&str, T); N],
    value: &str,
) -> Result<T, UrlError> {
    let chosen = choices.into_iter().find(|(text, _)| *text == value);
    chosen.map(|(_, choice)| choice).ok_or(UrlError::Value { name, expected })
}

/// A positive number. Zero means "no limit" to libpq, and every limit here is wanted.
pub(super) fn number<T>(name: &'static str, expected: &'static str, value: &str) -> Result<T, UrlError>
where
    T: std::str::FromStr + PartialOrd + From<u8>,
{
    let number = value.trim().parse::<T>().ok().filter(|number| *number >= T::from(1));
    number.ok_or(UrlError::Value { name, expected })
}

fn seconds(name: &'static str, value: &str) -> Result<Duration, UrlError> {
    let seconds: u32 = number(name, "a number of seconds from 1", value)?;
    Ok(Duration::from_secs(seconds.into()))
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
