//! Wrong requests to a real dispatcher: each is answered with a status, a stable type and a sentence, and stores
//! nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidemill_common::{
    db::Type,
    testing::{Cluster, wait_for},
};
use tidemill_e2e::{
    api::{Client, lease},
    jobs::{Jobs, QUEUE},
};

const JSON: &str = "application/json";
const INSERT: &str = "/v1/queues/work/jobs";

/// Status, type and sentence of a refusal.
async fn refused(
    client: &Client,
    path: &str,
    content_type: &str,
    body: &str,
) -> Result<(u16, String, String)> {
    let (status, answer) = client.post_text(path, content_type, body).await?;
    ensure!(answer["status"] == status.as_u16(), "a problem repeats its status: {answer}");
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    let kind = text("type").trim_start_matches("/problems/").to_owned();
    Ok((status.as_u16(), kind, text("detail")))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_and_nothing_is_stored() -> Result<()> {
    let jobs = Jobs::start(Cluster::shared(), 1).await?;
    jobs.session().batch("make a queue", "select pgq.create_queue('log')").await?;
    let client = jobs.client(0);
    let grab = |queue: &str, max: u32| {
        json!({"queues": [queue], "max": max, "worker": {"instance": "6f0c3b52-54a5-4a0e-8f0e-0d1c1a2b3c4d"}})
            .to_string()
    };
    let no_job_queue = "queue `log` is not a job queue: make it one with `tidemill queue create log --jobs`";
    for (path, body, status, kind, sentence) in [
        // Malformed.
        (
            INSERT,
            r#"{"type": "t""#.to_owned(),
            400,
            "invalid-request",
            "EOF while parsing an object at line 1 column 12",
        ),
        (
            INSERT,
            r#"{"args": 1}"#.to_owned(),
            400,
            "invalid-request",
            "missing field `type` at line 1 column 11",
        ),
        (
            INSERT,
            r#"{"type": 7}"#.to_owned(),
            400,
            "invalid-request",
            "/type: invalid type: integer `7`, expected a string at line 1 column 10",
        ),
        (
            INSERT,
            r#"{"jobs": [{"type": "t"}, {"type": ""}]}"#.to_owned(),
            400,
            "invalid-request",
            "/jobs/1/type: must have 1 to 255 bytes, and has 0",
        ),
        ("/v1/grab", grab(QUEUE, 0), 400, "invalid-request", "/max: must be between 1 and 1000, and is 0"),
        // Queues that do not exist, or hold no jobs.
        (
            "/v1/queues/wurk/jobs",
            r#"{"type": "t"}"#.to_owned(),
            404,
            "unknown-queue",
            "there is no job queue `wurk`",
        ),
        ("/v1/grab", grab("wurk", 1), 404, "unknown-queue", "there is no job queue `wurk`"),
        (
            "/v1/queues/a%20b/jobs",
            r#"{"type": "t"}"#.to_owned(),
            404,
            "unknown-queue",
            "there is no job queue `a b`",
        ),
        ("/v1/queues/log/jobs", r#"{"type": "t"}"#.to_owned(), 409, "conflict", no_job_queue),
        ("/v1/grab", grab("log", 1), 409, "conflict", no_job_queue),
        // Too large.
        (
            INSERT,
            json!({"type": "t", "args": "x".repeat(2 * 1024 * 1024)}).to_string(),
            413,
            "too-large",
            "the body must have at most 1048576 bytes",
        ),
        ("/v1/nothing", "{}".to_owned(), 404, "not-found", "there is no such path in version 1 of the API"),
    ] {
        let expected = (status, kind.to_owned(), sentence.to_owned());
        assert_eq!(
            refused(&client, path, JSON, &body).await?,
            expected,
            "{path} {}",
            &body[..body.len().min(80)]
        );
    }
    assert_eq!(
        refused(&client, INSERT, "text/plain", r#"{"type": "t"}"#).await?,
        (
            415,
            "unsupported-media-type".to_owned(),
            "`content-type` must be application/json, or application/x-ndjson for a stream of jobs"
                .to_owned()
        )
    );
    // An unknown field is named, with the known ones.
    let (status, kind, sentence) = refused(&client, INSERT, JSON, r#"{"type": "t", "argz": 1}"#).await?;
    assert_eq!((status, &*kind), (400, "invalid-request"));
    assert!(
        sentence.starts_with("/argz: unknown field `argz`, expected one of `type`, `args`, "),
        "{sentence}"
    );

    let stored = "select count(*) from pgq.event_template";
    assert_eq!(
        jobs.session().query_one("count", stored, &[]).await?.get::<_, i64>(0),
        0,
        "nothing was stored"
    );
    Ok(())
}

/// Another token that looks like this one: its last digit is another.
fn forged(token: &str) -> String {
    let (head, last) = token.split_at(token.len() - 1);
    format!("{head}{}", if last == "0" { "1" } else { "0" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_forged_ended_or_taken_over_changes_nothing() -> Result<()> {
    let jobs = Jobs::start(Cluster::shared(), 1).await?;
    let (first, second) = (jobs.client(0), jobs.client(0));
    first.insert(QUEUE, [json!({})]).await?;
    let held = first.grab(QUEUE, 1, 1_000, 10_000).await?;
    let held = lease(&held[0]);

    // Forged, in several ways; every outcome is refused.
    for token in ["", "x", "l-1-1-1-1-1-1", &forged(held)] {
        for outcome in ["complete", "temp_fail", "perm_fail", "decline"] {
            let mut result = json!({"lease": token, "outcome": outcome});
            if outcome.ends_with("fail") {
                result["message"] = "no".into();
            }
            match first.results(vec![result]).await {
                Ok(answers) => assert_eq!(answers, ["stale"], "{token} {outcome}"),
                // An empty one is refused before anybody looks for it.
                Err(error) => {
                    assert!(token.is_empty() && error.to_string().contains("400"), "{token}: {error}");
                }
            }
        }
    }

    // Ended and taken over: it is somebody else's job now.
    let again = second.grab(QUEUE, 1, 60_000, 20_000).await?;
    ensure!(again.len() == 1 && again[0]["reissued"] == true, "{again:?}");
    assert_eq!(again[0]["previous"]["ended"], "expired");
    assert_eq!(first.complete(held).await?, "stale");
    let heartbeat = json!({"worker": {"instance": "6f0c3b52-54a5-4a0e-8f0e-0d1c1a2b3c4d"},
                           "leases": [{"lease": held, "extend_ms": 60_000}]});
    let (status, beaten) = first.post("/v1/heartbeat", &heartbeat).await?;
    assert_eq!((status.as_u16(), &beaten["leases"][0]["answer"]), (200, &Value::from("stale")), "{beaten}");

    // The holder's is good; repeated, it is harmless.
    assert_eq!(second.complete(lease(&again[0])).await?, "ok");
    assert_eq!(second.complete(lease(&again[0])).await?, "already");
    assert_eq!(first.complete(held).await?, "stale");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_cannot_complete_what_is_not_its_own() -> Result<()> {
    let jobs = Jobs::start(Cluster::shared(), 1).await?;
    let client = jobs.client(0);
    client.insert(QUEUE, [json!({})]).await?;
    let body = json!({"queues": [QUEUE], "max": 1, "lease_ms": 1_000, "wait_ms": 10_000, "transactional": true,
                      "worker": {"instance": "6f0c3b52-54a5-4a0e-8f0e-0d1c1a2b3c4d"}});
    let (_, grabbed) = client.post("/v1/grab", &body).await?;
    let held = lease(&grabbed["jobs"][0]).to_owned();

    let complete = async |token: &str| {
        let sql = "select tidemill.complete_job($1)";
        match jobs.session().query("complete", sql, &[(&token, Type::TEXT)]).await {
            Ok(_) => None,
            Err(error) => Some((
                error.code().map(|code| code.code().to_owned()).unwrap_or_default(),
                error.server_message().unwrap_or_default().to_owned(),
            )),
        }
    };
    let stale = |token: &str| {
        let sentence = "is stale: it has ended, was finished or taken over, or was not grabbed with \"transactional\": true";
        Some(("TM002".to_owned(), format!("lease {token} {sentence}")))
    };
    assert_eq!(complete(&forged(&held)).await, stale(&forged(&held)));

    // Its end: the job is runnable again, for whoever grabs it.
    let again = wait_for("the job to be given out again", Duration::from_secs(20), async || {
        let jobs = client.grab(QUEUE, 1, 60_000, 1_000).await.ok()?;
        jobs.first().cloned()
    })
    .await;
    ensure!(again["reissued"] == true, "{again}");
    assert_eq!(complete(&held).await, stale(&held));
    // Not grabbed with "transactional": true, so not to be completed in a transaction.
    assert_eq!(complete(lease(&again)).await, stale(lease(&again)));
    assert_eq!(client.complete(lease(&again)).await?, "ok");
    Ok(())
}
