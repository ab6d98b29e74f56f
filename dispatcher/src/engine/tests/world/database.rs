//! A model of the database: what the SQL functions of the job queue do to the log, the journal and the owner's row. Each
//! call is one transaction, seen whole or not at all; what can stay open (a flush whose client is gone, a worker's own
//! transaction) holds locks. The waiting room is in `waiting`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::broken::Broken;
use super::cancel::Cancels;
use super::truth::{Checked, Truth, Violation, require};
use super::waiting::Waiting;
use crate::engine::record::{self, EntryKey, Record, Resolution};
use crate::engine::recover::Last;
use crate::engine::{Fold, LogRow, Micros};

pub(in crate::engine::tests) const SUB: i32 = 70;
const TABLES: usize = 3;

#[derive(Debug, Clone)]
pub(in crate::engine::tests) struct Logged {
    pub(in crate::engine::tests) row: LogRow,
    /// The first tick whose snapshot sees it.
    pub(in crate::engine::tests) tick: Option<i64>,
    xid: i64,
    table: usize,
}

/// Where a row of the log stands: its transaction and its id.
pub(in crate::engine::tests) type Mark = (i64, i64);

impl Logged {
    fn mark(&self) -> Mark {
        (self.xid, self.row.job)
    }
}

#[derive(Debug, Clone, Copy)]
struct Tick {
    id: i64,
    xmin: i64,
    xmax: i64,
}

#[derive(Debug, Clone)]
struct JournalRow {
    xid: i64,
    epoch: i64,
    seq: i64,
    at: Micros,
    data: Vec<u8>,
    note: Value,
}

/// One call of `journal_write`.
#[derive(Debug, Clone)]
pub(in crate::engine::tests) struct Write {
    pub(in crate::engine::tests) epoch: i64,
    pub(in crate::engine::tests) seq: i64,
    pub(in crate::engine::tests) data: Option<Vec<u8>>,
    pub(in crate::engine::tests) cold: Value,
}

/// What it answered.
#[derive(Debug)]
pub(in crate::engine::tests) struct Written {
    pub(in crate::engine::tests) at: Micros,
    pub(in crate::engine::tests) answers: Value,
}

/// Why nothing of it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::tests) enum Refusal {
    /// TM001
    Fenced,
    /// Class 22.
    Data,
}

#[derive(Debug, Clone)]
pub(in crate::engine::tests) struct Database {
    pub(in crate::engine::tests) broken: Option<Broken>,
    pub(in crate::engine::tests) now: Micros,
    next_xid: i64,
    pub(super) next_job: i64,
    /// Transactions in progress that have an id.
    pub(super) open: BTreeSet<i64>,
    pub(in crate::engine::tests) log: Vec<Logged>,
    ticks: Vec<Tick>,
    pub(in crate::engine::tests) low_water: i64,
    journal: [Vec<JournalRow>; TABLES],
    table: usize,
    /// The transaction after which everybody knew of the present table.
    switched: i64,
    pub(super) waiting: BTreeMap<i64, Waiting>,
    pub(super) cancels: Cancels,
    pub(in crate::engine::tests) dead: BTreeSet<i64>,
    /// The jobs that were produced with a unique key, and whether they hold it.
    pub(in crate::engine::tests) keys: BTreeMap<i64, bool>,
    pub(super) max_attempts: i32,
    pub(in crate::engine::tests) epoch: i64,
    pub(in crate::engine::tests) holder: usize,
    pub(in crate::engine::tests) until: Micros,
    /// What a crash goes back to, if the last commit was not synchronous.
    synced: Option<Box<Database>>,
}

impl Database {
    pub(in crate::engine::tests) fn new(max_attempts: i32, broken: Option<Broken>) -> Self {
        Self {
            broken,
            now: Micros(1_000_000_000),
            next_xid: 101,
            next_job: 1,
            open: BTreeSet::new(),
            log: Vec::new(),
            ticks: vec![Tick { id: 1, xmin: 100, xmax: 100 }],
            low_water: 1,
            journal: [const { Vec::new() }; TABLES],
            table: 0,
            switched: 99,
            waiting: BTreeMap::new(),
            cancels: Cancels::default(),
            dead: BTreeSet::new(),
            keys: BTreeMap::new(),
            max_attempts,
            epoch: 0,
            holder: usize::MAX,
            until: Micros(0),
            synced: None,
        }
    }

