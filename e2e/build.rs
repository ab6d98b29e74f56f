//! Which of PgQ's programs this machine has. The tests that drive one which it has not are ignored, with the reason,
//! and never pass for nothing.

use std::path::Path;
use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    has("pgqd", Path::new("/usr/bin/pgqd").exists(), "/usr/bin/pgqd");
    has("python_pgq", imports("pgq, skytools, psycopg2"), "/usr/lib/python3/dist-packages/pgq");
    let londiste = Path::new("/usr/bin/londiste").exists()
        && imports("londiste")
        && below_postgresql("contrib/londiste.sql");
    println!("cargo::rerun-if-changed=/usr/share/postgresql");
    has("londiste", londiste, "/usr/bin/londiste");
    has("pgq_extension", below_postgresql("extension/pgq.control"), "/usr/share/postgresql");
}

/// Whether one of the distribution's servers has this file.
fn below_postgresql(file: &str) -> bool {
    std::fs::read_dir("/usr/share/postgresql")
        .is_ok_and(|versions| versions.flatten().any(|dir| dir.path().join(file).exists()))
}

/// Sets `without_NAME` when it is not there, and looks again when `path` changes.
fn has(name: &str, there: bool, path: &str) {
    println!("cargo::rustc-check-cfg=cfg(without_{name})");
    println!("cargo::rerun-if-changed={path}");
    if !there {
        println!("cargo::rustc-cfg=without_{name}");
    }
}

/// Whether the distribution's Python has these modules.
fn imports(modules: &str) -> bool {
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", &format!("import {modules}")]).stdout(Stdio::null()).stderr(Stdio::null());
    python.status().is_ok_and(|status| status.success())
}
