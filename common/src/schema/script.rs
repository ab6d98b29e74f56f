//! The script: what `tidemill schema print` prints and `tidemill schema install` runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::{InstallOptions, version};

include!(concat!(env!("OUT_DIR"), "/schema_files.rs"));

/// The roles of `sql/roles.sql`, in its order.
pub(super) const ROLES: &[&str] = &[
    "pgq_reader",
    "pgq_writer",
    "pgq_admin",
    "tidemill_producer",
    "tidemill_worker",
    "tidemill_ticker",
    "tidemill_mover",
    "tidemill_dispatcher",
    "tidemill_monitor",
];

/// Role and member, as in `sql/roles.sql`.
const MEMBERS: &[(&str, &str)] = &[
    ("pgq_reader", "pgq_admin"),
    ("pgq_writer", "pgq_admin"),
    ("pgq_writer", "tidemill_producer"),
    ("pgq_reader", "tidemill_mover"),
    ("pgq_reader", "tidemill_dispatcher"),
];

/// One file of `sql/migrations` or `sql/compat/*/migrations`: the numbers are those of one row.
pub(super) struct Migration {
    /// The number its name begins with.
    pub(super) version: i32,
    /// SHA-256 of its text, hexadecimal.
    pub(super) checksum: String,
    /// The schema that it makes and that may be there already as a real extension of PgQ.
    schema: Option<&'static str>,
    sql: &'static str,
}

/// The migrations, in order.
pub(super) fn migrations() -> impl Iterator<Item = Migration> {
    let mut all: Vec<_> = FILES
        .iter()
        .filter_map(|(path, sql)| {
            let (folder, name) = path.rsplit_once('/')?;
            let folder = folder.strip_suffix("migrations")?;
            let version = name.split('_').next()?.parse().ok()?;
            let schema = match folder.strip_prefix("compat/") {
                Some(schema) => Some(schema.trim_end_matches('/')),
                None => (version == 1).then_some("pgq"),
            };
            let checksum = Sha256::digest(sql).iter().fold(String::new(), |mut hex, byte| {
                push(&mut hex, format_args!("{byte:02x}"));
                hex
            });
            Some(Migration { version, checksum, schema, sql })
        })
        .collect();
    all.sort_by_key(|migration| migration.version);
    all.into_iter()
}

/// The schemas below `sql/compat` with their functions and grants.
fn compat() -> BTreeMap<&'static str, Vec<(&'static str, &'static str)>> {
    let mut schemas = BTreeMap::<_, Vec<_>>::new();
    for &(path, text) in FILES {
        if let Some((schema, file)) = path.strip_prefix("compat/").and_then(|rest| rest.split_once('/'))
            && !file.starts_with("migrations/")
        {
            schemas.entry(schema).or_default().push((path, text));
        }
    }
    schemas
}

/// The whole schema as SQL: one transaction, loadable with psql, also over an older version of it or over itself.
#[must_use]
pub fn print() -> String {
    script(&InstallOptions::default())
}

/// What a DBA runs, as a role that may, to make roles which an installer could not make. Empty without any.
#[must_use]
pub fn role_statements(missing: &[String]) -> String {
    let is_missing = |role: &str| missing.iter().any(|name| name == role);
    let mut sql = String::new();
    for role in ROLES.iter().filter(|role| is_missing(role)) {
        push(&mut sql, format_args!("create role {role} nologin;\n"));
    }
    for (role, member) in MEMBERS.iter().filter(|(role, member)| is_missing(role) || is_missing(member)) {
        push(&mut sql, format_args!("grant {role} to {member};\n"));
    }
    sql
}