    /// A transaction that commits at once, synchronously.
    fn commit(&mut self) -> i64 {
        self.synced = None;
        self.next_xid += 1;
        self.next_xid - 1
    }

    /// A transaction that stays open.
    pub(super) fn begin(&mut self) -> i64 {
        self.next_xid += 1;
        self.open.insert(self.next_xid - 1);
        self.next_xid - 1
    }

    pub(in crate::engine::tests) fn insert(&mut self, row: LogRow) {
        let xid = self.commit();
        self.insert_by(xid, row);
    }

    /// A row of this transaction, which commits now.
    pub(super) fn insert_by(&mut self, xid: i64, mut row: LogRow) {
        row.txid = xid;
        self.log.push(Logged { row, tick: None, xid, table: self.table });
    }

    pub(in crate::engine::tests) fn tick(&mut self) {
        let xmax = self.commit();
        let id = self.last_tick() + 1;
        self.ticks.push(Tick { id, xmin: self.open.first().copied().unwrap_or(xmax), xmax });
        for logged in &mut self.log {
            logged.tick.get_or_insert(id);
        }
    }

    pub(in crate::engine::tests) fn last_tick(&self) -> i64 {
        self.ticks.last().map_or(0, |tick| tick.id)
    }

    /// `txid_current_snapshot`: of what has ended by now.
    pub(super) fn current_snapshot(&self) -> String {
        let xmin = self.open.first().copied().unwrap_or(self.next_xid);
        let running: Vec<String> = self.open.iter().map(i64::to_string).collect();
        format!("{xmin}:{}:{}", self.next_xid, running.join(","))
    }

    /// The low-water mark's snapshot sees everything below.
    pub(super) fn low_water_xmin(&self) -> Checked<i64> {
        Ok(self.snapshot(self.low_water)?.xmin)
    }

    pub(super) fn next_xid(&self) -> i64 {
        self.next_xid
    }

    fn snapshot(&self, id: i64) -> Checked<Tick> {
        let found = self.ticks.iter().rev().find(|tick| tick.id == id);
        found.copied().ok_or_else(|| Violation(format!("there is no tick {id}")))
    }

    /// `tidemill.read_ahead`: of the events between two ticks, by transaction and id, at most so many of those after a
    /// mark; and the mark of the last one.
    pub(in crate::engine::tests) fn read_ahead(
        &self,
        (from, to): (i64, i64),
        after: Option<Mark>,
        limit: usize,
    ) -> (Vec<LogRow>, Option<Mark>) {
        let ours = |l: &&Logged| l.row.owner.is_none_or(|owner| owner == SUB);
        let visible = |l: &&Logged| l.tick.is_some_and(|tick| tick > from && tick <= to);
        let mut rows: Vec<_> = self.log.iter().filter(visible).filter(ours).collect();
        rows.retain(|l| after.is_none_or(|after| l.mark() > after));
        rows.sort_by_key(|l| l.mark());
        rows.truncate(limit);
        let mut read: Vec<LogRow> = rows.iter().map(|l| l.row.clone()).collect();
        if self.broken == Some(Broken::TimeoutForgottenByFold) {
            self.forget_timeouts(&mut read);
        }
        (read, rows.last().map(|l| l.mark()))
    }

    /// `tidemill.rotate`: empties the oldest event table and journal and goes on with them, if the low-water mark allows.
    pub(in crate::engine::tests) fn rotate(&mut self) -> Checked<bool> {
        let next = (self.table + 1) % TABLES;
        let low = self.snapshot(self.low_water)?;
        let unread = |l: &Logged| l.table == next && l.tick.is_none_or(|tick| tick > self.low_water);
        if self.broken == Some(Broken::JournalRotatedByTime) {
            self.journal[next].clear();
            self.table = next;
            return Ok(true);
        }
        if low.xmin <= self.switched || self.log.iter().any(unread) {
            return Ok(false);
        }
        self.log.retain(|l| l.table != next);
        self.journal[next].clear();
        self.table = next;
        self.commit();
        self.switched = self.commit();
        Ok(true)
    }

