//! The doorbell: in a database with a queue that has one, producers end the ticker's sleep.
//!
//! A look announces that the ticker is about to sleep, before it looks: so every event is found, or its producer rings.
//! The pass that follows takes that back. A ring is a hint: it brings the next pass forward, and nothing rests on it.

use std::time::Duration;

use tidemill_common::db::DbError;
use tidemill_common::queue::tick::Look;
use tokio::time::Instant;

use crate::database::Database;

/// What producers send.
const CHANNEL: &str = "tidemill_doorbell";
/// An announcement holds so long: a ticker that dies asleep has its producers ring in vain no longer.
const ASLEEP: Duration = Duration::from_secs(5);
/// It is renewed by a look, so none is further away than this.
pub(crate) const RENEW: Duration = Duration::from_millis(2_500);
/// Shortest time between the beginnings of two passes, if somebody rings.
pub(crate) const GAP: Duration = Duration::from_millis(1);

/// Whether the rings of a database are heard, and whether to ask for them.
#[derive(Debug)]
pub(crate) struct Doorbell {
    ear: Ear,
    /// A sleep that was shorter than this was not worth being announced.
    worth: Duration,
    /// Since when producers have been told that the ticker sleeps.
    announced: Option<Instant>,
    /// So many events come that the next pass is soon enough for them.
    crowd: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ear {
    /// No queue has a doorbell, or another ticker serves.
    Closed,
    Open,
    /// There is a pooler in transaction mode, through which nothing is heard.
    Deaf,
}

impl Doorbell {
    /// Nothing is known of the database yet. `min`: the shortest time between two passes that nobody rings for.
    pub(crate) fn new(min: Duration) -> Self {
        Self { ear: Ear::Closed, worth: min / 2, announced: None, crowd: false }
    }

    /// For how long the next look is to announce a sleep; zero: it is not.
    pub(crate) fn asleep(&self) -> Duration {
        if self.ear == Ear::Open && !self.crowd { ASLEEP } else { Duration::ZERO }
    }

    /// A sleep was announced, and not taken back.
    pub(crate) fn is_announced(&self) -> bool {
        self.announced.is_some()
    }

    /// A look that was to announce a sleep (`asleep`), or not, saw this.
    ///
    /// # Errors
    /// [`DbError`]
    pub(crate) async fn looked(
        &mut self,
        database: &Database,
        look: &Look,
        asleep: Duration,
    ) -> Result<(), DbError> {
        let serves = look.serving == Some(database.holder());
        let wanted = look.doorbell && serves;
        self.announced = match wanted && !asleep.is_zero() {
            true => self.announced.or_else(|| Some(Instant::now())),
            false => None,
        };
        match self.ear {
            Ear::Closed if wanted => {
                if database.listen(CHANNEL).await? {
                    self.ear = Ear::Open;
                    // What comes from now on is heard; what came until now is looked for.
                    database.wakes().tick.wake();
                } else {
                    self.ear = Ear::Deaf;
                    tracing::warn!(
                        database.name = database.name(),
                        "doorbells have no effect behind a pooler in transaction mode"
                    );
                }
            }
            Ear::Open if !wanted => {
                self.ear = Ear::Closed;
                database.unlisten(CHANNEL).await?;
            }
            Ear::Closed | Ear::Open | Ear::Deaf => {}
        }
        Ok(())
    }

    /// A pass begins: it takes the announcement back. Returns for how long that held, if one did.
    pub(crate) fn awake(&mut self) -> Option<Duration> {
        self.announced.take().map(|since| since.elapsed())
    }

    /// The pass found events, or not. `slept` is what [`Doorbell::awake`] said, `rung` whether the pass was brought
    /// forward. Who is rung for sooner than a sleep is worth, or finds events that nobody rang for, does without for as
    /// long as every pass finds some: a NOTIFY for each insert would cost the producers more than it gains.
    pub(crate) fn passed(&mut self, events: bool, slept: Option<Duration>, rung: bool) {
        self.crowd = events && slept.map_or(self.crowd, |slept| !rung || slept < self.worth);
    }

    /// Nothing is known any more about what was announced.
    pub(crate) fn forget(&mut self) {
        self.announced = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Doorbell {
        Doorbell { ear: Ear::Open, ..Doorbell::new(Duration::from_millis(5)) }
    }

    #[test]
    fn nothing_is_announced_that_would_not_be_heard() {
        for (ear, asleep) in [(Ear::Closed, Duration::ZERO), (Ear::Deaf, Duration::ZERO), (Ear::Open, ASLEEP)]
        {
            assert_eq!(Doorbell { ear, ..open() }.asleep(), asleep, "{ear:?}");
        }
        assert!(RENEW <= ASLEEP / 2);
    }

    #[test]
    fn a_crowd_is_not_asked_to_ring() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let mut bell = open();
        // One after another, with time between.
        for slept in [None, ms(900), ms(3)] {
            bell.passed(true, slept, slept.is_some());
            assert_eq!(bell.asleep(), ASLEEP, "{slept:?}");
        }
        // Too soon.
        bell.passed(true, ms(2), true);
        assert_eq!(bell.asleep(), Duration::ZERO);
        // As long as every pass finds some.
        bell.passed(true, None, false);
        assert_eq!(bell.asleep(), Duration::ZERO);
        bell.passed(false, None, false);
        assert_eq!(bell.asleep(), ASLEEP);
        // Of a queue without a doorbell.
        bell.passed(true, ms(5), false);
        assert_eq!(bell.asleep(), Duration::ZERO);
    }
}
