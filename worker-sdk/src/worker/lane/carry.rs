//! Starting jobs, and what their handlers say.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tidemill_common::api;
use tokio::task::{Id, JoinError};
use tokio::time::Instant;

use super::super::execute::{Task, Verdict};
use super::super::leases::Lease;
use super::{Lane, Ready};

/// Handlers that take less are not worth a task of their own, which costs about as much.
const QUICK: Duration = Duration::from_micros(20);

/// What became of the jobs of one call, and how long the call took.
pub(super) type Carried = (Vec<(Lease, Verdict)>, Duration);

impl Lane {
    /// Is a job here that could be started now?
    pub(super) fn may_start(&self) -> bool {
        self.drain.is_none() && self.running.len() < self.settings.concurrency && !self.ready.is_empty()
    }

    pub(super) fn start_ready(&mut self) {
        while self.may_start() {
            let batch = self.execute.batch().min(self.ready.len());
            let tasks: Vec<Task> = self.ready.drain(..batch).map(|ready| ready.task).collect();
            let held: Vec<Lease> = tasks.iter().map(|task| Arc::clone(&task.lease)).collect();
            let started = Instant::now();
            let mut call = Arc::clone(&self.execute).run(tasks);
            // Those that wait for something, or are slow, run side by side; the others have ended before they could.
            if self.pace.is_some_and(|pace| pace < QUICK)
                && let Some(verdicts) = (&mut call).now_or_never()
            {
                self.on_carried(verdicts, started.elapsed());
                // More are fetched while these are carried out.
                if self.may_grab() {
                    return;
                }
                continue;
            }
            let handle = self.running.spawn(async move {
                let started = Instant::now();
                (call.await, started.elapsed())
            });
            if self.execute.droppable() {
                for lease in &held {
                    self.leases.droppable(lease, handle.clone());
                }
            }
            self.running_jobs += held.len();
            self.calls.insert(handle.id(), held);
        }
    }

    pub(super) fn on_ended(&mut self, ended: Result<(Id, Carried), JoinError>) {
        match ended {
            Ok((id, (verdicts, took))) => {
                self.running_jobs -= self.calls.remove(&id).map_or(0, |leases| leases.len());
                self.on_carried(verdicts, took);
            }
            Err(error) => {
                let leases = self.calls.remove(&error.id()).unwrap_or_default();
                self.running_jobs -= leases.len();
                for lease in leases {
                    if self.drain.as_ref().is_some_and(|drain| drain.dropped) {
                        // It has ended, so another worker may have it.
                        self.tell(&lease, api::Outcome::Decline);
                    } else {
                        self.summary.lost += 1;
                        self.leases.release(&lease);
                    }
                }
            }
        }
    }

    fn on_carried(&mut self, verdicts: Vec<(Lease, Verdict)>, took: Duration) {
        self.pace = Some(self.pace.map_or(took, |pace| pace.mul_f64(0.8) + took.mul_f64(0.2)));
        for (lease, verdict) in verdicts {
            match verdict {
                Verdict::Send(outcome) => self.tell(&lease, outcome),
                Verdict::Committed => {
                    self.summary.succeeded += 1;
                    self.leases.release(&lease);
                }
                Verdict::Gone => {
                    self.summary.lost += 1;
                    self.leases.release(&lease);
                }
            }
        }
    }

    /// Jobs that wait here for half of their lease, or for a quarter of the time that their attempt may take, are better
    /// off elsewhere, and fewer must be fetched ahead.
    pub(super) fn decline_overdue(&mut self) {
        let now = Instant::now();
        while let Some(oldest) = self.ready.front()
            && now >= oldest.anchor + self.leases.length() / 2
        {
            if let Some(ready) = self.ready.pop_front() {
                self.decline(&ready);
            }
        }
        self.timed &= !self.ready.is_empty();
        if !self.timed {
            return;
        }
        // One that could begin at once does, however little time it has: declined it would come back for ever.
        let is_late =
            |ready: &Ready| ready.waited && ready.task.time.is_some_and(|time| now >= time.begin_by());
        if self.ready.iter().any(is_late) {
            for ready in std::mem::take(&mut self.ready) {
                match is_late(&ready) {
                    true => self.decline(&ready),
                    false => self.ready.push_back(ready),
                }
            }
        }
        self.ready.iter_mut().for_each(|ready| ready.waited = true);
    }

    fn decline(&mut self, ready: &Ready) {
        self.pace = Some(self.leases.length());
        self.tell(&ready.task.lease, api::Outcome::Decline);
    }

    pub(super) fn overdue_at(&self, ready: &Ready) -> Instant {
        let at = ready.anchor + self.leases.length() / 2;
        ready.task.time.map_or(at, |time| at.min(time.begin_by()))
    }
}
