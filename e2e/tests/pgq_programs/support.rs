//! Programs as child processes, and a consumer of our own to check their books.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tidemill_common::testing::{Cluster, Service, TestDb, wait_for};
use tokio_postgres::Client;
use tokio_postgres::types::FromSqlOwned;

/// How long anything here may take before the test fails; a busy machine is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A running program. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    folder: TempDir,
}

impl Program {
    /// The real pgqd, a hundred times as fast as by default, for the databases named.
    pub(crate) fn pgqd(cluster: &Cluster, databases: &[&str]) -> Self {
        let ini = format!(
            "[pgqd]\nbase_connstr = {}\ninitial_database = postgres\ndatabase_list = {}\nsyslog = 0\n\
             check_period = 0.5\nticker_period = 0.05\nretry_period = 0.1\nmaint_period = 0.2\n",
            connection(cluster, None),
            databases.join(", ")
        );
        Self::spawn(Path::new("/usr/bin/pgqd"), None, &ini, &[])
    }

    /// One of the scripts beside this file, which use python-pgq, with a section of its INI file.
    pub(crate) fn python(script: &str, job: &str, settings: &[(&str, &str)], arguments: &[&str]) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pgq_programs").join(script);
        let mut ini = format!(
            "[consumer]\njob_name = {job}\nuse_skylog = 0\nloop_delay = 0.02\nexception_sleep = 0.1\n\
             pidfile = %(config_dir)s/job.pid\n"
        );
        for (name, value) in settings {
            ini.push_str(&format!("{name} = {value}\n"));
        }
        Self::spawn(Path::new("/usr/bin/python3"), Some(&path), &ini, arguments)
    }

    fn spawn(program: &Path, script: Option<&Path>, ini: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ini_file = folder.path().join("program.ini");
        let ini = ini.replace("%(config_dir)s", &folder.path().display().to_string());
        std::fs::write(&ini_file, ini).expect("the folder is ours");
        let mut command = Command::new(program);
        command.args(script).arg(&ini_file).args(arguments);
        Self::start(command, folder)
    }

    /// A command of Londiste, with the INI file of a node.
    pub(crate) fn londiste(ini: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new("/usr/bin/londiste");
        command.arg(ini).args(arguments);
        Self::start(command, tempfile::tempdir().expect("a temporary folder"))
    }

    fn start(mut command: Command, folder: TempDir) -> Self {
        let log = File::create(folder.path().join("log")).expect("the folder is ours");
        let child = command
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", command.get_program().display()));
        Self { child, folder }
    }

    /// Everything it said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("the folder is ours")
    }

    /// Waits until it has said this.
    pub(crate) async fn says(&self, words: &str) {
        wait_for(words, PATIENCE, async || self.log().contains(words).then_some(())).await;
    }

    /// Ends it as a crash would.
    pub(crate) fn kill9(mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Asks it to stop and waits for its end; returns what it said. A program of python-pgq that has just begun may
    /// forget the signal, so it is asked again after a while.
    pub(crate) async fn stop(mut self) -> String {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are small"));
        let child = &mut self.child;
        let mut asked: Option<Instant> = None;
        wait_for("the end of a program", PATIENCE, async || {
            let ended = child.try_wait().expect("a child");
            if ended.is_none() && asked.is_none_or(|at| at.elapsed() > Duration::from_secs(5)) {
                kill(pid, Signal::SIGINT).expect("it runs");
                asked = Some(Instant::now());
            }
            ended
        })
        .await;
        self.log()
    }

    /// Waits for its end; returns what it said.
    pub(crate) async fn ended(&mut self) -> String {
        let child = &mut self.child;
        wait_for("the end of a program", PATIENCE, async || child.try_wait().expect("a child")).await;
        self.log()
    }

    /// Waits for its end, which must be a success; returns what it said.
    pub(crate) async fn succeeded(mut self, patience: Duration) -> String {
        let child = &mut self.child;
        let ask = async || child.try_wait().expect("a child");
        let status = wait_for("the success of a program", patience, ask).await;
        assert!(status.success(), "{status}");
        self.log()
    }

    fn end(&mut self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are small"));
        // It may have ended by itself.
        if kill(pid, signal).is_ok() {
            self.child.wait().expect("a child can be waited for");
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end(Signal::SIGKILL);
        }
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "tells why a test failed")]
            {
                eprintln!("--- what a program said:\n{}", self.log());
            }
        }
    }
}

