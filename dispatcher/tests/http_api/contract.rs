//! The HTTP contract against a real database: what a call answers, and what is stored then.

use crate::support::{World, grab, until};
use serde_json::{Value, json};

#[tokio::test]
async fn a_job_goes_through_produce_grab_heartbeat_and_result() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    let job = json!({"type": "send", "args": {"to": "a@example.org"}, "max_attempts": 3, "trace": "00-a"});
    let said = node.post("/v1/queues/mail/jobs", job).await;
    assert_eq!((said.status, said.media.as_str()), (201, "application/json"));
    let id = said.body["jobs"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(said.body, json!({"jobs": [{"id": id}]}));
    world.tick().await;

    let job = node.grab(&["mail"]).await.remove(0);
    let lease = job["lease"].clone();
    for (field, value) in [
        ("id", json!(id)),
        ("queue", json!("mail")),
        ("type", json!("send")),
        ("args", json!({"to": "a@example.org"})),
        ("attempt", json!(1)),
        ("max_attempts", json!(3)),
        ("reissued", json!(false)),
        ("previous", Value::Null),
        ("extra", Value::Null),
        ("trace", json!("00-a")),
    ] {
        assert_eq!(job[field], value, "{field}");
    }

    let beat = json!({"worker": {"instance": uuid::Uuid::new_v4()}, "leases": [
        {"lease": lease, "extend_ms": 120_000}, {"lease": "nonsense", "extend_ms": 1000}]});
    let beat = node.post("/v1/heartbeat", beat).await.good();
    assert_eq!(
        (&beat["state"], &beat["leases"][0]["answer"], &beat["leases"][1]["answer"]),
        (&json!("run"), &json!("ok"), &json!("stale"))
    );
    assert!(beat["leases"][0]["lease_ends_at"].as_str() > job["lease_ends_at"].as_str());

    assert_eq!(node.result(&job, "complete").await, "ok");
    assert_eq!(node.result(&job, "complete").await, "already");
    assert_eq!(node.result(&job, "decline").await, "stale");
    let idle = node.post("/v1/grab", grab(&["mail"], 0)).await.good();
    assert_eq!(idle, json!({"jobs": [], "results": [], "state": "run"}));
}

#[tokio::test]
async fn results_travel_with_the_grab_and_never_wait_for_jobs() {
    let mut world = World::new(&["mail", "other"]).await;
    let node = world.node(&["mail", "other"]).await;
    world.produce("mail", "send", 1).await;
    world.produce("other", "send", 1).await;
    let (one, two) = (node.grab(&["mail"]).await.remove(0), node.grab(&["other"]).await.remove(0));
    for results in [vec![&one, &two], vec![&one]] {
        let mut body = grab(&["mail"], 30_000);
        body["results"] =
            results.iter().map(|job| json!({"lease": job["lease"], "outcome": "complete"})).collect();
        let said = node.post("/v1/grab", body).await.good();
        let expected = if results.len() == 2 { "ok" } else { "already" };
        assert_eq!((&said["jobs"], said["results"].as_array().unwrap().len()), (&json!([]), results.len()));
        for (job, result) in results.iter().zip(said["results"].as_array().unwrap()) {
            assert_eq!(*result, json!({"lease": job["lease"], "answer": expected}));
        }
    }
}

#[tokio::test]
async fn a_grab_over_several_queues_takes_the_first_with_work() {
    let mut world = World::new(&["a", "b", "c"]).await;
    let node = world.node(&["a", "b"]).await;
    world.produce("b", "late", 1).await;
    until("b has the job", async || {
        let info = node.get("/v1/queues/b").await.good();
        (info["ready"] == 1).then_some(())
    })
    .await;
    let jobs = node.grab(&["a", "b", "a"]).await;
    assert_eq!((jobs.len(), &jobs[0]["queue"]), (1, &json!("b")));

    // Waiting at both: whichever gets a job first answers. `c` has no owner and is no obstacle.
    let (mut waits, produced) = (grab(&["c", "a", "b"], 10_000), world.produce("a", "soon", 1));
    waits["request"] = json!("1");
    let (said, ()) = tokio::join!(node.post("/v1/grab", waits.clone()), produced);
    let jobs = said.good()["jobs"].clone();
    assert_eq!(jobs[0]["queue"], "a");
    // The answer was lost: the same request gets the same job, although `b` has one by now.
    world.produce("b", "later", 1).await;
    let again = node.post("/v1/grab", waits).await.good();
    assert_eq!(again["jobs"][0]["id"], jobs[0]["id"]);

    node.post("/v1/grab", grab(&["c"], 10_000)).await.problem(503, "unavailable");
}

