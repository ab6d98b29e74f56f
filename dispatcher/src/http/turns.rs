//! Turns: of the requests with one idempotency key this dispatcher carries out one at a time. Those that wait for it wait
//! here, not in the database, where each of them would take one of the few connections.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// How long to wait for another request with the same key.
const WAIT: Duration = Duration::from_millis(500);

/// Queue and key.
type Name = (String, String);

/// The keys in use.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Mutex<HashSet<Name>>,
    given_back: Notify,
}

/// The right to carry out a request with a key; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    name: Name,
}

impl Turns {
    /// `None`: another request with this key does not come to its end.
    pub(super) async fn take(self: &Arc<Self>, queue: &str, key: &str) -> Option<Turn> {
        let name = (queue.to_owned(), key.to_owned());
        let wait = async {
            loop {
                let given_back = self.given_back.notified();
                tokio::pin!(given_back);
                // Before the look: what is given back after it wakes us.
                given_back.as_mut().enable();
                if self.lock().insert(name.clone()) {
                    return;
                }
                given_back.await;
            }
        };
        timeout(WAIT, wait).await.ok()?;
        Some(Turn { turns: Arc::clone(self), name })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Name>> {
        // Nothing under this lock can leave it half-way.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.name);
        self.turns.given_back.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_of_each_key() {
        let turns = Arc::new(Turns::default());
        let first = turns.take("q", "k").await.unwrap();
        assert!(turns.take("q", "l").await.is_some() && turns.take("r", "k").await.is_some());
        assert!(turns.take("q", "k").await.is_none(), "it waits, and no longer than it may");
        let (second, ()) = tokio::join!(turns.take("q", "k"), async { drop(first) });
        assert!(turns.take("q", "k").await.is_none());
        drop(second.unwrap());
        assert!(turns.take("q", "k").await.is_some());
        assert!(turns.lock().is_empty());
    }
}
