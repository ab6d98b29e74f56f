//! Through a dispatcher.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use tidemill_common::api::{InsertedJob, JobOptions, NewJob, ProduceResponse};
use tidemill_common::id::{InvalidName, QueueName};
use tokio::time::sleep_until;

use super::sql::new_job;
use crate::backoff::Backoff;
use crate::client::{CallError, Client, ClientError};
use crate::job::JobKind;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often another dispatcher is tried when one cannot be reached at all.
const TRIES: usize = 4;
/// How often a call with an idempotency key is made: with the waits in between, for some ten seconds.
const KEYED_TRIES: usize = 8;

/// Puts jobs into queues through a dispatcher.
///
/// A call whose answer is lost is not repeated: the jobs may be in the queue. With an
/// [idempotency key](Self::insert_once) it is, also when nobody can tell at the moment: they are there once.
#[derive(Debug)]
pub struct HttpProducer {
    client: Client,
}

/// Why jobs were not produced, or not surely.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The queue's name is not one.
    #[error("`{0}` is not a queue")]
    Queue(String, #[source] InvalidName),
    /// The arguments cannot be written as JSON.
    #[error("write the arguments of a `{0}`")]
    Args(&'static str, #[source] serde_json::Error),
    /// The key cannot be a header's value.
    #[error("the idempotency key has characters that a header cannot hold")]
    Key,
    /// The call. [`CallError::Connect`], [`CallError::Refused`]: certainly not produced; otherwise nobody knows.
    #[error("produce into {0}")]
    Call(QueueName, #[source] CallError),
}

impl HttpProducer {
    /// Asks the first of these dispatchers that answers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(urls: &[String], token: Option<&str>) -> Result<HttpProducer, ClientError> {
        Ok(HttpProducer { client: Client::new(urls, token)? })
    }

    /// Produces one job. When this returns, it is committed.
    ///
    /// # Errors
    /// [`ProduceError`].
    pub async fn insert<T: JobKind>(
        &self,
        queue: &str,
        job: &T,
        options: &JobOptions,
    ) -> Result<InsertedJob, ProduceError> {
        let job = new_job(job, options).map_err(|error| ProduceError::Args(T::TYPE, error))?;
        let inserted = self.produce(queue, &[job], None).await?;
        one(queue, inserted)
    }

    /// The same; repeated with the same key within a day it gives the first answer again. So does this call itself, when
    /// an answer is lost or a dispatcher is not available.
    ///
    /// # Errors
    /// [`ProduceError`].
    pub async fn insert_once<T: JobKind>(
        &self,
        queue: &str,
        job: &T,
        options: &JobOptions,
        key: &str,
    ) -> Result<InsertedJob, ProduceError> {
        let job = new_job(job, options).map_err(|error| ProduceError::Args(T::TYPE, error))?;
        let inserted = self.produce(queue, &[job], Some(key)).await?;
        one(queue, inserted)
    }

    /// Produces jobs with the same options, all or none.
    ///
    /// # Errors
    /// [`ProduceError`].
    pub async fn insert_many<T: JobKind>(
        &self,
        queue: &str,
        jobs: &[T],
        options: &JobOptions,
    ) -> Result<Vec<InsertedJob>, ProduceError> {
        let jobs = jobs
            .iter()
            .map(|job| new_job(job, options).map_err(|error| ProduceError::Args(T::TYPE, error)))
            .collect::<Result<Vec<_>, _>>()?;
        self.produce(queue, &jobs, None).await
    }

    /// Produces jobs of any types, all or none. No job, no call. The key is one of 1 to 255 visible ASCII characters.
    ///
    /// # Errors
    /// [`ProduceError`].
    pub async fn produce(
        &self,
        queue: &str,
        jobs: &[NewJob],
        key: Option<&str>,
    ) -> Result<Vec<InsertedJob>, ProduceError> {
        #[derive(Serialize)]
        struct Body<'a> {
            jobs: &'a [NewJob],
        }
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let queue: QueueName = queue.parse().map_err(|error| ProduceError::Queue(queue.to_owned(), error))?;
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let key = HeaderValue::from_str(key).map_err(|_| ProduceError::Key)?;
            headers.insert(HeaderName::from_static("idempotency-key"), key);
        }
        let path = format!("/v1/queues/{queue}/jobs");
        let mut tries = if key.is_some() { KEYED_TRIES } else { TRIES };
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
        loop {
            tries -= 1;
            let answer = self.client.post_with(&path, &Body { jobs }, CALL_TIMEOUT, headers.clone()).await;
            match answer {
                Ok(ProduceResponse { jobs }) => return Ok(jobs),
                // Only what was certainly not taken is sent again; the client has turned to the next dispatcher.
                Err(CallError::Connect { .. }) if tries > 0 && key.is_none() => {}
                // With a key anything may be, except what will stay wrong.
                Err(error) if tries > 0 && key.is_some() && !error.is_refusal() => {
                    sleep_until(backoff.until(error.retry_after())).await;
                }
                Err(error) => return Err(ProduceError::Call(queue, error)),
            }
        }
    }
}

fn one(queue: &str, inserted: Vec<InsertedJob>) -> Result<InsertedJob, ProduceError> {
    let queue = queue.parse::<QueueName>().map_err(|error| ProduceError::Queue(queue.to_owned(), error))?;
    let garbled = || ProduceError::Call(queue, CallError::Garbled { url: String::new(), status: 201 });
    inserted.into_iter().next().ok_or_else(garbled)
}
