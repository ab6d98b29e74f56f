//! The schema's functions as typed calls, one module per stage of the flow. No logic: that is in SQL, or in the
//! service that calls.

pub mod dispatch;
pub mod maintain;
pub mod mover;
pub mod tick;
pub mod work;
