//! What the database says became of the jobs: the journal, folded, and the ledger of the transactional workers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result};
use serde_json::Value;
use tidemill_common::db::Session;
use tidemill_dispatcher::engine::record::{LeaseKey, Record, Resolution, decode};

use crate::fleet::{MAX_ATTEMPTS, rows};

#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Jobs with their newest lease so far.
    newest: HashMap<i64, LeaseKey>,
    /// Which job a lease was of, and its attempt.
    pub(crate) leases: HashMap<LeaseKey, (i64, i32)>,
    /// How a lease's job was done with under it.
    pub(crate) results: HashMap<LeaseKey, &'static str>,
    /// Jobs, and how they ended for good.
    pub(crate) ends: BTreeMap<i64, Vec<(LeaseKey, &'static str)>>,
    /// Jobs that were replaced by a stream, and by how many.
    pub(crate) streams: BTreeMap<i64, u64>,
    pub(crate) faults: Vec<String>,
}

impl Journal {
    /// Reads all of it, in the order written.
    pub(crate) async fn read(session: &mut Session) -> Result<Journal> {
        let mut journal = Journal::default();
        let taken = rows(session, "select epoch, transaction from public.takeover order by epoch").await?;
        let taken: BTreeMap<i64, i64> = taken.iter().map(|row| (row.get(0), row.get(1))).collect();
        let tables = "select format('tidemill.%I', c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                       where n.nspname = 'tidemill' and c.relkind = 'r' and c.relname ~ '^journal_[0-9]+_[0-9]+$'";
        let mut parts = Vec::new();
        for table in rows(session, tables).await? {
            parts.push(format!(
                "select j_epoch, j_seq, j_data, j_note::text, j_txid from {}",
                table.get::<_, &str>(0)
            ));
        }
        // The end of a stream has no number among the flushes: it comes when all of them are known.
        let all = format!(
            "select * from ({}) journal order by j_seq = 0, j_epoch, j_seq",
            parts.join(" union all ")
        );
        for row in rows(session, &all).await? {
            let (epoch, seq, transaction): (i64, i64, i64) = (row.get(0), row.get(1), row.get(4));
            journal.written(&taken, (epoch, seq), transaction);
            for record in decode(row.get(2))? {
                journal.apply(epoch, record);
            }
            if let Some(note) = row.get::<_, Option<&str>>(3) {
                journal.note(&serde_json::from_str(note)?)?;
            }
        }
        for row in rows(session, "select job, epoch, number from public.ledger").await? {
            let lease = LeaseKey { epoch: row.get(1), number: row.get(2) };
            journal.resolve(row.get(0), lease, "ledger");
        }
        Ok(journal)
    }

    /// A takeover waits for every flush before it, and refuses every flush of an older owner after it: so all rows of
    /// an epoch were written between the takeover that began it and the next one.
    fn written(&mut self, taken: &BTreeMap<i64, i64>, (epoch, seq): (i64, i64), transaction: i64) {
        let begun = taken.get(&epoch).copied();
        let ended = taken.range(epoch + 1..).next();
        if begun.is_none_or(|begun| transaction < begun) {
            self.faults.push(format!("flush {seq} of epoch {epoch} was written before its takeover"));
        }
        if let Some((next, _)) = ended.filter(|(_, ended)| **ended < transaction) {
            self.faults
                .push(format!("flush {seq} of epoch {epoch} was written after the takeover of epoch {next}"));
        }
    }

    fn apply(&mut self, epoch: i64, record: Record) {
        match record {
            Record::Leased { first, entries, .. } => {
                for (number, leased) in (first..).zip(entries) {
                    let (lease, job) = (LeaseKey { epoch, number }, leased.entry.job);
                    if leased.attempt > MAX_ATTEMPTS {
                        self.faults.push(format!("job {job} was leased for attempt {}", leased.attempt));
                    }
                    if self.ends.contains_key(&job) {
                        self.faults.push(format!("job {job} was leased after its end"));
                    }
                    self.newest.insert(job, lease);
                    self.leases.insert(lease, (job, leased.attempt));
                }
            }
            Record::Resolved { how, entries } => {
                let what = match how {
                    Resolution::Completed => "complete",
                    Resolution::Failed => "perm_fail",
                    Resolution::Exhausted => "exhausted",
                    Resolution::Retried => "temp_fail",
                    // Nobody here cancels: the books will not find it among the dead.
                    Resolution::Cancelled => "cancelled",
                    // The job goes on elsewhere.
                    Resolution::Lent | Resolution::Parked | Resolution::Replaced => return,
                };
                for (entry, lease) in entries {
                    self.resolve(entry.job, lease, what);
                }
            }
            // A lease goes on, or was given back by the dispatcher before a worker had it.
            Record::Extended { .. } | Record::Released { .. } => {}
        }
    }

