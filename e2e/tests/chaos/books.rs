//! The books: what the workers wrote down against what the database says.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Result, ensure};
use tidemill_common::db::Session;
use tidemill_dispatcher::engine::record::LeaseKey;

use crate::{
    fleet::{MAX_ATTEMPTS, rows},
    journal::Journal,
};

/// Ids of all jobs that were ever ready: the log has not been rotated, and what is delayed stays so.
pub(crate) async fn all_jobs(session: &mut Session) -> Result<BTreeSet<i64>> {
    Ok(rows(session, "select distinct ev_id from pgq.event_1").await?.iter().map(|row| row.get(0)).collect())
}

/// How the jobs ended, by the way they did.
pub(crate) type Ends = BTreeMap<&'static str, usize>;

/// Compares everything; says how the jobs ended, and what else there was.
pub(crate) async fn balance(session: &mut Session, acknowledged: &[i64]) -> Result<(Ends, String)> {
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
    children(session, &journal, &mut faults).await?;
    let effects = effects(session, &journal, &mut faults).await?;
    let answers = answers(session, &journal, &mut faults).await?;
    ensure!(
        faults.is_empty(),
        "the books differ in {} places:\n{}",
        faults.len(),
        faults[..faults.len().min(20)].join("\n")
    );
    let mut ends = Ends::new();
    for (_, what) in journal.ends.values().flatten() {
        *ends.entry(what).or_default() += 1;
    }
    let summary = format!(
        "{} jobs, {} acknowledged: {ends:?}; {effects} effects; answers {answers:?}",
        jobs.len(),
        acknowledged.len()
    );
    Ok((ends, summary))
}

/// Who is dead by the journal is among the dead letters, with a reason.
async fn dead(session: &mut Session, journal: &Journal, faults: &mut Vec<String>) -> Result<()> {
    let dead = rows(session, "select job_id, reason, attempt from tidemill.dead").await?;
    let listed: BTreeMap<i64, (String, i32)> =
        dead.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    for (job, ends) in &journal.ends {
        let expected = match ends[0].1 {
            "complete" | "ledger" | "replace" => None,
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

/// A job was replaced if and only if all that were to exist instead do.
async fn children(session: &mut Session, journal: &Journal, faults: &mut Vec<String>) -> Result<()> {
    let sql = "select (data ->> 'parent')::int8, (data ->> 'of')::int8, count(*)
                 from (select ev_id, ev_data::jsonb from pgq.event_1 where ev_type = 'child'
                       union select job_id, ev_data::jsonb from tidemill.waiting where ev_type = 'child') c (id, data)
                group by 1, 2";
    let mut missing: BTreeSet<i64> = journal.streams.keys().copied().collect();
    for row in rows(session, sql).await? {
        let (parent, of, there): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        missing.remove(&parent);
        let recorded = journal.streams.get(&parent).copied();
        if there != of || recorded != u64::try_from(of).ok() {
            faults.push(format!(
                "job {parent} was to be replaced by {of}: recorded are {recorded:?}, there are {there}"
            ));
        }
    }
    faults.extend(missing.iter().map(|job| format!("job {job} was replaced by nothing")));
    Ok(())
}

/// Every effect was under a lease that the journal knows, and no two leases were the same attempt.
async fn effects(session: &mut Session, journal: &Journal, faults: &mut Vec<String>) -> Result<usize> {
    let mut attempts = HashMap::new();
    let effects = rows(session, "select job, attempt, epoch, number from public.effect").await?;
    for row in &effects {
        let (job, attempt): (i64, i32) = (row.get(0), row.get(1));
        let lease = LeaseKey { epoch: row.get(2), number: row.get(3) };
        if journal.leases.get(&lease) != Some(&(job, attempt)) {
            faults.push(format!(
                "attempt {attempt} of job {job} was under {lease:?}, which the journal does not have"
            ));
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
