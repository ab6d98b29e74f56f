//! The worker against a peer that keeps the HTTP contract strictly and misbehaves on order.

mod drain;
mod leases;
mod peer;
mod timeout;
mod work;
