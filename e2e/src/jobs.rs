//! One database with a job queue, a ticker, and dispatchers: for tests that are workers themselves.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use tidemill_common::{
    db::{Session, Type},
    testing::{Cluster, Service, TestDb, wait_for},
};

use crate::api::Client;

/// The job queue.
pub const QUEUE: &str = "work";

/// A job queue that is served.
#[derive(Debug)]
pub struct Jobs {
    pub database: TestDb,
    pub ticker: Service,
    pub dispatchers: Vec<Service>,
}

impl Jobs {
    /// Makes the database and the queue, starts a ticker and so many dispatchers.
    ///
    /// # Errors
    /// A part that does not get ready.
    pub async fn start(cluster: &Cluster, dispatchers: usize) -> Result<Jobs> {
        let database = cluster.database().await;
        let mut session = database.session("tidemill-test");
        session.batch("make the queue", &format!("select tidemill.create_job_queue('{QUEUE}')")).await?;
        let settings =
            format!("[[databases]]\nname = \"{}\"\nurl = \"{}\"\n", database.name(), database.url());
        let ticker = Service::start("tidemill-ticker", &settings, &[]).await?;
        let mut started = Vec::new();
        for _ in 0..dispatchers {
            started.push(Service::start("tidemill-dispatcher", &settings, &[]).await?);
        }
        let jobs = Jobs { database, ticker, dispatchers: started };
        jobs.owner().await;
        Ok(jobs)
    }

    /// Where a dispatcher's API is.
    #[must_use]
    pub fn api(&self, number: usize) -> SocketAddr {
        self.dispatchers[number].http_address()
    }

    /// A new worker that speaks to this dispatcher.
    #[must_use]
    pub fn client(&self, number: usize) -> Client {
        Client::new(self.api(number))
    }

    /// A session of the test itself.
    #[must_use]
    pub fn session(&self) -> Session {
        self.database.session("tidemill-test")
    }

    /// The number of the dispatcher that owns the queue now, and its epoch.
    pub async fn owner(&self) -> (usize, i64) {
        let mut session = self.session();
        wait_for("an owner of the queue", Duration::from_secs(20), async || {
            let sql = "select o.address, o.epoch from tidemill.owner o join pgq.queue q using (queue_id)
                        where q.queue_name = $1 and o.until > clock_timestamp()";
            let row = session.query_opt("find the owner", sql, &[(&QUEUE, Type::TEXT)]).await.ok()??;
            let address: String = row.get(0);
            let ours = |number: &usize| address.ends_with(&self.api(*number).to_string());
            Some(((0..self.dispatchers.len()).find(ours)?, row.get(1)))
        })
        .await
    }

    /// Rows that owners of this epoch have written into the journal.
    ///
    /// # Errors
    /// A query that fails.
    pub async fn journal_rows(&self, epoch: i64) -> Result<i64> {
        let mut session = self.session();
        let sql = "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
                    where n.nspname = 'tidemill' and c.relkind = 'r' and c.relname ~ '^journal_[0-9]+_[0-9]+$'";
        let mut rows = 0;
        for table in session.query("list the journal", sql, &[]).await? {
            let sql = format!("select count(*) from tidemill.{} where j_epoch = $1", table.get::<_, &str>(0));
            let row = session.query_one("count the journal", &sql, &[(&epoch, Type::INT8)]).await?;
            rows += row.get::<_, i64>(0);
        }
        Ok(rows)
    }

    /// Waits until an answer to these results is other than `unavailable`.
    ///
    /// # Errors
    /// No such answer in time.
    pub async fn complete(&self, client: &Client, lease: &str) -> Result<String> {
        let mut last = None;
        let answer = wait_for("an answer to a result", Duration::from_secs(20), async || {
            last = Some(client.complete(lease).await);
            match &last {
                Some(Ok(answer)) if answer != "unavailable" => Some(answer.clone()),
                _ => None,
            }
        })
        .await;
        last.context("asked")??;
        Ok(answer)
    }
}
