//! Settings: one file for all services, read and checked once, before anything starts.
//!
//! The file named by `--config` or `TIDEMILL_CONFIG` (it must exist), then `TIDEMILL_SECTION__KEY` on top.
//! Only names with a double underscore are settings: Kubernetes makes `TIDEMILL_DISPATCHER_PORT` and the like
//! for its services, and they must not disturb.

mod admin;
mod database;
mod dispatcher;
mod env;
mod http;
mod load;
mod log;
mod mover;
mod shape;
mod ticker;
mod tls;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use admin::AdminSettings;
pub use database::DatabaseSettings;
pub use dispatcher::DispatcherSettings;
pub use http::HttpSettings;
pub use load::{ConfigError, Source};
pub use log::{LogFormat, LogSettings};
pub use mover::{MoverSettings, Route};
pub use ticker::TickerSettings;
pub use tls::TlsSettings;

use crate::db::Target;

/// All settings, checked. One struct for all services, so that one file serves all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The only database, or the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseSettings>,
    /// Several databases.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<DatabaseSettings>,
    /// `[ticker]`
    pub ticker: TickerSettings,
    /// `[mover]`
    pub mover: MoverSettings,
    /// `[dispatcher]`
    pub dispatcher: DispatcherSettings,
    /// `[http]`: the API
    pub http: HttpSettings,
    /// `[tls]`: certificate of the API
    pub tls: TlsSettings,
    /// `[admin]`: probes, metrics, stopping
    pub admin: AdminSettings,
    /// `[log]`
    pub log: LogSettings,
    #[serde(skip)]
    targets: Vec<Arc<Target>>,
}

impl Settings {
    /// Every configured database, in the order of the file.
    #[must_use]
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }

    /// The database of this name.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&Arc<Target>> {
        self.targets.iter().find(|target| target.name() == name)
    }

    /// The databases whose names match one of the patterns, in the order of the file.
    ///
    /// # Errors
    /// A sentence naming a pattern that matches none.
    pub fn databases_matching(&self, patterns: &[String]) -> Result<Vec<Arc<Target>>, ConfigError> {
        for pattern in patterns {
            if !self.targets.iter().any(|target| matches(pattern, target.name())) {
                let names = self.targets.iter().map(|target| target.name());
                return Err(ConfigError::sentence(format!(
                    "no configured database matches \"{pattern}\"{}",
                    hint(nearest(pattern, names))
                )));
            }
        }
        let chosen = self.targets.iter().filter(|target| patterns.iter().any(|p| matches(p, target.name())));
        Ok(chosen.cloned().collect())
    }

    /// Everything that must hold between settings, and the databases' URLs parsed. Sentences, all of them.
    fn check(&mut self) -> Vec<String> {
        let mut errors = Vec::new();
        self.targets = database::targets(self.database.as_ref(), &self.databases, &mut errors);
        self.ticker.check(&mut errors);
        self.mover.check(&mut errors);
        self.dispatcher.check(&mut errors);
        self.http.check(&mut errors);
        self.tls.check(&mut errors);
        self.admin.check(&mut errors);
        errors
    }

    /// An example with something in every list: the shape that files are compared with.
    fn example() -> Self {
        Self {
            database: Some(DatabaseSettings::default()),
            databases: vec![DatabaseSettings::default()],
            mover: MoverSettings { routes: vec![Route::default()], ..MoverSettings::default() },
            ..Self::default()
        }
    }
}

/// True if `text` is what `pattern` describes; `*` in it stands for any characters, also none.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    // The shortest match of each part is enough: what follows a `*` may begin anywhere.
    (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| matches(rest, &text[at..]))
}

/// The candidate that looks most like what was written, if any does.
#[must_use]
pub fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let scored = candidates.into_iter().map(|name| (strsim::jaro_winkler(written, name), name));
    let best = scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, name)| name)
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(": did you mean \"{name}\"?")).unwrap_or_default()
}

/// Adds a sentence if `low` is greater than `high`.
fn ordered(errors: &mut Vec<String>, low: (&str, u64), high: (&str, u64)) {
    if low.1 > high.1 {
        errors.push(format!("{} = {} must not be greater than {} = {}", low.0, low.1, high.0, high.1));
    }
}

/// Adds a sentence if a limit is zero.
fn positive(errors: &mut Vec<String>, name: &str, value: u64) {
    if value == 0 {
        errors.push(format!("{name} must be at least 1"));
    }
}

#[cfg(test)]
mod tests;
