//! PostgreSQL as the services see it: where it is ([`Target`]), one connection that mends itself
//! ([`Session`]), transactions ([`Tx`]) and errors with a class ([`DbError`], [`Class`]).

mod cancel;
mod connect;
mod conninfo;
mod deadlines;
mod error;
mod hosts;
mod identity;
mod session;
mod statements;
mod stream;
mod target;
mod tls;
mod tx;
mod url;

pub use error::{Class, DbCause, DbError};
pub use identity::ServerIdentity;
pub use session::{Param, Session};
pub use target::{Pooler, Target, TargetOptions};
pub use tls::TlsError;
pub use tx::{CopyIn, Tx};
pub use url::UrlError;

pub use tokio_postgres::Row;
pub use tokio_postgres::types::{ToSql, Type};
