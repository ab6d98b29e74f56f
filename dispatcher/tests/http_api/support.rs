//! Dispatchers in this process: the API of each on a port of its own, and real servers for the queues it owns.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tidemill_common::db::{Session, Type};
use tidemill_common::queue::dispatch;
use tidemill_common::service::{Shutdown, Wake};
use tidemill_common::testing::{Cluster, TestDb};
use tidemill_dispatcher::command::QueueHandle;
use tidemill_dispatcher::engine::Limits as Window;
use tidemill_dispatcher::http::{self, ApiState, Limits, Pool, Tokens};
use tidemill_dispatcher::metrics::DispatchMetrics;
use tidemill_dispatcher::routes::{Route, Routes, Seen};
use tidemill_dispatcher::serve::{Identity, QueueServer};
use tidemill_dispatcher::steering::Steering;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

/// A database with job queues.
pub(crate) struct World {
    pub(crate) db: TestDb,
    pub(crate) session: Session,
}

impl World {
    pub(crate) async fn new(queues: &[&str]) -> Self {
        Self::within(Cluster::shared(), queues).await
    }

    pub(crate) async fn within(cluster: &Cluster, queues: &[&str]) -> Self {
        let db = cluster.database().await;
        let session = db.session("test");
        let mut world = Self { db, session };
        for queue in queues {
            world.run(&format!("select tidemill.create_job_queue('{queue}', '{{}}')")).await;
        }
        world
    }

    pub(crate) async fn run(&mut self, sql: &str) {
        self.session.execute("run", sql, &[]).await.unwrap();
    }

    pub(crate) async fn count(&mut self, sql: &str) -> i64 {
        self.session.query_one("count", sql, &[]).await.unwrap().get(0)
    }

    /// The database's time.
    pub(crate) async fn clock(&mut self) -> jiff::Timestamp {
        tidemill_common::queue::work::clock(&mut self.session).await.unwrap()
    }

    pub(crate) async fn tick(&mut self) {
        self.session.query("tick", "select * from tidemill.tick_pass()", &[]).await.unwrap();
    }

    /// Puts jobs in, arguments `{"n": 1}` and so on, and cuts a tick.
    pub(crate) async fn produce(&mut self, queue: &str, kind: &str, count: i32) {
        let sql = "select tidemill.insert_jobs($1, (select jsonb_agg(jsonb_build_object(\
                   'type', $2, 'args', jsonb_build_object('n', n))) from generate_series(1, $3) n))";
        let params = [(&queue as _, Type::TEXT), (&kind as _, Type::TEXT), (&count as _, Type::INT4)];
        self.session.query("produce", sql, &params).await.unwrap();
        self.tick().await;
    }

    /// A dispatcher without tokens.
    pub(crate) async fn node(&mut self, owns: &[&str]) -> Node {
        self.node_with(owns, Limits::default(), None).await
    }

    /// A dispatcher that owns these queues and knows the others.
    pub(crate) async fn node_with(&mut self, owns: &[&str], limits: Limits, tokens: Option<Tokens>) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        // Fails if another test was first.
        drop(rustls::crypto::ring::default_provider().install_default());
        let (me, routes, shutdown) = (Uuid::new_v4(), Routes::default(), Shutdown::new());
        let mut node = Node {
            address: address.clone(),
            client: reqwest::Client::new(),
            token: None,
            shutdown: shutdown.clone(),
            serving: None,
            seen: HashMap::new(),
            steering: Steering::default(),
            stop: Shutdown::new(),
        };
        for queue in dispatch::queues(&mut self.session).await.unwrap() {
            let name = queue.name.clone();
            let owns = owns.contains(&name.as_str());
            let route = self.route(
                queue,
                owns,
                Identity {
                    instance: me,
                    address: address.clone(),
                    term_ms: 30_000,
                    read_rows: 1000,
                    limits: Window {
                        window_jobs: 10_000,
                        window_bytes: 1 << 24,
                        finished: 1000,
                        flush_units: 100,
                        hold_ms: 30_000,
                        ask_ms: 10_000,
                    },
                },
                &mut node,
            );
            if owns {
                route.owned.clone().wait_for(|owned| *owned).await.unwrap();
            }
            routes.insert(name, route);
        }
        node.look(self).await;
        let state =
            ApiState::new(routes, me, Pool::new(self.db.target()), limits, tokens, shutdown.clone()).unwrap();
        let state = state.steered_by(node.steering.clone());
        #[expect(clippy::disallowed_methods, reason = "the test is the process")]
        let serving = tokio::spawn(http::serve(listener, None, http::router(state), shutdown));
        node.serving = Some(serving);
        node
    }

    fn route(&self, queue: dispatch::JobQueue, owns: bool, identity: Identity, node: &mut Node) -> Route {
        let name = queue.name.clone();
        let (seen, seen_here) = watch::channel(Seen { queue, at: Instant::now() });
        let (owned, owned_here) = watch::channel(false);
        let (handle, commands) = QueueHandle::channel(64);
        if owns {
            let target = self.db.target();
            let server = QueueServer {
                identity,
                seen: seen_here.clone(),
                owned,
                commands,
                ticked: Wake::new(),
                connect: Box::new(move || Session::new(Arc::clone(&target), "tidemill-dispatcher")),
                metrics: DispatchMetrics::new(&prometheus::Registry::new()).unwrap().of(&name),
                stop: node.stop.clone(),
            };
            #[expect(clippy::disallowed_methods, reason = "the test is the process")]
            drop(tokio::spawn(server.run()));
        }
        node.seen.insert(name, seen);
        Route { seen: seen_here, handle, owned: owned_here }
    }
}

