//! Request bodies: the right type, not too large, not too slow, not too deep.

use axum::body::{Body, BodyDataStream};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use memchr::{memchr, memchr2};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_common::api::{ProblemKind, Validate, parse};
use tokio::time::Instant;

use super::problem::Refusal;
use super::state::Limits;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    /// One JSON value a line.
    Lines,
}

impl Media {
    /// What the headers say. Compressed bodies are not taken.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let refuse = |detail: &str| Err(Refusal::new(ProblemKind::UnsupportedMediaType, detail));
        if headers.get(CONTENT_ENCODING).is_some_and(|value| value != "identity") {
            return refuse("send the body without `content-encoding`");
        }
        let named = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = named.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/json") {
            Ok(Self::Json)
        } else if essence.eq_ignore_ascii_case("application/x-ndjson") {
            Ok(Self::Lines)
        } else {
            refuse("`content-type` must be application/json, or application/x-ndjson for a stream of jobs")
        }
    }
}

/// Reads a whole JSON body.
pub(super) async fn json(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Bytes, Refusal> {
    if Media::of(headers)? != Media::Json {
        return Err(Refusal::new(
            ProblemKind::UnsupportedMediaType,
            "`content-type` must be application/json here",
        ));
    }
    whole(headers, body, limits).await
}

/// Reads a whole JSON body, and parses and checks it.
pub(super) async fn parsed<T: DeserializeOwned + Validate>(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
) -> Result<T, Refusal> {
    parse(&json(headers, body, limits).await?).map_err(Refusal::invalid)
}

/// Reads a body of at most `limits.body_bytes`, whatever its type.
pub(super) async fn whole(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Bytes, Refusal> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let mut parts = Parts::new(body);
    let deadline = Instant::now() + limits.body_wait;
    if announced.is_some_and(|length| length > limits.body_bytes as u64) {
        // Who asked first is told before anything is sent.
        if !headers.contains_key(EXPECT) {
            parts.discard(deadline).await;
        }
        return Err(too_large(limits));
    }
    // Most bodies arrive in one part, which is the body then.
    let (mut first, mut all) = (Bytes::new(), Vec::new());
    while let Some(part) = parts.next(deadline).await? {
        if first.len() + all.len() + part.len() > limits.body_bytes {
            parts.discard(deadline).await;
            return Err(too_large(limits));
        }
        if first.is_empty() && all.is_empty() {
            first = part;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&part);
        }
    }
    let read = if all.is_empty() { first } else { all.into() };
    check_depth(&read, limits.json_depth)?;
    Ok(read)
}

fn too_large(limits: &Limits) -> Refusal {
    Refusal::new(ProblemKind::TooLarge, format!("the body must have at most {} bytes", limits.body_bytes))
}

/// As much of a body that is refused is still taken off the connection.
const DISCARDED_BYTES: usize = 64 << 20;

/// A body as it arrives.
pub(super) struct Parts(BodyDataStream);

impl Parts {
    pub(super) fn new(body: Body) -> Self {
        Self(body.into_data_stream())
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self, deadline: Instant) -> Result<Option<Bytes>, Refusal> {
        match tokio::time::timeout_at(deadline, self.0.next()).await {
            Ok(Some(Ok(part))) => Ok(Some(part)),
            Ok(None) => Ok(None),
            Ok(Some(Err(_))) => Err(Refusal::fault("", "the body broke off")),
            Err(_) => Err(Refusal::fault("", "the body did not arrive in time")),
        }
    }

    /// Throws the rest away, within bounds. Most clients send all before they listen: a connection that is closed under
    /// them is all they would hear of a refusal.
    pub(super) async fn discard(&mut self, deadline: Instant) {
        let mut discarded = 0;
        while discarded < DISCARDED_BYTES
            && let Ok(Some(part)) = self.next(deadline).await
        {
            discarded += part.len();
        }
    }
}

/// Refuses JSON nested deeper than `limit`; whether it is JSON at all is the parser's business.
pub(super) fn check_depth(json: &[u8], limit: usize) -> Result<(), Refusal> {
    let (mut depth, mut rest) = (0_usize, json);
    // Outside strings, then inside one.
    while let Some(quote) = memchr(b'"', rest) {
        depth = deepest(&rest[..quote], depth, limit)?;
        rest = behind_string(&rest[quote + 1..]);
    }
    deepest(rest, depth, limit).map(drop)
}

/// The depth behind this part, which is in no string.
fn deepest(part: &[u8], mut depth: usize, limit: usize) -> Result<usize, Refusal> {
    for byte in part {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return Err(Refusal::fault("", format!("JSON must not be nested deeper than {limit}")));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(depth)
}

/// What follows the string that has just begun.
fn behind_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr2(b'"', b'\\', rest) {
        if rest[at] == b'"' {
            return &rest[at + 1..];
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    &[]
}

/// A JSON answer.
pub(super) struct Json<T>(pub(super) StatusCode, pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_string(&self.1) {
            Ok(body) => (self.0, [(CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => unwritten(&error),
        }
    }
}

/// `200` with JSON that is written already.
pub(super) fn text(json: Result<String, serde_json::Error>) -> Response {
    match json {
        Ok(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => unwritten(&error),
    }
}

fn unwritten(error: &serde_json::Error) -> Response {
    tracing::error!(%error, "an answer could not be written as JSON");
    Refusal::new(ProblemKind::Internal, "the answer could not be written").into_response()
}

/// `200` with this JSON.
pub(super) fn ok<T: Serialize>(answer: T) -> Json<T> {
    Json(StatusCode::OK, answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_strings() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        for (depth, good) in [(63, true), (64, true), (65, false)] {
            assert_eq!(check_depth(nested(depth).as_bytes(), 64).is_ok(), good, "{depth}");
        }
        let brackets = format!(r#"{{"a":"{}\"{}"}}"#, "[".repeat(100), "{".repeat(100));
        assert!(check_depth(brackets.as_bytes(), 64).is_ok());
        let after_strings = |n: usize| format!(r#"["\\","\"",{}"#, nested(n));
        assert!(check_depth(after_strings(63).as_bytes(), 64).is_ok());
        assert!(check_depth(after_strings(64).as_bytes(), 64).is_err());
        for broken in ["\"", "\"\\", "[\"a\\\"", "}}"] {
            assert!(check_depth(broken.as_bytes(), 64).is_ok(), "{broken}");
        }
    }

    #[test]
    fn media_types_are_told_by_their_essence() {
        let media = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
            headers.insert(name, value.parse().unwrap());
            Media::of(&headers).ok()
        };
        assert_eq!(media("content-type", "application/JSON; charset=utf-8"), Some(Media::Json));
        assert_eq!(media("content-type", "application/x-ndjson"), Some(Media::Lines));
        assert_eq!(media("content-type", "text/plain"), None);
        assert_eq!(media("content-encoding", "gzip"), None);
        assert_eq!(Media::of(&HeaderMap::new()).ok(), None);
    }
}
