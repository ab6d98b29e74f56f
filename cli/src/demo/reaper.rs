//! Nothing outlives the demonstration, not even when it is killed itself: a small shell in a process group of its own
//! holds the list of what runs, and ends it when the pipe to the demonstration closes.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context, Result};
use nix::unistd::Pid;

/// Reads `+ GROUP`, `- GROUP` and `folder PATH` until the pipe closes; then kills the groups that are left and removes
/// the folder.
const SCRIPT: &str = r#"
groups=
folder=
while read -r change what; do
    case $change in
    +) groups="$groups $what" ;;
    -)  left=
        for group in $groups; do [ "$group" = "$what" ] || left="$left $group"; done
        groups=$left ;;
    folder) folder=$what ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
[ -z "$folder" ] || rm -rf -- "$folder"
"#;

pub(super) struct Reaper {
    list: ChildStdin,
    shell: Child,
}

impl Reaper {
    pub(super) fn start() -> Result<Reaper> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start sh")?;
        let list = shell.stdin.take().context("the shell's input is no pipe")?;
        Ok(Reaper { list, shell })
    }

    /// The processes of this group end with the demonstration.
    pub(super) fn adopt(&mut self, group: Pid) -> Result<()> {
        self.tell(&format!("+ {group}"))
    }

    /// The leader of this group has ended: its number may soon be somebody else's.
    pub(super) fn forget(&mut self, group: Pid) -> Result<()> {
        self.tell(&format!("- {group}"))
    }

    /// This folder goes with the demonstration; None: it stays.
    pub(super) fn folder(&mut self, folder: Option<&Path>) -> Result<()> {
        self.tell(&format!("folder {}", folder.map(|f| f.display().to_string()).unwrap_or_default()))
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        self.list.write_all(format!("{line}\n").as_bytes()).context("write to the reaper")
    }

    /// Ends what is left, and waits until that is done.
    pub(super) fn finish(self) -> Result<()> {
        let Reaper { list, mut shell } = self;
        drop(list);
        shell.wait().context("wait for the reaper")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt, process::Command};

    use nix::unistd::Pid;

    use super::Reaper;

    #[test]
    fn what_is_left_ends_and_the_folder_goes() {
        let folder = tempfile::tempdir().unwrap().keep();
        let start = || Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let group = |child: &std::process::Child| Pid::from_raw(child.id().try_into().unwrap());
        let (mut left, mut forgotten) = (start(), start());
        let mut reaper = Reaper::start().unwrap();
        reaper.adopt(group(&left)).unwrap();
        reaper.adopt(group(&forgotten)).unwrap();
        reaper.forget(group(&forgotten)).unwrap();
        reaper.folder(Some(&folder)).unwrap();
        reaper.finish().unwrap();
        assert!(!left.wait().unwrap().success());
        assert!(forgotten.try_wait().unwrap().is_none(), "it was not on the list any more");
        forgotten.kill().unwrap();
        forgotten.wait().unwrap();
        assert!(!folder.exists());
    }
}
