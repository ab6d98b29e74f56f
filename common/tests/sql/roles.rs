//! Who may do what.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::support::{all, database, queue, refused, run};

#[tokio::test]
async fn every_function_pins_its_search_path() {
    let (_db, client) = database().await;
    queue(&client).await;
    let loose: Vec<String> = all(
        &client,
        "select p.oid::regprocedure::text from pg_proc p
         where p.pronamespace::regnamespace::text ~ '^(pgq.*|tidemill)$'
           and not exists (select 1 from unnest(p.proconfig) c where c like 'search\\_path=pg\\_catalog%pg\\_temp')
         order by 1",
    )
    .await;
    // The triggers show names as the session does; what may be qualified in them, is: see a_hostile_search_path_… in
    // triggers.rs. The others are what an insert calls for each event: all names in them are qualified, and the
    // generated ones may be called by the owner only, which insert_event with seven arguments, pinned, does.
    assert_eq!(
        loose,
        [
            "pgq.insert_event(text,text,text)",
            "pgq.jsontriga()",
            "pgq.logutriga()",
            "pgq.sqltriga()",
            "tidemill.insert_queue_1(bigint,bigint,text,text,text,text,text,text)",
            "tidemill.ticker_sleeps()"
        ]
    );
    let open: Vec<String> = all(
        &client,
        "select p.proname::text from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
         where p.proname ~ '^insert_queue' and a.grantee <> p.proowner",
    )
    .await;
    assert_eq!(open, [""; 0]);
}

#[tokio::test]
async fn the_public_may_only_look_at_names() {
    let (_db, client) = database().await;
    queue(&client).await;
    let mut open: Vec<String> = all(
        &client,
        "select distinct p.proname::text from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
         where p.pronamespace in ('pgq'::regnamespace, 'tidemill'::regnamespace) and a.grantee = 0",
    )
    .await;
    open.sort();
    assert_eq!(open, ["get_consumer_info", "get_queue_info", "quote_fqname", "seq_getval", "version"]);
    let mut tables: Vec<String> = all(
        &client,
        "select c.oid::regclass::text from pg_class c, aclexplode(c.relacl) a
         where c.relnamespace in ('pgq'::regnamespace, 'tidemill'::regnamespace) and a.grantee = 0",
    )
    .await;
    tables.sort();
    assert_eq!(
        tables,
        [
            "pgq.consumer",
            "pgq.event_1_id_seq",
            "pgq.event_1_tick_seq",
            "pgq.queue",
            "pgq.subscription",
            "pgq.tick"
        ]
    );
}

async fn denied(client: &Client, role: &str, sql: &str) -> bool {
    run(client, &format!("set role {role}")).await;
    let answer = client.batch_execute(sql).await;
    run(client, "reset role").await;
    match answer {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error.code().map(SqlState::code), Some("42501"), "{role}: {sql}: {error}");
            true
        }
    }
}

#[tokio::test]
async fn producers_produce_and_consumers_consume() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "select pgq.insert_event('q', 't', 'd'); select * from tidemill.tick_pass()").await;
    let allowed = [
        ("pgq_writer", "select pgq.insert_event('q', 't', 'd')"),
        ("pgq_writer", "select pgq.current_event_table('q')"),
        ("tidemill_producer", "select pgq.insert_event('q', 't', 'd')"),
        ("pgq_reader", "select pgq.register_consumer('q', 'mine')"),
        ("pgq_reader", "select * from pgq.get_batch_events(pgq.next_batch('q', 'c'))"),
        ("pgq_reader", "select * from tidemill.read_events(1, 1, 2, null, null, null)"),
        ("pgq_admin", "select pgq.create_queue('new')"),
        ("pgq_admin", "select pgq.ticker()"),
        (
            "pgq_admin",
            "select pgq.insert_event('q', 't', 'd'), pgq.maint_retry_events(), pgq.maint_rotate_tables_step1('q')",
        ),
        ("pgq_admin", "insert into pgq.event_1_0 (ev_time, ev_data) values (now(), 'd')"),
        (
            "tidemill_ticker",
            "select * from tidemill.hold_ticker(gen_random_uuid(), 10), tidemill.tick_pass(), tidemill.tick_status()",
        ),
        (
            "tidemill_monitor",
            "select * from tidemill.tick_status(), pgq.get_queue_info(), pgq.get_consumer_info()",
        ),
        ("tidemill_mover", "select version from tidemill.migration"),
    ];
    for (role, sql) in allowed {
        assert!(!denied(&client, role, sql).await, "{role} may: {sql}");
    }
    let forbidden = [
        ("pgq_writer", "select pgq.create_queue('x')"),
        ("pgq_writer", "select pgq.register_consumer('q', 'x')"),
        ("pgq_writer", "select * from pgq.event_1"),
        (
            "pgq_writer",
            "select pgq.insert_event_raw('q', 1, null, null, null, null, null, null, null, null, null)",
        ),
        ("pgq_reader", "select pgq.insert_event('q', 't', 'd')"),
        ("pgq_reader", "select pgq.create_queue('x')"),
        ("pgq_reader", "select pgq.ticker()"),
        ("pgq_reader", "insert into pgq.event_1_0 (ev_time) values (now())"),
        ("tidemill_monitor", "select * from pgq.event_template"),
        ("tidemill_monitor", "select tidemill.tick_pass()"),
        ("tidemill_producer", "select tidemill.tick_pass()"),
        ("tidemill_ticker", "select * from pgq.event_1"),
    ];
    for (role, sql) in forbidden {
        assert!(denied(&client, role, sql).await, "{role} may not: {sql}");
    }
}

#[tokio::test]
async fn a_callers_search_path_changes_nothing() {
    let (_db, client) = database().await;
    queue(&client).await;
    // A role that can make objects shadows what the functions use, before pg_catalog and as temporary tables.
    run(
        &client,
        "create schema evil; grant all on schema evil to pgq_writer, pgq_reader; set role pgq_writer;
         create function evil.now() returns timestamptz language plpgsql as $$ begin raise exception 'hijacked'; end $$;
         create function evil.txid_current() returns bigint language plpgsql as $$ begin raise exception 'hijacked'; end $$;
         create function evil.format(text, variadic text[]) returns text language plpgsql as $$ begin raise exception 'hijacked'; end $$;
         reset role",
    )
    .await;
    run(
        &client,
        "set search_path = evil, pg_catalog; select pgq.insert_event('q', 't', 'd'); select * from tidemill.tick_pass();
         select pgq.next_batch('q', 'c'); select pgq.create_queue('q2'); select pgq.drop_queue('q2'); reset search_path",
    )
    .await;
    let (code, _) = refused(&client, "set search_path = evil, pg_catalog; select now()").await;
    assert_eq!(code, "P0001", "the trap works");
}
