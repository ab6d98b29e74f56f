//! What the API refuses: each refusal is a problem with a stable type, at the limit exactly.

use std::time::Duration;

use crate::support::{World, grab};
use serde_json::{Value, json};
use tidemill_common::testing::Cluster;
use tidemill_dispatcher::http::{Limits, Tokens};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const JOBS: &str = "/v1/queues/mail/jobs";

#[tokio::test]
async fn what_is_not_valid_is_refused_by_its_place() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    for (body, pointer) in [
        (json!({"type": ""}), "/type"),
        (json!({"type": "t", "shoe": 1}), "/shoe"),
        (json!({"type": "t", "queue": "other"}), "/queue"),
        (json!({"type": "t", "args": {"a": ["b\u{0}"]}}), "/args/a/0"),
        (json!({"type": "t", "max_attempts": 0}), "/max_attempts"),
        (json!({"type": "t", "priority": 1_001}), "/priority"),
        (json!({"jobs": [{"type": "t"}, {"type": "t", "priority": -1_001}]}), "/jobs/1/priority"),
        (json!({"type": "t", "priority": 1.5}), "/priority"),
        (json!({"type": "t", "cancel_key": "x"}), "/cancel_key"),
        (json!({"type": "t", "timeout_ms": 0}), "/timeout_ms"),
        (json!({"jobs": [{"type": "t"}, {"type": "t", "timeout_ms": 86_400_001}]}), "/jobs/1/timeout_ms"),
        (json!({"jobs": []}), "/jobs"),
    ] {
        let detail = node.post(JOBS, body.clone()).await.fault(pointer);
        assert!(!detail.is_empty(), "{body}");
    }
    let mut bad = grab(&["mail"], 0);
    bad["where"] = json!({"coalesce_key": ""});
    node.post("/v1/grab", bad).await.fault("/where/coalesce_key");
    for (field, value) in
        [("queues", json!([])), ("max", json!(0)), ("lease_ms", json!(999)), ("wait_ms", json!(30_001))]
    {
        let mut bad = grab(&["mail"], 0);
        bad[field] = value;
        node.post("/v1/grab", bad).await.fault(&format!("/{field}"));
    }
    let replace = json!({"results": [{"lease": "l", "outcome": "replace", "jobs": [{"type": "t", "priority": 1_001}]}]});
    node.post("/v1/results", replace).await.fault("/results/0/jobs/0/priority");
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=x", "colour=red"] {
        node.get(&format!("/v1/queues/mail/dead?{query}")).await.problem(400, "invalid-request");
    }
    node.post("/v1/queues/mail/dead/purge", json!({"ids": [], "all": true}))
        .await
        .problem(400, "invalid-request");
    for broken in ["", "{", "[]", "{\"type\":\"t\"} x", "\u{feff}{}"] {
        node.send(JOBS, "application/json", broken).await.problem(400, "invalid-request");
    }
    node.send(JOBS, "application/json", &b"{\"type\":\"\xff\"}"[..]).await.problem(400, "invalid-request");
    assert_eq!(world.count("select count(*) from pgq.event_1").await, 0);
}

#[tokio::test]
async fn queues_paths_and_methods_that_are_not_there() {
    let mut world = World::new(&["mail"]).await;
    world.run("select pgq.create_queue('plain')").await;
    let node = world.node(&["mail"]).await;
    for path in ["/", "/v1", "/v1/queues/", "/v2/grab", "/v1/grab/", "/metrics", "/v1/queues/mail/jobs/1/2"] {
        node.get(path).await.problem(404, "not-found");
    }
    node.get("/v1/grab").await.problem(405, "method-not-allowed");
    node.put(JOBS, json!({})).await.problem(405, "method-not-allowed");
    for (queue, status, kind) in [("none", 404, "unknown-queue"), ("plain", 409, "conflict")] {
        let said = [
            node.post(&format!("/v1/queues/{queue}/jobs"), json!({"type": "t"})).await,
            node.send(&format!("/v1/queues/{queue}/jobs"), "application/x-ndjson", "{\"type\":\"t\"}").await,
            node.send(&format!("/v1/queues/{queue}/jobs"), "application/x-ndjson", "").await,
            node.post("/v1/grab", grab(&["mail", queue], 0)).await,
            node.get(&format!("/v1/queues/{queue}")).await,
            node.get(&format!("/v1/queues/{queue}/jobs/1")).await,
            node.get(&format!("/v1/queues/{queue}/dead")).await,
            node.post(&format!("/v1/queues/{queue}/dead/redrive"), json!({"all": true})).await,
        ];
        for said in said {
            let detail = said.problem(status, kind);
            assert_eq!(detail.contains("`tidemill queue create plain --jobs`"), status == 409, "{detail}");
        }
    }
    // No queue of this id, no such lease, no token at all: nothing to know, nothing to repeat.
    let results = ["l-99-1-1-1-0-1-0000000000000001", "l-1-9-1-1-0-1-0000000000000001", "x"];
    let results: Vec<Value> =
        results.iter().map(|lease| json!({"lease": lease, "outcome": "complete"})).collect();
    let said = node.post("/v1/results", json!({"results": results})).await.good();
    assert!(said["results"].as_array().unwrap().iter().all(|result| result["answer"] == "stale"), "{said}");
}

