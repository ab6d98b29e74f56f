//! Errors of a whole request: RFC 9457 `application/problem+json`.

use serde::{Deserialize, Serialize};

use super::Violation;

/// The body of every answer with a status of 400 or more. It never holds SQL or a stack trace.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Problem {
    /// `/problems/…`, stable: [`ProblemKind::from_type`].
    #[serde(rename = "type")]
    pub problem_type: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened to this request, as a sentence.
    #[serde(default)]
    pub detail: String,
    /// The faults of an invalid request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Violation>,
}

impl Problem {
    /// The media type of this body.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// A problem of this kind with its own sentence.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Problem {
        Problem {
            problem_type: kind.as_type().to_owned(),
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// An invalid request with its faults; the first one is also the sentence.
    pub fn invalid(errors: Vec<Violation>) -> Problem {
        let detail = match errors.first() {
            Some(first) if first.pointer.is_empty() => first.detail.clone(),
            Some(first) => format!("{}: {}", first.pointer, first.detail),
            None => String::new(),
        };
        Problem { errors, ..Problem::new(ProblemKind::InvalidRequest, detail) }
    }

    /// The kind, if this version knows it.
    pub fn kind(&self) -> Option<ProblemKind> {
        ProblemKind::from_type(&self.problem_type)
    }
}

/// The stable kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// 400: the request is malformed or breaks a limit.
    InvalidRequest,
    /// 401: no token, or an unknown one.
    Unauthorized,
    /// 403: the token lacks the scope, or the queue is not for it to know.
    Forbidden,
    /// 404: no such job queue.
    UnknownQueue,
    /// 404: no such job, or it is finished and its log table has rotated.
    UnknownJob,
    /// 404: no dispatcher has heard of this worker lately.
    UnknownWorker,
    /// 404: no such path.
    NotFound,
    /// 405: the path exists, the method does not.
    MethodNotAllowed,
    /// 409: the lease ended or was taken over; only for calls about a single lease.
    StaleLease,
    /// 409: the request contradicts what is stored.
    Conflict,
    /// 413: the body is larger than the server takes.
    TooLarge,
    /// 415: neither JSON nor, where it is allowed, NDJSON.
    UnsupportedMediaType,
    /// 429, with `Retry-After`.
    TooManyRequests,
    /// 503, with `Retry-After`: no owner yet, or the database is away.
    Unavailable,
    /// 500: a fault of the dispatcher; its log has the cause.
    Internal,
}

impl ProblemKind {
    const ALL: [ProblemKind; 15] = [
        Self::InvalidRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::UnknownQueue,
        Self::UnknownJob,
        Self::UnknownWorker,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::StaleLease,
        Self::Conflict,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::TooManyRequests,
        Self::Unavailable,
        Self::Internal,
    ];

    /// `/problems/…`.
    pub const fn as_type(self) -> &'static str {
        match self {
            Self::InvalidRequest => "/problems/invalid-request",
            Self::Unauthorized => "/problems/unauthorized",
            Self::Forbidden => "/problems/forbidden",
            Self::UnknownQueue => "/problems/unknown-queue",
            Self::UnknownJob => "/problems/unknown-job",
            Self::UnknownWorker => "/problems/unknown-worker",
            Self::NotFound => "/problems/not-found",
            Self::MethodNotAllowed => "/problems/method-not-allowed",
            Self::StaleLease => "/problems/stale-lease",
            Self::Conflict => "/problems/conflict",
            Self::TooLarge => "/problems/too-large",
            Self::UnsupportedMediaType => "/problems/unsupported-media-type",
            Self::TooManyRequests => "/problems/too-many-requests",
            Self::Unavailable => "/problems/unavailable",
            Self::Internal => "/problems/internal",
        }
    }

    /// The kind with this `type`.
    pub fn from_type(text: &str) -> Option<ProblemKind> {
        Self::ALL.into_iter().find(|kind| kind.as_type() == text)
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::UnknownQueue | Self::UnknownJob | Self::UnknownWorker | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::StaleLease | Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::TooManyRequests => 429,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    /// The kind in words.
    pub const fn title(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The request is not valid",
            Self::Unauthorized => "A valid token is needed",
            Self::Forbidden => "The token does not allow this",
            Self::UnknownQueue => "There is no such job queue",
            Self::UnknownJob => "There is no such job",
            Self::UnknownWorker => "There is no such worker",
            Self::NotFound => "There is no such path",
            Self::MethodNotAllowed => "The path does not have this method",
            Self::StaleLease => "The lease is not live",
            Self::Conflict => "The request contradicts what is stored",
            Self::TooLarge => "The request is too large",
            Self::UnsupportedMediaType => "The media type is not supported",
            Self::TooManyRequests => "Too many requests",
            Self::Unavailable => "Not available at this moment",
            Self::Internal => "The dispatcher failed",
        }
    }
}