pub(super) fn script(options: &InstallOptions) -> String {
    let mut sql = String::new();
    push(&mut sql, format_args!("{}", HEAD.replace("{version}", &version().to_string())));
    if !options.roles {
        sql.push_str("set local tidemill.no_roles = 'on';\n");
    }
    if options.adopt {
        sql.push_str("set local tidemill.adopt = 'on';\n");
        push_file(&mut sql, "adopt.sql");
    }
    for migration in migrations() {
        push_migration(&mut sql, &migration);
    }
    // The functions of the log stay as they are where the real PgQ is; ours come first, with the one that tells.
    let (log, ours): (Vec<_>, Vec<_>) = FILES
        .iter()
        .filter(|(name, _)| name.starts_with("functions/"))
        .partition(|(_, text)| text.lines().any(|line| line.starts_with("create or replace function pgq.")));
    for (name, text) in ours {
        push(&mut sql, format_args!("\n-- {name}\n{text}"));
    }
    sql.push_str("\ndo $install$ begin if tidemill.owns_pgq() then execute $pgq_functions$\n");
    for (name, text) in log {
        push(&mut sql, format_args!("\n-- {name}\n{text}"));
    }
    sql.push_str("$pgq_functions$; end if; end $install$;\n");
    push_file(&mut sql, "roles.sql");
    for (schema, files) in compat() {
        push_compat(&mut sql, schema, &files);
    }
    sql.push_str("\ncommit;\n");
    sql
}

fn push_file(sql: &mut String, wanted: &str) {
    for (name, text) in FILES.iter().filter(|(name, _)| *name == wanted) {
        push(sql, format_args!("\n-- {name}\n{text}"));
    }
}

/// Functions and grants of a schema below `sql/compat`, unless the real extension is there.
fn push_compat(sql: &mut String, schema: &str, files: &[(&str, &str)]) {
    let Some(migration) = migrations().find(|migration| migration.schema == Some(schema)) else { return };
    push(
        sql,
        format_args!(
            "\ndo $install$ begin if exists (select 1 from tidemill.migration where version = {} and checksum <> '') \
             then execute ${schema}_functions$\n",
            migration.version
        ),
    );
    for (name, text) in files {
        push(sql, format_args!("\n-- {name}\n{text}"));
    }
    push(sql, format_args!("${schema}_functions$; end if; end $install$;\n"));
}

const HEAD: &str = "\
-- Tidemill's schema, version {version}. One transaction; load it with psql as the database's owner, again for an upgrade.
begin isolation level read committed;
set local client_min_messages = warning;
set local check_function_bodies = off;
set local search_path = pg_catalog, pg_temp;
-- One installation at a time; and none while somebody makes or drops a queue, which also locks what is locked below.
do $install$ begin perform pg_advisory_xact_lock(7465003); perform pg_advisory_xact_lock(7465004); end $install$;
create schema if not exists tidemill;
create table if not exists tidemill.migration (
    version    integer primary key,
    checksum   text not null,
    applied_at timestamptz not null default clock_timestamp()
);
do $install$ begin
    if exists (select 1 from tidemill.migration where version > {version}) then
        raise exception 'this database has schema %, newer than {version}', (select max(version) from tidemill.migration);
    end if;
end $install$;
";

/// A migration that is applied if it is not recorded. Where its schema is there as a real extension, or belongs to the
/// real PgQ, it is recorded without a checksum instead; a later install, when that is gone, applies it.
fn push_migration(sql: &mut String, migration: &Migration) {
    let Migration { version, checksum, schema, sql: text } = migration;
    let record = format!(
        "insert into tidemill.migration (version, checksum) values ({version}, '{checksum}')\n        \
         on conflict (version) do update set checksum = excluded.checksum, applied_at = excluded.applied_at;"
    );
    // See adopt.sql: the tables are those of the real PgQ.
    let adopted = match version {
        1 => format!("    elsif current_setting('tidemill.adopted', true) = 'on' then\n        {record}\n"),
        _ => String::new(),
    };
    let instead = schema.map_or_else(String::new, |schema| {
        let foreign = match schema {
            "pgq" => "to_regprocedure('pgq.version()') is not null".to_owned(),
            _ => format!(
                "to_regprocedure('{schema}.version()') is not null\n        \
                 or not exists (select 1 from tidemill.migration where version = 1 and checksum <> '')"
            ),
        };
        format!(
            "    elsif {foreign} then\n        \
             insert into tidemill.migration (version, checksum) values ({version}, '') on conflict (version) do nothing;\n"
        )
    });
    push(
        sql,
        format_args!(
            "\ndo $install$ begin\n    \
             if exists (select 1 from tidemill.migration where version = {version} and checksum not in ('', '{checksum}')) then\n        \
             raise exception 'migration {version} was applied with another content';\n    \
             elsif exists (select 1 from tidemill.migration where version = {version} and checksum <> '') then\n        \
             return;\n{adopted}{instead}    \
             else\n        \
             execute $migration_{version}$\n{text}$migration_{version}$;\n        \
             {record}\n    \
             end if;\nend $install$;\n"
        ),
    );
}

