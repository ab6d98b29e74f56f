//! The schema: the SQL below `common/sql`, compiled in, as one script that installs, upgrades and may be repeated.
//!
//! A migration is applied once and recorded in `tidemill.migration` with its checksum; functions and grants are set
//! again by every run. All of it is one transaction under one advisory lock, so that any number of installers may run
//! at the same time. [`print()`] shows the script, [`install`] runs it, [`check`] compares.

use tokio_postgres::types::FromSql;

use crate::db::{DbError, Row, Session, Type};

mod script;

use script::{ROLES, migrations, script};
pub use script::{print, role_statements};

/// The schema version that this program needs: the number of its last migration.
#[must_use]
pub fn version() -> i32 {
    migrations().map(|migration| migration.version).max().unwrap_or(0)
}

/// What the installer is to do beside the tables and functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstallOptions {
    /// Make the roles that are missing, where the installing role may. Grants to existing ones are set in any case.
    pub roles: bool,
    /// Where the real PgQ is, replace its functions by ours and keep its tables with all that is in them. Otherwise
    /// it is used as it is.
    pub adopt: bool,
}

impl Default for InstallOptions {
    fn default() -> Self {
        Self { roles: true, adopt: false }
    }
}

/// What [`install`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The schema version before; `None` if there was no schema.
    pub before: Option<i32>,
    /// The schema version now.
    pub version: i32,
    /// True if the log (schema `pgq`) is the real PgQ's: it was not touched.
    pub foreign_pgq: bool,
    /// Roles that do not exist and could (or should) not be made: [`role_statements`] shows what a DBA runs.
    pub missing_roles: Vec<String>,
}

/// Why a schema cannot be used or installed.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// There is none.
    #[error(
        "database {database} has no Tidemill schema: run `tidemill schema install --database {database}`"
    )]
    Missing {
        /// Name in the configuration.
        database: String,
    },
    /// It is of an earlier version of Tidemill.
    #[error(
        "database {database} has schema {found}, this program needs {needed}: \
         run `tidemill schema install --database {database}`"
    )]
    Older {
        /// Name in the configuration.
        database: String,
        /// Its version.
        found: i32,
        /// This program's version.
        needed: i32,
    },
    /// It is of a later version of Tidemill.
    #[error(
        "database {database} has schema {found}, this program needs {needed}: use a newer version of this program"
    )]
    Newer {
        /// Name in the configuration.
        database: String,
        /// Its version.
        found: i32,
        /// This program's version.
        needed: i32,
    },
    /// A migration was applied with another content: a development version, or a file was edited.
    #[error(
        "migration {version} of database {database} was applied with another content than this program's"
    )]
    Changed {
        /// Name in the configuration.
        database: String,
        /// The migration.
        version: i32,
    },
    /// The database did not answer as expected.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl crate::service::Classified for SchemaError {
    fn class(&self) -> crate::db::Class {
        match self {
            Self::Db(error) => error.class(),
            Self::Missing { .. } | Self::Older { .. } | Self::Newer { .. } | Self::Changed { .. } => {
                crate::db::Class::Stop
            }
        }
    }
}

/// Installs or upgrades the schema. Repeating it, also at the same time, is safe.
///
/// # Errors
/// [`SchemaError::Newer`] and [`SchemaError::Changed`] before anything is touched; [`SchemaError::Db`], after which
/// nothing was changed and the session is closed.
pub async fn install(session: &mut Session, options: &InstallOptions) -> Result<Installed, SchemaError> {
    let before = applied(session).await?;
    match verdict(&before, session.database().as_ref()) {
        Ok(()) | Err(SchemaError::Missing { .. } | SchemaError::Older { .. }) => {}
        Err(error) => return Err(error),
    }
    if let Err(error) = session.batch("install schema", &script(options)).await {
        // The script's own transaction may still be open.
        session.close();
        return Err(error.into());
    }
    let after = applied(session).await?;
    verdict(&after, session.database().as_ref())?;
    Ok(Installed {
        before: newest(&before),
        version: version(),
        foreign_pgq: after.iter().any(|row| row.version == 1 && row.checksum.is_empty()),
        missing_roles: missing_roles(session).await?,
    })
}

