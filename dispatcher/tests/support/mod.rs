//! One job queue in a database of its own, and servers for it in this process.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use std::sync::Arc;
use std::time::Duration;

use tidemill_common::api::{Answer, Outcome};
use tidemill_common::db::{Session, Target, Type};
use tidemill_common::lease::Lease;
use tidemill_common::queue::dispatch;
use tidemill_common::service::{Shutdown, Wake};
use tidemill_common::testing::{Cluster, TestDb};
use tidemill_dispatcher::command::QueueHandle;
use tidemill_dispatcher::engine::record::Holder;
use tidemill_dispatcher::engine::{Answered, Grab, Granted, Limits};
use tidemill_dispatcher::metrics::DispatchMetrics;
use tidemill_dispatcher::routes::Seen;
use tidemill_dispatcher::serve::{Identity, QueueServer};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) struct Rig {
    pub(crate) db: TestDb,
    pub(crate) session: Session,
    /// Of the servers that are started.
    pub(crate) limits: Limits,
    /// Of their calls.
    pub(crate) deadline: Duration,
}

impl Rig {
    /// A database with the job queue `mail`.
    pub(crate) async fn new(settings: &str) -> Self {
        let db = Cluster::shared().database().await;
        let mut session = db.session("test");
        let create = format!("select tidemill.create_job_queue('mail', '{settings}')");
        session.execute("create queue", &create, &[]).await.unwrap();
        let limits = Limits {
            window_jobs: 1000,
            window_bytes: 1 << 20,
            finished: 1000,
            flush_units: 100,
            hold_ms: 30_000,
            ask_ms: 10_000,
        };
        Self { db, session, limits, deadline: Duration::from_secs(10) }
    }

    /// Puts jobs of one type in, with their number as arguments, and cuts a tick.
    pub(crate) async fn produce(&mut self, kind: &str, count: i32) {
        let sql = "select tidemill.insert_jobs('mail', (select jsonb_agg(jsonb_build_object('type', $1, 'args', n)) \
                   from generate_series(1, $2) n))";
        self.session.query("produce", sql, &[(&kind, Type::TEXT), (&count, Type::INT4)]).await.unwrap();
        self.tick().await;
    }

    pub(crate) async fn tick(&mut self) {
        self.session.query("tick", "select * from tidemill.tick_pass()", &[]).await.unwrap();
    }

    /// Puts what is due back into the log, until something was.
    pub(crate) async fn promote(&mut self) {
        let session = &mut self.session;
        tidemill_common::testing::wait_for("something due", Duration::from_secs(10), async || {
            let row = session.query_one("promote", "select tidemill.promote_due(100)", &[]).await.unwrap();
            (row.get::<_, i32>(0) > 0).then_some(())
        })
        .await;
        self.tick().await;
    }

    pub(crate) async fn count(&mut self, sql: &str) -> i64 {
        self.session.query_one("count", sql, &[]).await.unwrap().get(0)
    }

    /// Starts a server of the queue, as its own dispatcher process would.
    pub(crate) async fn server(&mut self, term_ms: i32) -> Server {
        let queue = dispatch::queues(&mut self.session).await.unwrap().remove(0);
        let (seen, seen_here) = watch::channel(Seen { queue, at: Instant::now() });
        let (owned, owned_here) = watch::channel(false);
        let (handle, commands) = QueueHandle::channel(64);
        let stop = Shutdown::new();
        let (target, deadline): (Arc<Target>, _) = (self.db.target(), self.deadline);
        let server = QueueServer {
            identity: Identity {
                instance: Uuid::new_v4(),
                address: "http://127.0.0.1:1".to_owned(),
                term_ms,
                read_rows: 100,
                limits: self.limits,
            },
            seen: seen_here,
            owned,
            commands,
            ticked: Wake::new(),
            connect: Box::new(move || {
                Session::new(Arc::clone(&target), "tidemill-dispatcher").with_deadline(deadline)
            }),
            metrics: DispatchMetrics::new(&prometheus::Registry::new()).unwrap().of("mail"),
            stop: stop.clone(),
        };
        #[expect(clippy::disallowed_methods, reason = "the test is the process")]
        let task = tokio::spawn(server.run());
        let mut server = Server { handle, owned: owned_here, stop, task, seen };
        server.owned.wait_for(|owned| *owned).await.unwrap();
        server
    }
}

pub(crate) struct Server {
    pub(crate) handle: QueueHandle,
    pub(crate) owned: watch::Receiver<bool>,
    pub(crate) stop: Shutdown,
    task: JoinHandle<()>,
    #[expect(dead_code, reason = "discovery would end the server when it is dropped")]
    seen: watch::Sender<Seen>,
}

impl Server {
    /// As kill -9: nothing is written, nothing released.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// As SIGTERM.
    pub(crate) async fn stop(self) {
        self.stop.begin();
        self.task.await.unwrap();
    }

    pub(crate) async fn grab(&self, grab: Grab) -> Vec<Granted> {
        match self.handle.grab(grab, Vec::new()).await.unwrap() {
            Answered::Grab { jobs, .. } => jobs,
            other => panic!("not the answer to a grab: {other:?}"),
        }
    }

    pub(crate) async fn result(&self, lease: Lease, outcome: Outcome) -> Answer {
        match self.handle.results(vec![(Some(lease), outcome)]).await.unwrap() {
            Answered::Results(answers) => answers[0].answer,
            other => panic!("not the answer to results: {other:?}"),
        }
    }
}

/// A grab of at most `max` jobs that waits up to ten seconds.
pub(crate) fn grab(max: usize) -> Grab {
    let holder = Holder { instance: Uuid::new_v4(), host: "test".to_owned(), pid: 7 };
    Grab {
        types: None,
        max,
        lease_ms: None,
        wait_ms: 10_000,
        transactional: false,
        number: None,
        filter: None,
        holder: Arc::new(holder),
    }
}

pub(crate) fn complete() -> Outcome {
    Outcome::Complete { result: None }
}