fn push(sql: &mut String, text: std::fmt::Arguments<'_>) {
    sql.write_fmt(text).expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("folder is readable") {
            let path = entry.expect("entry is readable").path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|e| e == "sql") {
                found.push(path);
            }
        }
    }

    #[test]
    fn the_files_compiled_in_are_the_files_on_disk() {
        let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
        let mut disk = vec![sql.join("adopt.sql"), sql.join("roles.sql")];
        below(&sql.join("migrations"), &mut disk);
        below(&sql.join("functions"), &mut disk);
        below(&sql.join("compat"), &mut disk);
        let mut disk: Vec<_> = disk
            .iter()
            .map(|path| {
                (
                    path.strip_prefix(&sql).expect("below sql").to_owned(),
                    std::fs::read_to_string(path).expect("text"),
                )
            })
            .collect();
        disk.sort();
        let mut compiled: Vec<_> =
            FILES.iter().map(|(name, text)| (PathBuf::from(name), (*text).to_owned())).collect();
        compiled.sort();
        assert_eq!(compiled, disk);
    }

    #[test]
    fn migrations_are_numbered_from_one_without_a_gap() {
        let numbers: Vec<_> = migrations().map(|m| m.version).collect();
        assert_eq!(numbers, (1..=i32::try_from(numbers.len()).expect("few")).collect::<Vec<_>>());
    }

    #[test]
    fn every_function_file_pins_its_search_path_and_says_who_may_call() {
        for (name, text) in FILES.iter().filter(|(name, _)| name.contains("functions/")) {
            let functions =
                text.lines().filter(|line| line.starts_with("create or replace function")).count();
            assert!(functions > 0, "{name}: only `create or replace function`");
            assert!(text.starts_with("-- "), "{name}: no header");
            // The triggers show names as the session does; what may be qualified in them, is. The short insert_event is
            // one qualified call, and ticker_sleeps one qualified expression, which is inlined.
            let pinned = match name.rsplit('/').next() {
                Some("jsontriga.sql" | "logutriga.sql" | "sqltriga.sql" | "ticker_sleeps.sql") => 0,
                Some("insert_event.sql") => functions - 1,
                _ => functions,
            };
            assert_eq!(
                text.matches("\nset search_path = pg_catalog").count(),
                pinned,
                "{name}: search_path not pinned"
            );
            let ends_with_temp = text
                .lines()
                .filter(|line| line.starts_with("set search_path"))
                .all(|line| line.trim_end_matches([';', ' ']).ends_with("pg_temp"));
            assert!(ends_with_temp, "{name}: pg_temp is not last");
            // A scan that has no index costs ten billion then, and is compiled for 50 ms each time.
            let count = |setting| text.lines().filter(|line| *line == setting).count();
            assert_eq!(
                count("set enable_seqscan = off"),
                count("set jit = off"),
                "{name}: jit not off where seqscan is"
            );
        }
    }

    #[test]
    fn every_compatible_schema_is_made_by_one_migration() {
        for schema in compat().keys() {
            assert_eq!(migrations().filter(|m| m.schema == Some(schema)).count(), 1, "{schema}");
        }
    }

    #[test]
    fn the_roles_are_those_of_the_sql() {
        let (_, sql) = FILES.iter().find(|(name, _)| *name == "roles.sql").expect("roles.sql");
        for role in ROLES {
            assert!(sql.contains(&format!("'{role}'")), "{role}");
        }
        for (role, member) in MEMBERS {
            assert!(sql.contains(&format!("['{role}', '{member}']")), "{member}");
        }
    }

    #[test]
    fn a_dba_gets_statements_for_what_is_missing() {
        assert_eq!(role_statements(&[]), "");
        assert_eq!(
            role_statements(&["tidemill_producer".to_owned()]),
            "create role tidemill_producer nologin;\ngrant pgq_writer to tidemill_producer;\n"
        );
    }
}
