//! Where moved events came from: told with the job, in every attempt, by every owner, and in its details.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use serde_json::{Value, json};

use crate::support::{Node, World, grab, until};

/// What a mover's transaction does in the destination: asks for ids, copies events, and records where they came from.
async fn move_events(world: &mut World, queue: &str, source: &str, ids: &[i64]) {
    let ids = ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    let sql = format!(
        "do $$
         declare
             v_ids    int8[] := array[{ids}];
             v_target record;
             v_done   int4 := 0;
         begin
             perform pg_current_xact_id();
             select * into v_target from tidemill.move_target('{queue}', cardinality(v_ids));
             for run in 1 .. cardinality(v_target.o_first) loop
                 execute format('insert into %s (ev_id, ev_time, ev_type, ev_data)
                                 select $1 + n - 1, now(), ''moved'', $2[$3 + n]::text from generate_series(1, $4) n',
                                v_target.o_table)
                     using v_target.o_first[run], v_ids, v_done, v_target.o_count[run];
                 insert into tidemill.moved (queue_id, first_id, source, queue, source_epoch, from_tick, to_tick, source_ids)
                 values (v_target.o_queue_id, v_target.o_first[run], '{source}', 'orders', 1, 1, 2,
                         v_ids[v_done + 1 : v_done + v_target.o_count[run]]);
                 v_done := v_done + v_target.o_count[run];
             end loop;
         end $$"
    );
    world.run(&sql).await;
}

/// Jobs with their arguments, which are the ids in the source, and the origins told.
async fn all(node: &Node, count: usize) -> Vec<Value> {
    let mut jobs = Vec::new();
    while jobs.len() < count {
        jobs.extend(node.grab(&["mail"]).await);
    }
    jobs
}

fn from(source: &str, id: &Value) -> Value {
    json!({"source": source, "queue": "orders", "id": id.to_string()})
}

async fn details(node: &Node, job: &Value) -> Value {
    node.get(&format!("/v1/queues/mail/jobs/{}", job["id"].as_str().unwrap())).await.good()
}

async fn finish(node: &Node, job: &Value, outcome: Value) {
    let mut result = json!({"lease": job["lease"]});
    result.as_object_mut().unwrap().append(&mut outcome.as_object().unwrap().clone());
    let said = node.post("/v1/results", json!({"results": [result]})).await.good();
    assert_eq!(said["results"][0]["answer"], "ok", "{said}");
}

async fn promote(world: &mut World) {
    until("a job is due", async || {
        (world.count("select tidemill.promote_due(10)::bigint").await > 0).then_some(())
    })
    .await;
    world.tick().await;
}

#[tokio::test]
async fn a_moved_event_tells_its_origin_in_every_attempt_and_to_every_owner() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    world.produce("mail", "own", 2).await;
    move_events(&mut world, "mail", "shop1", &[101, 102, 105]).await;
    world.produce("mail", "own", 1).await;
    move_events(&mut world, "mail", "shop2", &[7]).await;
    world.tick().await;
    let jobs = all(&node, 7).await;
    for job in &jobs {
        let expected = match (job["type"].as_str().unwrap(), job["args"].as_i64()) {
            ("own", None) => Value::Null,
            ("moved", Some(7)) => from("shop2", &job["args"]),
            _ => from("shop1", &job["args"]),
        };
        assert_eq!(job["origin"], expected, "{job}");
        assert_eq!(details(&node, job).await["origin"], expected);
    }
    let with = |args: i64| jobs.iter().find(|job| job["args"] == args).unwrap();
    let (first, second, third) = (with(101), with(102), with(105));

    // From the waiting room, and from there again.
    for job in [first, second] {
        finish(&node, job, json!({"outcome": "temp_fail", "message": "451", "retry_in_ms": 1})).await;
        let info = details(&node, job).await;
        assert_eq!((&info["state"], &info["origin"]), (&json!("waiting"), &job["origin"]));
        promote(&mut world).await;
        let again = all(&node, 1).await.remove(0);
        assert_eq!((&again["id"], &again["attempt"]), (&job["id"], &json!(2)));
        assert_eq!(again["origin"], job["origin"]);
        finish(&node, &again, json!({"outcome": "complete"})).await;
        let info = details(&node, job).await;
        assert_eq!((&info["state"], &info["origin"]), (&json!("done"), &job["origin"]));
    }

    // A new owner, and a retry whose own part of the log it never reads.
    for job in jobs.iter().filter(|job| ![first, second, third].contains(job)) {
        finish(&node, job, json!({"outcome": "complete"})).await;
    }
    finish(&node, third, json!({"outcome": "temp_fail", "message": "451", "retry_in_ms": 1})).await;
    drop(node);
    until("the queue is free", async || {
        let free = "select count(*) from tidemill.owner where until < clock_timestamp()";
        (world.count(free).await == 1).then_some(())
    })
    .await;
    promote(&mut world).await;
    let node = world.node(&["mail"]).await;
    let again = all(&node, 1).await.remove(0);
    assert_eq!((&again["id"], &again["origin"]), (&third["id"], &from("shop1", &json!(105))));
}

#[tokio::test]
async fn a_repeated_grab_of_a_transactional_worker_tells_the_origin_again() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    move_events(&mut world, "mail", "shop1", &[4711]).await;
    world.tick().await;
    let mut wanted = grab(&["mail"], 10_000);
    (wanted["transactional"], wanted["request"]) = (json!(true), json!("1"));
    let first = node.post("/v1/grab", wanted.clone()).await.good()["jobs"][0].clone();
    assert_eq!(first["origin"], from("shop1", &json!(4711)));
    let again = node.post("/v1/grab", wanted).await.good()["jobs"][0].clone();
    assert_eq!((&again["lease"], &again["origin"]), (&first["lease"], &first["origin"]));
    assert_eq!(details(&node, &first).await["origin"], first["origin"]);
}

#[tokio::test]
async fn a_backlog_that_was_moved_is_read_in_pieces_with_its_origins() {
    let mut world = World::new(&["mail"]).await;
    // More than one read brings, with holes in the source, and pages of 700.
    let ids: Vec<i64> = (1..=2_500).map(|n| 10 * n + i64::from(n % 3 == 0)).collect();
    for page in ids.chunks(700) {
        move_events(&mut world, "mail", "shop1", page).await;
    }
    world.tick().await;
    let node = world.node(&["mail"]).await;
    let jobs = all(&node, ids.len()).await;
    for job in &jobs {
        assert_eq!(job["origin"], from("shop1", &job["args"]));
    }
    let told: std::collections::BTreeSet<i64> =
        jobs.iter().map(|job| job["args"].as_i64().unwrap()).collect();
    assert!(told.into_iter().eq(ids), "each once");
}
