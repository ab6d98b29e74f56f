//! Londiste 3: three nodes of a cascade replicate tables under load, rotation and crashes, and change places.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tidemill_common::testing::{Cluster, TestDb, wait_for};
use tokio_postgres::Client;

use crate::support::{PATIENCE, Program, connection, one, run, ticker};

/// The tables, one with a name that needs quotes, and keys of one and two columns.
const TABLES: &str = "
    create table account (id integer primary key, owner text, balance numeric(12, 2), note text, raw bytea);
    create table \"Order lines\" (account integer, line smallint, at timestamptz, paid boolean, primary key (line, account));
    create table scratch (id serial primary key, what text)";
const NAMES: [&str; 3] = ["public.account", "public.Order lines", "public.scratch"];

/// How long a command or a rotation may take: Londiste sleeps for seconds between the steps of a copy.
const LONG: Duration = Duration::from_secs(240);

/// A database with Londiste's own schema beside ours, a worker, and what one calls with its configuration file.
struct Node {
    name: &'static str,
    connection: String,
    client: Client,
    folder: TempDir,
    worker: Option<Program>,
    db: TestDb,
}

impl Node {
    async fn new(cluster: &Cluster, name: &'static str) -> Self {
        let db = cluster.database().await;
        let client = db.client().await;
        let schema = std::fs::read_to_string(londiste_sql()).expect("there when this was built");
        run(&client, &schema).await;
        run(&client, TABLES).await;
        let connection = connection(cluster, Some(&db));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = folder.path().display();
        let ini = format!(
            "[londiste]\njob_name = londiste_{name}\ndb = {connection}\nqueue_name = set\nlogfile = {at}/log\n\
             pidfile = {at}/pid\nuse_skylog = 0\nloop_delay = 0.05\nexception_sleep = 0.2\nparallel_copies = 3\n\
             global_wm_publish_period = 0.5\nlocal_wm_publish_period = 0.5\n"
        );
        std::fs::write(folder.path().join("ini"), ini).expect("the folder is ours");
        Self { name, connection, client, folder, worker: None, db }
    }

    /// Runs a command to its end, which must be a success; returns what it said.
    async fn command(&self, arguments: &[&str]) -> String {
        Program::londiste(&self.folder.path().join("ini"), arguments).succeeded(LONG).await
    }

    fn work(&mut self) {
        self.worker = Some(Program::londiste(&self.folder.path().join("ini"), &["worker", "-q"]));
    }

    /// Ends the worker as a crash would.
    fn crash(&mut self) {
        self.worker.take().expect("it works").kill9();
    }

    /// Settings that make the queue's upkeep a hundred times as fast as usual.
    async fn hurry(&self) {
        run(
            &self.client,
            "select pgq.set_queue_config('set', 'ticker_max_lag', '50 ms'),
                    pgq.set_queue_config('set', 'ticker_idle_period', '200 ms'),
                    pgq.set_queue_config('set', 'rotation_period', '500 ms')",
        )
        .await;
    }

    /// Everything in its tables.
    async fn content(&self) -> [String; 3] {
        let text = |table: &str, key: &str| {
            format!("select coalesce(string_agg(t::text, e'\\n' order by {key}), '') from {table} t")
        };
        [
            one(&self.client, &text("account", "id")).await,
            one(&self.client, &text("\"Order lines\"", "line, account")).await,
            one(&self.client, &text("scratch", "id")).await,
        ]
    }

    /// Waits until it has everything that the root had.
    async fn wait_root(&self) {
        self.command(&["wait-root"]).await;
    }

    /// How often its queue switched to another table since it was asked first: the number changes.
    async fn switched(&self) -> i64 {
        one(&self.client, "select queue_switch_step1 from pgq.queue where queue_name = 'set'").await
    }

    /// What the worker and the copies said that a person would have to look at.
    fn complaints(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let worse = |line: &&str| ["ERROR", "CRITICAL", "Traceback"].iter().any(|word| line.contains(word));
        log.lines().filter(worse).map(str::to_owned).collect()
    }
}

impl Drop for Node {
    /// Copies of tables are daemons: they outlive the worker that started them.
    fn drop(&mut self) {
        let files = std::fs::read_dir(self.folder.path()).into_iter().flatten().flatten();
        for file in files.filter(|file| file.file_name().to_string_lossy().starts_with("pid.copy.")) {
            let pid = std::fs::read_to_string(file.path()).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse() {
                // It may have ended by itself.
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        }
    }
}

/// Londiste's schema as a script: its extension would want the real PgQ's.
fn londiste_sql() -> PathBuf {
    let versions = std::fs::read_dir("/usr/share/postgresql").expect("looked at when this was built");
    let files = versions.flatten().map(|dir| dir.path().join("contrib/londiste.sql"));
    files.into_iter().find(|file| Path::exists(file)).expect("there when this was built")
}

/// A round of all that can happen to a table; some of it is rolled back.
async fn change(client: &Client, round: i32) {
    let first = round * 100;
    run(
        client,
        &format!(
            "insert into account select n, 'owner ' || n, n / 7.0, null, '\\x00ff27'::bytea
                 from generate_series({first}, {first} + 60) n;
             begin;
             update account set note = e'tab\\t line\\n \\\\ ''quote'' \"double\" &=+% é ☃', owner = ''
                 where id % 10 = {round} % 10;
             savepoint s; delete from account; truncate scratch; rollback to s;
             insert into \"Order lines\" select n, n % 5, timestamptz '2024-02-29 12:00:00.123456+02' + n * interval '1 day',
                    case n % 3 when 0 then true when 1 then false end
                 from generate_series({first}, {first} + 30) n;
             commit;
             begin; delete from \"Order lines\"; insert into scratch (what) values ('never'); rollback;
             insert into scratch (what) values ('round {round}');
             delete from account where id between {first} + 40 and {first} + 50;
             update \"Order lines\" set paid = not paid where account % 4 = 0;
             delete from \"Order lines\" where account = {first} + 7;
             update account set balance = balance * -1 where id = {first} + 1"
        ),
    )
    .await;
    if round % 4 == 3 {
        run(client, &format!("truncate scratch; insert into scratch (what) values ('emptied in {round}')"))
            .await;
    }
}

/// Rounds of changes while something else goes on.
async fn changes(client: &Client, rounds: std::ops::Range<i32>) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    for round in rounds {
        tick.tick().await;
        change(client, round).await;
    }
}