/// A connection string as libpq takes it.
pub(crate) fn connection(cluster: &Cluster, database: Option<&TestDb>) -> String {
    let server = format!("host={} port={} user=postgres", cluster.directory().display(), cluster.port());
    database.map_or_else(|| server.clone(), |db| format!("{server} dbname={}", db.name()))
}

/// Our ticker for these databases, looking for retries and rotations five times a second.
pub(crate) async fn ticker(databases: &[&TestDb]) -> Service {
    let mut toml = String::from("[ticker]\ndatabases = [\"*\"]\nmaintain_interval_ms = 200\n");
    for db in databases {
        toml.push_str(&format!("[[databases]]\nname = \"{}\"\nurl = \"{}\"\n", db.name(), db.url()));
    }
    Service::start("tidemill-ticker", &toml, &[]).await.expect("the ticker starts")
}

/// Folder with the programs of a server that has the real PgQ extension.
pub(crate) fn server_with_pgq() -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/share/postgresql").expect("looked at when this was built").flatten();
    let version = versions.map(|dir| dir.path()).find(|dir| dir.join("extension/pgq.control").exists());
    let version = version.expect("there when this was built");
    Path::new("/usr/lib/postgresql").join(version.file_name().expect("a version")).join("bin")
}

/// Runs statements.
pub(crate) async fn run(client: &Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql).await {
        panic!("{sql}: {}", tidemill_common::error_chain(&error));
    }
}

/// The first column of the only row.
pub(crate) async fn one<T: FromSqlOwned>(client: &Client, sql: &str) -> T {
    match client.query_one(sql, &[]).await {
        Ok(row) => row.get(0),
        Err(error) => panic!("{sql}: {}", tidemill_common::error_chain(&error)),
    }
}

/// Puts `ev_data` = each number of the range into the queue, in transactions of five events.
pub(crate) async fn produce(client: &Client, queue: &str, numbers: std::ops::Range<i64>) {
    let (mut from, end) = (numbers.start, numbers.end);
    while from < end {
        let to = end.min(from + 5);
        let last = to - 1;
        run(
            client,
            &format!(
                "select pgq.insert_event('{queue}', 't', n::text) from generate_series({from}, {last}) n"
            ),
        )
        .await;
        from = to;
    }
}

/// How often each event came: (number, its retry count or 0) → times.
pub(crate) type Books = BTreeMap<(i64, i32), i64>;

/// Consumes what there is, at most fifty batches, and writes it into the books; the events of `again` are retried when they come first.
pub(crate) async fn consume(client: &Client, queue: &str, consumer: &str, again: &[i64], books: &mut Books) {
    let next = format!("select pgq.next_batch('{queue}', '{consumer}')");
    for _ in 0..50 {
        let Some(batch) = one::<Option<i64>>(client, &next).await else { return };
        let events = client
            .query(
                "select ev_id, ev_data::bigint, coalesce(ev_retry, 0) from pgq.get_batch_events($1)",
                &[&batch],
            )
            .await
            .expect("an open batch");
        for event in events {
            let (id, number, retry): (i64, i64, i32) = (event.get(0), event.get(1), event.get(2));
            *books.entry((number, retry)).or_default() += 1;
            if retry == 0 && again.contains(&number) {
                run(client, &format!("select pgq.event_retry({batch}, {id}, 0)")).await;
            }
        }
        assert_eq!(one::<i32>(client, &format!("select pgq.finish_batch({batch})")).await, 1);
    }
}

/// Books in which each number below `end` came once, and those of `again` a second time as retried.
pub(crate) fn expected(end: i64, again: &[i64]) -> Books {
    (0..end).map(|n| ((n, 0), 1)).chain(again.iter().map(|&n| ((n, 1), 1))).collect()
}

/// What the Python consumers wrote into the table `seen` of the database, in the transaction that finished the batch.
pub(crate) async fn seen(client: &Client) -> Books {
    let rows =
        client.query("select number, retry, count(*) from seen group by 1, 2", &[]).await.expect("the table");
    rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect()
}

/// Waits until as many rows were seen.
pub(crate) async fn wait_for_rows(client: &Client, table: &str, rows: usize) {
    let count = format!("select count(*) from {table}");
    let rows = i64::try_from(rows).expect("few");
    wait_for(&format!("{rows} rows in {table}"), PATIENCE, async || {
        (one::<i64>(client, &count).await >= rows).then_some(())
    })
    .await;
}
