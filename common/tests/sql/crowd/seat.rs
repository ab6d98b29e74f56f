//! A session that somebody may kill.

use tidemill_common::testing::TestDb;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Client, Row};

use crate::support::one;

/// Why a statement has no result.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The session was terminated: before, in or after the statement.
    Killed,
    /// The server refused it. Nothing that the crowd does is wrong, so this is a violation.
    Refused(String),
}

/// One actor's session.
pub(super) struct Seat<'c> {
    db: &'c TestDb,
    application: String,
    client: Client,
    pub(super) pid: i32,
}

impl<'c> Seat<'c> {
    pub(super) async fn new(db: &'c TestDb, application: &str) -> Self {
        let (client, pid) = connect(db, application).await;
        Self { db, application: application.to_owned(), client, pid }
    }

    /// After a death.
    pub(super) async fn again(&mut self) {
        (self.client, self.pid) = connect(self.db, &self.application).await;
    }

    pub(super) async fn run(&self, sql: &str) -> Result<(), Trouble> {
        self.client.batch_execute(sql).await.map_err(|error| trouble(sql, &error))
    }

    pub(super) async fn rows(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Trouble> {
        self.client.query(sql, values).await.map_err(|error| trouble(sql, &error))
    }

    /// The first column of the first row.
    pub(super) async fn one<T: FromSqlOwned>(&self, sql: &str) -> Result<T, Trouble> {
        let row = self.client.query_one(sql, &[]).await.map_err(|error| trouble(sql, &error))?;
        Ok(row.get(0))
    }

    /// Lets others work. In short statements: the snapshot of a long one would hold rotation back.
    pub(super) async fn pause(&self, ms: u64) -> Result<(), Trouble> {
        for _ in 0..ms.div_ceil(10) {
            self.run("select pg_sleep(0.01)").await?;
        }
        Ok(())
    }
}

async fn connect(db: &TestDb, application: &str) -> (Client, i32) {
    let client = db.client().await;
    // The name last, in one message: it is what the killer goes by.
    let sql = format!(
        "select pg_backend_pid(), set_config('client_min_messages', 'error', false), \
         set_config('application_name', '{application}', false)"
    );
    let pid = one(&client, &sql).await;
    (client, pid)
}

fn trouble(sql: &str, error: &tokio_postgres::Error) -> Trouble {
    if error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN) || error.as_db_error().is_none() {
        Trouble::Killed
    } else {
        Trouble::Refused(format!("{sql}: {}", tidemill_common::error_chain(error)))
    }
}