/// Compares the database's schema with what this program needs.
///
/// # Errors
/// [`SchemaError`], a sentence that says what to do.
pub async fn check(session: &mut Session) -> Result<(), SchemaError> {
    let applied = applied(session).await?;
    verdict(&applied, session.database().as_ref())
}

/// One row of `tidemill.migration`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Applied {
    version: i32,
    /// Hexadecimal; empty if the migration was not applied, because the real PgQ is there.
    checksum: String,
}

fn newest(applied: &[Applied]) -> Option<i32> {
    applied.iter().map(|row| row.version).max()
}

fn verdict(applied: &[Applied], database: &str) -> Result<(), SchemaError> {
    let (database, needed) = (database.to_owned(), version());
    let Some(found) = newest(applied) else { return Err(SchemaError::Missing { database }) };
    let changed = migrations().find(|migration| {
        applied.iter().any(|row| {
            row.version == migration.version && !row.checksum.is_empty() && row.checksum != migration.checksum
        })
    });
    if found > needed {
        return Err(SchemaError::Newer { database, found, needed });
    }
    if let Some(migration) = changed {
        return Err(SchemaError::Changed { database, version: migration.version });
    }
    if found < needed {
        return Err(SchemaError::Older { database, found, needed });
    }
    Ok(())
}

async fn applied(session: &mut Session) -> Result<Vec<Applied>, DbError> {
    let op = "read schema version";
    let there = "select to_regclass('tidemill.migration') is not null";
    let row = session.query_one(op, there, &[]).await?;
    let there: bool = decode(op, session, &row, 0)?;
    if !there {
        return Ok(Vec::new());
    }
    let rows =
        session.query(op, "select version, checksum from tidemill.migration order by version", &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Applied { version: decode(op, session, row, 0)?, checksum: decode(op, session, row, 1)? })
        })
        .collect()
}

fn decode<T>(op: &'static str, session: &Session, row: &Row, column: usize) -> Result<T, DbError>
where
    T: for<'r> FromSql<'r>,
{
    row.try_get(column).map_err(|error| DbError::decode(op, &session.database(), error))
}

async fn missing_roles(session: &mut Session) -> Result<Vec<String>, DbError> {
    let op = "look for roles";
    let sql = "select r from unnest($1) with ordinality as t (r, n) where to_regrole(r) is null order by n";
    let rows = session.query(op, sql, &[(&ROLES, Type::TEXT_ARRAY)]).await?;
    rows.iter().map(|row| decode(op, session, row, 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Applied> {
        migrations().map(|m| Applied { version: m.version, checksum: m.checksum }).collect()
    }

    #[test]
    fn the_sentences_are_those_of_the_reference() {
        let say = |applied: &[Applied]| verdict(applied, "shop").map_err(|error| error.to_string());
        assert_eq!(say(&all()), Ok(()));
        let needed = version();
        assert_eq!(
            say(&all()[..1]),
            Err(format!(
                "database shop has schema 1, this program needs {needed}: run `tidemill schema install --database shop`"
            ))
        );
        assert_eq!(
            say(&[]),
            Err("database shop has no Tidemill schema: run `tidemill schema install --database shop`"
                .to_owned())
        );
        let mut newer = all();
        newer.push(Applied { version: 999, checksum: "x".to_owned() });
        assert_eq!(
            say(&newer),
            Err(format!(
                "database shop has schema 999, this program needs {needed}: use a newer version of this program"
            ))
        );
        let mut changed = all();
        changed[1].checksum = "edited".to_owned();
        assert_eq!(
            say(&changed),
            Err("migration 2 of database shop was applied with another content than this program's"
                .to_owned())
        );
    }

    #[test]
    fn the_real_pgq_counts_as_the_first_migration() {
        let mut foreign = all();
        foreign[0].checksum.clear();
        assert!(verdict(&foreign, "shop").is_ok());
    }
}
