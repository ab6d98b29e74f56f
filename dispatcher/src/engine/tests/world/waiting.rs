//! The waiting room of the model: `waiting_add`, `waiting_finish`, `waiting_extend`, `complete_jobs`, `promote_due`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidemill_common::lease::Lease;

use super::broken::Broken;
use super::database::{Database, SUB, Write};
use super::truth::{Checked, Place, Said, Truth, Violation, require};
use crate::engine::record::LeaseKey;
use crate::engine::{Event, LentLease, LogRow, Micros};

#[derive(Debug, Clone)]
pub(in crate::engine::tests) struct Waiting {
    put: i32,
    attempt: i32,
    pub(super) due: Micros,
    /// Beyond which the lease is not extended.
    over_at: Micros,
    parked: bool,
    /// The key for whose limit it is parked.
    parked_key: Option<String>,
    pub(super) lease: Option<(LeaseKey, i64)>,
    holder: Value,
    previous: Value,
    inserted_at: Micros,
    pub(super) event: Event,
    /// The transaction that holds the row.
    pub(super) locked: Option<i64>,
}

pub(super) fn int(item: &Value, key: &str) -> Checked<i64> {
    item[key].as_i64().ok_or_else(|| Violation(format!("{key} of {item} is no number")))
}

fn small(item: &Value, key: &str) -> Checked<i32> {
    i32::try_from(int(item, key)?).map_err(|_| Violation(format!("{key} of {item} is too large")))
}

fn ms(item: &Value, key: &str) -> Checked<u64> {
    u64::try_from(int(item, key)?).map_err(|_| Violation(format!("{key} of {item} is negative")))
}

fn event(item: &Value) -> Event {
    let text = |key: &str| item[key].as_str().map(str::to_owned);
    Event { kind: text("type"), data: text("data"), extra: [text("x1"), text("x2"), text("x3"), text("x4")] }
}

pub(super) fn items<'a>(cold: &'a Value, section: &str) -> &'a [Value] {
    cold[section].as_array().map_or(&[], Vec::as_slice)
}

fn key(item: &Value) -> Checked<LeaseKey> {
    Ok(LeaseKey { epoch: int(item, "epoch")?, number: int(item, "no")? })
}

/// The holder as the previous one, its lease ended so.
fn ended(holder: &Value, how: &str, at: Micros) -> Value {
    let mut previous = holder.clone();
    previous["ended"] = json!(how);
    previous["at"] = json!(at.timestamp());
    previous
}

fn max_attempts(event: &Event, default: i32) -> i32 {
    let options: Option<Value> = event.extra[0].as_deref().and_then(|text| serde_json::from_str(text).ok());
    let own = options.and_then(|options| options["max_attempts"].as_i64());
    own.and_then(|own| i32::try_from(own).ok()).unwrap_or(default)
}

impl Database {
    /// `tidemill.insert_job` of a job that is not due.
    pub(in crate::engine::tests) fn delay(&mut self, row: LogRow, due: Micros) {
        let LogRow { job, inserted_at, event, .. } = row;
        let waiting = Waiting {
            put: 0,
            attempt: 0,
            due,
            over_at: Micros(i64::MAX),
            parked: false,
            parked_key: None,
            lease: None,
            holder: Value::Null,
            previous: Value::Null,
            inserted_at,
            event,
            locked: None,
        };
        self.waiting.insert(job, waiting);
    }

    pub(super) fn apply_cold(
        &mut self,
        cold: &Value,
        at: Micros,
        xid: i64,
        truth: &mut Truth,
    ) -> Checked<Value> {
        for job in items(cold, "release").iter().filter_map(Value::as_i64) {
            require!(
                self.keys.get(&job) == Some(&true),
                "job {job} frees a unique key that it does not hold"
            );
            if self.broken != Some(Broken::KeyKept) {
                self.free_key(job);
            }
        }
        for item in items(cold, "wait") {
            self.add(item, at)?;
        }
        let mut insert = Vec::new();
        for item in items(cold, "insert") {
            insert.push(self.insert_jobs(&item["jobs"], truth)?);
        }
        for item in items(cold, "dead") {
            require!(self.dead.insert(int(item, "job")?), "twice among the dead: {item}");
        }
        let (mut finish, mut extend) = (Vec::new(), Vec::new());
        for item in items(cold, "finish") {
            finish.push(self.finish(item, at, xid, truth)?);
        }
        for item in items(cold, "extend") {
            extend.push(self.extend(item, at, xid, truth)?);
        }
        let mut again = Vec::new();
        for item in items(cold, "again") {
            again.push(self.again(item, at)?);
        }
        let cancel = self.cancel_cold(cold, at, xid, truth)?;
        let mut unpark = Vec::new();
        for item in items(cold, "unpark") {
            unpark.push(self.unpark(item, truth)?);
        }
        let mut answers =
            json!({ "insert": insert, "finish": finish, "extend": extend, "again": again, "unpark": unpark });
        for (section, answer) in cancel {
            answers[section] = answer;
        }
        Ok(answers)
    }

