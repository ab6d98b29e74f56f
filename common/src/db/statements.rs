//! Prepared statements of one connection: what is asked again and again is parsed, analysed and planned once.

use std::collections::HashMap;
use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

use super::session::Param;

/// Each costs the server some ten kilobytes. Texts beyond that are new every time, it seems.
const LIMIT: usize = 128;

/// The statements of a connection by their text. Behind a pooler in transaction mode there are none: the next
/// transaction may be on another server connection.
#[derive(Debug)]
pub(super) struct Statements {
    known: HashMap<String, Known>,
    limit: usize,
}

#[derive(Debug)]
enum Known {
    /// Asked once. Most texts that are never asked again are not worth a round trip of their own.
    Once,
    Prepared(Statement),
}

impl Statements {
    /// None yet; `named`: there may be some.
    pub(super) fn new(named: bool) -> Self {
        Self { known: HashMap::new(), limit: if named { LIMIT } else { 0 } }
    }

    /// Runs one statement and returns its rows. The second time it is prepared, which is one more round trip.
    pub(super) async fn query(
        &mut self,
        client: &Client,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Error> {
        let Some(statement) = self.find(client, sql, params).await? else {
            return client.query_typed(sql, params).await;
        };
        let answer = client.query(&statement, &values(params)).await;
        self.check(sql, answer)
    }

    /// As [`Statements::query`], but each row is read when it arrives. The inner error is what could not be read.
    pub(super) async fn query_each<T>(
        &mut self,
        client: &Client,
        sql: &str,
        params: &[Param<'_>],
        mut read: impl FnMut(&Row) -> Result<T, Error>,
    ) -> Result<Result<Vec<T>, Error>, Error> {
        let prepared = self.find(client, sql, params).await?;
        let is_prepared = prepared.is_some();
        let answer = async {
            let rows = match prepared {
                None => {
                    client.query_typed_raw(sql, params.iter().map(|(value, of)| (*value, of.clone()))).await?
                }
                Some(statement) => client.query_raw(&statement, values(params)).await?,
            };
            let mut rows = pin!(rows);
            let mut all = Vec::new();
            while let Some(row) = rows.try_next().await? {
                match read(&row) {
                    Ok(one) => all.push(one),
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(Ok(all))
        };
        let answer = answer.await;
        if is_prepared { self.check(sql, answer) } else { answer }
    }

    /// As [`Statements::query`], for the number of rows that were changed.
    pub(super) async fn execute(
        &mut self,
        client: &Client,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<u64, Error> {
        let Some(statement) = self.find(client, sql, params).await? else {
            return client.execute_typed(sql, params).await;
        };
        let answer = client.execute(&statement, &values(params)).await;
        self.check(sql, answer)
    }

    async fn find(
        &mut self,
        client: &Client,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Option<Statement>, Error> {
        let fits = |statement: &Statement| {
            statement.params().iter().eq(params.iter().map(|(_, of)| of)).then(|| statement.clone())
        };
        match self.known.get_mut(sql) {
            Some(Known::Prepared(statement)) => Ok(fits(statement)),
            Some(known @ Known::Once) => {
                let types: Vec<_> = params.iter().map(|(_, of)| of.clone()).collect();
                let statement = client.prepare_typed(sql, &types).await?;
                *known = Known::Prepared(statement.clone());
                Ok(fits(&statement))
            }
            None => {
                if self.known.len() < self.limit {
                    self.known.insert(sql.to_owned(), Known::Once);
                }
                Ok(None)
            }
        }
    }

    /// One that failed is prepared anew: the function behind it may have been replaced by one with other columns.
    fn check<T>(&mut self, sql: &str, answer: Result<T, Error>) -> Result<T, Error> {
        if answer.is_err() {
            self.known.remove(sql);
        }
        answer
    }
}

fn values<'a>(params: &[Param<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|(value, _)| *value).collect()
}
