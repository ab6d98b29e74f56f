//! The installer.

use tidemill_common::schema::{self, InstallOptions, SchemaError};
use tidemill_common::testing::Cluster;

use crate::support::{all, delivered, message, one, queue, run};

#[tokio::test]
async fn it_installs_once_and_may_be_repeated() {
    let db = Cluster::shared().empty_database().await;
    let mut session = db.session("test");
    let missing = schema::check(&mut session).await.expect_err("nothing there yet");
    assert_eq!(
        missing.to_string(),
        format!(
            "database {0} has no Tidemill schema: run `tidemill schema install --database {0}`",
            db.name()
        )
    );
    let first = schema::install(&mut session, &InstallOptions::default()).await.expect("installed");
    assert_eq!((first.before, first.version, first.foreign_pgq), (None, schema::version(), false));
    assert!(first.missing_roles.is_empty(), "{:?}", first.missing_roles);
    schema::check(&mut session).await.expect("good");
    let client = db.client().await;
    queue(&client).await;
    run(&client, "select pgq.insert_event('q', 't', 'kept')").await;
    let again = schema::install(&mut session, &InstallOptions::default()).await.expect("repeated");
    assert_eq!(again.before, Some(schema::version()));
    assert_eq!(delivered(&client).await, ["kept"]);
}

#[tokio::test]
async fn many_install_at_the_same_time() {
    let db = Cluster::shared().empty_database().await;
    let installs = (0..5).map(|_| {
        let mut session = db.session("test");
        async move { schema::install(&mut session, &InstallOptions::default()).await }
    });
    for result in futures_util::future::join_all(installs).await {
        result.expect("installed");
    }
}

#[tokio::test]
async fn what_is_printed_loads_and_counts_as_installed() {
    let db = Cluster::shared().empty_database().await;
    let client = db.client().await;
    run(&client, &schema::print()).await;
    run(&client, &schema::print()).await;
    schema::check(&mut db.session("test")).await.expect("good");
    queue(&client).await;
}

#[tokio::test]
async fn another_version_is_a_sentence() {
    let db = Cluster::shared().database().await;
    let client = db.client().await;
    let mut session = db.session("test");
    let (name, needed) = (db.name(), schema::version());
    run(&client, &format!("delete from tidemill.migration where version = {needed}")).await;
    let error = schema::check(&mut session).await.expect_err("older");
    assert_eq!(
        error.to_string(),
        format!(
            "database {name} has schema {}, this program needs {needed}: run `tidemill schema install --database {name}`",
            needed - 1
        )
    );
    run(&client, "insert into tidemill.migration (version, checksum) values (999, 'x')").await;
    assert!(matches!(schema::check(&mut session).await, Err(SchemaError::Newer { found: 999, .. })));
    let refused = schema::install(&mut session, &InstallOptions::default()).await;
    assert!(matches!(refused, Err(SchemaError::Newer { .. })), "{refused:?}");
    run(&client, "delete from tidemill.migration where version = 999; update tidemill.migration set checksum = 'other' where version = 2").await;
    assert!(matches!(schema::check(&mut session).await, Err(SchemaError::Changed { version: 2, .. })));
    let printed = client.batch_execute(&schema::print()).await.expect_err("changed");
    assert_eq!(
        printed.as_db_error().map(tokio_postgres::error::DbError::message),
        Some("migration 2 was applied with another content")
    );
}

#[tokio::test]
async fn an_owner_without_any_other_right_installs_it() {
    // A cluster of its own: roles belong to the whole cluster.
    let cluster = Cluster::private();
    let db = cluster.empty_database().await;
    let admin = db.client().await;
    run(&admin, &format!("create role plain login; alter database {} owner to plain", db.name())).await;
    let url = cluster.url(db.name()).replace("postgres@", "plain@");
    let target = tidemill_common::db::Target::parse(db.name(), &url, &Default::default()).expect("a URL");
    let mut session = tidemill_common::db::Session::new(std::sync::Arc::new(target), "test");
    let installed = schema::install(&mut session, &InstallOptions { roles: false, adopt: false })
        .await
        .expect("installed");
    assert_eq!(installed.missing_roles.len(), 9);
    let installed = schema::install(&mut session, &InstallOptions::default()).await.expect("installed");
    assert_eq!(installed.missing_roles.len(), 9);
    // A DBA runs what is printed; the next install grants.
    run(&admin, &schema::role_statements(&installed.missing_roles)).await;
    let installed = schema::install(&mut session, &InstallOptions::default()).await.expect("installed");
    assert!(installed.missing_roles.is_empty());
    let plain = connect(&url).await;
    queue(&plain).await;
    run(&plain, "select pgq.insert_event('q', 't', 'd')").await;
    assert_eq!(delivered(&plain).await, ["d"]);
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("it accepts");
    #[expect(clippy::disallowed_methods, reason = "ends with its client")]
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn the_real_pgq_is_not_touched() {
    let db = Cluster::shared().empty_database().await;
    let client = db.client().await;
    // What looks like PgQ from outside: its tables, its functions, and nothing of ours.
    run(&client, &schema::print()).await;
    run(
        &client,
        "drop schema tidemill cascade; create or replace function pgq.version() returns text language sql as $$ select '3.5.1-real' $$",
    )
    .await;
    let mut session = db.session("test");
    let installed = schema::install(&mut session, &InstallOptions::default()).await.expect("installed");
    assert!(installed.foreign_pgq);
    schema::check(&mut session).await.expect("good");
    assert_eq!(one::<String>(&client, "select pgq.version()").await, "3.5.1-real");
    assert_eq!(
        all::<String>(&client, "select checksum from tidemill.migration where version = 1").await,
        [""]
    );
}

#[tokio::test]
async fn a_real_companion_is_not_touched_and_ours_comes_when_it_is_gone() {
    let db = Cluster::shared().empty_database().await;
    let client = db.client().await;
    run(&client, "create schema pgq_ext; create function pgq_ext.version() returns text language sql as $$ select 'real' $$").await;
    let mut session = db.session("test");
    let options = InstallOptions::default();
    for _ in 0..2 {
        let installed = schema::install(&mut session, &options).await.expect("installed");
        assert!(!installed.foreign_pgq);
        assert_eq!(one::<String>(&client, "select pgq_ext.version()").await, "real");
    }
    let functions = "select count(*) from pg_proc where pronamespace = 'pgq_ext'::regnamespace";
    assert_eq!(one::<i64>(&client, functions).await, 1);
    assert_eq!(one::<String>(&client, "select pgq_coop.version()").await, "3.4");
    run(&client, "drop schema pgq_ext cascade").await;
    schema::install(&mut session, &options).await.expect("installed");
    schema::check(&mut session).await.expect("good");
    assert_eq!(one::<String>(&client, "select pgq_ext.version()").await, "3.3");
}

#[tokio::test]
async fn the_companions_are_for_consumers_and_for_who_writes_into_the_target() {
    let db = Cluster::shared().database().await;
    let client = db.client().await;
    queue(&client).await;
    run(&client, "set role pgq_reader; select pgq_coop.next_batch('q', 'c', 'a'), pgq_coop.finish_batch(1)")
        .await;
    assert_eq!(
        message(&client, "select pgq_ext.set_batch_done('c', 1)").await,
        "permission denied for schema pgq_ext"
    );
    run(&client, "reset role; set role pgq_writer; select pgq_ext.set_batch_done('c', 1)").await;
    assert_eq!(message(&client, "select pgq_coop.version()").await, "permission denied for schema pgq_coop");
}