    /// `tidemill.unique_release`, of one that may have no key.
    pub(super) fn free_key(&mut self, job: i64) {
        if let Some(held) = self.keys.get_mut(&job) {
            *held = false;
        }
    }

    fn add(&mut self, item: &Value, at: Micros) -> Checked {
        let parked = item["kind"] == "parked";
        let moved = item.get("due").is_some();
        if parked && self.broken == Some(Broken::ParkedPassed) {
            return Ok(());
        }
        let lease = match item["kind"].as_str() {
            Some("leased") if moved && self.broken == Some(Broken::MovedLeaseForgotten) => None,
            Some("leased") => Some((key(item)?, int(item, "nonce")?)),
            _ => None,
        };
        let due = match (parked, moved) {
            (true, _) => Micros(i64::MAX),
            (false, true) if self.broken == Some(Broken::MovedLeaseEndsAtOnce) => at,
            (false, true) => Micros(int(item, "due")?),
            (false, false) => at.plus_ms(ms(item, "due_ms")?),
        };
        let over_at = match (int(item, "over_ms"), int(item, "over_at")) {
            (_, Ok(_)) if self.broken == Some(Broken::MovedTimeoutForgotten) => Micros(i64::MAX),
            (_, Ok(over_at)) => Micros(over_at),
            (Ok(_), Err(_)) => at.plus_ms(ms(item, "over_ms")?),
            (Err(_), Err(_)) => Micros(i64::MAX),
        };
        let counted = self.broken != Some(Broken::PutNotCounted) || lease.is_some();
        let waiting = Waiting {
            put: small(item, "put")? - i32::from(!counted),
            attempt: small(item, "attempt")?,
            due,
            over_at,
            parked,
            parked_key: item["parked_key"].as_str().map(str::to_owned),
            lease,
            holder: item["holder"].clone(),
            previous: item["previous"].clone(),
            inserted_at: Micros(int(item, "time")?),
            event: event(item),
            locked: None,
        };
        require!(
            self.waiting.insert(int(item, "job")?, waiting).is_none(),
            "twice in the waiting room: {item}"
        );
        Ok(())
    }

    /// The row of a live lease: `None` if there is none, `Some(false)` if somebody else holds it.
    fn find(&self, item: &Value, at: Micros, xid: i64) -> Checked<Option<bool>> {
        let Some(row) = self.waiting.get(&int(item, "job")?) else { return Ok(None) };
        let live = row.lease == Some((key(item)?, int(item, "nonce")?))
            && row.put == small(item, "put")? + 1
            && row.attempt == small(item, "attempt")?;
        let live = live || (self.broken == Some(Broken::OlderLeaseAccepted) && row.lease.is_some());
        Ok((live && row.due > at).then_some(row.locked.is_none_or(|locker| locker == xid)))
    }

