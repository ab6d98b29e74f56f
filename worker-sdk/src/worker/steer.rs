//! What a lane is to do, said by the program's shutdown and by the dispatcher.

use tidemill_common::api::WorkerState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Run, be quiet, or stop.
#[derive(Debug)]
pub(crate) struct Steer {
    /// Of the whole worker: shut down, or told to terminate.
    stop: CancellationToken,
    /// Of this lane.
    quiet: watch::Sender<bool>,
}

impl Steer {
    pub(crate) fn new(stop: CancellationToken) -> Steer {
        Steer { stop, quiet: watch::Sender::new(false) }
    }

    /// Takes in what a dispatcher said. To terminate one lane means to terminate the program it runs in.
    pub(crate) fn hear(&self, state: WorkerState) {
        if state == WorkerState::Terminate && !self.stop.is_cancelled() {
            tracing::info!("told to terminate");
            self.stop.cancel();
        }
        let quiet = state != WorkerState::Run;
        self.quiet.send_if_modified(|now| std::mem::replace(now, quiet) != quiet);
    }

    pub(crate) fn is_quiet(&self) -> bool {
        *self.quiet.borrow()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits for the order to stop.
    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Hears when the lane is told to be quiet or to run again.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.quiet.subscribe()
    }
}
