//! What a ticker remembers of the last tick that it committed: after a failover it is the one that can tell whether the
//! new server has it.

use tidemill_common::db::{DbError, Session};
use tidemill_common::id::TickId;
use tidemill_common::queue::tick::{self, Testimony, Ticked};

/// The last tick of a database, as far as this process knows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Last {
    queue: String,
    tick: TickId,
    /// The connection over which it was cut, or was last found.
    generation: u64,
    /// No commit since had an outcome that is not known.
    certain: bool,
}

/// The memory of one database.
#[derive(Debug, Default)]
pub(crate) struct Memory(Option<Last>);

impl Memory {
    /// These ticks were committed, together.
    pub(crate) fn note(&mut self, ticked: &[Ticked], generation: u64) {
        let cut = ticked.iter().rev().find_map(|one| match one {
            Ticked::Cut { queue, tick, .. } => Some((queue, *tick)),
            Ticked::Failed { .. } => None,
        });
        if let Some((queue, tick)) = cut {
            self.0 = Some(Last { queue: queue.clone(), tick, generation, certain: true });
        }
    }

    /// A pass may have committed ticks that this process has not heard of.
    pub(crate) fn doubt(&mut self) {
        if let Some(last) = &mut self.0 {
            last.certain = false;
        }
    }

    /// On another connection than the last tick's: asks for that tick. `serving`: the database says that this process
    /// was the last one that ticked there.
    ///
    /// # Errors
    /// [`DbError`].
    pub(crate) async fn testify(&mut self, session: &mut Session, serving: bool) -> Result<(), DbError> {
        let Some(last) = self.0.as_mut().filter(|last| last.generation != session.generation()) else {
            return Ok(());
        };
        let testimony = tick::witness(session, &last.queue, last.tick, last.certain && serving).await?;
        last.generation = session.generation();
        if testimony == Testimony::Lost {
            tracing::error!(
                database.name = &*session.database(),
                queue.name = last.queue,
                tick.id = last.tick.0,
                "the server has lost a tick that it had committed"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(queue: &str, tick: i64) -> Ticked {
        Ticked::Cut { queue: queue.to_owned(), tick: TickId(tick), new_events: 1 }
    }

    #[test]
    fn only_a_tick_that_was_heard_of_makes_certain() {
        let mut memory = Memory::default();
        memory.doubt();
        memory.note(&[], 1);
        assert_eq!(memory.0, None);
        memory.note(&[cut("a", 5), cut("b", 7)], 1);
        let last = Last { queue: "b".to_owned(), tick: TickId(7), generation: 1, certain: true };
        assert_eq!(memory.0, Some(last.clone()));
        memory.doubt();
        memory.note(&[Ticked::Failed { queue: "a".to_owned(), problem: String::new() }], 1);
        assert_eq!(memory.0, Some(Last { certain: false, ..last.clone() }));
        memory.note(&[cut("b", 8)], 2);
        assert_eq!(memory.0, Some(Last { tick: TickId(8), generation: 2, ..last }));
    }
}