    /// `tidemill.waiting_finish`, one item.
    fn finish(&mut self, item: &Value, at: Micros, xid: i64, truth: &mut Truth) -> Checked<Value> {
        match self.find(item, at, xid)? {
            None => return Ok(json!("stale")),
            Some(false) => return Ok(json!("unavailable")),
            Some(true) => {}
        }
        let job = int(item, "job")?;
        let Some(mut row) = self.waiting.remove(&job) else { return Ok(json!("stale")) };
        let said = match item["outcome"].as_str() {
            Some("complete") => Said::Complete,
            Some("temp_fail") => Said::TempFail,
            Some("perm_fail") => Said::PermFail,
            Some("decline") => Said::Decline,
            Some("replace") => Said::Replace,
            other => return Err(Violation(format!("unknown outcome {other:?}"))),
        };
        if item["cancel"].is_i64() {
            self.cancels.jobs.remove(&job);
            if matches!(said, Said::TempFail | Said::Decline) {
                self.free_key(job);
                truth.finished_cancelled(job, key(item)?, said)?;
                return Ok(json!("cancelled"));
            }
        }
        truth.finished_waiting(job, key(item)?, said)?;
        if said == Said::Replace {
            self.free_key(job);
            let ids = self.insert_jobs(&item["jobs"], truth)?;
            truth.replaced(job, key(item)?, &ids)?;
            return Ok(json!({ "ids": ids }));
        }
        let exhausted = row.attempt >= max_attempts(&row.event, self.max_attempts);
        if said == Said::PermFail || (said == Said::TempFail && exhausted) {
            require!(self.dead.insert(job), "job {job} twice among the dead");
        }
        let how = match said {
            Said::TempFail if !exhausted => "failed",
            Said::Decline => "declined",
            Said::Complete | Said::Replace | Said::TempFail | Said::PermFail => {
                self.free_key(job);
                return Ok(json!("ok"));
            }
        };
        row.attempt -= i32::from(said == Said::Decline);
        row.due = at.plus_ms(ms(item, "delay_ms")?);
        row.previous = ended(&row.holder, how, at);
        (row.lease, row.holder, row.locked) = (None, Value::Null, None);
        self.waiting.insert(job, row);
        Ok(json!("ok"))
    }

    /// `tidemill.jobs_insert`, one item.
    pub(super) fn insert_jobs(&mut self, jobs: &Value, truth: &mut Truth) -> Checked<Vec<i64>> {
        let mut ids = Vec::new();
        for job in jobs.as_array().into_iter().flatten() {
            let id = self.next_job;
            self.next_job += 1;
            let kind = job["type"].as_str().map(str::to_owned);
            let event = Event { kind, data: Some(id.to_string()), ..Event::default() };
            let row = LogRow { job: id, inserted_at: self.now, txid: 0, owner: None, retry: None, event };
            match job["options"]["delay_ms"].as_u64() {
                None => {
                    truth.produced(id, Place::Log(0), self.max_attempts);
                    truth.of_kind(id, job["type"].as_str().unwrap_or_default(), None);
                    self.insert(row);
                }
                Some(ms) => {
                    truth.produced(id, Place::Waiting(0), self.max_attempts);
                    truth.of_kind(id, job["type"].as_str().unwrap_or_default(), None);
                    self.delay(row, self.now.plus_ms(ms));
                }
            }
            ids.push(id);
        }
        Ok(ids)
    }

    /// `tidemill.finish_stream`, with the inserts before it, in one transaction: the ids of the new jobs, `None` if the
    /// fence or the row says no.
    pub(in crate::engine::tests) fn finish_stream(
        &mut self,
        epoch: i64,
        lease: &Lease,
        jobs: &Value,
        truth: &mut Truth,
    ) -> Checked<Option<Vec<i64>>> {
        let key = LeaseKey { epoch: lease.epoch, number: lease.number };
        let is_fenced = self.fenced(epoch) && self.broken != Some(Broken::StreamNotFenced);
        let blind = self.broken == Some(Broken::StreamIgnoresItsLease);
        let live = self.waiting.get(&lease.job).is_some_and(|row| {
            row.lease == Some((key, lease.nonce.cast_signed())) && row.due > self.now && row.locked.is_none()
        });
        if is_fenced || !(live || blind) {
            return Ok(None);
        }
        truth.stream_committed(epoch == self.epoch)?;
        self.waiting.remove(&lease.job);
        self.free_key(lease.job);
        truth.finished_waiting(lease.job, key, Said::Replace)?;
        let ids = self.insert_jobs(jobs, truth)?;
        truth.replaced(lease.job, key, &ids)?;
        let note = json!({ "finished": [[key.epoch, key.number, "replace", ids.len()]] });
        self.journal_row(epoch, 0, self.now, vec![1], note);
        Ok(Some(ids))
    }

    /// `tidemill.waiting_extend`, one item.
    fn extend(&mut self, item: &Value, at: Micros, xid: i64, truth: &mut Truth) -> Checked<i64> {
        match self.find(item, at, xid)? {
            None => return Ok(0),
            Some(false) => return Ok(-1),
            Some(true) => {}
        }
        let (job, mut until) = (int(item, "job")?, at.plus_ms(ms(item, "ms")?));
        let Some(row) = self.waiting.get_mut(&job) else { return Ok(0) };
        if self.broken != Some(Broken::WaitingTimeoutIgnored) {
            until = until.min(row.over_at);
        }
        truth.extended(job, key(item)?, row.due.max(until))?;
        if self.broken == Some(Broken::WaitingLeaseNotExtended) {
            return Ok(row.due.max(until).0);
        }
        row.due = row.due.max(until);
        Ok(row.due.0)
    }

