//! A job queue: what was done before the dump is not done again, what was not done is.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill_common::testing::{Cluster, Service, wait_for};
use tidemill_e2e::api::{Client, lease};
use tidemill_e2e::jobs::{Jobs, QUEUE};

use crate::support::{age, elsewhere, program, rebase, refused, run};

#[tokio::test(flavor = "multi_thread")]
async fn done_jobs_stay_done_and_the_others_are_done() {
    let original = Cluster::private();
    let jobs = Jobs::start(&original, 1).await.unwrap();
    age(&jobs.database.client().await, 5_000).await;
    let worker = jobs.client(0);
    worker.insert(QUEUE, (1..=6).map(|n| json!({ "n": n }))).await.unwrap();
    let mut granted = Vec::new();
    while granted.len() < 4 {
        granted.extend(
            worker.grab(QUEUE, 4 - u32::try_from(granted.len()).unwrap(), 1_000, 5_000).await.unwrap(),
        );
    }
    let done: BTreeSet<i64> = granted[..2].iter().map(number).collect();
    for job in &granted[..2] {
        assert_eq!(jobs.complete(&worker, lease(job)).await.unwrap(), "ok");
    }
    // A cancellation that has not met its job when the dump is made; what carries the key later is another matter.
    let keyed = |n: i64| {
        format!("select tidemill.insert_job('{QUEUE}', 't', '{{\"n\": {n}}}', '{{\"cancel_key\": 42}}')")
    };
    let client = jobs.database.client().await;
    run(&client, &keyed(8)).await;
    let cancel = "insert into tidemill.cancellation select queue_id, 42, 1, txid_current_snapshot(), now() from tidemill.job_queue";
    run(&client, cancel).await;
    // An unfinished job with a unique key: it goes on keeping a second copy out.
    let unique = |n: i64| {
        format!(
            "select tidemill.insert_job('{QUEUE}', 't', '{{\"n\": {n}}}', '{{\"unique\": {{\"key\": \"k\"}}}}')"
        )
    };
    let first: String = client.query_one(&unique(10), &[]).await.unwrap().get(0);
    drop(client);
    let dump = original.directory().join("dump").display().to_string();
    program(&original, "pg_dump", jobs.database.name(), &["--format=custom", "--file", &dump]);
    drop(jobs);

    let new = elsewhere().await;
    let restored = new.empty_database().await;
    program(&new, "pg_restore", restored.name(), &[&dump]);
    let client = restored.client().await;
    run(&client, &format!("select tidemill.insert_job('{QUEUE}', 't', '{{\"n\": 7}}')")).await;
    run(&client, &keyed(9)).await;
    assert_eq!(client.query_one(&unique(11), &[]).await.unwrap().get::<_, String>(0), first);
    let take =
        "select tidemill.owner_take(queue_id, 1, gen_random_uuid(), 'x', 1000) from tidemill.job_queue";
    refused(&client, take).await;
    let said = rebase(restored.url(), &[]);
    assert!(said.contains(&format!("{QUEUE}: translated")), "{said}");

    let settings = format!("[[databases]]\nname = \"x\"\nurl = \"{}\"\n", restored.url());
    let _ticker = Service::start("tidemill-ticker", &settings, &[]).await.unwrap();
    let dispatcher = Service::start("tidemill-dispatcher", &settings, &[]).await.unwrap();
    let worker = Client::new(dispatcher.http_address());
    let mut rest = BTreeSet::new();
    let wanted: BTreeSet<i64> = (1..=10).filter(|n| !done.contains(n) && *n != 8).collect();
    let mut held = String::new();
    wait_for("the rest", Duration::from_secs(30), async || {
        for job in worker.grab(QUEUE, 10, 20_000, 1_000).await.ok()? {
            assert!(rest.insert(number(&job)), "twice: {job}");
            if number(&job) == 10 {
                held = lease(&job).to_owned();
            }
        }
        (rest.len() >= wanted.len()).then_some(())
    })
    .await;
    assert_eq!(rest, wanted);
    assert_eq!(worker.grab(QUEUE, 10, 20_000, 500).await.unwrap(), Vec::<Value>::new());
    assert_eq!(client.query_one(&unique(12), &[]).await.unwrap().get::<_, String>(0), first);
    assert_eq!(worker.complete(&held).await.unwrap(), "ok");
    assert_ne!(client.query_one(&unique(13), &[]).await.unwrap().get::<_, String>(0), first);
}

fn number(job: &Value) -> i64 {
    job["args"]["n"].as_i64().expect("our arguments")
}
