//! Where PostgreSQL's server programs are.

use std::path::{Path, PathBuf};

use super::cluster::ClusterError;

/// The folder with `initdb`, `pg_ctl` and `postgres`: the one named by `TIDEMILL_TEST_PG_BIN`, else the newest
/// of those on `PATH` and below `/usr/lib/postgresql`.
pub(super) fn bin_dir() -> Result<PathBuf, ClusterError> {
    let environment =
        |wanted: &str| std::env::vars_os().find(|(name, _)| name == wanted).map(|(_, value)| value);
    if let Some(named) = environment("TIDEMILL_TEST_PG_BIN") {
        let dir = PathBuf::from(named);
        return if has_server(&dir) { Ok(dir) } else { Err(ClusterError::NoServerIn(dir)) };
    }
    let mut candidates: Vec<PathBuf> =
        environment("PATH").iter().flat_map(|path| std::env::split_paths(path).collect::<Vec<_>>()).collect();
    for parent in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"] {
        let versions = std::fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok);
        candidates.extend(versions.map(|version| version.path().join("bin")));
    }
    // pgsql-NN is where the packages of other distributions put it.
    let other = std::fs::read_dir("/usr").into_iter().flatten().filter_map(Result::ok);
    candidates.extend(
        other
            .filter(|dir| dir.file_name().to_string_lossy().starts_with("pgsql"))
            .map(|dir| dir.path().join("bin")),
    );
    let found =
        candidates.into_iter().filter(|dir| has_server(dir)).filter_map(|dir| Some((version(&dir)?, dir)));
    found.max_by_key(|(version, _)| *version).map(|(_, dir)| dir).ok_or(ClusterError::NoServer)
}

fn has_server(dir: &Path) -> bool {
    ["initdb", "pg_ctl", "postgres"].iter().all(|name| dir.join(name).is_file())
}

/// Major version, from `postgres (PostgreSQL) 15.18 (Debian …)`.
fn version(dir: &Path) -> Option<u32> {
    let output = std::process::Command::new(dir.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split(" (PostgreSQL) ").nth(1)?;
    number.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}
