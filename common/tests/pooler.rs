//! A session behind a real pooler in transaction mode, where every statement may meet another backend.
//! Run with `cargo test -p tidemill-common --test pooler -- --ignored`.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tidemill_common::db::{Class, Pooler, Session, Target, TargetOptions, Type};
use tidemill_common::service::Wake;
use tidemill_common::testing::{Cluster, TestDb, wait_for};

struct PgBouncer {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl PgBouncer {
    async fn in_front_of(cluster: &Cluster, pool_size: u32) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))
            .expect("made above");
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = probe.local_addr().expect("bound").port();
        drop(probe);
        let ini = directory.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = {pool_size}\n\
             server_reset_query_always = 0\nignore_startup_parameters = extra_float_digits\n",
            cluster.port()
        )
        .replace("* = ", "* = user=postgres ");
        std::fs::write(&ini, text).expect("made above");
        let mut command = Command::new("pgbouncer");
        if nix::unistd::geteuid().is_root() {
            command.arg("-u").arg("nobody");
        }
        let child = command.arg("-q").arg(&ini).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("this test needs pgbouncer: apt-get install pgbouncer");
        let pooler = Self { child, port, _directory: directory };
        wait_for("pgbouncer", Duration::from_secs(10), async || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, pooler.port)).ok()
        })
        .await;
        pooler
    }

    fn session(&self, db: &TestDb) -> Session {
        self.session_with(db, Pooler::Transaction)
    }

    fn unknown_session(&self, db: &TestDb) -> Session {
        self.session_with(db, Pooler::None)
    }

    fn session_with(&self, db: &TestDb, pooler: Pooler) -> Session {
        let url = format!("postgresql://postgres@127.0.0.1:{}/{}", self.port, db.name());
        let options = TargetOptions { pooler, ..TargetOptions::default() };
        let target = Target::parse(db.name(), &url, &options).expect("a good URL");
        Session::new(Arc::new(target), "tidemill-pooled").with_deadline(Duration::from_secs(3))
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.child.kill().expect("ours");
        self.child.wait().expect("ours");
    }
}

#[tokio::test]
#[ignore = "needs pgbouncer: apt-get install pgbouncer"]
async fn sessions_share_backends_without_disturbing_each_other() {
    let cluster = Cluster::private();
    let db = cluster.empty_database().await;
    let pooler = PgBouncer::in_front_of(&cluster, 2).await;
    let mut sessions: Vec<Session> = (0..6).map(|_| pooler.session(&db)).collect();
    sessions[0].batch("make", "create table t (a int)").await.unwrap();

    for round in 0..20_i32 {
        for (number, session) in sessions.iter_mut().enumerate() {
            let number = i32::try_from(number).unwrap();
            let row =
                session.query_one("probe", "select $1::int4 * 2", &[(&number, Type::INT4)]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), number * 2);
            let mut tx = session.begin("load").await.unwrap();
            let mut copy = tx.copy_in("copy", "copy t from stdin").await.unwrap();
            copy.send(format!("{round}\n{number}\n").into()).await.unwrap();
            assert_eq!(copy.finish().await.unwrap(), 2);
            // Settings of the transaction are its own.
            let sql = "select current_setting('application_name'), current_setting('statement_timeout')";
            let row = tx.query_one("look", sql, &[]).await.unwrap();
            assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("tidemill-pooled/load", "4s"));
            match round % 3 {
                0 => tx.rollback().await.unwrap(),
                1 => drop(tx),
                _ => tx.commit().await.unwrap(),
            }
        }
    }
    let row = sessions[0].query_one("count", "select count(*) from t", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 6 * 6 * 2);
    let row =
        sessions[0].query_one("look", "select current_setting('statement_timeout')", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "0", "nothing is left behind on a shared backend");
    let named =
        sessions[0].query_one("look", "select count(*) from pg_prepared_statements", &[]).await.unwrap();
    assert_eq!(named.get::<_, i64>(0), 0);
    assert!(!sessions[0].listen("tide", Wake::new()).await.unwrap());

    // A missed deadline is cancelled through the pooler, too: its backend serves others again.
    sessions[1].query("sleep", "select pg_sleep(60)", &[]).await.unwrap_err();
    let client = db.client().await;
    let sql = "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' and state = 'active' \
               and pid <> pg_backend_pid()";
    wait_for("the cancelled statement's end", Duration::from_secs(10), async || {
        (client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0).then_some(())
    })
    .await;
    sessions[1].query("probe", "select 1", &[]).await.unwrap();
}

/// A pooler that the settings do not name loses what was prepared: that costs a call, once, and nothing after that.
#[tokio::test]
#[ignore = "needs pgbouncer: apt-get install pgbouncer"]
async fn a_pooler_that_nobody_told_of_costs_a_call_at_most() {
    let cluster = Cluster::private();
    let db = cluster.empty_database().await;
    let pooler = PgBouncer::in_front_of(&cluster, 2).await;
    let (mut session, mut other) = (pooler.unknown_session(&db), pooler.unknown_session(&db));
    let probe = ("select $1::int4 + 1", &[(&41_i32 as _, Type::INT4)]);
    for _ in 0..3 {
        session.query_one("probe", probe.0, probe.1).await.unwrap();
    }
    // Now its backend is somebody else's.
    let tx = other.begin("hold").await.unwrap();
    let error = session.query("probe", probe.0, probe.1).await.unwrap_err();
    assert_eq!((error.code().unwrap().code(), error.class()), ("26000", Class::Retry));
    assert!(!error.outcome_unknown(), "{error:?}");
    tx.rollback().await.unwrap();
    for _ in 0..3 {
        session.query_one("probe", probe.0, probe.1).await.unwrap();
    }
    let tx = other.begin("hold").await.unwrap();
    let row = session.query_one("probe", probe.0, probe.1).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), session.generation()), (42, 2));
    drop(tx);
}
