//! Which database a command means.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use tidemill_common::{
    config::{Settings, Source, nearest},
    db::{Session, Target, TargetOptions},
    schema,
};

use crate::error::CliError;

/// How the program calls itself in `pg_stat_activity`.
const APPLICATION: &str = "tidemill";

#[derive(Args)]
pub(crate) struct Database {
    /// Configuration file; without it the one that `TIDEMILL_CONFIG` names, and `TIDEMILL_…` variables
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A database of the configuration, or a URL; not needed where only one is configured
    #[arg(long, value_name = "NAME|URL")]
    database: Option<String>,
    /// With a URL: less than sslmode=verify-full to another machine is meant
    #[arg(long)]
    allow_plaintext: bool,
}

impl Database {
    /// Every database that is meant: the named one, or all of the configuration.
    pub(crate) fn targets(&self) -> Result<Vec<Arc<Target>>, CliError> {
        match &self.database {
            Some(name) => Ok(vec![self.named(name)?]),
            None => Ok(self.settings()?.targets().to_vec()),
        }
    }

    /// A database of the configuration, or a URL.
    fn named(&self, name: &str) -> Result<Arc<Target>, CliError> {
        if name.contains("://") || name.contains('=') {
            return Ok(Arc::new(self.at(name)?));
        }
        let settings = self.settings()?;
        settings.target(name).map(Arc::clone).ok_or_else(|| {
            let near = nearest(name, settings.targets().iter().map(|target| target.name()));
            let near = near.map_or_else(String::new, |near| format!("; the nearest name is {near}"));
            CliError::Usage(format!("No database \"{name}\" is configured{near}."))
        })
    }

    fn settings(&self) -> Result<Settings, CliError> {
        Ok(Settings::load(&Source::of_process(self.config.clone()))?)
    }

    fn at(&self, url: &str) -> Result<Target, CliError> {
        let options = TargetOptions { allow_plaintext: self.allow_plaintext, ..TargetOptions::default() };
        let target =
            Target::parse("", url, &options).map_err(|error| CliError::Usage(format!("{error}.")))?;
        let name = target.dbname().unwrap_or("postgres").to_owned();
        Ok(target.named(&name))
    }

    /// A session with the one database that is meant, whose schema is this program's.
    pub(crate) async fn session(&self) -> Result<Session, CliError> {
        let targets = self.targets()?;
        let [target] = targets.as_slice() else {
            let names: Vec<&str> = targets.iter().map(|target| target.name()).collect();
            return Err(CliError::Usage(format!(
                "Say which database with --database: {}.",
                names.join(", ")
            )));
        };
        checked(target).await
    }

    /// A session with another database than the one that is meant, by its name or URL.
    pub(crate) async fn other(&self, name: &str) -> Result<Session, CliError> {
        checked(&self.named(name)?).await
    }
}

async fn checked(target: &Arc<Target>) -> Result<Session, CliError> {
    let mut session = open(target);
    schema::check(&mut session).await?;
    Ok(session)
}

pub(crate) fn open(target: &Arc<Target>) -> Session {
    Session::new(Arc::clone(target), APPLICATION)
}
