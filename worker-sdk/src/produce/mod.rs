//! Produce: put jobs into a queue.
//!
//! [`insert`] and [`insert_many`] use a connection or transaction of your own: the job exists if and when your
//! transaction commits. [`HttpProducer`] needs no database.

mod http;
mod sql;

pub use http::{HttpProducer, ProduceError};
pub use sql::{InsertError, insert, insert_many};