async fn same(from: &Node, to: &Node) {
    to.wait_root().await;
    assert_eq!(from.content().await, to.content().await, "{} and {}", from.name, to.name);
}

/// Three nodes, their tables added and copied under load.
async fn replicated(nodes: [&mut Node; 3]) {
    let [a, b, c] = nodes;
    a.command(&["create-root", "a", &a.connection]).await;
    b.command(&["create-branch", "b", &b.connection, "--provider", &a.connection]).await;
    a.hurry().await;
    b.hurry().await;
    a.work();
    b.work();
    // What it reads of is a branch, which knows the others.
    b.wait_root().await;
    c.command(&["create-leaf", "c", &c.connection, "--provider", &b.connection]).await;
    c.work();
    changes(&a.client, 0..3).await;
    for node in [&*a, &*b, &*c] {
        node.command(&[&["add-table"], &NAMES[..]].concat()).await;
        node.command(&["add-seq", "public.scratch_id_seq"]).await;
        if node.name != "a" {
            let synchronous = node.command(&["wait-sync"]);
            let load = changes(&a.client, if node.name == "b" { 3..9 } else { 9..13 });
            tokio::join!(synchronous, load);
        }
        if node.name != "c" {
            node.wait_root().await;
        }
    }
}

async fn replicate(mut nodes: [Node; 3]) {
    let [a, b, c] = &mut nodes;
    replicated([a, b, c]).await;
    same(a, b).await;
    same(a, c).await;
    let compared = b.command(&["compare"]).await;
    assert_eq!(compared.matches("checksum=").count(), 2 * NAMES.len(), "{compared}");
    assert!(!compared.contains("do not match"), "{compared}");
    let tables = b.command(&["tables"]).await;
    assert_eq!(tables.matches(" ok ").count(), NAMES.len(), "{tables}");
    for node in [&*a, &*b, &*c] {
        assert_eq!(node.complaints(), [""; 0], "{}", node.name);
    }

    // Rotation goes on at both queues while workers die in the middle of something.
    let before = (a.switched().await, b.switched().await);
    for round in 0..4 {
        changes(&a.client, 13 + round * 2..15 + round * 2).await;
        let victim = if round % 2 == 0 { &mut *b } else { &mut *c };
        victim.crash();
        victim.work();
    }
    same(a, b).await;
    same(a, c).await;
    wait_for("rotation at the root and at the branch", LONG, async || {
        (a.switched().await > before.0 && b.switched().await > before.1).then_some(())
    })
    .await;
    same(a, b).await;

    // The branch takes the root's place, with a writer that has not ended; the old root follows it.
    let late = a.db.client().await;
    run(&late, "begin; insert into scratch (what) values ('late')").await;
    let ends = async {
        wait_for("the root to wait for its last writer", PATIENCE, async || {
            let waits = "select count(*) from pg_locks where mode = 'ExclusiveLock' and locktype = 'relation' and not granted";
            (one::<i64>(&a.client, waits).await > 0).then_some(())
        })
        .await;
        run(&late, "commit").await;
    };
    tokio::join!(b.command(&["takeover", "a"]), ends);
    same(b, a).await;
    assert!(b.content().await[2].contains("late"));
    changes(&b.client, 30..33).await;
    same(b, a).await;
    same(b, c).await;
    for node in [&*a, &*b] {
        let kind = "select node_type from pgq_node.get_node_info('set')";
        let expected = if node.name == "b" { "root" } else { "branch" };
        assert_eq!(one::<String>(&node.client, kind).await, expected);
    }

    // A node leaves for good.
    c.worker.take().expect("it works").stop().await;
    b.command(&["drop-node", "c"]).await;
    wait_for("the others to forget it", PATIENCE, async || {
        let known = "select count(*) from pgq_node.node_location where node_name = 'c'";
        (one::<i64>(&a.client, known).await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    any(without_londiste, without_pgqd),
    ignore = "Londiste is not installed: `apt-get install python3-londiste postgresql-15-londiste-sql pgqd`"
)]
async fn londiste_replicates_with_pgqd() {
    let cluster = Cluster::private();
    let nodes =
        [Node::new(&cluster, "a").await, Node::new(&cluster, "b").await, Node::new(&cluster, "c").await];
    let _pgqd = Program::pgqd(&cluster, &nodes.each_ref().map(|node| node.db.name()));
    replicate(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    without_londiste,
    ignore = "Londiste is not installed: `apt-get install python3-londiste postgresql-15-londiste-sql`"
)]
async fn londiste_replicates_with_our_ticker() {
    let cluster = Cluster::private();
    let nodes =
        [Node::new(&cluster, "a").await, Node::new(&cluster, "b").await, Node::new(&cluster, "c").await];
    let _ticker = ticker(&nodes.each_ref().map(|node| &node.db)).await;
    replicate(nodes).await;
}
