//! Produce: the triggers, what they give and to whom. That they give what PgQ's do is in `like_pgq`.

use tokio_postgres::Client;

use crate::support::{all, database, message, one, queue, refused, run};

const TABLE: &str = "create table shop (id int primary key, name text, paid bool, at timestamp)";

async fn trigger(client: &Client, timing: &str, arguments: &str) {
    run(client, &format!("create trigger t {timing} on shop for each row execute function pgq.{arguments}"))
        .await;
}

/// Type, data, extra1 and extra2 of the events so far, with bars between.
async fn events(client: &Client) -> Vec<String> {
    let sql = "select concat_ws('|', ev_type, ev_data, ev_extra1, ev_extra2) from pgq.event_template order by ev_id";
    all(client, sql).await
}

#[tokio::test]
async fn each_format_shows_the_same_changes() {
    let changes = "insert into shop values (1, 'a&b', true, '2026-01-02 03:04:05'); update shop set name = null; delete from shop";
    for (format, expected) in [
        (
            "logutriga",
            [
                "I:id|id=1&name=a%26b&paid=t&at=2026-01-02+03%3a04%3a05|public.shop",
                "U:id|id=1&name&paid=t&at=2026-01-02+03%3a04%3a05|public.shop|\
                 id=1&name=a%26b&paid=t&at=2026-01-02+03%3a04%3a05",
                "D:id|id=1&name&paid=t&at=2026-01-02+03%3a04%3a05|public.shop",
            ],
        ),
        (
            "sqltriga",
            [
                "I|(id,name,paid,at) values ('1','a&b','t','2026-01-02 03:04:05')|public.shop",
                "U|name=NULL where id='1'|public.shop|id=1&name=a%26b&paid=t&at=2026-01-02+03%3a04%3a05",
                "D|id='1'|public.shop",
            ],
        ),
        (
            "jsontriga",
            [
                r#"{"op":"INSERT","table":["public","shop"],"pkey":["id"]}|{"id":1,"name":"a&b","paid":true,"at":"2026-01-02T03:04:05"}|public.shop"#,
                r#"{"op":"UPDATE","table":["public","shop"],"pkey":["id"]}|{"id":1,"name":null,"paid":true,"at":"2026-01-02T03:04:05"}|public.shop|{"id":1,"name":"a&b","paid":true,"at":"2026-01-02T03:04:05"}"#,
                r#"{"op":"DELETE","table":["public","shop"],"pkey":["id"]}|{"id":1,"name":null,"paid":true,"at":"2026-01-02T03:04:05"}|public.shop"#,
            ],
        ),
    ] {
        let (_db, client) = database().await;
        queue(&client).await;
        run(&client, TABLE).await;
        trigger(&client, "after insert or update or delete", &format!("{format}('q', 'backup')")).await;
        run(&client, changes).await;
        assert_eq!(events(&client).await, expected);
    }
}

#[tokio::test]
async fn who_changes_the_table_needs_the_right_to_produce_and_gets_no_other() {
    let (_db, client) = database().await;
    queue(&client).await;
    let (owner, clerk) = (format!("owner_{}", std::process::id()), format!("clerk_{}", std::process::id()));
    run(
        &client,
        &format!(
            "create role {owner}; create role {clerk}; grant pgq_writer to {owner}; grant create on schema public to {owner};
             set role {owner}; {TABLE}; grant insert on shop to {clerk};
             create trigger t after insert on shop for each row execute function pgq.logutriga(
                 'q', 'ev_type=current_user', 'ev_extra1=(select count(*) from public.shop)')"
        ),
    )
    .await;
    run(&client, "insert into shop values (1)").await;
    run(&client, &format!("reset role; set role {clerk}")).await;
    assert_eq!(refused(&client, "insert into shop values (2)").await.0, "42501", "not a producer");
    run(&client, &format!("reset role; grant pgq_writer to {clerk}; set role {clerk}")).await;
    // The expression is the owner's, the rights are the clerk's, who may not read the table.
    assert_eq!(refused(&client, "insert into shop values (2)").await.0, "42501", "reads shop");
    for forbidden in ["pgq.event_1", "tidemill.owner", "pgq.retry_queue"] {
        run(
            &client,
            &format!(
                "reset role; create or replace trigger t after insert on shop for each row execute function \
                 pgq.logutriga('q', 'ev_type=(select count(*) from {forbidden})'); set role {clerk}"
            ),
        )
        .await;
        assert_eq!(refused(&client, "insert into shop values (2)").await.0, "42501", "{forbidden}");
    }
    run(
        &client,
        "reset role; create or replace trigger t after insert on shop for each row execute function \
         pgq.logutriga('q', 'ev_type=current_user')",
    )
    .await;
    run(&client, &format!("set role {clerk}; insert into shop values (2); reset role")).await;
    let types: Vec<String> = all(&client, "select ev_type from pgq.event_template order by ev_id").await;
    assert_eq!(types, [owner.clone(), clerk.clone()]);
    run(&client, &format!("drop owned by {owner}, {clerk}; drop role {owner}, {clerk}")).await;
}

