//! Consumers bound to a role: two tenants, and every call of the one for a consumer of the other.

use tidemill_common::testing::TestDb;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::support::{database, one, queue, refused, run, tick};

/// Two roles of this test's own (roles belong to the cluster), which are dropped with it.
struct Tenants {
    ann: String,
    bob: String,
}

/// Each with a consumer, `ann` and `bob`, of queue `q`.
async fn tenants() -> (TestDb, Client, Tenants) {
    let (db, client) = database().await;
    let [ann, bob] = ["ann", "bob"].map(|name| format!("{name}_{}", db.name()));
    run(&client, &format!("create role {ann} in role pgq_reader; create role {bob} in role pgq_reader"))
        .await;
    queue(&client).await;
    for (consumer, role) in [("ann", &ann), ("bob", &bob)] {
        let bind = format!("select tidemill.bind_consumer('q', '{consumer}', '{role}')");
        assert_eq!(as_role(&client, role, &bind).await, Ok("1".to_owned()));
        assert_eq!(as_role(&client, role, &bind).await, Ok("0".to_owned()));
    }
    (db, client, Tenants { ann, bob })
}

impl Tenants {
    async fn end(self, client: &Client) {
        run(client, &format!("drop role if exists {}; drop role if exists {}", self.ann, self.bob)).await;
    }
}

/// The first value of a statement, or the message of a refusal for want of rights.
async fn as_role(client: &Client, role: &str, sql: &str) -> Result<String, String> {
    run(client, &format!("set role {role}")).await;
    let answer = client.query_opt(&format!("select x::text from ({sql}) x (x) limit 1"), &[]).await;
    run(client, "reset role").await;
    match answer {
        Ok(row) => Ok(row.and_then(|row| row.get::<_, Option<String>>(0)).unwrap_or_default()),
        Err(error) => {
            assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{role}: {sql}: {error:?}");
            Err(error.as_db_error().expect("the server's").message().to_owned())
        }
    }
}

#[tokio::test]
async fn each_tenant_has_his_own_consumer_and_no_other() {
    let (_db, client, tenants) = tenants().await;
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    tick(&client).await;
    let mut batches = Vec::new();
    for (consumer, role) in [("ann", &tenants.ann), ("bob", &tenants.bob)] {
        let batch = as_role(&client, role, &format!("select pgq.next_batch('q', '{consumer}')")).await;
        batches.push(batch.expect("his own"));
    }
    let sides =
        [("ann", &tenants.ann, &batches[0], &tenants.bob), ("bob", &tenants.bob, &batches[1], &tenants.ann)];
    for (consumer, owner, batch, other) in sides {
        let calls = [
            format!("select pgq.next_batch('q', '{consumer}')"),
            format!("select batch_id from pgq.next_batch_info('q', '{consumer}')"),
            format!("select batch_id from pgq.next_batch_custom('q', '{consumer}', null, null, null)"),
            format!("select ev_id from pgq.get_batch_events({batch})"),
            format!("select ev_id from pgq.get_batch_cursor({batch}, 'c', 1)"),
            format!("select ev_id from pgq.get_batch_cursor({batch}, 'c', 1, 'true')"),
            format!("select queue_name from pgq.get_batch_info({batch})"),
            format!("select pgq.batch_event_sql({batch})"),
            format!("select pgq.batch_event_tables({batch})"),
            format!("select pgq.event_retry({batch}, 1, 3600)"),
            format!("select pgq.event_retry({batch}, 1, now() + interval '1 hour')"),
            format!("select pgq.batch_retry({batch}, 3600)"),
            format!("select pgq.register_consumer('q', '{consumer}')"),
            format!("select pgq.finish_batch({batch})"),
            format!("select pgq.register_consumer_at('q', '{consumer}', 2)"),
            format!("select tidemill.bind_consumer('q', '{consumer}', '{other}')"),
            format!("select tidemill.unbind_consumer('q', '{consumer}')"),
        ];
        let why = format!(
            "consumer {consumer} of queue q is bound to role {owner}, and {other} is not a member of it"
        );
        let unregister = format!("select pgq.unregister_consumer('q', '{consumer}')");
        for call in calls.iter().chain([&unregister]) {
            assert_eq!(as_role(&client, other, call).await, Err(why.clone()), "{call}");
        }
        // The owner may do all of it, and none of what the other tried was done.
        for call in calls.iter().filter(|call| !call.contains("tidemill.")) {
            let answer = as_role(&client, owner, call).await;
            if call.contains("finish_batch") {
                assert_eq!(answer, Ok("1".to_owned()));
            } else {
                assert!(answer.is_ok(), "{call}: {answer:?}");
            }
        }
        assert_eq!(as_role(&client, owner, &unregister).await, Ok("1".to_owned()));
    }
    assert_eq!(one::<i64>(&client, "select count(*) from tidemill.consumer_role").await, 0);
    tenants.end(&client).await;
}

