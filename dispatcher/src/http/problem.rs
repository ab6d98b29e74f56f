//! Refusals: every answer of 400 or more is a problem with a stable type, and never holds SQL or a stack trace.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tidemill_common::api::{Problem, ProblemKind, Violation};
use tidemill_common::db::{Class, DbError};
use tidemill_common::error_chain;

/// Why a request gets no answer of its own kind.
#[derive(Debug)]
pub(super) struct Refusal {
    problem: Box<Problem>,
    /// Seconds, for what passes by itself.
    retry_after: Option<u32>,
}

impl Refusal {
    /// A problem of this kind, with a sentence about this request.
    pub(super) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let retry_after =
            matches!(kind, ProblemKind::TooManyRequests | ProblemKind::Unavailable).then_some(1);
        Self { problem: Box::new(Problem::new(kind, detail)), retry_after }
    }

    /// It passes by itself, in about so many seconds.
    pub(super) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// What another dispatcher said.
    pub(super) fn from_problem(problem: Problem) -> Self {
        let retry_after = matches!(problem.status, 429 | 503).then_some(1);
        Self { problem: Box::new(problem), retry_after }
    }

    /// Which problem it is, if this version knows it.
    pub(super) fn kind(&self) -> Option<ProblemKind> {
        self.problem.kind()
    }

    /// An invalid request.
    pub(super) fn invalid(violations: Vec<Violation>) -> Self {
        Self { problem: Box::new(Problem::invalid(violations)), retry_after: None }
    }

    /// An invalid request with one fault.
    pub(super) fn fault(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid(vec![Violation { pointer: pointer.into(), detail: detail.into() }])
    }

    /// It may work in a moment.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Unavailable, detail)
    }

    /// No dispatcher owns the queue at this moment: repeat.
    pub(super) fn no_owner(queue: &str) -> Self {
        Self::unavailable(format!("no dispatcher owns the queue `{queue}` at this moment"))
    }

    /// A failed database call, logged here: the caller hears no more than what to do.
    pub(super) fn database(error: &DbError) -> Self {
        let (cause, database) = (error_chain(error), error.database());
        if error.outcome_unknown() {
            tracing::warn!(
                error = cause,
                database.name = database,
                "a request's database call has no known end"
            );
            return Self::unavailable(
                "the database did not answer in time: it is not known whether this was done",
            );
        }
        match error.class() {
            Class::Retry => {
                tracing::warn!(error = cause, database.name = database, "a request's database call failed");
                Self::unavailable("the database is not available at this moment; nothing was done")
            }
            Class::Reject => {
                tracing::debug!(
                    error = cause,
                    database.name = database,
                    "the database refused a request's data"
                );
                Self::new(
                    ProblemKind::InvalidRequest,
                    "the database cannot store what the request holds; nothing was done",
                )
            }
            Class::Stop => {
                tracing::error!(
                    error = cause,
                    database.name = database,
                    "a request's database call is impossible"
                );
                Self::new(ProblemKind::Internal, "the dispatcher cannot do this; its log says why")
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A problem holds strings and numbers only: it can always be written.
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, Problem::MEDIA_TYPE)], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            // What is left of the body stands before the next request: there is none on this connection.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