    /// `tidemill.owner_take`; the caller waited for the fence.
    pub(in crate::engine::tests) fn take(&mut self, holder: usize, term_ms: u64) -> Option<i64> {
        if self.until >= self.now && self.holder != holder {
            return None;
        }
        self.commit();
        self.epoch += 1;
        self.holder = holder;
        self.until = self.now.plus_ms(term_ms);
        Some(self.epoch)
    }

    pub(super) fn fenced(&self, epoch: i64) -> bool {
        epoch != self.epoch && self.broken != Some(Broken::FenceNotChecked)
    }

    /// `tidemill.owner_renew`
    pub(in crate::engine::tests) fn renew(
        &mut self,
        epoch: i64,
        term_ms: u64,
        low_water: i64,
    ) -> Result<(), Refusal> {
        if self.fenced(epoch) {
            return Err(Refusal::Fenced);
        }
        self.commit();
        self.until = self.now.plus_ms(term_ms);
        self.low_water = self.low_water.max(low_water);
        Ok(())
    }

    /// Would `journal_write` take this? What it looks at before it writes.
    pub(super) fn admit(&self, write: &Write) -> Result<(), Refusal> {
        if self.fenced(write.epoch) {
            return Err(Refusal::Fenced);
        }
        let refused = |section: &str| {
            let items = write.cold[section].as_array();
            items.is_some_and(|items| {
                items.iter().any(|i| i["message"].as_str().is_some_and(|m| m.contains('\0')))
            })
        };
        let nowhere = |section: &str| {
            let items = write.cold[section].as_array().into_iter().flatten();
            let mut jobs = items.filter_map(|item| item["jobs"].as_array()).flatten();
            jobs.any(|job| job["queue"] == "nowhere")
        };
        if nowhere("insert") || nowhere("finish") {
            return Err(Refusal::Data);
        }
        if refused("fail") || refused("dead") || refused("finish") { Err(Refusal::Data) } else { Ok(()) }
    }

    /// `tidemill.journal_write`, in autocommit.
    pub(in crate::engine::tests) fn write(
        &mut self,
        write: &Write,
        truth: &mut Truth,
    ) -> Checked<Result<Written, Refusal>> {
        if let Err(refusal) = self.admit(write) {
            return Ok(Err(refusal));
        }
        let before = (self.broken == Some(Broken::GrantNotSynchronous)).then(|| self.clone());
        let xid = self.commit();
        let (written, granted) = self.apply(write, xid, self.now, truth)?;
        if granted && let Some(before) = before {
            self.synced = Some(Box::new(before));
        }
        Ok(Ok(written))
    }

    /// What a flush does when it commits; whether it granted leases.
    pub(super) fn apply(
        &mut self,
        write: &Write,
        xid: i64,
        at: Micros,
        truth: &mut Truth,
    ) -> Checked<(Written, bool)> {
        let mut granted = false;
        let mut replaced = Vec::new();
        if let Some(data) = &write.data {
            let records = record::decode(data).map_err(|e| Violation(format!("journal row: {e}")))?;
            granted = records.iter().any(|record| matches!(record, Record::Leased { .. }));
            truth.committed(write.epoch, at, &records)?;
            for record in &records {
                if let Record::Resolved { how: Resolution::Replaced, entries } = record {
                    replaced.extend(entries.iter().map(|(entry, lease)| (entry.job, *lease)));
                }
            }
        }
        let answers = self.apply_cold(&write.cold, at, xid, truth)?;
        let ids: Vec<Vec<i64>> = serde_json::from_value(answers["insert"].clone()).unwrap_or_default();
        require!(ids.len() == replaced.len(), "{replaced:?} replaced by {ids:?}");
        for ((job, lease), ids) in replaced.iter().zip(&ids) {
            truth.replaced(*job, *lease, ids)?;
        }
        let note = json!({ "ids": ids, "finished": finished(&write.cold, &answers) });
        if write.data.is_some() || note["finished"] != json!([]) {
            let data = write.data.clone().unwrap_or_else(|| vec![1]);
            let row = JournalRow { xid, epoch: write.epoch, seq: write.seq, at, data, note };
            self.journal[self.table].push(row);
        }
        Ok((Written { at, answers }, granted))
    }

    /// A journal row of a transaction that commits at once.
    pub(super) fn journal_row(&mut self, epoch: i64, seq: i64, at: Micros, data: Vec<u8>, note: Value) {
        let xid = self.commit();
        self.journal[self.table].push(JournalRow { xid, epoch, seq, at, data, note });
    }