#[tokio::test]
async fn plain_events_are_jobs() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    world.run("select pgq.insert_event('mail', 'I', 'id=1', 'public.t', null, '{}', null)").await;
    world.run("select pgq.insert_event('mail', null, null)").await;
    world.tick().await;
    let mut jobs = node.grab(&["mail"]).await;
    if jobs.len() < 2 {
        jobs.extend(node.grab(&["mail"]).await);
    }
    assert_eq!((&jobs[0]["type"], &jobs[0]["args"]), (&json!("I"), &json!("id=1")));
    assert_eq!(jobs[0]["extra"], json!(["public.t", null, "{}", null]));
    assert_eq!(
        (&jobs[1]["type"], &jobs[1]["args"], &jobs[1]["extra"]),
        (&json!(""), &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn several_jobs_are_stored_together_or_not_at_all() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&[]).await;
    let count = "select count(*) from pgq.event_1";
    let good = |n| json!({"type": "send", "args": n});
    let jobs: Vec<Value> = (0..2_500).map(good).collect();
    let said = node.post("/v1/queues/mail/jobs", json!({"jobs": jobs})).await.good();
    let ids: Vec<i64> =
        said["jobs"].as_array().unwrap().iter().map(|j| j["id"].as_str().unwrap().parse().unwrap()).collect();
    assert!(ids.len() == 2_500 && ids.is_sorted());
    assert_eq!(world.count(count).await, 2_500);
    assert_eq!(world.count("select ev_id from pgq.event_1 where ev_data = '2499'").await, ids[2_499]);

    // A number that jsonb does not take is found by the database only, in the second chunk.
    let mut lines: Vec<String> = (0..1_500).map(|n| good(n).to_string()).collect();
    lines[1_200] = r#"{"type":"send","args":1e999999}"#.to_owned();
    let many = format!("{{\"jobs\":[{}]}}", lines.join(","));
    node.send("/v1/queues/mail/jobs", "application/json", many).await.problem(400, "invalid-request");
    let said = node.send("/v1/queues/mail/jobs", "application/x-ndjson", lines.join("\n")).await;
    said.problem(400, "invalid-request");
    lines[1_200] = r#"{"type":"","args":1}"#.to_owned();
    node.send("/v1/queues/mail/jobs", "application/x-ndjson", lines.join("\n")).await.fault("/1200/type");
    assert_eq!(world.count(count).await, 2_500, "nothing of a refused request is stored");

    lines[1_200] = "\r".to_owned();
    let said = node.send("/v1/queues/mail/jobs", "application/x-ndjson", lines.join("\n")).await;
    assert_eq!((said.status, &said.body["inserted"]), (201, &json!("1499")));
    let end = |name: &str| said.body[name].as_str().unwrap().parse::<i64>().unwrap();
    assert_eq!(world.count("select count(*) from pgq.event_1 where ev_data = '0'").await, 2);
    assert_eq!(world.count("select max(ev_id) from pgq.event_1 where ev_data = '0'").await, end("first_id"));
    assert_eq!(
        world.count("select max(ev_id) from pgq.event_1 where ev_data = '1499'").await,
        end("last_id")
    );
    let said = node.send("/v1/queues/mail/jobs", "application/x-ndjson", "\n\n").await;
    assert_eq!((said.status, said.body), (200, json!({"inserted": "0"})));
}

