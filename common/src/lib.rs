//! Placeholder
pub mod api;
pub mod id;