    /// `tidemill.read_journal`, folded.
    pub(in crate::engine::tests) fn fold(&self) -> Checked<Fold> {
        let xmax = self.snapshot(self.low_water)?.xmax;
        let mut rows: Vec<_> = self.journal.iter().flatten().filter(|row| row.xid >= xmax).collect();
        rows.sort_by_key(|row| (row.epoch, row.seq));
        let mut fold = Fold::default();
        for row in rows {
            let mut records =
                record::decode(&row.data).map_err(|e| Violation(format!("journal row: {e}")))?;
            if self.broken == Some(Broken::FoldByJobId) {
                records = records.into_iter().flat_map(|record| self.for_all_puts(record)).collect();
            }
            let note =
                serde_json::from_value(row.note.clone()).map_err(|e| Violation(format!("note: {e}")))?;
            fold.apply(row.epoch, row.at, records, note);
        }
        if self.broken != Some(Broken::ParkedForgotten) {
            for (kind, count) in self.parked_types() {
                fold.parked(kind, count);
            }
            for (key, count) in self.parked_keys() {
                fold.parked_key(key, count);
            }
        }
        self.read_cancellations(&mut fold)?;
        Ok(fold)
    }

    /// Of the entries that the journal has as leased.
    fn forget_timeouts(&self, rows: &mut [LogRow]) {
        let Ok(mut fold) = self.fold() else { return };
        for row in rows {
            let folded = fold.take(EntryKey { job: row.job, put: row.retry.unwrap_or(0) });
            if folded.is_some_and(|folded| matches!(folded.last, Last::Leased(_)))
                && let Some(extra) = &mut row.event.extra[0]
            {
                *extra = extra.replace("timeout_ms", "forgotten");
            }
        }
    }

    /// The record as if it spoke of the job, whatever its put.
    fn for_all_puts(&self, record: Record) -> Vec<Record> {
        let puts = self.log.iter().map(|l| l.row.retry.unwrap_or(0)).collect::<BTreeSet<_>>();
        let with = |put: i32| {
            let mut record = record.clone();
            match &mut record {
                Record::Leased { entries, .. } => entries.iter_mut().for_each(|e| e.entry.put = put),
                Record::Extended { entry, .. } | Record::Released { entry, .. } => entry.put = put,
                Record::Resolved { entries, .. } => entries.iter_mut().for_each(|(e, _)| e.put = put),
            }
            record
        };
        puts.into_iter().map(with).collect()
    }

    /// The server crashes and comes back: what was not committed is gone, what was not synchronous may be.
    pub(in crate::engine::tests) fn crash(&mut self) {
        for xid in std::mem::take(&mut self.open) {
            self.unlock(xid);
        }
        if let Some(synced) = self.synced.take() {
            let now = self.now;
            *self = *synced;
            self.now = now;
            self.next_xid += 1_000;
        }
    }

    /// Every entry above the mark that the log has.
    pub(super) fn entries(&self) -> impl Iterator<Item = EntryKey> {
        let above = |l: &&Logged| l.tick.is_none_or(|tick| tick > self.low_water);
        self.log.iter().filter(above).map(|l| EntryKey { job: l.row.job, put: l.row.retry.unwrap_or(0) })
    }

    pub(super) fn end(&mut self, xid: i64) -> Checked {
        require!(self.open.remove(&xid), "transaction {xid} is not open");
        self.unlock(xid);
        self.synced = None;
        Ok(())
    }
}

/// `tidemill.finished_note`
fn finished(cold: &Value, answers: &Value) -> Vec<Value> {
    let items = cold["finish"].as_array().into_iter().flatten();
    let answers = answers["finish"].as_array().into_iter().flatten();
    let taken = items
        .zip(answers)
        .filter(|(_, answer)| **answer == "ok" || **answer == "cancelled" || answer.get("ids").is_some());
    let outcome = |item: &Value, answer: &Value| {
        if answer == "cancelled" { answer.clone() } else { item["outcome"].clone() }
    };
    taken
        .map(|(item, answer)| json!([item["epoch"], item["no"], outcome(item, answer), answer["ids"]]))
        .collect()
}
