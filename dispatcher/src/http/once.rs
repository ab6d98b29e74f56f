//! Once: produce with the header `Idempotency-Key`. The first answer is kept in the transaction that inserts the jobs,
//! so whoever repeats the request hears it again, from any dispatcher, whatever became of the one asked first.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tidemill_common::api::{ProblemKind, ProduceResponse, StreamProduceResponse};
use tidemill_common::db::{DbError, Tx, Type};
use tidemill_common::failpoint;
use tokio_postgres::error::SqlState;

use super::body::Media;
use super::problem::Refusal;
use super::stream::Stopped;
use super::turns::{Turn, Turns};

const HEADER: &str = "idempotency-key";
/// The longest key.
const KEY_BYTES: usize = 255;

/// A request that is carried out once.
#[derive(Debug)]
pub(super) struct Once {
    key: String,
    /// Of the body's form and the body, as far as it has arrived.
    body: Sha256,
}

/// What the first request with a key was answered, and the hash of its body.
#[derive(Debug)]
pub(super) struct First {
    body: Vec<u8>,
    answer: String,
}

/// An answer as it is sent: the same text each time.
#[derive(Debug)]
pub(super) struct Kept(String);

impl Once {
    /// What the headers say; `None` without a key.
    pub(super) fn of(headers: &HeaderMap, media: Media) -> Result<Option<Self>, Refusal> {
        let mut keys = headers.get_all(HEADER).iter();
        let Some(key) = keys.next() else { return Ok(None) };
        let refuse = |why: String| Err(Refusal::fault("", format!("the header `{HEADER}` {why}")));
        if keys.next().is_some() {
            return refuse("must be there once".to_owned());
        }
        let bytes = key.as_bytes();
        if bytes.is_empty() || bytes.len() > KEY_BYTES {
            return refuse(format!("must have 1 to {KEY_BYTES} bytes, and has {}", bytes.len()));
        }
        // Of a header's value, these are what every client, proxy and log shows in the same way.
        match key.to_str() {
            Ok(text) if bytes.iter().all(u8::is_ascii_graphic) => {
                let body = Sha256::new_with_prefix(match media {
                    Media::Json => "json\n",
                    Media::Lines => "lines\n",
                });
                Ok(Some(Self { key: text.to_owned(), body }))
            }
            Ok(_) | Err(_) => refuse("must have visible ASCII characters only, and no space".to_owned()),
        }
    }

    /// A part of the body has arrived.
    pub(super) fn arrived(&mut self, part: &[u8]) {
        self.body.update(part);
    }

    /// Waits until nobody else carries a request with this key out here.
    pub(super) async fn turn(&self, turns: &Arc<Turns>, queue: &str) -> Result<Turn, Refusal> {
        turns.take(queue, &self.key).await.ok_or_else(busy)
    }

    /// Begins: nobody else carries a request with this key out meanwhile. `None`: this is the first one.
    pub(super) async fn first(&self, tx: &mut Tx<'_>, queue: &str) -> Result<Option<First>, Stopped> {
        let op = "look for the first answer";
        let sql = "select body, answer from tidemill.first_answer($1, $2)";
        let row = match tx.query_one(op, sql, &[(&queue, Type::TEXT), (&self.key, Type::TEXT)]).await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                return Err(Stopped::Body(busy()));
            }
            row => row?,
        };
        let read = || Ok((row.try_get::<_, Option<Vec<u8>>>(0)?, row.try_get::<_, Option<String>>(1)?));
        let (body, answer) = read().map_err(|error| DbError::decode(op, &tx.database(), error))?;
        Ok(body.zip(answer).map(|(body, answer)| First { body, answer }))
    }

    /// Ends: keeps the answer, and commits it with what was done.
    pub(super) async fn keep(
        self,
        mut tx: Tx<'_>,
        queue: &str,
        answer: &impl Serialize,
    ) -> Result<Kept, Stopped> {
        let answer = serde_json::to_string(answer).map_err(|error| {
            Refusal::new(ProblemKind::Internal, format!("the answer is no JSON: {error}"))
        })?;
        let body = self.body.finalize().to_vec();
        let params = [
            (&queue as _, Type::TEXT),
            (&self.key as _, Type::TEXT),
            (&body as _, Type::BYTEA),
            (&answer as _, Type::TEXT),
        ];
        tx.query_one("keep an answer", "select tidemill.keep_answer($1, $2, $3, $4)", &params).await?;
        tx.commit().await?;
        failpoint!("dispatcher.after_produce_commit");
        Ok(Kept(answer))
    }

    /// The first answer again, if this is the same request.
    pub(super) fn again(self, first: First) -> Result<Kept, Refusal> {
        if self.body.finalize()[..] == first.body {
            return Ok(Kept(first.answer));
        }
        let detail = format!("the `{HEADER}` was used for another body; nothing was inserted");
        Err(Refusal::new(ProblemKind::Conflict, detail))
    }
}

impl Kept {
    fn status(&self) -> StatusCode {
        // Nearly no answer has a duplicate, and needs no parser.
        let is_all_there = self.0.contains("\"duplicate")
            && (serde_json::from_str(&self.0).is_ok_and(|answer: ProduceResponse| answer.is_all_there())
                || serde_json::from_str(&self.0)
                    .is_ok_and(|answer: StreamProduceResponse| answer.inserted == 0));
        if is_all_there { StatusCode::OK } else { StatusCode::CREATED }
    }
}

impl IntoResponse for Kept {
    fn into_response(self) -> Response {
        (self.status(), [(header::CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}

fn busy() -> Refusal {
    let detail = format!(
        "a request with this `{HEADER}` is being carried out: repeat it to hear what came of it; nothing was inserted"
    );
    Refusal::new(ProblemKind::Conflict, detail).retry_after(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: &str) -> Option<bool> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, key.parse().unwrap());
        Once::of(&headers, Media::Json).ok().map(|once| once.is_some())
    }

    #[test]
    fn a_key_is_visible_and_short() {
        assert_eq!(of("8e03978e-40d5-43e8-bc93-6894a57f9324"), Some(true));
        assert_eq!(of(&"k".repeat(KEY_BYTES)), Some(true));
        for bad in ["", "a b", "a\tb", "schlüssel", &"k".repeat(KEY_BYTES + 1)] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert!(Once::of(&HeaderMap::new(), Media::Json).unwrap().is_none());
    }

    #[test]
    fn the_same_bytes_in_another_form_are_another_request() {
        let hash = |media| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, "k".parse().unwrap());
            let mut once = Once::of(&headers, media).unwrap().unwrap();
            once.arrived(b"{\"type\":");
            once.arrived(b"\"t\"}");
            once.body.finalize()
        };
        assert_eq!(hash(Media::Json), hash(Media::Json));
        assert_ne!(hash(Media::Json), hash(Media::Lines));
    }
}
