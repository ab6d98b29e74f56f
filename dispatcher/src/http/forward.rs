//! Forward: a request for a queue that another dispatcher owns goes there, one hop, never two.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method};
use axum::response::Response;
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_common::api::{Problem, ProblemKind};

use super::problem::Refusal;
use super::state::ApiState;

/// Says that a request was forwarded already, and by whom.
const FORWARDED: &str = "x-tidemill-forwarded";
/// The longest time until the owner's machine accepts a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// The longest time for an answer, besides what the request itself may wait.
const ANSWER: Duration = Duration::from_secs(10);
/// The largest answer taken apart here. An owner's window is smaller.
const ANSWER_BYTES: usize = 256 << 20;

/// The client for all forwarded requests, who trusts these authorities, too.
pub(super) fn client(authorities: Vec<reqwest::Certificate>) -> Result<reqwest::Client, reqwest::Error> {
    // Fails if there is one already, which is just as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = reqwest::Client::builder();
    authorities
        .into_iter()
        .fold(builder, reqwest::ClientBuilder::add_root_certificate)
        .connect_timeout(CONNECT)
        .pool_idle_timeout(Duration::from_secs(20))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
}

/// What a request carries on to the owner.
#[derive(Debug, Clone)]
pub(super) struct Passport {
    authorization: Option<HeaderValue>,
    /// It came from another dispatcher: it ends here.
    pub(super) forwarded: bool,
}

impl FromRequestParts<ApiState> for Passport {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Refusal> {
        let authorization = parts.headers.get(AUTHORIZATION).cloned();
        Ok(Self { authorization, forwarded: parts.headers.contains_key(FORWARDED) })
    }
}

/// A call to another dispatcher.
pub(super) struct Call<'a> {
    pub(super) state: &'a ApiState,
    pub(super) passport: &'a Passport,
    /// Its URL without a path.
    pub(super) address: &'a str,
    pub(super) method: Method,
    pub(super) path: &'a str,
    /// How long the owner itself may wait before it answers.
    pub(super) wait: Duration,
}

impl Call<'_> {
    /// Passes a request on and its answer back, untouched.
    pub(super) async fn relay(self, body: Bytes) -> Result<Response, Refusal> {
        let answer = self.send(body).await?;
        self.pass_on(answer)
    }

    fn pass_on(&self, answer: reqwest::Response) -> Result<Response, Refusal> {
        let mut response = Response::builder().status(answer.status());
        for name in [CONTENT_TYPE, RETRY_AFTER] {
            if let Some(value) = answer.headers().get(&name) {
                response = response.header(name, value);
            }
        }
        response
            .body(Body::from_stream(answer.bytes_stream()))
            .map_err(|_| Refusal::new(ProblemKind::Internal, "the owner's answer cannot be passed on"))
    }

    /// Passes a stream of lines on while it arrives, and the answer back.
    pub(super) async fn relay_lines(self, body: Body) -> Result<Response, Refusal> {
        let request = self.request().header(CONTENT_TYPE, "application/x-ndjson");
        self.pass_on(self.call(request.body(reqwest::Body::wrap_stream(body.into_data_stream()))).await?)
    }

    /// Asks, and takes the answer apart; a problem comes back as it is.
    pub(super) async fn ask<T: DeserializeOwned>(self, body: &impl Serialize) -> Result<T, Refusal> {
        let body = serde_json::to_vec(body)
            .map_err(|_| Refusal::new(ProblemKind::Internal, "the request cannot be passed on"))?;
        let garbled = self.unreachable("answered something else than this version does");
        let broken = self.unreachable("broke off its answer");
        let answer = self.send(body.into()).await?;
        let is_good = answer.status().is_success();
        let mut parts = answer.bytes_stream();
        let mut text = Vec::new();
        while let Some(part) = parts.next().await {
            let Ok(part) = part else { return Err(broken) };
            if text.len() + part.len() > ANSWER_BYTES {
                return Err(garbled);
            }
            text.extend_from_slice(&part);
        }
        if is_good {
            return serde_json::from_slice(&text).map_err(|_| garbled);
        }
        Err(serde_json::from_slice::<Problem>(&text).map_or(garbled, Refusal::from_problem))
    }

    fn request(&self) -> reqwest::RequestBuilder {
        let url = format!("{}{}", self.address.trim_end_matches('/'), self.path);
        let mut request = self
            .state
            .client
            .request(self.method.clone(), url)
            .header(FORWARDED, self.state.me.to_string())
            .timeout(self.wait + ANSWER);
        if let Some(value) = &self.passport.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request
    }

    async fn send(&self, body: Bytes) -> Result<reqwest::Response, Refusal> {
        let mut request = self.request();
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        self.call(request).await
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Refusal> {
        request.send().await.map_err(|error| {
            tracing::warn!(%error, owner = self.address, "a request could not be forwarded to the queue's owner");
            self.unreachable("could not be reached")
        })
    }

    fn unreachable(&self, what: &str) -> Refusal {
        Refusal::unavailable(format!("the queue's owner, the dispatcher at {}, {what}", self.address))
    }
}
