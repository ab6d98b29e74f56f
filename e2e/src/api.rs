//! The dispatcher's HTTP API as a client in any language sees it: JSON in, JSON out.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

/// A worker that speaks to one dispatcher.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    instance: Uuid,
}

impl Client {
    /// A new worker instance for the dispatcher at this address.
    ///
    /// # Panics
    /// If the HTTP client cannot be made.
    #[must_use]
    pub fn new(dispatcher: SocketAddr) -> Client {
        // Two tests of one process may install it: the first one wins, they are the same.
        rustls::crypto::ring::default_provider().install_default().ok();
        let http =
            reqwest::Client::builder().timeout(Duration::from_secs(60)).build().expect("an HTTP client");
        Client { http, base: format!("http://{dispatcher}"), instance: Uuid::new_v4() }
    }

    /// The same worker, speaking to another dispatcher.
    #[must_use]
    pub fn at(&self, dispatcher: SocketAddr) -> Client {
        Client { base: format!("http://{dispatcher}"), ..self.clone() }
    }

    /// Posts a body as it is.
    ///
    /// # Errors
    /// No answer.
    pub async fn post_text(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<String>,
    ) -> Result<(StatusCode, Value)> {
        let request = self.http.post(format!("{}{path}", self.base)).header("content-type", content_type);
        answer(request.body(body.into())).await
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// No answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
        self.post_text(path, "application/json", body.to_string()).await
    }

    /// Asks.
    ///
    /// # Errors
    /// No answer.
    pub async fn get(&self, path: &str) -> Result<(StatusCode, Value)> {
        answer(self.http.get(format!("{}{path}", self.base))).await
    }

    /// Inserts jobs of type `t` with these arguments.
    ///
    /// # Errors
    /// No answer, or any but 201.
    pub async fn insert(&self, queue: &str, args: impl IntoIterator<Item = Value>) -> Result<Vec<String>> {
        let jobs: Vec<Value> = args.into_iter().map(|args| json!({"type": "t", "args": args})).collect();
        let (status, answer) =
            self.post(&format!("/v1/queues/{queue}/jobs"), &json!({ "jobs": jobs })).await?;
        anyhow::ensure!(status == StatusCode::CREATED, "{status}: {answer}");
        let ids = answer["jobs"].as_array().context("jobs")?.iter();
        ids.map(|job| Ok(job["id"].as_str().context("id")?.to_owned())).collect()
    }

    /// Grabs at most `max` jobs, waiting for at most `wait_ms`.
    ///
    /// # Errors
    /// No answer, or any but 200.
    pub async fn grab(&self, queue: &str, max: u32, lease_ms: u64, wait_ms: u64) -> Result<Vec<Value>> {
        let body = json!({"queues": [queue], "max": max, "lease_ms": lease_ms, "wait_ms": wait_ms,
                          "worker": {"instance": self.instance, "host": "test", "pid": 1}});
        let (status, mut answer) = self.post("/v1/grab", &body).await?;
        anyhow::ensure!(status == StatusCode::OK, "{status}: {answer}");
        match answer["jobs"].take() {
            Value::Array(jobs) => Ok(jobs),
            _ => anyhow::bail!("no jobs in {answer}"),
        }
    }

    /// The answers to these results, in their order.
    ///
    /// # Errors
    /// No answer, or any but 200.
    pub async fn results(&self, results: Vec<Value>) -> Result<Vec<String>> {
        let (status, answer) = self.post("/v1/results", &json!({ "results": results })).await?;
        anyhow::ensure!(status == StatusCode::OK, "{status}: {answer}");
        let answers = answer["results"].as_array().context("results")?.iter();
        answers.map(|item| Ok(item["answer"].as_str().context("answer")?.to_owned())).collect()
    }

    /// Completes one lease.
    ///
    /// # Errors
    /// No answer, or any but 200.
    pub async fn complete(&self, lease: &str) -> Result<String> {
        let mut answers = self.results(vec![json!({"lease": lease, "outcome": "complete"})]).await?;
        answers.pop().context("one answer")
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<(StatusCode, Value)> {
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

/// The lease of a grabbed job.
///
/// # Panics
/// If it has none.
#[must_use]
pub fn lease(job: &Value) -> &str {
    job["lease"].as_str().expect("a grabbed job has a lease")
}
