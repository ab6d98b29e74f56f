//! Which server is at the other end of a connection.

use super::error::DbError;
use super::session::Session;

/// Which server a connection ended at. Another one than last time means a failover or a restored backup:
/// what was believed about the database must be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerIdentity {
    /// Made by `initdb`; `None` if the role may not read it.
    pub system_identifier: Option<i64>,
    /// Grows at each promotion; `None` if the role may not read it.
    pub timeline: Option<i32>,
    /// `pg_database.oid`.
    pub database_oid: u32,
}

impl Session {
    /// Which server the connection ended at, asked once per connection.
    ///
    /// # Errors
    /// As [`Session::query`]; a missing permission is not an error.
    pub async fn server_identity(&mut self) -> Result<ServerIdentity, DbError> {
        self.open("read server identity").await?;
        if let Some(identity) = self.identity {
            return Ok(identity);
        }
        let op = "read server identity";
        let database_oid =
            "select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()";
        let row = self.query_one(op, database_oid, &[]).await?;
        let database_oid = row.try_get(0).map_err(|error| DbError::decode(op, &self.database(), error))?;
        let system = "select system_identifier from pg_catalog.pg_control_system()";
        // The name of the current WAL file tells the timeline at once; the control file only after the next
        // checkpoint, but also in recovery.
        let current = "select ('x' || pg_catalog.left(pg_catalog.pg_walfile_name(\
                       pg_catalog.pg_current_wal_insert_lsn()), 8))::bit(32)::int4";
        let recorded = "select timeline_id from pg_catalog.pg_control_checkpoint()";
        let system_identifier = self.if_permitted(op, system).await?;
        let timeline = match self.if_permitted(op, current).await? {
            Some(timeline) => Some(timeline),
            None => self.if_permitted(op, recorded).await?,
        };
        let identity = ServerIdentity { system_identifier, timeline, database_oid };
        self.identity = Some(identity);
        Ok(identity)
    }

    /// One value, or `None` if the server refuses to tell.
    async fn if_permitted<T>(&mut self, op: &'static str, sql: &str) -> Result<Option<T>, DbError>
    where
        T: for<'r> tokio_postgres::types::FromSql<'r>,
    {
        match self.query_one(op, sql, &[]).await {
            Ok(row) => row.try_get(0).map(Some).map_err(|error| DbError::decode(op, &self.database(), error)),
            Err(error) if error.code().is_some() && !error.is_connection() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
