//! Holders: which workers hold leases, for people.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::Engine;
use super::record::Holder;

impl Engine {
    /// Who holds leases of jobs in the window, each worker once, and how many: by a walk through the window.
    #[must_use]
    pub fn holders(&self) -> Vec<(Arc<Holder>, u64)> {
        let mut holders: HashMap<Uuid, (Arc<Holder>, u64)> = HashMap::new();
        for held in self.window.iter().filter_map(|(_, seat)| seat.state.lease()) {
            let first = || (Arc::clone(&held.holder), 0);
            holders.entry(held.holder.instance).or_insert_with(first).1 += 1;
        }
        holders.into_values().collect()
    }
}
