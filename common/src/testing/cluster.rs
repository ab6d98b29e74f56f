//! A PostgreSQL cluster of our own.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use tokio::sync::OnceCell;

use super::find;
use super::watchdog::Watchdog;
use crate::db::{Target, TargetOptions};

/// PostgreSQL refuses to run as root: then it runs as nobody.
const NOBODY: (u32, u32) = (65534, 65534);

/// Why a cluster cannot be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nothing installed.
    #[error(
        "PostgreSQL's server programs (initdb, pg_ctl, postgres) are neither on PATH nor below \
         /usr/lib/postgresql: install PostgreSQL 14 or later"
    )]
    NoServer,
    /// The named folder is another one.
    #[error("there is no initdb, pg_ctl and postgres in {}", .0.display())]
    NoServerIn(PathBuf),
    /// A program did not do what it should.
    #[error("{program} failed: {output}")]
    Program {
        /// `initdb` or `pg_ctl`.
        program: &'static str,
        /// What it printed, and the end of the server's log.
        output: String,
    },
    /// The operating system refused.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

pub(super) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> ClusterError {
    move |source| ClusterError::Io { what, source }
}

/// What kind of cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    /// Survives a crash of the machine (`fsync = on`). Tests do not need it.
    pub durable: bool,
    /// Where its files go; without it, a new directory in memory or in the temporary directory.
    pub directory: Option<PathBuf>,
    /// Leave the files when it is stopped, and use those that are there.
    pub keep: bool,
    /// No TCP, only the socket in a directory that nobody else may enter: there are no passwords.
    pub socket_only: bool,
    /// Further lines of `postgresql.conf`: name and value.
    pub settings: Vec<(String, String)>,
    /// Folder with the server's programs; without it, the newest that is found.
    pub bin_dir: Option<PathBuf>,
}

/// A running server with a directory, a socket directory and a port of its own. Dropping it, or the death of
/// this process, stops the server and (unless kept) removes its files.
pub struct Cluster {
    bin: PathBuf,
    root: PathBuf,
    port: u16,
    durable: bool,
    as_user: Option<(u32, u32)>,
    pub(super) template: OnceCell<()>,
    /// Dropped last but one: stops the server.
    _watchdog: Watchdog,
}

impl Cluster {
    /// The cluster that all tests of this process share.
    ///
    /// # Panics
    /// With a sentence if it cannot be started.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::private)
    }

    /// A cluster for one test that restarts it or needs to be alone in it.
    ///
    /// # Panics
    /// With a sentence if it cannot be started.
    #[must_use]
    pub fn private() -> Self {
        Self::start_new(&ClusterOptions::default())
            .unwrap_or_else(|error| panic!("{}", crate::error_chain(&error)))
    }

    /// Like [`Cluster::private`] with lines of `postgresql.conf`.
    ///
    /// # Panics
    /// With a sentence if it cannot be started.
    #[must_use]
    pub fn private_with(settings: &[(&str, &str)]) -> Self {
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = ClusterOptions { settings, ..ClusterOptions::default() };
        Self::start_new(&options).unwrap_or_else(|error| panic!("{}", crate::error_chain(&error)))
    }

    /// Makes the files, unless they are kept from last time, and starts the server. Blocks for about half a
    /// second.
    ///
    /// # Errors
    /// [`ClusterError`], a sentence with the program's own words.
    pub fn start_new(options: &ClusterOptions) -> Result<Self, ClusterError> {
        let bin = options.bin_dir.clone().map_or_else(find::bin_dir, Ok)?;
        let root = options.directory.clone().unwrap_or_else(new_directory);
        let as_user = hand_over(&root)?;
        let data = root.join("data");
        // Made before the server, so that there is no moment in which nobody would stop it.
        let watchdog = Watchdog::start(clean_up(options), &[&bin.join("pg_ctl"), &data, &root], as_user)
            .map_err(io("start the watchdog"))?;
        let mut cluster = Self {
            bin,
            root,
            port: 0,
            durable: options.durable,
            as_user,
            template: OnceCell::new(),
            _watchdog: watchdog,
        };
        if !data.join("PG_VERSION").exists() {
            cluster.initdb(options)?;
        }
        cluster.start_on_free_port()?;
        Ok(cluster)
    }

    fn initdb(&self, options: &ClusterOptions) -> Result<(), ClusterError> {
        let mut initdb = self.command("initdb");
        initdb.args(["--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=trust", "--pgdata"]);
        initdb.arg(self.data());
        if !options.durable {
            initdb.arg("--no-sync");
        }
        run("initdb", &mut initdb, None)?;
        let addresses = if options.socket_only { "" } else { "127.0.0.1" };
        let mut config = format!("listen_addresses = '{addresses}'\nmax_connections = 300\n");
        if !options.durable {
            config.push_str("fsync = off\nfull_page_writes = off\n");
        }
        let socket = self.socket_dir().display().to_string().replace('\'', "''");
        config.push_str(&format!("unix_socket_directories = '{socket}'\n"));
        // So that a test does not pay for a checkpoint every few seconds.
        config.push_str(
            "checkpoint_timeout = '30min'\nmax_wal_size = '2GB'\nlog_line_prefix = '%m [%p] %a '\n",
        );
        for (name, value) in &options.settings {
            config.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        let path = self.data().join("postgresql.auto.conf");
        std::fs::write(&path, config).map_err(io("write the server's configuration"))
    }

    /// Another process may take the port between our look and the server's: then another one is tried.
    fn start_on_free_port(&mut self) -> Result<(), ClusterError> {
        let mut last = None;
        for _ in 0..5 {
            let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io("find a free port"))?;
            self.port = probe.local_addr().map_err(io("find a free port"))?.port();
            drop(probe);
            match self.start() {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("tried at least once"))
    }

    /// Starts the server again on its port.
    ///
    /// # Errors
    /// [`ClusterError`] with the end of the server's log.
    pub fn start(&self) -> Result<(), ClusterError> {
        let mut start = self.pg_ctl("start");
        start.arg("--log").arg(self.log_file()).arg("--options").arg(format!("-p {}", self.port));
        run("pg_ctl start", &mut start, Some(&self.log_file()))
    }

    /// Stops the server at once, as if the machine had lost power; it recovers at the next start.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn stop_immediate(&self) -> Result<(), ClusterError> {
        run("pg_ctl stop", self.pg_ctl("stop").arg("--mode=immediate"), None)
    }

    /// Stops the server in order: connections are ended with 57P01.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn stop_fast(&self) -> Result<(), ClusterError> {
        run("pg_ctl stop", self.pg_ctl("stop").arg("--mode=fast"), None)
    }

    /// [`Cluster::stop_fast`] and [`Cluster::start`].
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn restart(&self) -> Result<(), ClusterError> {
        self.stop_fast()?;
        self.start()
    }

    /// A database of this cluster over its Unix socket.
    #[must_use]
    pub fn target(&self, dbname: &str) -> Arc<Target> {
        let target = Target::parse(dbname, &self.url(dbname), &TargetOptions::default());
        Arc::new(target.expect("a socket directory is always a good URL"))
    }

    /// URL of a database of this cluster over its Unix socket.
    #[must_use]
    pub fn url(&self, dbname: &str) -> String {
        let socket = self.socket_dir().display().to_string().replace('%', "%25").replace('/', "%2F");
        format!("postgresql://postgres@{socket}:{}/{dbname}", self.port)
    }

    /// URL of a database of this cluster over TCP, for what must go through a proxy.
    #[must_use]
    pub fn tcp_url(&self, dbname: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{dbname}", self.port)
    }

    /// The server's TCP port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it survives a crash of the machine.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// The directory with everything in it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.root
    }

    /// The server's log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The folder with the server's programs.
    #[must_use]
    pub fn bin_dir(&self) -> &Path {
        &self.bin
    }

    /// Makes a standby, or a server in recovery, a primary, and waits until it is one.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn promote(&self) -> Result<(), ClusterError> {
        run("pg_ctl promote", &mut self.pg_ctl("promote"), Some(&self.log_file()))
    }

    /// A program of this PostgreSQL (`pg_dump`, `pg_basebackup`, …) as the server's user.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir("/");
        if let Some((uid, gid)) = self.as_user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn pg_ctl(&self, action: &str) -> Command {
        let mut command = self.command("pg_ctl");
        command.arg(action).arg("--wait").arg("--silent").arg("--pgdata").arg(self.data());
        command
    }

    fn socket_dir(&self) -> PathBuf {
        // The path of a socket may have 107 characters at most.
        self.root.clone()
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("root", &self.root).field("port", &self.port).finish_non_exhaustive()
    }
}

