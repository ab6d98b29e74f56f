//! Finished: leases that were finished of late, and how: what a repeated result is answered from.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Deserialize;

use super::Map;
use super::record::{LeaseKey, Resolution};

/// Ids of new jobs that are remembered together, 8 bytes each.
const IDS: usize = 1_000_000;

/// How a lease was finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finished {
    Resolved(Resolution),
    Released,
}

/// The jobs that exist instead of a replaced one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Children {
    pub count: u64,
    /// All of them, in the order given, or none: of a streamed replace, or forgotten.
    pub ids: Arc<[i64]>,
}

impl Children {
    pub(super) fn new(ids: Vec<i64>) -> Self {
        Self { count: ids.len() as u64, ids: ids.into() }
    }
}

/// What only the database knew when a flush was written: `j_note` of its journal row.
#[derive(Debug, Default, Deserialize)]
pub struct Note {
    /// Of the row's replaced entries, in their order, the ids of their new jobs.
    #[serde(default)]
    pub(super) ids: VecDeque<Vec<i64>>,
    /// Leases finished in the waiting room.
    #[serde(default)]
    pub(super) finished: Vec<FinishedThere>,
}

/// Epoch and number of the lease, the outcome, and of a replace the ids or (if it was streamed) the number of new jobs.
#[derive(Debug, Deserialize)]
pub(super) struct FinishedThere(pub(super) i64, pub(super) i64, pub(super) Box<str>, pub(super) Option<New>);

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum New {
    Ids(Vec<i64>),
    Count(u64),
}

impl FinishedThere {
    pub(super) fn read(self) -> Option<(LeaseKey, Finished, Option<Children>)> {
        let Self(epoch, number, outcome, new) = self;
        let how = match &*outcome {
            "complete" => Finished::Resolved(Resolution::Completed),
            "temp_fail" => Finished::Resolved(Resolution::Retried),
            "perm_fail" => Finished::Resolved(Resolution::Failed),
            "replace" => Finished::Resolved(Resolution::Replaced),
            "decline" => Finished::Released,
            _ => return None,
        };
        let children = new.map(|new| match new {
            New::Ids(ids) => Children::new(ids),
            New::Count(count) => Children { count, ids: Arc::default() },
        });
        Some((LeaseKey { epoch, number }, how, children))
    }
}

/// The last so many.
#[derive(Debug, Default)]
pub(super) struct FinishedLeases {
    limit: usize,
    how: Map<LeaseKey, Finished>,
    order: VecDeque<LeaseKey>,
    children: Map<LeaseKey, Children>,
    /// Whose children have ids, oldest first, and how many ids these are.
    with_ids: VecDeque<LeaseKey>,
    ids: usize,
}

impl FinishedLeases {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(super) fn get(&self, lease: LeaseKey) -> Option<Finished> {
        self.how.get(&lease).copied()
    }

    pub(super) fn children(&self, lease: LeaseKey) -> Option<&Children> {
        self.children.get(&lease)
    }

    pub(super) fn remember(&mut self, lease: LeaseKey, how: Finished) {
        if self.how.insert(lease, how).is_none() {
            self.order.push_back(lease);
        }
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.how.remove(&oldest);
            if !self.children.is_empty() {
                self.children.remove(&oldest);
            }
        }
    }

    /// The job of this lease was replaced by these.
    pub(super) fn remember_children(&mut self, lease: LeaseKey, children: Children) {
        self.remember(lease, Finished::Resolved(Resolution::Replaced));
        if !self.how.contains_key(&lease) {
            return;
        }
        if !children.ids.is_empty() {
            self.ids += children.ids.len();
            self.with_ids.push_back(lease);
        }
        self.children.insert(lease, children);
        while self.ids > IDS
            && let Some(oldest) = self.with_ids.pop_front()
        {
            if let Some(children) = self.children.get_mut(&oldest) {
                self.ids -= children.ids.len();
                children.ids = Arc::default();
            }
        }
    }
}
