//! Rows that are read one by one, as they arrive.

use tokio_postgres::Row;

use super::DbError;
use super::session::{Commits, Param, Session};

impl Session {
    /// Like [`Session::query`], but every row is read when it arrives, and what was read is returned: thousands of rows
    /// as the driver has them would be more than a processor's cache holds.
    ///
    /// # Errors
    /// As [`Session::query`]; also what `read` could not read.
    pub async fn query_each<T>(
        &mut self,
        op: &'static str,
        sql: &str,
        params: &[Param<'_>],
        read: impl FnMut(&Row) -> Result<T, tokio_postgres::Error>,
    ) -> Result<Vec<T>, DbError> {
        self.open(op).await?;
        let (deadline, link) = self.engage(op)?;
        let asked = link.statements.query_each(&link.client, sql, params, read);
        let answer = tokio::time::timeout(deadline, asked).await;
        self.settle(op, Commits::Yes, answer)?.map_err(|error| DbError::decode(op, &self.database(), error))
    }
}