/// What the watchdog does: `$1` `pg_ctl`, `$2` data directory, `$3` everything.
fn clean_up(options: &ClusterOptions) -> &'static str {
    match options.keep {
        true => r#""$1" stop --silent --mode=fast --pgdata "$2""#,
        // A server that is still starting has no pid file yet; without its files it ends by itself.
        false => r#""$1" stop --silent --mode=immediate --pgdata "$2"; rm -rf "$3""#,
    }
}

pub(super) fn run(
    program: &'static str,
    command: &mut Command,
    log: Option<&Path>,
) -> Result<(), ClusterError> {
    let output = command.output().map_err(io("run PostgreSQL's programs"))?;
    if output.status.success() {
        return Ok(());
    }
    let mut said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if let Some(log) = log.and_then(|path| std::fs::read_to_string(path).ok()) {
        let lines: Vec<&str> = log.lines().collect();
        said.push_str(&lines[lines.len().saturating_sub(10)..].join("\n"));
    }
    Err(ClusterError::Program { program, output: said })
}

/// In memory where there is room (creating a database is ten times faster there), else in the temporary
/// directory.
pub(super) fn new_directory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let free = nix::sys::statvfs::statvfs(memory).map_or(0, |fs| fs.blocks_available() * fs.fragment_size());
    let parent = if free > 2 * 1024 * 1024 * 1024 { memory.to_owned() } else { std::env::temp_dir() };
    parent.join(format!(
        "tidemill-pg-{}-{}",
        std::process::id(),
        &uuid::Uuid::new_v4().simple().to_string()[..8]
    ))
}

/// Makes a cluster's directory. Returns whose it is, if not ours.
pub(super) fn hand_over(root: &Path) -> Result<Option<(u32, u32)>, ClusterError> {
    let as_user = nix::unistd::geteuid().is_root().then_some(NOBODY);
    std::fs::create_dir_all(root).map_err(io("make the cluster's directory"))?;
    // Whoever may connect through the socket is superuser: only this user and the server's.
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o700))
        .map_err(io("protect the cluster's directory"))?;
    if let Some((uid, gid)) = as_user {
        chown(root, Some(uid), Some(gid)).map_err(io("hand over the cluster's directory"))?;
    }
    Ok(as_user)
}