#[tokio::test]
async fn sizes_at_the_limit() {
    let mut world = World::new(&["mail"]).await;
    let limits = Limits { body_bytes: 10_000, ..Limits::default() };
    let node = world.node_with(&["mail"], limits, None).await;
    let body = |bytes: usize| {
        let empty = r#"{"type":"t","args":""}"#;
        empty.replace("\"\"}", &format!("\"{}\"}}", "x".repeat(bytes - empty.len())))
    };
    for (bytes, is_good) in [(9_999, true), (10_000, true), (10_001, false)] {
        let text = body(bytes);
        assert_eq!(text.len(), bytes);
        // As one piece with its length, in chunks without it, and as a line between others.
        let chunks = reqwest::Body::wrap_stream(futures_util::stream::iter(
            text.as_bytes()
                .chunks(1_000)
                .map(|part| Ok::<_, std::io::Error>(part.to_vec()))
                .collect::<Vec<_>>(),
        ));
        let lines = format!("{0}\n{text}\n{0}", body(50));
        let said = [
            node.send(JOBS, "application/json", text.clone()).await,
            node.send(JOBS, "application/json", chunks).await,
            node.send(JOBS, "application/x-ndjson", lines).await,
        ];
        for said in said {
            if is_good {
                assert_eq!(said.status, 201, "{bytes}: {said:?}");
            } else {
                said.problem(413, "too-large");
            }
        }
    }
    for (depth, is_good) in [(63, true), (64, true), (65, false)] {
        let args = format!("{}{}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        let said = node.send(JOBS, "application/json", format!(r#"{{"type":"t","args":{args}}}"#)).await;
        if is_good { drop(said.good()) } else { drop(said.problem(400, "invalid-request")) }
    }
    for media in ["text/plain", "application/json-seq", "multipart/form-data", ""] {
        node.send(JOBS, media, "{\"type\":\"t\"}").await.problem(415, "unsupported-media-type");
    }
    node.send("/v1/grab", "application/x-ndjson", "{}").await.problem(415, "unsupported-media-type");
    let packed =
        node.request(reqwest::Method::POST, JOBS).header("content-encoding", "gzip").json(&json!({}));
    crate::support::said(packed.send().await.unwrap()).await.problem(415, "unsupported-media-type");
}

#[tokio::test]
async fn a_streamed_body_has_no_limit_of_its_own() {
    let mut world = World::new(&["mail"]).await;
    let limits = Limits { body_bytes: 1_000, ..Limits::default() };
    let node = world.node_with(&[], limits, None).await;
    let line = format!("{{\"type\":\"t\",\"args\":\"{}\"}}\n", "x".repeat(900));
    let parts = futures_util::stream::iter((0..5_000).map(move |_| Ok::<_, std::io::Error>(line.clone())));
    let said = node.send(JOBS, "application/x-ndjson", reqwest::Body::wrap_stream(parts)).await;
    assert_eq!(said.good()["inserted"], "5000");
}

#[tokio::test]
async fn only_so_many_wait_for_jobs() {
    let mut world = World::new(&["mail"]).await;
    let limits = Limits { polls: 2, ..Limits::default() };
    let node = world.node_with(&["mail"], limits, None).await;
    let waiting =
        [node.post("/v1/grab", grab(&["mail"], 30_000)), node.post("/v1/grab", grab(&["mail"], 30_000))];
    let third = async {
        let refused = tidemill_common::testing::wait_for("two wait", Duration::from_secs(10), async || {
            Some(node.post("/v1/grab", grab(&["mail"], 1)).await).filter(|said| said.status == 429)
        });
        refused.await.problem(429, "too-many-requests");
        // Not waiting is never refused.
        assert_eq!(node.post("/v1/grab", grab(&["mail"], 0)).await.status, 200);
        node.shutdown.begin();
    };
    let (waited, ()) = tokio::join!(futures_util::future::join_all(waiting), third);
    for said in waited {
        assert_eq!(said.good(), json!({"jobs": [], "results": [], "state": "run"}));
    }
}

#[tokio::test]
async fn only_so_many_bytes_are_held() {
    let mut world = World::new(&["mail"]).await;
    let limits = Limits { bodies_bytes: 8 << 10, body_bytes: 4 << 10, ..Limits::default() };
    let node = world.node_with(&["mail"], limits, None).await;
    // Announced bodies that do not come, as much as may be held.
    let head = format!(
        "POST {JOBS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 4096\r\n\r\n"
    );
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(node.address.strip_prefix("http://").unwrap()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        idle.push(stream);
    }
    crate::support::until("no more are held", async || {
        let said = node.post(JOBS, json!({"type": "t"})).await;
        (said.status == 503).then(|| drop(said.problem(503, "unavailable")))
    })
    .await;
    assert_eq!(node.get("/v1/queues").await.status, 200, "what has no body takes nothing");
    drop(idle);
    crate::support::until("they are given back", async || {
        (node.post(JOBS, json!({"type": "t"})).await.status == 201).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_busy_or_absent_database_is_said_to_be() {
    let cluster = Cluster::private();
    let mut world = World::within(&cluster, &["mail"]).await;
    let node = world.node(&[]).await;
    let produce = || node.post(JOBS, json!({"type": "t"}));
    // Two wait for a lock, with the only connections there are.
    let mut other = world.db.session("test");
    let mut lock = other.begin("lock").await.unwrap();
    lock.batch("lock", "lock table pgq.event_1_0, pgq.event_1_1, pgq.event_1_2").await.unwrap();
    let third = async {
        let waiting = "select count(*) from pg_locks where not granted";
        crate::support::until("two wait", async || (world.count(waiting).await == 2).then_some(())).await;
        produce().await.problem(503, "unavailable");
        lock.commit().await.unwrap();
    };
    let (first, second, ()) = tokio::join!(produce(), produce(), third);
    assert_eq!((first.status, second.status), (201, 201));

    cluster.stop_immediate().unwrap();
    for said in [produce().await, node.get("/v1/queues").await, node.get("/v1/queues/none").await] {
        said.problem(503, "unavailable");
    }
    node.send(JOBS, "application/x-ndjson", "{\"type\":\"t\"}").await.problem(503, "unavailable");
    cluster.start().unwrap();
    assert_eq!(produce().await.status, 201, "and it is there again");
}

#[tokio::test]
async fn headers_have_a_limit() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    for (bytes, status) in [(20_000, 200), (40_000, 431)] {
        let request = node.request(reqwest::Method::GET, "/v1/queues").header("x-long", "x".repeat(bytes));
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{bytes}");
    }
    let many = (0..150).fold(node.request(reqwest::Method::GET, "/v1/queues"), |request, n| {
        request.header(format!("x-{n}"), "1")
    });
    assert_eq!(many.send().await.unwrap().status().as_u16(), 431);
}

#[tokio::test]
async fn a_slow_body_is_given_up() {
    let mut world = World::new(&["mail"]).await;
    let limits = Limits { body_wait: Duration::from_millis(200), ..Limits::default() };
    let node = world.node_with(&["mail"], limits, None).await;
    for media in ["application/json", "application/x-ndjson"] {
        let mut stream = TcpStream::connect(node.address.strip_prefix("http://").unwrap()).await.unwrap();
        let head = format!(
            "POST {JOBS} HTTP/1.1\r\nhost: x\r\ncontent-type: {media}\r\ncontent-length: 100\r\n\r\n{{\"type\":"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("did not arrive in time"), "{answer}");
    }
}

#[tokio::test]
async fn a_leaving_dispatcher_answers_what_runs_and_takes_nothing_new() {
    let mut world = World::new(&["mail"]).await;
    let limits = Limits { polls: 1, ..Limits::default() };
    let mut node = world.node_with(&["mail"], limits, None).await;
    world.produce("mail", "send", 1).await;
    let job = node.grab(&["mail"]).await.remove(0);
    let waiting = node.request(reqwest::Method::POST, "/v1/grab").json(&grab(&["mail"], 30_000)).send();
    let leave = async {
        crate::support::until("one waits", async || {
            (node.post("/v1/grab", grab(&["mail"], 1)).await.status == 429).then_some(())
        })
        .await;
        node.shutdown.begin();
    };
    let (response, ()) = tokio::join!(waiting, leave);
    let response = response.unwrap();
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(crate::support::said(response).await.good()["jobs"], json!([]));
    let serving = node.serving.take().unwrap();
    tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap().unwrap();
    assert!(node.request(reqwest::Method::GET, "/v1/queues").send().await.is_err(), "nobody listens");
    drop(job);
}

const TOKENS: &str = "
# name sha256 scopes queues
all  \
";

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_token_allows_what_its_line_says() {
    let mut world = World::new(&["mail", "other"]).await;
    let file = world.db.name().to_owned();
    let file = std::env::temp_dir().join(format!("tidemill-tokens-{}-{file}", std::process::id()));
    let lines = [
        ("root", "produce,work,read,admin", ""),
        ("mailer", "work", " mail"),
        ("shop", "produce", " ma*"),
        ("eye", "read", ""),
    ];
    let text: String =
        lines.map(|(name, scopes, queues)| format!("{name} {} {scopes}{queues}\n", sha256(name))).concat();
    std::fs::write(&file, format!("{}\n{text}", TOKENS.lines().nth(1).unwrap())).unwrap();
    let tokens = Tokens::load(&file).unwrap();
    let mut node = world.node_with(&["mail", "other"], Limits::default(), Some(tokens)).await;

    // Whose call, and what it is answered: the tokens in the order above, and no or a wrong one.
    let calls = [
        ("produce mail", [201, 403, 201, 403]),
        ("produce other", [201, 403, 403, 403]),
        ("produce none", [404, 403, 403, 403]),
        ("grab mail", [200, 200, 403, 403]),
        ("grab other", [200, 403, 403, 403]),
        ("grab none", [404, 403, 403, 403]),
        ("results", [200, 200, 403, 403]),
        ("look mail", [200, 403, 403, 200]),
        ("look none", [404, 403, 403, 403]),
        ("list", [200, 403, 403, 200]),
        ("put mail", [200, 403, 403, 403]),
        ("purge mail", [200, 403, 403, 403]),
    ];
    for (call, expected) in calls {
        let tokens = [Some("root"), Some("mailer"), Some("shop"), Some("eye"), None, Some("wrong")];
        for (token, status) in tokens.into_iter().zip(expected.into_iter().chain([401, 401])) {
            node.token = token;
            let (verb, queue) = call.split_once(' ').unwrap_or((call, ""));
            let said = match verb {
                "produce" => node.post(&format!("/v1/queues/{queue}/jobs"), json!({"type": "t"})).await,
                "grab" => node.post("/v1/grab", grab(&[queue], 0)).await,
                "results" => node.post("/v1/results", json!({"results": []})).await,
                "look" => node.get(&format!("/v1/queues/{queue}")).await,
                "list" => node.get("/v1/queues").await,
                "put" => node.put(&format!("/v1/queues/{queue}"), json!({})).await,
                _ => node.post(&format!("/v1/queues/{queue}/dead/purge"), json!({"all": true})).await,
            };
            assert_eq!(said.status, status, "{call} by {token:?}: {said:?}");
            match status {
                401 => drop(said.problem(401, "unauthorized")),
                403 => drop(said.problem(403, "forbidden")),
                404 => drop(said.problem(404, "unknown-queue")),
                _ => {}
            }
        }
    }

    // A lease of a queue that is not the token's is as good as forged.
    world.tick().await;
    node.token = Some("root");
    let job = node.grab(&["other"]).await.remove(0);
    node.token = Some("mailer");
    assert_eq!(node.result(&job, "complete").await, "stale");
    node.token = Some("root");
    assert_eq!(node.result(&job, "complete").await, "ok");

    // The file is read again when it changes; an unusable one changes nothing.
    std::fs::write(&file, format!("eye {} read,admin\n", sha256("new eye"))).unwrap();
    node.token = Some("new eye");
    crate::support::until("the new token", async || {
        (node.get("/v1/queues").await.status == 200).then_some(())
    })
    .await;
    node.token = Some("root");
    assert_eq!(node.get("/v1/queues").await.status, 401);
    std::fs::write(&file, "not a line").unwrap();
    node.token = Some("new eye");
    assert_eq!(node.get("/v1/queues").await.status, 200);
    for (line, fault) in [("a b c", "64 hexadecimal"), ("one", "NAME"), ("", "no token")] {
        std::fs::write(&file, line).unwrap();
        let error = Tokens::load(&file).unwrap_err().to_string();
        assert!(error.contains(fault) && !error.contains("a b c"), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
}
