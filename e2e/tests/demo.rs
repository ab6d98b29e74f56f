//! `tidemill demo` as one runs it: it ends with OK, or with what is wrong, and leaves nothing behind.

use std::{
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tidemill_common::testing::{process::binary, wait_for};

/// A run in a temporary folder of its own: exit code, what it said, and whether anything is left there.
fn demo(arguments: &[&str]) -> Result<(Option<i32>, String, bool)> {
    let folder = shared_folder()?;
    let output = Command::new(binary("tidemill")?)
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .output()?;
    let said = [output.stdout, output.stderr].concat();
    let left = std::fs::read_dir(folder.path())?.next().is_some();
    Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned(), left))
}

/// PostgreSQL may run as another user, who must be able to reach its folder.
fn shared_folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("tidemill-e2e-").tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777))?;
    Ok(folder)
}

#[test]
fn it_ends_with_ok_and_leaves_nothing() -> Result<()> {
    let (code, said, left) = demo(&["--sources", "2", "--seconds", "3", "--rate", "50"])?;
    ensure!(code == Some(0) && said.contains("\nOK: "), "{code:?}\n{said}");
    ensure!(!left, "something is left:\n{said}");
    Ok(())
}

#[test]
fn chaos_kills_everything_and_the_books_still_agree() -> Result<()> {
    let (code, said, left) =
        demo(&["--sources", "2", "--seconds", "10", "--rate", "50", "--chaos", "--seed", "4711"])?;
    ensure!(code == Some(0) && said.contains("\nOK: "), "{code:?}\n{said}");
    ensure!(said.starts_with("Chaos with seed 4711:"), "{said}");
    for program in ["ticker", "mover", "dispatcher-1", "dispatcher-2", "worker"] {
        let row = said
            .lines()
            .rfind(|line| line.starts_with(&format!("{program} ")))
            .context("a row of the summary")?;
        let numbers: Vec<u32> = row.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
        ensure!(numbers[0] >= 2 && numbers[1] >= 1, "{row}");
    }
    ensure!(!left, "something is left:\n{said}");
    Ok(())
}

#[test]
fn what_is_not_done_is_said() -> Result<()> {
    let folder = shared_folder()?;
    let idle = folder.path().join("idle-worker");
    std::fs::write(&idle, "#!/bin/sh\nexec sleep 600\n")?;
    std::fs::set_permissions(&idle, std::fs::Permissions::from_mode(0o755))?;
    let idle = idle.to_str().context("a path in UTF-8")?;
    let (code, said, _) = demo(&["--sources", "1", "--seconds", "1", "--deadline", "2", "--worker", idle])?;
    ensure!(code == Some(1), "{code:?}\n{said}");
    ensure!(said.contains("tidemill: Not done: of ") && said.contains(", 0 applied; "), "{said}");
    ensure!(!said.contains("\nOK: "), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_it_when_it_is_killed() -> Result<()> {
    let folder = shared_folder()?;
    let mut demo = Command::new(binary("tidemill")?)
        .args(["demo", "--sources", "1", "--seconds", "60"])
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let path = folder.path().display().to_string();
    // The worker is the last to start, and told the database's place on its command line.
    wait_for("the demonstration to run", Duration::from_secs(60), async || {
        processes(&path).iter().any(|line| line.contains("ledger-worker")).then_some(())
    })
    .await;
    demo.kill()?;
    demo.wait()?;
    wait_for("everything to end", Duration::from_secs(30), async || {
        processes(&path).is_empty().then_some(())
    })
    .await;
    wait_for("everything to be removed", Duration::from_secs(30), async || {
        std::fs::read_dir(folder.path()).ok()?.next().is_none().then_some(())
    })
    .await;
    Ok(())
}

/// Command lines that name this folder, other than the shells that clean up.
fn processes(folder: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    // In a URL the folder's slashes are escaped.
    let escaped = folder.replace('/', "%2F");
    lines.filter(|line| line.contains(folder) || line.contains(&escaped)).collect()
}
