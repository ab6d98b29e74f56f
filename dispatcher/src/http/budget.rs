//! Budget: how many bytes of request bodies this process holds at a time, whatever the number of connections.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Refusal;
use super::state::{ApiState, Limits};

/// One permit is so many bytes.
const UNIT: usize = 1024;

/// Bytes that are free.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).min(Semaphore::MAX_PERMITS))))
    }

    /// Sets bytes aside; `None` if there are not so many.
    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(units).ok()
    }
}

/// Sets aside what the body may take, until the request is answered.
pub(super) async fn hold(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    match state.bodies.take(most(&request, &state.limits)) {
        Some(_held) => next.run(request).await,
        None => Refusal::unavailable("the dispatcher holds as many request bodies as it may").into_response(),
    }
}

/// The most that is held of this request's body at a time: all of it, or of a stream what goes into one statement and
/// the line after that.
fn most(request: &Request, limits: &Limits) -> usize {
    if request.body().is_end_stream() {
        return 0;
    }
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    announced.unwrap_or(usize::MAX).min(limits.body_bytes.saturating_mul(2))
}
