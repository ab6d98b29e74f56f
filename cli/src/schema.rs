//! `tidemill schema`: install (which also upgrades), check, print.

use std::time::Duration;

use clap::Subcommand;
use tidemill_common::schema::{self, InstallOptions, Installed};

use crate::{
    connect::{Database, open},
    error::CliError,
    output::say,
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Install or upgrade the schema in one database, or in all that are configured; may be repeated
    Install {
        #[command(flatten)]
        database: Database,
        /// Do not make roles: those that exist are used
        #[arg(long)]
        no_roles: bool,
        /// Where the real PgQ is: replace its functions by ours and keep its queues, events and consumers. It leaves the
        /// extension; no way back
        #[arg(long)]
        adopt: bool,
    },
    /// Compare the schema of one database, or of all that are configured, with what this program needs
    Check {
        #[command(flatten)]
        database: Database,
    },
    /// Print the whole SQL, for psql
    Print,
}

/// A migration may wait for other installers, and rewrite tables.
const INSTALL_DEADLINE: Duration = Duration::from_secs(600);

pub(crate) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Install { database, no_roles, adopt } => {
            install(&database, &InstallOptions { roles: !no_roles, adopt }).await
        }
        Command::Check { database } => check(&database).await,
        Command::Print => say(schema::print()),
    }
}

/// Every database is tried; the first that fails is the error, the others are reported.
async fn install(database: &Database, options: &InstallOptions) -> Result<(), CliError> {
    let mut failed = None;
    for target in database.targets()? {
        let mut session = open(&target).with_deadline(INSTALL_DEADLINE);
        match schema::install(&mut session, options).await {
            Ok(installed) => say(report(target.name(), &installed))?,
            Err(error) => keep_first(&mut failed, error.into()),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn report(database: &str, installed: &Installed) -> String {
    let Installed { before, version, foreign_pgq, missing_roles } = installed;
    let mut out = match before {
        None => format!("{database}: schema {version} installed."),
        Some(before) if before == version => format!("{database}: schema {version} was there."),
        Some(before) => format!("{database}: schema {before} upgraded to {version}."),
    };
    if *foreign_pgq {
        out += " Its PgQ extension is used as it is.";
    }
    if !missing_roles.is_empty() {
        out += &format!(
            "\nThese roles are missing: {}. A role that may create roles runs:\n{}",
            missing_roles.join(", "),
            schema::role_statements(missing_roles)
        );
    }
    out
}

async fn check(database: &Database) -> Result<(), CliError> {
    let mut failed = None;
    for target in database.targets()? {
        match schema::check(&mut open(&target)).await {
            Ok(()) => say(format!("{}: schema {}, as needed.", target.name(), schema::version()))?,
            Err(error) => keep_first(&mut failed, error.into()),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The exit code and last words are the first error's; later ones are said at once.
fn keep_first(first: &mut Option<CliError>, error: CliError) {
    match first {
        None => *first = Some(error),
        Some(_) => eprintln!("tidemill: {}", error.sentence()),
    }
}
