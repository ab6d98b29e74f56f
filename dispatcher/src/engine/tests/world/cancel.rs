//! Cancellations in the model: `cancel_jobs`, `cancel_ended`, `cancel_prune`, `read_cancellations`; and who asks for them.

use std::collections::BTreeMap;

use rand::Rng;
use serde_json::{Value, json};

use super::World;
use super::broken::Broken;
use super::database::Database;
use super::owner::Ask;
use super::truth::{Checked, Truth, Violation};
use super::waiting::{int, items};
use crate::engine::cancels::cancel_key;
use crate::engine::{Fold, Micros, Target};

/// Rows of the waiting room that one call takes.
const ROWS: usize = 2;

/// `tidemill.cancellation` and `tidemill.cancelling`.
#[derive(Debug, Clone, Default)]
pub(in crate::engine::tests) struct Cancels {
    /// Code and snapshot.
    keys: BTreeMap<i64, (i64, String)>,
    pub(super) jobs: BTreeMap<i64, Single>,
}

#[derive(Debug, Clone)]
pub(in crate::engine::tests) struct Single {
    code: i64,
    at: Micros,
    unseen: Option<i64>,
}

impl Database {
    /// The sections about cancellations; the answers by section.
    pub(super) fn cancel_cold(
        &mut self,
        cold: &Value,
        at: Micros,
        xid: i64,
        truth: &mut Truth,
    ) -> Checked<Vec<(&'static str, Value)>> {
        let (mut cancel, mut prune) = (Vec::new(), Vec::new());
        for item in items(cold, "cancel") {
            cancel.push(self.cancel_jobs(item, at, xid, truth)?);
        }
        for job in items(cold, "ended") {
            let job = job.as_i64().ok_or_else(|| Violation(format!("{job} is no job")))?;
            self.cancels.jobs.remove(&job);
        }
        if !items(cold, "prune").is_empty() {
            prune.push(self.cancel_prune()?);
        }
        Ok(vec![("cancel", cancel.into()), ("prune", prune.into())])
    }

    /// `tidemill.cancel_jobs`, one item.
    fn cancel_jobs(&mut self, item: &Value, at: Micros, xid: i64, truth: &mut Truth) -> Checked<Value> {
        let code = int(item, "code")?;
        let key = item["key"].as_i64();
        let mut jobs: Vec<i64> = match key {
            None => vec![int(item, "job")?],
            Some(key) => {
                let since = item["since"].as_i64();
                let is_new = |job: &i64| {
                    let told = self.cancels.jobs.get(job).filter(|told| Some(told.at.0) >= since);
                    since.is_none() || told.is_none()
                };
                let carries = self.waiting.iter().filter(|(_, row)| cancel_key(&row.event) == Some(key));
                carries.map(|(job, _)| *job).filter(is_new).take(ROWS).collect()
            }
        };
        let more = key.is_some() && jobs.len() == ROWS;
        let snapshot = key.map(|key| {
            let snapshot = match self.broken {
                Some(Broken::CancelHitsLater) => "1000000000:1000000000:".to_owned(),
                _ => self.current_snapshot(),
            };
            self.cancels.keys.insert(key, (code, snapshot.clone()));
            snapshot
        });
        let (mut gone, mut leased) = (0, Vec::new());
        let mut others = Vec::new();
        jobs.retain(|job| !self.dead.contains(job));
        for job in jobs {
            let is_held = self.waiting.get(&job).is_some_and(|row| row.locked.is_some_and(|by| by != xid));
            if is_held && self.broken == Some(Broken::HeldRowsForgotten) {
                continue;
            }
            match self.waiting.get(&job) {
                Some(row) if row.lease.is_some() && row.due > at => leased.push(job),
                Some(row) if row.locked.is_none_or(|locker| locker == xid) => {
                    self.waiting.remove(&job);
                    self.cancels.jobs.remove(&job);
                    self.free_key(job);
                    truth.cancelled_waiting(job, at)?;
                    gone += 1;
                    continue;
                }
                _ => others.push(job),
            }
            if self.broken != Some(Broken::ToldNotKept) {
                self.cancels.jobs.insert(job, Single { code, at, unseen: None });
            }
        }
        let mut answer = json!({ "gone": gone, "leased": leased, "others": others, "more": more });
        if let Some(snapshot) = snapshot {
            answer["snapshot"] = snapshot.into();
        }
        Ok(answer)
    }

    /// `tidemill.cancel_prune`
    fn cancel_prune(&mut self) -> Checked<Value> {
        let below = self.low_water_xmin()?;
        let xmax = |snapshot: &str| {
            snapshot.split(':').nth(1).and_then(|xmax| xmax.parse().ok()).unwrap_or(i64::MAX)
        };
        let by_time = self.broken == Some(Broken::CancelPrunedEarly);
        let keys: Vec<i64> = self
            .cancels
            .keys
            .iter()
            .filter(|(_, (_, snapshot))| by_time || xmax(snapshot) <= below)
            .map(|(key, _)| *key)
            .collect();
        let waits = |job: &i64| self.waiting.contains_key(job);
        let jobs: Vec<i64> = self
            .cancels
            .jobs
            .iter()
            .filter(|(job, told)| told.unseen.is_some_and(|unseen| by_time || unseen <= below) && !waits(job))
            .map(|(job, _)| *job)
            .collect();
        self.cancels.keys.retain(|key, _| !keys.contains(key));
        self.cancels.jobs.retain(|job, _| !jobs.contains(job));
        let now = self.next_xid();
        let Self { cancels, waiting, .. } = self;
        for (job, told) in &mut cancels.jobs {
            if !waiting.contains_key(job) {
                told.unseen.get_or_insert(now);
            }
        }
        Ok(json!({ "keys": keys, "jobs": jobs }))
    }

    /// `tidemill.read_cancellations`
    pub(super) fn read_cancellations(&self, fold: &mut Fold) -> Checked {
        if self.broken == Some(Broken::CancellationsForgotten) {
            return Ok(());
        }
        let code = |code: i64| i32::try_from(code).map_err(|_| Violation(format!("code {code}")));
        for (key, (value, snapshot)) in &self.cancels.keys {
            let snapshot = snapshot.parse().map_err(|error| Violation(format!("{error}")))?;
            fold.cancel_key(*key, code(*value)?, snapshot);
        }
        for (job, told) in &self.cancels.jobs {
            fold.cancel_job(*job, code(told.code)?);
        }
        Ok(())
    }
}

impl World {
    /// Somebody asks an owner to cancel a job that is not done, or a key's jobs.
    pub(in crate::engine::tests) fn cancel(&mut self, index: usize) -> Checked {
        let target = if self.rng.random_bool(0.5) {
            Target::Key(self.rng.random_range(1..=3))
        } else {
            let open: Vec<i64> = self.truth.unfinished();
            if open.is_empty() {
                return Ok(());
            }
            Target::Job(open[self.rng.random_range(0..open.len())])
        };
        let request = self.request();
        let call = self.truth.cancel_asked(target);
        self.note(|| format!("{request:?}: cancel {target:?}"));
        self.owners[index].look_at_clock(&self.db);
        self.owners[index].asked.insert(request, Ask::Cancel(call));
        self.owners[index].engine.cancel(request, target, 7);
        self.deliver(index)
    }
}