    /// A flush executes but does not commit: it holds the rows it would touch.
    pub(super) fn lock_for(&mut self, write: &Write, at: Micros, xid: i64) -> Checked {
        for item in items(&write.cold, "finish").iter().chain(items(&write.cold, "extend")) {
            if self.find(item, at, xid)? == Some(true)
                && let Some(row) = self.waiting.get_mut(&int(item, "job")?)
            {
                row.locked = Some(xid);
            }
        }
        Ok(())
    }

    pub(super) fn unlock(&mut self, xid: i64) {
        for row in self.waiting.values_mut() {
            if row.locked == Some(xid) {
                row.locked = None;
            }
        }
    }

    /// `tidemill.complete_jobs` in a worker's own transaction: locks the rows of all these leases, or of none. Nothing
    /// happens if it would have to wait for another transaction.
    pub(in crate::engine::tests) fn complete_jobs(&mut self, leases: &[Lease]) -> Option<i64> {
        let free = |lease: &Lease| {
            let key = LeaseKey { epoch: lease.epoch, number: lease.number };
            self.waiting.get(&lease.job).is_some_and(|row| {
                let live = row.lease == Some((key, lease.nonce.cast_signed()))
                    && (row.put, row.attempt) == (lease.put + 1, lease.attempt);
                let live = live || (self.broken == Some(Broken::OlderLeaseAccepted) && row.lease.is_some());
                lease.transactional && live && row.due > self.now && row.locked.is_none()
            })
        };
        if !leases.iter().all(free) {
            return None;
        }
        let xid = self.begin();
        for lease in leases {
            if let Some(row) = self.waiting.get_mut(&lease.job) {
                row.locked = Some(xid);
            }
        }
        Some(xid)
    }

    /// The worker's transaction ends, with its effects or without.
    pub(in crate::engine::tests) fn end_work(
        &mut self,
        xid: i64,
        leases: &[Lease],
        commit: bool,
        truth: &mut Truth,
    ) -> Checked {
        if commit {
            for lease in leases {
                self.waiting.retain(|_, row| row.locked != Some(xid));
                self.free_key(lease.job);
                truth.transacted(lease.job, LeaseKey { epoch: lease.epoch, number: lease.number })?;
            }
        }
        self.end(xid)
    }

    /// `tidemill.waiting_again`, one item.
    fn again(&self, item: &Value, at: Micros) -> Checked<Value> {
        let (job, lease) = (int(item, "job")?, (key(item)?, int(item, "nonce")?));
        let Some(row) = self.waiting.get(&job).filter(|row| row.lease == Some(lease) && row.due > at) else {
            return Ok(Value::Null);
        };
        let [x1, x2, x3, x4] = &row.event.extra;
        Ok(json!({
            "until": row.due.0, "time": row.inserted_at.0, "previous": row.previous, "type": row.event.kind,
            "data": row.event.data, "x1": x1, "x2": x2, "x3": x3, "x4": x4
        }))
    }

    /// `tidemill.unpark`, one item.
    fn unpark(&mut self, item: &Value, truth: &mut Truth) -> Checked<usize> {
        let limit = usize::try_from(int(item, "limit")?).map_err(|_| Violation(format!("{item}")))?;
        let is_kind = |row: &Waiting| match item["key"].as_str() {
            Some(key) => row.parked_key.as_deref() == Some(key),
            None => {
                row.parked && row.parked_key.is_none() && row.event.kind.as_deref() == item["type"].as_str()
            }
        };
        let jobs: Vec<i64> =
            self.waiting.iter().filter(|(_, row)| is_kind(row)).map(|(job, _)| *job).take(limit).collect();
        for job in &jobs {
            let Some(row) = self.waiting.remove(job) else { continue };
            truth.promoted(*job, row.put, self.now, false)?;
            let attempts_kept = self.broken != Some(Broken::AttemptsForgotten);
            self.insert(row.log_row(*job, attempts_kept));
        }
        Ok(jobs.len())
    }

    /// `tidemill.lent_leases`
    pub(super) fn lent_leases(&self) -> Vec<LentLease> {
        let lent = |(job, row): (&i64, &Waiting)| {
            let options =
                row.event.extra[0].as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
            let key = options.and_then(|options| options["key"].as_str().map(str::to_owned));
            let kind = row.event.kind.clone().unwrap_or_default();
            row.lease.map(|(lease, _)| LentLease { job: *job, lease, kind, key })
        };
        self.waiting.iter().filter_map(lent).collect()
    }

