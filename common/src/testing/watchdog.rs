//! Cleans up after a process that may die in any way: a shell that waits for the end of a pipe which only
//! that process holds open.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A shell that runs a script when this value is dropped, or when the process is gone.
pub(super) struct Watchdog {
    child: Child,
}

impl Watchdog {
    /// `script` is run by `sh` with the arguments as `$1`, `$2`, … once the process is gone.
    pub(super) fn start(
        script: &str,
        arguments: &[&Path],
        as_user: Option<(u32, u32)>,
    ) -> std::io::Result<Self> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("cat > /dev/null; {script}")).arg("watchdog").args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        // A group of its own: Ctrl-C at the terminal must not end the cleaner before the cleaning.
        command.process_group(0);
        if let Some((uid, gid)) = as_user {
            command.uid(uid).gid(gid);
        }
        Ok(Self { child: command.spawn()? })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Waits for the cleaning, so that the next user of the directory finds it clean.
        if let Err(error) = self.child.wait() {
            tracing::debug!(%error, "watchdog not waited for");
        }
    }
}