#[tokio::test]
async fn details_follow_a_job_through_its_states() {
    let mut world = World::new(&["mail"]).await;
    let mut node = world.node(&["mail"]).await;
    let produced = json!({"jobs": [{"type": "a", "args": [1]}, {"type": "b", "delay_ms": 3_600_000, "max_attempts": 2}]});
    let ids = node.post("/v1/queues/mail/jobs", produced).await.good();
    let path = |n: usize| format!("/v1/queues/mail/jobs/{}", ids["jobs"][n]["id"].as_str().unwrap());
    let (first, delayed) = (path(0), path(1));

    let info = node.get(&first).await.good();
    assert_eq!((&info["state"], &info["args"], &info["attempts"]), (&json!("ready"), &json!([1]), &json!(0)));
    let info = node.get(&delayed).await.good();
    assert_eq!((&info["state"], &info["max_attempts"]), (&json!("waiting"), &json!(2)));
    assert!(info["run_at"].as_str() > info["inserted_at"].as_str());

    world.tick().await;
    let job = node.grab(&["mail"]).await.remove(0);
    let info = node.get(&first).await.good();
    assert_eq!(
        (&info["state"], &info["holder"]["host"], &info["attempts"]),
        (&json!("leased"), &json!("h"), &json!(1))
    );
    assert_eq!(info["lease_ends_at"], job["lease_ends_at"]);

    let failed = json!({"results": [{"lease": job["lease"], "outcome": "temp_fail", "message": "later", "retry_in_ms": 1}]});
    node.post("/v1/results", failed).await.good();
    assert_eq!(node.get(&first).await.good()["state"], "waiting");
    until("the retry is due", async || {
        (world.count("select tidemill.promote_due(10)::bigint").await > 0).then_some(())
    })
    .await;
    let info = node.get(&first).await.good();
    assert_eq!((&info["state"], &info["attempts"]), (&json!("ready"), &json!(1)), "put again, not read yet");
    world.tick().await;
    let job = node.grab(&["mail"]).await.remove(0);
    assert_eq!((&job["attempt"], &job["previous"]["ended"]), (&json!(2), &json!("failed")));
    assert_eq!(node.result(&job, "complete").await, "ok");
    let info = node.get(&first).await.good();
    assert_eq!((&info["state"], &info["args"]), (&json!("done"), &json!([1])));
    let failures = info["failures"].as_array().unwrap();
    assert_eq!(
        (failures.len(), &failures[0]["message"], &failures[0]["attempt"]),
        (1, &json!("later"), &json!(1))
    );

    for id in ["0", "-1", "01", "999999", "x", "99999999999999999999"] {
        node.get(&format!("/v1/queues/mail/jobs/{id}")).await.problem(404, "unknown-job");
    }
    node.look(&mut world).await;
}

