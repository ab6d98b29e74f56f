//! The one loop of all services. The loop is the retry: no step waits or repeats by itself.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::admin::Beat;
use super::metrics::StepMetrics;
use super::pace::{Pace, Waits};
use super::shutdown::Shutdown;
use super::step::{Progress, Step, StepError};
use super::wake::Wake;
use crate::db::Class;

/// Everything a loop needs beside its step.
pub(super) struct Loop {
    pub pace: Pace,
    pub wake: Wake,
    pub shutdown: Shutdown,
    pub metrics: StepMetrics,
    pub beat: Beat,
}

/// Runs passes until shutdown is wanted. A full pass is followed by another after the gap; an idle one waits for
/// stop, wake or pace; a failed one is logged once and waited out, which a wake-up does not shorten. A pass
/// is never cancelled.
pub(super) async fn drive<S: Step>(mut step: S, with: Loop) {
    let Loop { pace, wake, shutdown, metrics, beat } = with;
    let mut waits = Waits::new(pace);
    while !shutdown.is_wanted() {
        let begun = Instant::now();
        beat.beat();
        let outcome = step.step().await;
        beat.beat();
        metrics.observe(S::NAME, &outcome, begun.elapsed());
        let (earliest, woken) = (begun + waits.gap(), begun + waits.woken_gap());
        let (until, wakeable) = match outcome {
            Ok(Progress::Worked(_)) => {
                waits.worked();
                (earliest, true)
            }
            Ok(Progress::Idle) => (earliest.max(Instant::now() + waits.idle()), true),
            Ok(Progress::Rest(wait)) => {
                waits.rested();
                (earliest.max(Instant::now() + wait), true)
            }
            Err(error) => {
                let wait = match error.class() {
                    Class::Stop => waits.stopped(),
                    Class::Retry | Class::Reject => waits.failed(),
                };
                log(S::NAME, &step.label(), &error, wait);
                (Instant::now() + wait, false)
            }
        };
        rest(&beat, &shutdown, &wake, until, wakeable, woken).await;
    }
}

/// Waits until `until`, or until a wake-up (not before `woken`), or stop. Beats meanwhile: waiting is no
/// sign of death.
async fn rest(beat: &Beat, shutdown: &Shutdown, wake: &Wake, until: Instant, wakeable: bool, woken: Instant) {
    if until <= Instant::now() {
        // Gives other loops of this thread their turn between full passes.
        tokio::task::yield_now().await;
        return;
    }
    let _waiting = beat.waiting();
    tokio::select! {
        () = shutdown.wanted() => {}
        () = sleep_until(until) => {}
        () = wake.woken(), if wakeable => tokio::select! {
            () = shutdown.wanted() => {}
            () = sleep_until(woken) => {}
        },
    }
}

fn log(step: &'static str, label: &str, error: &StepError, wait: Duration) {
    let cause = crate::error_chain(error.source());
    let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    if error.class() == Class::Stop {
        tracing::error!(step, of = label, error = %cause, retry_in_ms, "step needs a person");
    } else {
        tracing::warn!(step, of = label, error = %cause, retry_in_ms, "step failed");
    }
}

#[cfg(test)]
#[path = "drive_tests.rs"]
mod tests;