/// A dispatcher.
pub(crate) struct Node {
    pub(crate) address: String,
    pub(crate) client: reqwest::Client,
    pub(crate) token: Option<&'static str>,
    pub(crate) shutdown: Shutdown,
    pub(crate) serving: Option<JoinHandle<std::io::Result<()>>>,
    seen: HashMap<String, watch::Sender<Seen>>,
    steering: Steering,
    stop: Shutdown,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.begin();
        self.shutdown.begin();
    }
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) media: String,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Said {
    /// The body of a success.
    #[track_caller]
    pub(crate) fn good(self) -> Value {
        assert!(self.status < 300, "{self:?}");
        self.body
    }

    /// Is it this problem, and nothing else? Returns its sentence.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, kind: &str) -> String {
        assert_eq!(
            (self.status, &self.body["type"]),
            (status, &json!(format!("/problems/{kind}"))),
            "{self:?}"
        );
        assert_eq!((self.media.as_str(), &self.body["status"]), ("application/problem+json", &json!(status)));
        assert_eq!(self.retry_after.is_some(), status == 429 || status == 503, "{self:?}");
        let text = self.body.to_string();
        assert!(
            !["select ", "tidemill.", "pgq.", "panicked"].iter().any(|trace| text.contains(trace)),
            "{text}"
        );
        self.body["detail"].as_str().unwrap().to_owned()
    }

    /// An invalid request whose first fault is here.
    #[track_caller]
    pub(crate) fn fault(&self, pointer: &str) -> String {
        let detail = self.problem(400, "invalid-request");
        assert_eq!(self.body["errors"][0]["pointer"], pointer, "{self:?}");
        detail
    }
}

impl Node {
    /// What discovery would see now.
    pub(crate) async fn look(&mut self, world: &mut World) {
        for queue in dispatch::queues(&mut world.session).await.unwrap() {
            if let Some(seen) = self.seen.get(&queue.name) {
                seen.send_replace(Seen { queue, at: Instant::now() });
            }
        }
        self.steering.read(&mut world.session).await.unwrap();
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.address));
        match self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Said {
        said(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Said {
        said(self.request(Method::PUT, path).json(&body).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Said {
        said(self.request(Method::POST, path).json(&body).send().await.unwrap()).await
    }

    /// A body of this type as it is.
    pub(crate) async fn send(&self, path: &str, media: &str, body: impl Into<reqwest::Body>) -> Said {
        let request = self.request(Method::POST, path).header("content-type", media).body(body);
        said(request.send().await.unwrap()).await
    }

    /// Jobs of these queues, as many as there are; waits for the first one.
    pub(crate) async fn grab(&self, queues: &[&str]) -> Vec<Value> {
        let said = self.post("/v1/grab", grab(queues, 10_000)).await.good();
        let jobs = said["jobs"].as_array().unwrap().clone();
        assert!(!jobs.is_empty(), "no job within ten seconds");
        jobs
    }

    /// What one result came to.
    pub(crate) async fn result(&self, job: &Value, outcome: &str) -> String {
        let body = json!({"results": [{"lease": job["lease"], "outcome": outcome}]});
        self.post("/v1/results", body).await.good()["results"][0]["answer"].as_str().unwrap().to_owned()
    }
}

/// The body of a grab by a new worker.
pub(crate) fn grab(queues: &[&str], wait_ms: u64) -> Value {
    json!({"queues": queues, "max": 100, "wait_ms": wait_ms, "worker": {"instance": Uuid::new_v4(), "host": "h", "pid": 7}})
}

pub(crate) async fn said(response: Response) -> Said {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (status, media, retry_after) =
        (response.status().as_u16(), header("content-type").unwrap_or_default(), header("retry-after"));
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: no JSON: {text}"));
    Said { status, media, retry_after, body }
}

/// Asks until it holds.
pub(crate) async fn until(what: &str, ask: impl AsyncFnMut() -> Option<()>) {
    tidemill_common::testing::wait_for(what, Duration::from_secs(10), ask).await;
}
