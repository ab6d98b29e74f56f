//! One HTTP call to whichever dispatcher answers.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_common::api::{Problem, ProblemKind};

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The dispatchers that may be asked. Any of them takes anything and forwards what is not its own.
pub(crate) struct Client {
    http: reqwest::Client,
    endpoints: Vec<String>,
    /// Which endpoint answered last.
    current: AtomicUsize,
    authorization: Option<HeaderValue>,
}

/// Why the client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No dispatcher is named.
    #[error("no dispatcher URL is given")]
    NoUrl,
    /// Not an address of a dispatcher.
    #[error("`{0}` is not an http:// or https:// URL of a dispatcher")]
    Url(String),
    /// It cannot be a header's value.
    #[error("the token has characters that a header cannot hold")]
    Token,
    /// TLS or the like.
    #[error("set up the HTTP client")]
    Http(#[source] reqwest::Error),
}

/// Why a call has no useful answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection: the request was certainly not taken.
    #[error("connect to {url}")]
    Connect {
        /// The dispatcher.
        url: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// The connection or the time was lost: the request may have been taken.
    #[error("no answer from {url}")]
    Lost {
        /// The dispatcher.
        url: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is not what the contract says: something else answers there, or the dispatcher failed.
    #[error("{url} answered with status {status} and a body that is not Tidemill's")]
    Garbled {
        /// The dispatcher.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// Not now: no owner yet, database away, too many requests, a fault.
    #[error("not available: {}", .problem.detail)]
    Unavailable {
        /// What the dispatcher says.
        problem: Box<Problem>,
        /// Not before this long.
        retry_after: Option<Duration>,
    },
    /// The request is wrong and will stay wrong.
    #[error("refused: {}: {}", .0.title, .0.detail)]
    Refused(Box<Problem>),
}

impl CallError {
    /// Is it of no use to repeat the call as it is?
    pub fn is_refusal(&self) -> bool {
        matches!(self, CallError::Refused(_))
    }

    /// What the dispatcher asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            CallError::Unavailable { retry_after, .. } => *retry_after,
            CallError::Connect { .. }
            | CallError::Lost { .. }
            | CallError::Garbled { .. }
            | CallError::Refused(_) => None,
        }
    }
}

impl Client {
    /// A client with connections of its own.
    pub(crate) fn new(urls: &[String], token: Option<&str>) -> Result<Client, ClientError> {
        // reqwest is built without a provider of cryptography, so that a program has only one. An `Err` here means
        // that the program has chosen its own already, which is just as good.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        if urls.is_empty() {
            return Err(ClientError::NoUrl);
        }
        let endpoints = urls.iter().map(|url| endpoint(url)).collect::<Result<Vec<_>, _>>()?;
        let authorization = token
            .map(|token| {
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(60))
            .build()
            .map_err(ClientError::Http)?;
        Ok(Client { http, endpoints, current: AtomicUsize::new(0), authorization })
    }

    /// One `POST` of `body`. After a failure the next call goes to the next endpoint.
    pub(crate) async fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<A, CallError> {
        self.post_with(path, body, timeout, HeaderMap::new()).await
    }

    /// The same with more headers.
    pub(crate) async fn post_with<A: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
        headers: HeaderMap,
    ) -> Result<A, CallError> {
        let used = self.current.load(Ordering::Relaxed);
        let url = &self.endpoints[used];
        let answer = self.call(url, path, body, timeout, headers).await;
        if matches!(&answer, Err(error) if !error.is_refusal()) {
            self.turn_from(used);
        }
        answer
    }

    /// The dispatcher that answered last has nothing to say, as one that is about to leave: ask another next time.
    pub(crate) fn look_elsewhere(&self) {
        self.turn_from(self.current.load(Ordering::Relaxed));
    }

    /// Of several calls that failed at the same endpoint only the first moves on.
    fn turn_from(&self, used: usize) {
        let next = (used + 1) % self.endpoints.len();
        if self.current.compare_exchange(used, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            && next != used
        {
            tracing::debug!(server.address = self.endpoints[next], "turning to another dispatcher");
        }
    }

    async fn call<A: DeserializeOwned>(
        &self,
        url: &str,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
        headers: HeaderMap,
    ) -> Result<A, CallError> {
        let failed = |source: reqwest::Error| {
            let source = source.without_url();
            let url = url.to_owned();
            if source.is_connect() {
                CallError::Connect { url, source }
            } else {
                CallError::Lost { url, source }
            }
        };
        let mut request = self
            .http
            .request(Method::POST, format!("{url}{path}"))
            .timeout(timeout)
            .headers(headers)
            .header(CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(body).expect("the types of the contract can be written as JSON"));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let body = response.bytes().await.map_err(failed)?;
        let garbled = || CallError::Garbled { url: url.to_owned(), status: status.as_u16() };
        if status.is_success() {
            // One look at the whole text is cheaper than one at each string in it.
            let text = std::str::from_utf8(&body).map_err(|_| garbled())?;
            return serde_json::from_str(text).map_err(|_| garbled());
        }
        let problem: Problem = serde_json::from_slice(&body).map_err(|_| garbled())?;
        Err(classify(status, problem, retry_after))
    }
}

/// Does this status speak of the moment, or of the request?
fn classify(status: StatusCode, problem: Problem, retry_after: Option<Duration>) -> CallError {
    let problem = Box::new(problem);
    let passing = status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || (status == StatusCode::CONFLICT && retry_after.is_some())
        || problem.kind() == Some(ProblemKind::Unavailable);
    if passing { CallError::Unavailable { problem, retry_after } } else { CallError::Refused(problem) }
}

/// `Retry-After` in seconds; not believed beyond ten.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(Duration::from_secs(10)))
}

fn endpoint(text: &str) -> Result<String, ClientError> {
    let refused = || ClientError::Url(text.to_owned());
    let url = Url::parse(text).map_err(|_| refused())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.query().is_some() {
        return Err(refused());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
