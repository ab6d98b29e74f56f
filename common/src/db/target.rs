//! One database as the configuration names it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tls;
use super::url::{Parsed, UrlError};

/// What stands between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooler {
    /// Nothing, or a pooler in session mode.
    #[default]
    None,
    /// A pooler in transaction mode: no LISTEN, no settings that outlive a transaction.
    Transaction,
}

/// What the configuration says beside the URL.
#[derive(Debug, Clone, Copy, Default)]
pub struct TargetOptions {
    /// Less than `sslmode=verify-full` to a host that is not local is meant.
    pub allow_plaintext: bool,
    /// What stands in between.
    pub pooler: Pooler,
}

/// Where a database is and how to speak to it. Debug and Display never show the password.
#[derive(Debug, Clone)]
pub struct Target {
    name: Arc<str>,
    parsed: Arc<Parsed>,
    /// Read again at every connect, so that a rotated password needs no restart.
    url_file: Option<PathBuf>,
    /// Database that replaces the URL's.
    dbname: Option<String>,
    options: TargetOptions,
}

impl Target {
    /// Reads a libpq URL or `key=value` text. `name` is how logs and metrics call this database.
    ///
    /// # Errors
    /// [`UrlError`], a sentence without any secret.
    pub fn parse(name: &str, url: &str, options: &TargetOptions) -> Result<Self, UrlError> {
        let parsed = Parsed::parse(url)?;
        parsed.check_tls(options.allow_plaintext)?;
        let parsed = Arc::new(parsed);
        Ok(Self { name: name.into(), parsed, url_file: None, dbname: None, options: *options })
    }

    /// Like [`Target::parse`] with the URL in a file, which is read again at every connect.
    ///
    /// # Errors
    /// [`UrlError`], also if the file cannot be read.
    pub fn from_file(name: &str, path: &Path, options: &TargetOptions) -> Result<Self, UrlError> {
        let target = Self::parse(name, &read_url(path)?, options)?;
        Ok(Self { url_file: Some(path.to_owned()), ..target })
    }

    /// Reads certificates and keys once, so that a wrong path is found at startup.
    ///
    /// # Errors
    /// [`tls::TlsError`] names the file.
    pub fn check_files(&self) -> Result<(), tls::TlsError> {
        for host in &self.parsed.hosts {
            tls::connector(self.parsed.mode_for(host), &self.parsed.tls)?;
        }
        Ok(())
    }

    /// The name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name, for errors and labels that outlive this target.
    #[must_use]
    pub fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// What stands between us and the server.
    #[must_use]
    pub fn pooler(&self) -> Pooler {
        self.options.pooler
    }

    /// The database's name on the server; `None`: the user's name.
    #[must_use]
    pub fn dbname(&self) -> Option<&str> {
        self.dbname.as_deref().or(self.parsed.dbname.as_deref())
    }

    /// The same server and options, another database; also named after it.
    #[must_use]
    pub fn with_database(&self, dbname: &str) -> Self {
        Self { name: dbname.into(), dbname: Some(dbname.to_owned()), ..self.clone() }
    }

    /// The same target under another name.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self { name: name.into(), ..self.clone() }
    }

    /// True if somebody in between could read or change what we send.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.parsed.weak_host().is_some()
    }

    /// `connect_timeout` of the URL: the limit for one address.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.parsed.connect_timeout
    }

    /// Where it is, without password and parameters: `postgresql://user@host:port/dbname`.
    #[must_use]
    pub fn display_url(&self) -> String {
        let hosts: Vec<_> = self.parsed.hosts.iter().map(ToString::to_string).collect();
        let user = self.parsed.user.as_deref().map(|user| format!("{user}@")).unwrap_or_default();
        format!("postgresql://{user}{}/{}", hosts.join(","), self.dbname().unwrap_or_default())
    }

    /// The settings as they are now: a `url_file` is read again.
    pub(super) fn current(&self) -> Result<Arc<Parsed>, UrlError> {
        let Some(path) = &self.url_file else { return Ok(Arc::clone(&self.parsed)) };
        let parsed = Parsed::parse(&read_url(path)?)?;
        parsed.check_tls(self.options.allow_plaintext)?;
        Ok(Arc::new(parsed))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.display_url())
    }
}

fn read_url(path: &Path) -> Result<String, UrlError> {
    std::fs::read_to_string(path).map_err(|source| UrlError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_without_password() {
        let target =
            Target::parse("jobs", "postgresql://u:s3cret@h:1,g/d?options=x", &TargetOptions::default());
        let target = target.unwrap();
        assert_eq!(target.to_string(), "jobs (postgresql://u@h:1,g:5432/d)");
        assert!(!format!("{target:?}").contains("s3cret"));
        assert_eq!(target.with_database("other").display_url(), "postgresql://u@h:1,g:5432/other");
    }

    #[test]
    fn a_url_file_is_read_again() {
        let file = std::env::temp_dir().join(format!("tidemill-url-{}", std::process::id()));
        std::fs::write(&file, "postgresql://u:one@localhost/d\n").unwrap();
        let target = Target::from_file("jobs", &file, &TargetOptions::default()).unwrap();
        std::fs::write(&file, "postgresql://u:two@localhost/d").unwrap();
        assert_eq!(target.current().unwrap().password.as_ref().unwrap().reveal(), "two");
        std::fs::remove_file(&file).unwrap();
        assert!(target.current().unwrap_err().to_string().starts_with("cannot read the database URL from"));
    }
}
