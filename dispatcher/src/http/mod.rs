//! The HTTP API, version 1: what producers, workers and operators call (the contract is `tidemill_common::api`).
//!
//! A request passes, in this order: who calls and may they (`auth`), how large and of which type is the body
//! (`body`), is it valid, who owns the queue ([`crate::routes`]), and then the owner: the engine in this process, or
//! another dispatcher, one hop away (`forward`). Producing needs no owner: any dispatcher inserts into the log.
//! Whatever goes wrong leaves as `application/problem+json` (`problem`).

mod auth;
mod body;
mod budget;
mod dead;
mod details;
mod forward;
mod group;
mod heartbeat;
mod job;
mod listen;
mod look;
mod params;
mod pool;
mod problem;
mod produce;
mod repeat;
mod replace;
mod results;
mod state;
mod steer;
mod stream;
mod work;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

pub use auth::{Tokens, TokensError};
pub use listen::serve;
pub use pool::Pool;
pub use state::{ApiState, Limits};

use problem::Refusal;
use tidemill_common::api::ProblemKind;

/// All calls of the API.
pub fn router(state: ApiState) -> Router {
    Router::new()
        .route("/v1/queues/{queue}/jobs", post(produce::produce))
        .route("/v1/grab", post(work::grab))
        .route("/v1/results", post(results::results))
        .route("/v1/leases/{lease}/replace", post(replace::replace))
        .route("/v1/heartbeat", post(heartbeat::heartbeat))
        .route("/v1/queues", get(look::queues))
        .route("/v1/queues/{queue}", get(look::queue).put(steer::settings))
        .route("/v1/queues/{queue}/jobs/{id}", get(details::job))
        .route("/v1/queues/{queue}/dead", get(dead::list))
        .route("/v1/queues/{queue}/dead/redrive", post(dead::redrive))
        .route("/v1/queues/{queue}/dead/purge", post(dead::purge))
        .fallback(|| async {
            Refusal::new(ProblemKind::NotFound, "there is no such path in version 1 of the API")
        })
        .method_not_allowed_fallback(|| async {
            Refusal::new(ProblemKind::MethodNotAllowed, "the header `allow` names the methods of this path")
        })
        .layer(from_fn_with_state(state.clone(), budget::hold))
        .with_state(state)
}
