//! Compiles the files below `sql/` in: a list of (path, text) in the order in which they are installed, which is the
//! order of their names. `cargo test` compares it with the folder. Tests that compare with the real PgQ are ignored,
//! with the reason, where it is not installed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let servers = Path::new("/usr/share/postgresql");
    println!("cargo::rerun-if-changed={}", servers.display());
    for extension in ["pgq", "pgq_node"] {
        let name = format!("without_{extension}_extension");
        println!("cargo::rustc-check-cfg=cfg({name})");
        let control = format!("extension/{extension}.control");
        let has = |server: fs::DirEntry| server.path().join(&control).exists();
        if !fs::read_dir(servers).is_ok_and(|versions| versions.flatten().any(has)) {
            println!("cargo::rustc-cfg={name}");
        }
    }

    // Asked for now, not when this was compiled: a target directory may be that of several clones.
    let here =
        env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| io::Error::other("cargo sets CARGO_MANIFEST_DIR"))?;
    let sql = PathBuf::from(here).join("sql");
    println!("cargo::rerun-if-changed={}", sql.display());
    let mut files = Vec::new();
    for part in ["migrations", "functions", "compat"] {
        collect(&sql.join(part), &mut files)?;
    }
    files.extend(["adopt.sql", "roles.sql"].map(|name| sql.join(name)));

    let mut list = String::from(
        "/// Every file below `sql/`: its path there, its text.\npub(super) const FILES: &[(&str, &str)] = &[\n",
    );
    for file in &files {
        let name = file.strip_prefix(&sql).unwrap_or(file);
        writeln!(list, "    ({name:?}, include_str!({file:?})),").map_err(io::Error::other)?;
    }
    list.push_str("];\n");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("schema_files.rs"), list)
}

/// The `.sql` files below a folder, sorted by path.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut paths =
        fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
    Ok(())
}