    /// Results that the waiting room took: `{"finished": [[epoch, number, outcome, of a stream how many jobs], …]}`.
    fn note(&mut self, note: &Value) -> Result<()> {
        for item in note["finished"].as_array().map_or(&[][..], Vec::as_slice) {
            let number = |at: usize| item[at].as_i64().with_context(|| format!("a number in {item}"));
            let lease = LeaseKey { epoch: number(0)?, number: number(1)? };
            let Some((job, attempt)) = self.leases.get(&lease).copied() else {
                self.faults.push(format!("a result under {lease:?}, which the journal does not have"));
                continue;
            };
            let what = match item[2].as_str().context("an outcome")? {
                "complete" => "complete",
                "perm_fail" => "perm_fail",
                "temp_fail" if attempt >= MAX_ATTEMPTS => "exhausted",
                "temp_fail" => "temp_fail",
                "replace" => {
                    self.streams.insert(job, item[3].as_u64().context("how many jobs")?);
                    "replace"
                }
                // It does not count.
                "decline" => continue,
                other => anyhow::bail!("the outcome {other} in {item}"),
            };
            self.resolve(job, lease, what);
        }
        Ok(())
    }

    fn resolve(&mut self, job: i64, lease: LeaseKey, what: &'static str) {
        // Number 0: the attempts were used up in the waiting room, there is no lease.
        if lease.number != 0 {
            let newest = self.newest.get(&job);
            if newest != Some(&lease) {
                self.faults.push(format!("job {job}: {what} under {lease:?}, the newest is {newest:?}"));
            }
            if let Some(before) = self.results.insert(lease, what) {
                self.faults.push(format!("job {job}: {what} after {before} under {lease:?}"));
            }
        }
        if what != "temp_fail" {
            self.ends.entry(job).or_default().push((lease, what));
        }
    }

    /// Whether all these jobs have ended.
    pub(crate) fn has_ended(&self, jobs: &BTreeSet<i64>) -> bool {
        jobs.iter().all(|job| self.ends.contains_key(job))
    }
}

/// The books must find what is wrong with a journal.
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use tidemill_dispatcher::engine::record::{EntryKey, Holder, LeaseKey, LeasedEntry, Record, Resolution};
    use uuid::Uuid;

    use super::{Journal, MAX_ATTEMPTS};

    const ENTRY: EntryKey = EntryKey { job: 7, put: 0 };

    fn leased(first: i64, attempt: i32) -> Record {
        let holder = Holder { instance: Uuid::nil(), host: String::new(), pid: 1 };
        let entries = vec![LeasedEntry { entry: ENTRY, attempt }];
        Record::Leased { first, nonce: 1, ms: 1, holder, request: None, entries }
    }

    fn resolved(how: Resolution, number: i64) -> Record {
        Record::Resolved { how, entries: vec![(ENTRY, LeaseKey { epoch: 1, number })] }
    }

    fn journal(records: impl IntoIterator<Item = Record>) -> Journal {
        let mut journal = Journal::default();
        records.into_iter().for_each(|record| journal.apply(1, record));
        journal
    }

    #[test]
    fn one_end_under_the_newest_lease_is_right() {
        let good = journal([leased(1, 1), leased(2, 2), resolved(Resolution::Completed, 2)]);
        assert!(good.faults.is_empty(), "{:?}", good.faults);
        assert_eq!(good.ends[&7].len(), 1);
    }

    #[test]
    fn a_result_under_an_older_lease_is_found() {
        let stale = journal([leased(1, 1), leased(2, 2), resolved(Resolution::Completed, 1)]);
        assert_eq!(stale.faults.len(), 1);
    }

    #[test]
    fn a_second_end_is_found() {
        let twice = [resolved(Resolution::Completed, 1), resolved(Resolution::Failed, 1)];
        let twice = journal([leased(1, 1)].into_iter().chain(twice));
        assert_eq!((twice.faults.len(), twice.ends[&7].len()), (1, 2));
    }

    #[test]
    fn a_lease_after_the_end_or_beyond_the_attempts_is_found() {
        let after = journal([leased(1, 1), resolved(Resolution::Completed, 1), leased(2, 2)]);
        assert_eq!(after.faults.len(), 1);
        assert_eq!(journal([leased(1, MAX_ATTEMPTS + 1)]).faults.len(), 1);
    }

    #[test]
    fn a_completion_of_a_worker_beside_a_result_of_the_waiting_room_is_found() {
        let mut twice = journal([leased(1, 1), resolved(Resolution::Lent, 1)]);
        twice.note(&json!({"finished": [[1, 1, "perm_fail", null]]})).expect("a note");
        assert!(twice.faults.is_empty(), "{:?}", twice.faults);
        twice.resolve(7, LeaseKey { epoch: 1, number: 1 }, "ledger");
        assert_eq!((twice.faults.len(), twice.ends[&7].len()), (1, 2));
    }

    #[test]
    fn the_last_failure_of_a_lease_in_the_waiting_room_is_an_end() {
        let mut last = journal([leased(1, MAX_ATTEMPTS), resolved(Resolution::Lent, 1)]);
        last.note(&json!({"finished": [[1, 1, "temp_fail", null]]})).expect("a note");
        assert_eq!(last.ends[&7][0].1, "exhausted");
    }

    #[test]
    fn a_flush_behind_the_next_takeover_is_found() {
        let taken = BTreeMap::from([(1, 100), (2, 200)]);
        let faults = |epoch, transaction| {
            let mut journal = Journal::default();
            journal.written(&taken, (epoch, 1), transaction);
            journal.faults.len()
        };
        assert_eq!([faults(1, 150), faults(2, 250), faults(1, 250), faults(2, 150)], [0, 0, 1, 1]);
    }
}