#[tokio::test]
async fn a_hostile_search_path_reaches_the_expressions_only() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, TABLE).await;
    for format in ["logutriga", "sqltriga", "jsontriga"] {
        let sql = format!(
            "create trigger {format} before insert or update or delete on shop for each row execute function
                 pgq.{format}('q', 'backup', 'ignore=paid', 'when=wanted()');
             create trigger {format}_truncate after truncate on shop for each statement execute function pgq.{format}('q')"
        );
        run(&client, &sql).await;
    }
    // Everything that the functions use by an unqualified name, before pg_catalog.
    run(
        &client,
        "create schema evil;
         create function evil.wanted() returns bool language sql as 'select true';
         create domain evil.text as pg_catalog.int4; create domain evil.oid as pg_catalog.text;
         do $do$ declare o text; t text; f record; begin
             foreach t in array array['pg_catalog.text', 'name', 'bool', 'int4'] loop
                 execute format('create function evil.trap(%1$s, %1$s) returns bool language plpgsql as
                     $$ begin raise exception ''hijacked''; end $$', t);
                 foreach o in array array['=', '<>', '~', '!~'] loop
                     execute format('create operator evil.%1$s (leftarg = %2$s, rightarg = %2$s, function = evil.trap)', o, t);
                 end loop;
             end loop;
             foreach t in array array['current_setting(pg_catalog.text)', 'substr(pg_catalog.text, int4)',
                                      'to_json(anyelement)', 'strpos(pg_catalog.text, pg_catalog.text)'] loop
                 execute 'create function evil.' || t || ' returns pg_catalog.text language plpgsql as
                     $$ begin raise exception ''hijacked''; end $$';
             end loop;
         end $do$;
         set search_path = evil, pg_catalog, public",
    )
    .await;
    assert_eq!(
        message(&client, "select 'a'::pg_catalog.text = 'a'::pg_catalog.text").await,
        "hijacked",
        "the trap works"
    );
    run(
        &client,
        "insert into shop values (1, 'a', true, now()); update shop set name = 'b'; update shop set paid = false; \
         delete from shop; truncate shop; reset search_path",
    )
    .await;
    assert_eq!(one::<i64>(&client, "select count(*) from pgq.event_template").await, 3 * 4);
    assert_eq!(
        message(&client, "insert into shop values (1)").await,
        "function wanted() does not exist",
        "the session's path counts"
    );
}

/// PgQ takes the names of the index's columns, which stay, and then writes `set … where `.
#[tokio::test]
async fn a_key_column_may_be_renamed() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, TABLE).await;
    trigger(&client, "after insert or update", "sqltriga('q')").await;
    run(
        &client,
        "insert into shop (id) values (1); alter table shop rename id to number; update shop set name = 'a'",
    )
    .await;
    assert_eq!(events(&client).await[1], "U|name='a' where number='1'|public.shop");
}

/// A snapshot from before a change of the table sees the catalog of then, but the row of now.
#[tokio::test]
async fn a_column_is_not_lost_to_an_older_snapshot() {
    let (db, client) = database().await;
    queue(&client).await;
    run(&client, TABLE).await;
    trigger(&client, "after insert", "logutriga('q')").await;
    run(&client, "begin isolation level repeatable read; select 1").await;
    run(&db.client().await, "alter table shop add added text default 'x', drop paid").await;
    run(&client, "insert into shop (id) values (1); commit").await;
    assert_eq!(events(&client).await, ["I:id|id=1&name&at&added=x|public.shop"]);
}
