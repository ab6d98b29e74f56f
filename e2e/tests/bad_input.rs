//! Wrong settings, wrong databases, wrong names: each is answered with a sentence that says what would be right.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidemill_common::testing::{Cluster, Service, TestDb, wait_for};
use tidemill_e2e::{api::Client, pipeline::run};

/// `tidemill` with these arguments and a database: exit code and what it says to standard error.
fn refused(database: &TestDb, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let (code, out, err) = run("tidemill", &[arguments, &["--database", database.url()]].concat())?;
    ensure!(out.is_empty(), "nothing on standard output: {out}");
    Ok((code, err.trim_end().to_owned()))
}

/// What a service says to a configuration file, and with which exit code.
fn refused_settings(service: &str, toml: &str) -> Result<(Option<i32>, String)> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), toml)?;
    let path = file.path().to_str().context("a path in UTF-8")?;
    let (code, _, err) = run(service, &["--config", path])?;
    Ok((code, err.trim_end().to_owned()))
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_known_one() -> Result<()> {
    let toml = "[database]\nurl = \"postgresql://localhost/shop\"\n[ticker]\ndatabasse = [\"*\"]\n";
    for service in ["ticker", "mover", "dispatcher"] {
        assert_eq!(
            refused_settings(&format!("tidemill-{service}"), toml)?,
            (
                Some(78),
                format!(
                    "tidemill-{service}: unknown key \"ticker.databasse\": did you mean \"ticker.databases\"?"
                )
            )
        );
    }
    Ok(())
}

#[test]
fn a_wrong_url_is_refused_without_showing_it() -> Result<()> {
    for (url, sentence) in [
        (
            "mysql://app:s3cret@db/shop",
            "database: a database URL begins with postgresql:// or is written key=value",
        ),
        (
            "postgresql://app:s3cret@db/shop?sslmod=require",
            "database: unknown parameter \"sslmod\" in the database URL: did you mean \"sslmode\"?",
        ),
        (
            "postgresql://app:s3cret@db/shop?sslmode=require",
            "database: sslmode=require to db does not prove who the server is: use sslmode=verify-full, \
             or set allow_plaintext = true for this database",
        ),
    ] {
        let toml = format!("[database]\nurl = \"{url}\"\n");
        assert_eq!(
            refused_settings("tidemill-ticker", &toml)?,
            (Some(78), format!("tidemill-ticker: {sentence}"))
        );
    }
    Ok(())
}