#[tokio::test]
async fn dead_letters_are_listed_redriven_and_purged() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    world.produce("mail", "a", 3).await;
    world.produce("mail", "b", 2).await;
    let mut dead = Vec::new();
    while dead.len() < 5 {
        dead.extend(node.grab(&["mail"]).await);
    }
    for job in &dead {
        let body = json!({"results": [{"lease": job["lease"], "outcome": "perm_fail", "message": "550"}]});
        assert_eq!(node.post("/v1/results", body).await.good()["results"][0]["answer"], "ok");
    }
    let mut listed = Vec::new();
    let mut path = "/v1/queues/mail/dead?limit=2".to_owned();
    loop {
        let page = node.get(&path).await.good();
        listed.extend(page["jobs"].as_array().unwrap().clone());
        let Some(cursor) = page["cursor"].as_str() else { break };
        path = format!("/v1/queues/mail/dead?limit=2&cursor={cursor}");
    }
    let ids = |jobs: &[Value]| jobs.iter().map(|job| job["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&listed), ids(&dead), "each once, in the order in which they died");
    assert_eq!(
        (&listed[0]["message"], &listed[0]["attempts"], &listed[0]["args"]),
        (&json!("550"), &json!(1), &json!({"n": 1}))
    );
    let info = node.get(&format!("/v1/queues/mail/jobs/{}", dead[0]["id"].as_str().unwrap())).await.good();
    assert_eq!((&info["state"], &info["failures"][0]["message"]), (&json!("dead"), &json!("550")));

    let said = node.post("/v1/queues/mail/dead/redrive", json!({"all": true, "type": "a"})).await;
    assert_eq!(said.good(), json!({"redriven": "3"}));
    world.tick().await;
    let mut again = Vec::new();
    while again.len() < 3 {
        again.extend(node.grab(&["mail"]).await);
    }
    assert_eq!(ids(&again), ids(&dead[..3]));
    assert!(again.iter().all(|job| job["attempt"] == 1 && job["extra"].is_null()));
    for job in &again {
        assert_eq!(node.result(job, "complete").await, "ok");
        assert_eq!(node.result(job, "complete").await, "already");
    }

    let some = json!({"ids": [dead[3]["id"], dead[0]["id"], "none"]});
    assert_eq!(node.post("/v1/queues/mail/dead/purge", some).await.good(), json!({"purged": "1"}));
    assert_eq!(
        node.post("/v1/queues/mail/dead/purge", json!({"all": true})).await.good(),
        json!({"purged": "1"})
    );
    assert_eq!(world.count("select count(*) from tidemill.failure where job_id > 3").await, 0);
    assert_eq!(node.get("/v1/queues/mail/dead").await.good(), json!({"jobs": [], "cursor": null}));
}

#[tokio::test]
async fn queues_are_created_changed_and_looked_at() {
    let mut world = World::new(&["mail"]).await;
    let mut node = world.node(&["mail"]).await;
    let said = node.put("/v1/queues/fresh", json!({"lease_ms": 5_000})).await;
    assert_eq!(
        (said.status, &said.body["lease_ms"], &said.body["max_attempts"]),
        (201, &json!(5_000), &json!(25))
    );
    // Not seen yet, but it is there: jobs are taken, and a grab may try again.
    assert_eq!(node.post("/v1/queues/fresh/jobs", json!({"type": "t"})).await.status, 201);
    node.post("/v1/grab", grab(&["fresh"], 0)).await.problem(503, "unavailable");
    let said = node.put("/v1/queues/fresh", json!({"backoff": "mail"})).await;
    assert_eq!((said.status, &said.body["backoff"]), (200, &json!("mail")));
    node.put("/v1/queues/fresh", json!({"backoff": "post"})).await.fault("/backoff");
    let said = node.put("/v1/queues/fresh", json!({"backoff": {"base_ms": 10, "cap_ms": 20}})).await;
    assert_eq!((said.status, &said.body["backoff"]), (200, &json!({"base_ms": 10, "cap_ms": 20})));
    let said = node.put("/v1/queues/fresh", json!({"doorbell": true})).await;
    assert_eq!(
        (said.status, &said.body["doorbell"], &said.body["lease_ms"]),
        (200, &json!(true), &json!(5_000))
    );
    let said = node.put("/v1/queues/fresh", json!({"doorbell": false})).await;
    assert_eq!((said.status, &said.body["doorbell"]), (200, &json!(false)));
    node.put("/v1/queues/fresh", json!({"doorbell": "yes"})).await.fault("/doorbell");
    node.put("/v1/queues/no%20name", json!({})).await.fault("");

    world.produce("mail", "send", 3).await;
    node.look(&mut world).await;
    let leased = node.grab(&["mail"]).await.len();
    until("all are read", async || {
        let info = node.get("/v1/queues/mail").await.good();
        (info["ready"].as_u64()? + info["leased"].as_u64()? == 3).then_some(())
    })
    .await;
    let info = node.get("/v1/queues/mail").await.good();
    assert_eq!(info["leased"], leased);
    assert_eq!(
        (&info["owner"]["address"], &info["settings"]["lease_ms"]),
        (&json!(node.address), &json!(60_000))
    );
    let list = node.get("/v1/queues").await.good();
    assert_eq!(list["queues"].as_array().unwrap().len(), 1);
    assert_eq!(list["queues"][0]["queue"], "mail");
}
