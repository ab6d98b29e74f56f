//! What producers know of their events: three classes.

use std::collections::BTreeSet;
use std::sync::Mutex;

/// The events of one round, by number.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    classes: Mutex<Classes>,
}

#[derive(Debug, Default)]
pub(super) struct Classes {
    pub(super) committed: BTreeSet<u64>,
    pub(super) undone: BTreeSet<u64>,
    /// Transactions whose COMMIT was sent and not answered: all of its events, or none.
    pub(super) unknown: Vec<Vec<u64>>,
}

impl Ledger {
    pub(super) fn committed(&self, numbers: Vec<u64>) {
        self.with(|classes| classes.committed.extend(numbers));
    }

    pub(super) fn undone(&self, numbers: Vec<u64>) {
        self.with(|classes| classes.undone.extend(numbers));
    }

    pub(super) fn unknown(&self, numbers: Vec<u64>) {
        self.with(|classes| classes.unknown.push(numbers));
    }

    pub(super) fn into_classes(self) -> Classes {
        self.classes.into_inner().expect("no actor panicked")
    }

    fn with(&self, change: impl FnOnce(&mut Classes)) {
        change(&mut self.classes.lock().expect("no actor panicked"));
    }
}
