//! `GET /openapi.json`: the API as an `OpenAPI` 3.1 document. Router and document come from one list (`operations`), the
//! schemas from the wire types, so neither can say what the other does not.

mod document;
mod operation;
mod operations;

use std::sync::LazyLock;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::state::ApiState;

/// The paths of all operations.
pub(super) fn routes() -> Router<ApiState> {
    operations::all()
        .into_iter()
        .fold(Router::new(), |router, operation| router.route(operation.path, operation.route))
}

/// The document. It needs no token: it says nothing about this installation.
pub(super) async fn serve() -> Response {
    static TEXT: LazyLock<Bytes> =
        LazyLock::new(|| document::assemble(&operations::all()).to_string().into());
    ([(CONTENT_TYPE, "application/json")], TEXT.clone()).into_response()
}
