//! A second server from the files of the first: a standby, a recovery to an earlier point, a plain copy.

use std::path::PathBuf;
use std::process::Command;

use super::cluster::{Cluster, ClusterError, ClusterOptions, hand_over, io, new_directory, run};

/// A base backup of a [`Cluster`]; starts at most once.
#[derive(Debug)]
pub struct Backup {
    root: PathBuf,
    bin: PathBuf,
}

impl Cluster {
    /// Takes a base backup with `pg_basebackup`, with the write-ahead log that it needs. The files go with the server
    /// that is started from it.
    ///
    /// # Errors
    /// [`ClusterError`] with the program's own words.
    pub fn backup(&self) -> Result<Backup, ClusterError> {
        let root = new_directory();
        hand_over(&root)?;
        let mut copy: Command = self.command("pg_basebackup");
        copy.args(["--checkpoint=fast", "--no-sync", "--username=postgres", "--pgdata"])
            .arg(root.join("data"));
        copy.arg("--host").arg(self.directory()).args(["--port", &self.port().to_string()]);
        run("pg_basebackup", &mut copy, None)?;
        Ok(Backup { root, bin: self.bin_dir().to_owned() })
    }

    /// How a standby of this cluster connects: the setting `primary_conninfo`.
    #[must_use]
    pub fn conninfo(&self, standby: &str) -> String {
        let host = self.directory().display();
        format!("host={host} port={} user=postgres application_name={standby}", self.port())
    }
}

impl Backup {
    /// Starts a server from the backup, with further lines of `postgresql.conf`; `signal` is `standby.signal` or
    /// `recovery.signal`. Returns when it accepts connections, in recovery perhaps.
    ///
    /// # Errors
    /// [`ClusterError`] with the end of the server's log.
    pub fn start(self, signal: Option<&str>, settings: &[(&str, &str)]) -> Result<Cluster, ClusterError> {
        let data = self.root.join("data");
        if let Some(signal) = signal {
            std::fs::write(data.join(signal), "").map_err(io("write the signal file"))?;
        }
        // The last line of a setting counts.
        let path = data.join("postgresql.auto.conf");
        let mut config = std::fs::read_to_string(&path).map_err(io("read the server's configuration"))?;
        config.push_str(&format!("unix_socket_directories = '{}'\n", self.root.display()));
        for (name, value) in settings {
            config.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        std::fs::write(&path, config).map_err(io("write the server's configuration"))?;
        let options = ClusterOptions {
            directory: Some(self.root),
            bin_dir: Some(self.bin),
            ..ClusterOptions::default()
        };
        Cluster::start_new(&options)
    }
}
