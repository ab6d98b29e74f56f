//! `tidemill job cancel`: the queue's owner is found through the database, or the dispatcher that is named is asked.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidemill_common::testing::{Cluster, Service, TestDb, wait_for};
use tidemill_e2e::pipeline::run;

/// Delayed jobs of the queue `mail`: one without a key, two with 42, one with -7. Their ids.
const JOBS: &str = r#"
    select array_agg(tidemill.insert_job('mail', 't', 'null', o) order by n)
      from (values (1, '{"delay_ms": 3600000}'::jsonb), (2, '{"delay_ms": 3600000, "cancel_key": "42"}'),
                   (3, '{"delay_ms": 3600000, "cancel_key": "42"}'), (4, '{"delay_ms": 3600000, "cancel_key": "-7"}')) j (n, o)"#;

struct Mill {
    database: TestDb,
    jobs: Vec<String>,
}

impl Mill {
    async fn new() -> Result<Mill> {
        let database = Cluster::shared().database().await;
        let mut session = database.session("tidemill-test");
        session
            .batch("prepare", "select tidemill.create_job_queue('mail', '{}'), pgq.create_queue('events')")
            .await?;
        let jobs = session.query_one("insert", JOBS, &[]).await?.try_get(0)?;
        Ok(Mill { database, jobs })
    }

    /// `tidemill job cancel` with these arguments and the database: exit code, and what it says.
    fn cancel(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let database = ["--database", self.database.url()];
        let (code, out, err) = run("tidemill", &[&["job", "cancel"], arguments, &database].concat())?;
        ensure!(out.is_empty() != err.is_empty(), "it says one thing: {out} {err}");
        Ok((code, format!("{out}{err}").trim_end().to_owned()))
    }

    async fn dispatcher(&self) -> Result<Service> {
        let toml = format!("[[databases]]\nname = \"jobs\"\nurl = \"{}\"\n", self.database.url());
        let service = Service::start("tidemill-dispatcher", &toml, &[]).await?;
        let mut session = self.database.session("tidemill-test");
        let owned = "select 1 from tidemill.owner where until > clock_timestamp()";
        wait_for("an owner", Duration::from_secs(20), async || {
            session.query_opt("look", owned, &[]).await.ok().flatten().map(drop)
        })
        .await;
        Ok(service)
    }

    async fn waiting(&self) -> Result<i64> {
        let mut session = self.database.session("tidemill-test");
        Ok(session.query_one("count", "select count(*) from tidemill.waiting", &[]).await?.try_get(0)?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_cancelled_by_id_and_by_key() -> Result<()> {
    let mill = Mill::new().await?;
    let said = mill.cancel(&["mail", &mill.jobs[0]])?;
    assert_eq!(
        said,
        (Some(1), "tidemill: Queue mail has no owner now: is a dispatcher running? Nothing was done.".into())
    );

    let dispatcher = mill.dispatcher().await?;
    let one = (Some(0), "Queue mail: 1 job is cancelled.".to_owned());
    assert_eq!(mill.cancel(&["mail", &mill.jobs[0]])?, one);
    assert_eq!(mill.cancel(&["mail", &mill.jobs[0], "--code", "-3"])?.1, "Queue mail: no job is cancelled.");
    let said = mill.cancel(&["mail", "--cancel-key", "42"])?;
    assert_eq!(said, (Some(0), "Queue mail: 2 jobs are cancelled.".to_owned()));
    let url = format!("http://{}/", dispatcher.http_address());
    let by_name = ["job", "cancel", "mail", "--cancel-key", "-7", "--dispatcher", &url];
    let (code, out, _) = run("tidemill", &by_name)?;
    assert_eq!((code, out.trim_end()), (Some(0), one.1.as_str()), "without a database");
    assert_eq!(mill.waiting().await?, 0);

    let (code, said) = mill.cancel(&["mail", "999999999"])?;
    assert_eq!(code, Some(1));
    assert!(said.contains("there is no job `999999999`"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_cancelled_is_said() -> Result<()> {
    let mill = Mill::new().await?;
    for (arguments, code, said) in [
        (&["mail", "abc"][..], 2, "\"abc\" is no job: an id is a number."),
        (&["nowhere", "1"], 1, "There is no queue \"nowhere\""),
        (&["events", "1"], 1, "events is not a job queue."),
        (&["mail"], 2, "required"),
        (&["mail", "1", "--cancel-key", "2"], 2, "cannot be used with"),
        (&["mail", "1", "--dispatcher", "http://127.0.0.1:1"], 1, "ask the dispatcher at http://127.0.0.1:1"),
    ] {
        let (exit, text) = mill.cancel(arguments)?;
        assert_eq!(exit, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
    assert_eq!(mill.waiting().await?, 4);
    Ok(())
}
