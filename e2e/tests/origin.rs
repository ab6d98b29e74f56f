//! Events of several databases, brought together by the mover: each job says where it came from, in every attempt.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidemill_common::testing::{Cluster, Service, TestDb, wait_for};
use tidemill_e2e::api::{Client, lease};

/// Events of each source.
const EVENTS: usize = 50;

async fn run(database: &TestDb, sql: &str) -> Result<()> {
    Ok(database.session("tidemill-test").batch("prepare", sql).await?)
}

/// Jobs until there are so many.
async fn grab(client: &Client, count: usize) -> Result<Vec<Value>> {
    let mut jobs = Vec::new();
    while jobs.len() < count {
        // Until the queue has an owner the answer is 503: repeat.
        let grab = async || client.grab("work", 1_000, 60_000, 20_000).await.ok();
        let some = wait_for("an owner's answer", Duration::from_secs(20), grab).await;
        anyhow::ensure!(!some.is_empty(), "{} of {count} jobs came", jobs.len());
        jobs.extend(some);
    }
    Ok(jobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_says_which_event_of_which_database_it_was() -> Result<()> {
    let cluster = Cluster::shared();
    let jobs = cluster.database().await;
    run(&jobs, "select tidemill.create_job_queue('work')").await?;
    let mut settings = format!("[[databases]]\nname = \"jobs\"\nurl = \"{}\"\n", jobs.url());
    let mut sources = Vec::new();
    for name in ["shop1", "shop2"] {
        let source = cluster.database().await;
        // Each event says who it is: the source's name and its id there.
        let insert = format!(
            "select pgq.create_queue('orders'); select pgq.register_consumer('orders', 'tidemill.mover');
             select setval('pgq.event_1_id_seq', 1000);
             select pgq.insert_event('orders', 'order', format('{{\"at\":\"%s %s\"}}', '{name}', 1000 + n))
               from generate_series(1, {EVENTS}) n"
        );
        run(&source, &insert).await?;
        settings += &format!("[[databases]]\nname = \"{name}\"\nurl = \"{}\"\n", source.url());
        sources.push(source);
    }
    settings += "[mover]\ndestination = \"jobs\"\nsources = [\"shop*\"]\n[[mover.routes]]\nfrom = \"orders\"\nto = \"work\"\n\
                 [dispatcher]\ndatabases = [\"jobs\"]\n";
    let _ticker = Service::start("tidemill-ticker", &settings, &[]).await?;
    let _mover = Service::start("tidemill-mover", &settings, &[]).await?;
    let dispatcher = Service::start("tidemill-dispatcher", &settings, &[]).await?;
    let client = Client::new(dispatcher.http_address());

    let told = |job: &Value| -> Result<String> {
        let origin = &job["origin"];
        assert_eq!(origin["queue"], "orders", "{job}");
        let told = format!(
            "{} {}",
            origin["source"].as_str().context("source")?,
            origin["id"].as_str().context("id")?
        );
        assert_eq!(job["args"]["at"], told, "{job}");
        Ok(told)
    };
    let all = grab(&client, 2 * EVENTS).await?;
    let origins = all.iter().map(told).collect::<Result<BTreeSet<_>>>()?;
    assert_eq!(origins.len(), 2 * EVENTS, "each once");

    // Half of them once more, by way of the waiting room.
    let failed = |job: &Value| json!({"lease": lease(job), "outcome": "temp_fail", "message": "451", "retry_in_ms": 1});
    let answers = client.results(all.iter().step_by(2).map(failed).collect()).await?;
    assert!(answers.iter().all(|answer| answer == "ok"), "{answers:?}");
    let again = grab(&client, EVENTS).await?;
    let second = again.iter().map(told).collect::<Result<BTreeSet<_>>>()?;
    assert_eq!(second, all.iter().step_by(2).map(told).collect::<Result<_>>()?);
    assert!(again.iter().all(|job| job["attempt"] == 2));
    Ok(())
}