#[tokio::test]
async fn the_members_of_a_group_are_bound_with_it() {
    let (_db, client, tenants) = tenants().await;
    let Tenants { ann, bob } = &tenants;
    run(&client, "select pgq.insert_event('q', 't', 'd')").await;
    tick(&client).await;
    let next = |member: &str| format!("select pgq_coop.next_batch('q', 'ann', '{member}', '0 seconds')");
    let batch = as_role(&client, ann, &next("one")).await.expect("her own");
    assert!(!batch.is_empty());
    let why = format!("consumer ann of queue q is bound to role {ann}, and {bob} is not a member of it");
    for call in [
        next("one"),
        next("two"),
        "select pgq_coop.next_batch_custom('q', 'ann', 'two', null, null, null)".to_owned(),
        "select pgq_coop.register_subconsumer('q', 'ann', 'two')".to_owned(),
        "select pgq_coop.unregister_subconsumer('q', 'ann', 'one', 1)".to_owned(),
        "select pgq_coop.heartbeat('q', 'ann', 'one')".to_owned(),
        format!("select pgq_coop.heartbeat({batch})"),
        format!("select pgq_coop.finish_batch({batch})"),
        format!("select pgq_coop.finish_batch('q', 'ann', 'one', {batch})"),
        format!("select pgq.finish_batch({batch})"),
        format!("select ev_id from pgq.get_batch_events({batch})"),
        "select pgq.unregister_consumer('q', 'ann.one')".to_owned(),
    ] {
        assert_eq!(as_role(&client, bob, &call).await, Err(why.clone()), "{call}");
    }
    assert_eq!(
        as_role(&client, ann, &format!("select pgq_coop.heartbeat({batch})")).await,
        Ok("true".to_owned())
    );
    assert_eq!(
        as_role(&client, ann, &format!("select pgq_coop.finish_batch({batch})")).await,
        Ok("1".to_owned())
    );
    tenants.end(&client).await;
}

#[tokio::test]
async fn who_may_bind_what() {
    let (_db, client, tenants) = tenants().await;
    let Tenants { ann, bob } = &tenants;
    // Somebody else's consumer that nobody has bound: only an administrator.
    let bind = format!("select tidemill.bind_consumer('q', 'c', '{ann}')");
    assert_eq!(
        as_role(&client, ann, &bind).await,
        Err("consumer c of queue q was registered before: only a member of pgq_admin can bind it".to_owned())
    );
    assert_eq!(as_role(&client, "pgq_admin", &bind).await, Ok("1".to_owned()));
    assert!(as_role(&client, bob, "select pgq.next_batch('q', 'c')").await.is_err());
    assert_eq!(
        as_role(&client, ann, &format!("select tidemill.bind_consumer('q', 'new', '{bob}')")).await,
        Err(format!("{ann} is not a member of role {bob}"))
    );
    assert_eq!(one::<i64>(&client, "select count(*) from pgq.consumer where co_name = 'new'").await, 0);
    // An administrator does what he likes.
    assert_eq!(
        as_role(&client, "pgq_admin", "select pgq.register_consumer_at('q', 'c', 2)").await,
        Ok("0".to_owned())
    );
    assert_eq!(as_role(&client, ann, "select tidemill.unbind_consumer('q', 'c')").await, Ok("1".to_owned()));
    assert_eq!(as_role(&client, bob, "select tidemill.unbind_consumer('q', 'c')").await, Ok("0".to_owned()));
    assert!(as_role(&client, bob, "select pgq.next_batch('q', 'c')").await.is_ok());
    assert_eq!(refused(&client, "select tidemill.unbind_consumer('q', 'none')").await.0, "P0001");
    assert_eq!(refused(&client, "select tidemill.bind_consumer('q', 'c', 'nobody_at_all')").await.0, "42704");
    tenants.end(&client).await;
}

#[tokio::test]
async fn what_counts_is_the_role_that_was_set() {
    let (_db, client, tenants) = tenants().await;
    let Tenants { ann, bob } = &tenants;
    let next = "select pgq.next_batch('q', 'ann')";
    // A function of Bob's with his rights, called by Ann: the session works for Ann.
    run(
        &client,
        &format!(
            "create schema wrap authorization {bob}; grant usage on schema wrap to public;
             create function wrap.next() returns bigint language sql security definer set search_path = pg_catalog
             as $$ {next} $$;
             alter function wrap.next() owner to {bob}"
        ),
    )
    .await;
    assert!(as_role(&client, ann, "select wrap.next()").await.is_ok());
    assert!(as_role(&client, bob, "select wrap.next()").await.is_err());
    // A member of the role, and one who may only take it.
    run(&client, &format!("create role member_{ann} noinherit in role {ann}, pgq_reader")).await;
    run(&client, &format!("grant usage on schema pgq to member_{ann}; grant execute on all functions in schema pgq to member_{ann}")).await;
    assert!(as_role(&client, &format!("member_{ann}"), next).await.is_ok());
    run(&client, &format!("drop schema wrap cascade; drop owned by member_{ann}; drop role member_{ann}"))
        .await;
    tenants.end(&client).await;
}

#[tokio::test]
async fn a_binding_ends_with_its_subscription_and_not_with_its_role() {
    let (_db, client, tenants) = tenants().await;
    let Tenants { ann, bob } = &tenants;
    run(&client, "select pgq.unregister_consumer('q', 'bob')").await;
    assert_eq!(as_role(&client, ann, "select pgq.register_consumer('q', 'bob')").await, Ok("1".to_owned()));
    assert!(as_role(&client, ann, "select pgq.next_batch('q', 'bob')").await.is_ok());
    // Its role is gone: nobody but an administrator has it.
    run(&client, &format!("drop role {ann}")).await;
    let why = as_role(&client, bob, "select pgq.next_batch('q', 'ann')").await.expect_err("bound");
    assert!(why.starts_with("consumer ann of queue q is bound to role "), "{why}");
    assert_eq!(
        as_role(&client, "pgq_admin", "select tidemill.unbind_consumer('q', 'ann')").await,
        Ok("1".to_owned())
    );
    assert!(as_role(&client, bob, "select pgq.next_batch('q', 'ann')").await.is_ok());
    run(
        &client,
        &format!("select tidemill.bind_consumer('q', 'ann', '{bob}'); select pgq.drop_queue('q', true)"),
    )
    .await;
    assert_eq!(one::<i64>(&client, "select count(*) from tidemill.consumer_role").await, 0);
    tenants.end(&client).await;
}