    /// `tidemill.parked_types`, of keys.
    pub(super) fn parked_keys(&self) -> BTreeMap<String, u64> {
        let mut keys = BTreeMap::new();
        for key in self.waiting.values().filter_map(|row| row.parked_key.clone()) {
            *keys.entry(key).or_default() += 1;
        }
        keys
    }

    /// `tidemill.parked_types`
    pub(super) fn parked_types(&self) -> BTreeMap<String, u64> {
        let mut types = BTreeMap::new();
        for row in self.waiting.values().filter(|row| row.parked && row.parked_key.is_none()) {
            *types.entry(row.event.kind.clone().unwrap_or_default()).or_default() += 1;
        }
        types
    }

    /// `tidemill.promote_due` that has taken rows and is not committed: its transaction, and the jobs.
    pub(in crate::engine::tests) fn begin_promote(&mut self, limit: usize) -> Option<(i64, Vec<i64>)> {
        let due = |row: &Waiting| row.due <= self.now && row.locked.is_none();
        let jobs: Vec<i64> =
            self.waiting.iter().filter(|(_, row)| due(row)).map(|(job, _)| *job).take(limit).collect();
        if jobs.is_empty() {
            return None;
        }
        let xid = self.begin();
        for job in &jobs {
            if let Some(row) = self.waiting.get_mut(job) {
                row.locked = Some(xid);
            }
        }
        Some((xid, jobs))
    }

    /// It commits, or not.
    pub(in crate::engine::tests) fn end_promote(
        &mut self,
        xid: i64,
        jobs: &[i64],
        commit: bool,
        truth: &mut Truth,
    ) -> Checked {
        for job in jobs.iter().filter(|_| commit) {
            let Some(row) = self.waiting.remove(job) else { continue };
            truth.promoted(*job, row.put, self.now, row.lease.is_some())?;
            let attempts_kept = self.broken != Some(Broken::AttemptsForgotten);
            self.insert_by(xid, row.log_row(*job, attempts_kept));
        }
        self.end(xid)
    }

    /// `tidemill.promote_due`
    pub(in crate::engine::tests) fn promote(&mut self, limit: usize, truth: &mut Truth) -> Checked<usize> {
        let free = |row: &Waiting| row.locked.is_none() || self.broken == Some(Broken::PromoteIgnoresLocks);
        let due = |row: &Waiting| row.due <= self.now && free(row);
        let mut jobs: Vec<_> =
            self.waiting.iter().filter(|(_, row)| due(row)).map(|(job, row)| (row.due, *job)).collect();
        jobs.sort_unstable();
        jobs.truncate(limit);
        for (_, job) in &jobs {
            let Some(row) = self.waiting.remove(job) else { continue };
            truth.promoted(*job, row.put, self.now, row.lease.is_some())?;
            let attempts_kept = self.broken != Some(Broken::AttemptsForgotten);
            self.insert(row.log_row(*job, attempts_kept));
        }
        Ok(jobs.len())
    }

    /// The leases that live here, and their ends.
    pub(super) fn lent(&self) -> impl Iterator<Item = (i64, LeaseKey, Micros)> {
        self.waiting.iter().filter_map(|(job, row)| Some((*job, row.lease?.0, row.due)))
    }

    /// Is the job in the waiting room, with this put?
    pub(super) fn waits(&self, job: i64) -> Option<Place> {
        self.waiting.get(&job).map(|row| Place::Waiting(row.put))
    }
}

impl Waiting {
    /// The entry it becomes, with `tidemill.reput_extra`.
    fn log_row(self, job: i64, attempts_kept: bool) -> LogRow {
        let Self { put, attempt, due, lease, holder, previous, inserted_at, mut event, .. } = self;
        if put > 0 {
            let previous = if lease.is_some() { ended(&holder, "expired", due) } else { previous };
            let mut extra = json!({ "attempt": if attempts_kept { attempt } else { 0 } });
            if !previous.is_null() {
                extra["previous"] = previous;
            }
            if let Some(own) = &event.extra[0] {
                extra["extra1"] = json!(own);
            }
            event.extra[0] = Some(extra.to_string());
        }
        LogRow {
            job,
            inserted_at,
            txid: 0,
            owner: (put > 0).then_some(SUB),
            retry: (put > 0).then_some(put),
            event,
        }
    }
}