#[test]
fn a_missing_file_and_a_missing_database_are_named() -> Result<()> {
    let (code, _, err) = run("tidemill-ticker", &["--config", "/nonexistent/tidemill.toml"])?;
    assert_eq!(code, Some(78));
    assert!(
        err.starts_with("tidemill-ticker: cannot read the configuration file /nonexistent/tidemill.toml: "),
        "{err}"
    );

    assert_eq!(
        refused_settings("tidemill-ticker", "[ticker]\nterm_ms = 2000\n")?,
        (
            Some(78),
            "tidemill-ticker: no database is configured: set url in [database], or TIDEMILL_DATABASE__URL"
                .to_owned()
        )
    );

    let (code, _, err) = run("tidemill", &["queue", "list"])?;
    assert_eq!(
        (code, err.trim_end()),
        (Some(78), "tidemill: no database is configured: set url in [database], or TIDEMILL_DATABASE__URL")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_schema_is_named_by_everybody() -> Result<()> {
    let empty = Cluster::shared().empty_database().await;
    let name = empty.name();
    let sentence =
        format!("database {name} has no Tidemill schema: run `tidemill schema install --database {name}`");
    assert_eq!(refused(&empty, &["queue", "list"])?, (Some(1), format!("tidemill: {sentence}")));
    assert_eq!(refused(&empty, &["schema", "check"])?, (Some(1), format!("tidemill: {sentence}")));
    everybody_waits_and_says(&empty, &sentence).await?;

    // When it is installed, they go on by themselves.
    let (code, out, err) = run("tidemill", &["schema", "install", "--database", empty.url()])?;
    ensure!(code == Some(0), "{err}");
    assert!(out.starts_with(&format!("{name}: schema ")) && out.contains(" installed."), "{out}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_schema_version_is_named_by_everybody() -> Result<()> {
    let database = Cluster::shared().database().await;
    let name = database.name();
    let mut session = database.session("tidemill-test");
    let version: i32 =
        session.query_one("version", "select max(version) from tidemill.migration", &[]).await?.get(0);

    session
        .batch("newer", "insert into tidemill.migration (version, checksum) values (999, 'later')")
        .await?;
    let newer = format!(
        "database {name} has schema 999, this program needs {version}: use a newer version of this program"
    );
    assert_eq!(refused(&database, &["queue", "list"])?, (Some(1), format!("tidemill: {newer}")));
    assert_eq!(refused(&database, &["schema", "install"])?, (Some(1), format!("tidemill: {newer}")));
    everybody_waits_and_says(&database, &newer).await?;

    session.batch("older", &format!("delete from tidemill.migration where version >= {version}")).await?;
    let older = version - 1;
    let older = format!(
        "database {name} has schema {older}, this program needs {version}: run `tidemill schema install --database {name}`"
    );
    assert_eq!(refused(&database, &["queue", "list"])?, (Some(1), format!("tidemill: {older}")));
    everybody_waits_and_says(&database, &older).await
}

/// Services do not give up on a database that a person has to mend: they say so and are not ready.
async fn everybody_waits_and_says(database: &TestDb, sentence: &str) -> Result<()> {
    let (name, source) = (database.name(), Cluster::shared().database().await);
    let toml = format!(
        "[[databases]]\nname = \"{name}\"\nurl = \"{}\"\n\
         [[databases]]\nname = \"source\"\nurl = \"{}\"\n\
         [mover]\ndestination = \"{name}\"\nsources = [\"source\"]\n[[mover.routes]]\nfrom = \"a\"\nto = \"b\"\n\
         [dispatcher]\ndatabases = [\"{name}\"]\n",
        database.url(),
        source.url()
    );
    for program in ["tidemill-ticker", "tidemill-mover", "tidemill-dispatcher"] {
        let mut service = Service::spawn(program, &toml, &[])?;
        wait_for(&format!("{program} to say: {sentence}"), Duration::from_secs(20), async || {
            let said = service
                .events()
                .iter()
                .any(|event| event["error"].as_str().is_some_and(|e| e.ends_with(sentence)));
            said.then_some(())
        })
        .await;
        let admin = Client::new(service.admin_address());
        assert_eq!(admin.get("/readyz").await?.0, 503, "{program}");
        assert_eq!(admin.get("/livez").await?.0, 200, "{program}");
        assert!(service.is_running(), "{program} ended:\n{}", service.log_text());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_does_not_exist_is_answered_with_the_nearest() -> Result<()> {
    let database = Cluster::shared().database().await;
    let name = database.name();
    let missing = |queue: &str| refused(&database, &["queue", "status", queue]);
    assert_eq!(
        missing("ledger")?,
        (
            Some(1),
            format!(
                "tidemill: There is no queue \"ledger\" in database {name}; it has none: \
                 `tidemill queue create ledger` makes one."
            )
        )
    );
    for arguments in [["queue", "create", "ledger"].as_slice(), &["queue", "create", "mail", "--jobs"]] {
        let (code, _, err) = run("tidemill", &[arguments, &["--database", database.url()]].concat())?;
        ensure!(code == Some(0), "{err}");
    }
    assert_eq!(
        missing("ledgr")?,
        (
            Some(1),
            format!("tidemill: There is no queue \"ledgr\" in database {name}; the nearest name is ledger.")
        )
    );
    assert_eq!(
        missing("zzz")?,
        (Some(1), format!("tidemill: There is no queue \"zzz\" in database {name}; it has ledger, mail."))
    );
    assert_eq!(
        missing("a b")?,
        (
            Some(2),
            "tidemill: \"a b\" is no queue: a queue name must be 1 to 63 characters out of A-Z a-z 0-9 _ . : -.".to_owned()
        )
    );
    for arguments in [
        ["queue", "drop", "ledgr"].as_slice(),
        &["queue", "config", "ledgr", "ticker_paused=true"],
        &["consumer", "list", "ledgr"],
    ] {
        let (code, err) = refused(&database, arguments)?;
        ensure!(code == Some(1) && err.contains("the nearest name is ledger"), "{err}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_no_job_queue_has_no_job_settings() -> Result<()> {
    let database = Cluster::shared().database().await;
    let mut session = database.session("tidemill-test");
    session.batch("make queues", "select pgq.create_queue('log'), tidemill.create_job_queue('mail')").await?;
    assert_eq!(
        refused(&database, &["queue", "config", "log", "lease_ms=5000"])?,
        (
            Some(1),
            "tidemill: log is not a job queue and has no lease_ms: `tidemill queue create log --jobs` makes it one.".to_owned()
        )
    );
    assert_eq!(
        refused(&database, &["queue", "config", "mail", "lease=5000"])?,
        (Some(2), "tidemill: There is no setting \"lease\"; the nearest is lease_ms.".to_owned())
    );
    assert_eq!(
        refused(&database, &["queue", "config", "mail", "lease_ms=1"])?,
        (
            Some(1),
            "tidemill: A setting is out of its range: lease_ms is 1000 to 86400000, max_attempts 1 to 1000, \
             backoff_base_ms 1 to backoff_cap_ms, window_jobs 1 to 10000000, window_bytes 1048576 to 68719476736; \
             a window of 0 is the one that the dispatcher is configured with."
                .to_owned()
        )
    );
    let created = |more: &[&str]| refused(&database, &[&["queue", "create", "new"], more].concat());
    assert_eq!(created(&["backoff=mail"])?, (Some(2), "tidemill: backoff goes with --jobs only.".to_owned()));
    let wrong = created(&["--jobs", "ticker_max_lag=1 s", r#"backoff={"base_ms":2,"cap_ms":1}"#])?;
    ensure!(wrong.0 == Some(1) && wrong.1.contains("backoff_base_ms 1 to backoff_cap_ms"), "{wrong:?}");
    let queues = "select count(*) from pgq.queue where queue_name = 'new'";
    let count: i64 = session.query_one("count queues", queues, &[]).await?.get(0);
    assert_eq!(count, 0, "created with its settings, or not at all");
    let settings = [
        "--jobs",
        "ticker_max_lag=1 s",
        r#"backoff={"base_ms":1,"cap_ms":2}"#,
        "window_jobs=3",
        "doorbell=true",
    ];
    let create = [&["queue", "create", "new"], settings.as_slice(), &["--database", database.url()]].concat();
    let (code, out, err) = run("tidemill", &create)?;
    ensure!(code == Some(0) && out == "Job queue new created.\n", "{out}{err}");
    let stored = "select format('%s %s %s %s %s %s', queue_ticker_max_lag, backoff, backoff_base_ms, backoff_cap_ms, window_jobs, doorbell)
                    from pgq.queue q join tidemill.job_queue j using (queue_id) where queue_name = 'new'";
    let stored: String = session.query_one("read settings", stored, &[]).await?.get(0);
    assert_eq!(stored, "00:00:01 exponential 1 2 3 t");
    assert_eq!(
        refused(&database, &["queue", "drop", "mail"])?,
        (
            Some(1),
            "tidemill: mail is a job queue: its jobs would be lost; if that is what you want, use --force."
                .to_owned()
        )
    );
    let error = session
        .query("insert", "select tidemill.insert_job('log', 't', '{}')", &[])
        .await
        .expect_err("no job queue");
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("TM004"));
    assert_eq!(
        error.server_message(),
        Some("queue \"log\" is not a job queue: make it one with `tidemill queue create log --jobs`")
    );
    Ok(())
}
