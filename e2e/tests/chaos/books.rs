//! The books: what the workers wrote down against what the journal says.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Result, ensure};
use tidemill_common::db::Session;
use tidemill_dispatcher::engine::record::{LeaseKey, Record, Resolution, decode};

use crate::fleet::{MAX_ATTEMPTS, rows};

/// The journal, folded.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Jobs with their newest lease so far.
    newest: HashMap<i64, LeaseKey>,
    /// Which job a lease was of.
    job: HashMap<LeaseKey, i64>,
    /// How a lease's job was done with under it.
    results: HashMap<LeaseKey, &'static str>,
    /// Jobs, and how they ended for good: completed or dead.
    ends: BTreeMap<i64, Vec<(LeaseKey, &'static str)>>,
    faults: Vec<String>,
}

impl Journal {
    /// Reads all of it, in the order written.
    pub(crate) async fn read(session: &mut Session) -> Result<Journal> {
        let tables = "select format('tidemill.%I', c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                       where n.nspname = 'tidemill' and c.relkind = 'r' and c.relname ~ '^journal_[0-9]+_[0-9]+$'";
        let mut parts = Vec::new();
        for table in rows(session, tables).await? {
            parts.push(format!(
                "select j_epoch, j_seq, j_data, j_note::text, j_txid from {}",
                table.get::<_, &str>(0)
            ));
        }
        let all = format!("{} order by 1, 2", parts.join(" union all "));
        let mut journal = Journal::default();
        // Of the epochs before this row's: the last one that wrote, and the newest transaction of all.
        let mut earlier = (0, 0);
        let mut last = (0, 0);
        for row in rows(session, &all).await? {
            let (epoch, transaction): (i64, i64) = (row.get(0), row.get(4));
            if epoch != last.0 {
                earlier = last;
            }
            // A takeover waits for every flush before it, so all of them have older transactions.
            if transaction <= earlier.1 {
                journal.faults.push(format!("epoch {} wrote after epoch {epoch} had begun", earlier.0));
            }
            last = (epoch, last.1.max(transaction));
            for record in decode(row.get(2))? {
                journal.apply(epoch, record);
            }
            // Leases of this test are too short to move to the waiting room, whose results are in the note.
            if let Some(note) = row.get::<_, Option<&str>>(3) {
                journal.faults.push(format!("a result of the waiting room: {note}"));
            }
        }
        Ok(journal)
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
                    self.job.insert(lease, job);
                }
            }
            Record::Resolved { how, entries } => {
                let what = match how {
                    Resolution::Completed => "complete",
                    Resolution::Failed => "perm_fail",
                    Resolution::Exhausted => "exhausted",
                    Resolution::Retried => "temp_fail",
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

/// Ids of all jobs there ever were: the log has not been rotated, and nothing was delayed.
pub(crate) async fn all_jobs(session: &mut Session) -> Result<BTreeSet<i64>> {
    Ok(rows(session, "select distinct ev_id from pgq.event_1").await?.iter().map(|row| row.get(0)).collect())
}

/// Compares everything; says what it was.
pub(crate) async fn balance(session: &mut Session, acknowledged: &[i64]) -> Result<String> {
    let mut journal = Journal::read(session).await?;
    let jobs = all_jobs(session).await?;
    let mut faults = std::mem::take(&mut journal.faults);

    faults.extend(
        acknowledged.iter().filter(|job| !jobs.contains(job)).map(|job| format!("job {job} was lost")),
    );
    for job in &jobs {
        match journal.ends.get(job).map_or(&[][..], Vec::as_slice) {
            [_] => {}
            [] => faults.push(format!("job {job} has no end")),
            ends => faults.push(format!("job {job} ended {} times: {ends:?}", ends.len())),
        }
    }
    dead(session, &journal, &mut faults).await?;
    let effects = effects(session, &journal, &mut faults).await?;
    let answers = answers(session, &journal, &mut faults).await?;
    ensure!(
        faults.is_empty(),
        "the books differ in {} places:\n{}",
        faults.len(),
        faults[..faults.len().min(20)].join("\n")
    );
    let ended = |what| journal.ends.values().filter(|ends| ends[0].1 == what).count();
    Ok(format!(
        "{} jobs, {} acknowledged: {} completed, {} given up, {} exhausted; {effects} effects; answers {answers:?}",
        jobs.len(),
        acknowledged.len(),
        ended("complete"),
        ended("perm_fail"),
        ended("exhausted"),
    ))
}

/// Who is dead by the journal is among the dead letters, with a reason.
async fn dead(session: &mut Session, journal: &Journal, faults: &mut Vec<String>) -> Result<()> {
    let dead = rows(session, "select job_id, reason, attempt from tidemill.dead").await?;
    let listed: BTreeMap<i64, (String, i32)> =
        dead.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    for (job, ends) in &journal.ends {
        let expected = match ends[0].1 {
            "complete" => None,
            what => Some(what),
        };
        let found = listed.get(job).map(|(reason, _)| reason.as_str());
        if found != expected {
            faults.push(format!("job {job} ended as {:?}, among the dead it is {found:?}", ends[0]));
        }
    }
    let beyond = listed.iter().filter(|(_, (_, attempt))| *attempt > MAX_ATTEMPTS);
    faults.extend(beyond.map(|(job, (_, attempt))| format!("job {job} died after attempt {attempt}")));
    Ok(())
}

/// Every effect was under a lease that the journal knows, and no two leases were the same attempt.
async fn effects(session: &mut Session, journal: &Journal, faults: &mut Vec<String>) -> Result<usize> {
    let mut attempts = HashMap::new();
    let effects = rows(session, "select job, attempt, epoch, number from public.effect").await?;
    for row in &effects {
        let (job, attempt): (i64, i32) = (row.get(0), row.get(1));
        let lease = LeaseKey { epoch: row.get(2), number: row.get(3) };
        if journal.job.get(&lease) != Some(&job) {
            faults.push(format!("job {job} was worked on under {lease:?}, which the journal does not have"));
        }
        if attempt > MAX_ATTEMPTS {
            faults.push(format!("job {job} was worked on for attempt {attempt}"));
        }
        if let Some(other) = attempts.insert((job, attempt), lease) {
            faults.push(format!("job {job}: attempt {attempt} under {other:?} and {lease:?}"));
        }
    }
    Ok(effects.len())
}

/// Every result that was accepted is the journal's result under that lease.
async fn answers(
    session: &mut Session,
    journal: &Journal,
    faults: &mut Vec<String>,
) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for row in rows(session, "select job, epoch, number, outcome, answer from public.answer").await? {
        let lease = LeaseKey { epoch: row.get(1), number: row.get(2) };
        let (job, outcome, answer): (i64, &str, &str) = (row.get(0), row.get(3), row.get(4));
        let recorded = journal.results.get(&lease).copied();
        let fits = recorded == Some(outcome) || (outcome == "temp_fail" && recorded == Some("exhausted"));
        if (answer == "ok" || answer == "already") && !fits {
            faults.push(format!(
                "job {job}: {outcome} was answered {answer} under {lease:?}, recorded is {recorded:?}"
            ));
        }
        *counts.entry(answer.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

/// The books must find what is wrong with a journal.
mod tests {
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
}
