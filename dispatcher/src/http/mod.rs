//! The HTTP API, version 1: what producers, workers and operators call (the contract is `tidemill_common::api`).
//!
//! A request passes, in this order: who calls and may they (`auth`), how large and of which type is the body
//! (`body`), is it valid, who owns the queue ([`crate::routes`]), and then the owner: the engine in this process, or
//! another dispatcher, one hop away (`forward`). Producing needs no owner: any dispatcher inserts into the log.
//! Whatever goes wrong leaves as `application/problem+json` (`problem`).

mod answer;
mod auth;
mod body;
mod budget;
mod cancel;
mod dead;
mod details;
mod forward;
mod group;
mod heartbeat;
mod job;
mod list;
mod listen;
mod look;
mod once;
mod openapi;
mod params;
mod pause;
mod pool;
mod problem;
mod produce;
mod repeat;
mod replace;
mod results;
mod roster;
mod state;
mod steer;
mod stream;
mod tls;
mod turns;
mod work;
mod workers;

use axum::Router;
use axum::middleware::from_fn_with_state;

pub use auth::{Tokens, TokensError};
pub use listen::serve;
pub use pool::Pool;
pub use state::{ApiState, Limits};
pub use tls::{TlsError, acceptor};

use problem::Refusal;
use tidemill_common::api::ProblemKind;

/// All calls of the API: the list is in `openapi/operations.rs`.
pub fn router(state: ApiState) -> Router {
    openapi::routes()
        .fallback(|| async {
            Refusal::new(ProblemKind::NotFound, "there is no such path in version 1 of the API")
        })
        .method_not_allowed_fallback(|| async {
            Refusal::new(ProblemKind::MethodNotAllowed, "the header `allow` names the methods of this path")
        })
        .layer(from_fn_with_state(state.clone(), budget::hold))
        .with_state(state)
}
