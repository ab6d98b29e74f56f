//! The engine's decisions, one test each.

mod bisect;
mod cancel;
mod finish;
mod fold;
mod grab;
mod lease;
mod limits;
mod list;
mod origin;
mod pause;
mod polls;
mod priority;
mod progress;
mod relief;
mod repeats;
mod replace;
mod search;
mod tally;
mod timeout;
mod unique;
mod window;

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tidemill_common::api::{Answer, Outcome};
use tidemill_common::lease::Lease;
use uuid::Uuid;

use crate::engine::record::{self, Holder, Record};
use crate::engine::{
    Answered, Backoff, Beat, ColdAnswers, Engine, Event, Extended, Fold, Grab, Granted, Limits, LogRow,
    Micros, QueueSettings, RequestId,
};

const QUEUE: i32 = 7;
const SUB: i32 = 70;
const EPOCH: i64 = 3;
const LEASE_MS: u64 = 10_000;
const NONE: [i64; 0] = [];

const SETTINGS: QueueSettings = QueueSettings {
    lease_ms: LEASE_MS,
    max_attempts: 3,
    backoff: Backoff::Exponential { base_ms: 100, cap_ms: 1_000 },
};
const HOLD_MS: u64 = 3_600_000;
const ASK_MS: u64 = 5_000;
const LIMITS: Limits = Limits {
    window_jobs: 100,
    window_bytes: 1 << 20,
    finished: 100,
    flush_units: 100,
    hold_ms: HOLD_MS,
    ask_ms: ASK_MS,
};

/// An engine, the database's clock, and the journal it wrote.
struct Rig {
    engine: Engine,
    now: Micros,
    journal: Vec<(Micros, Vec<Record>, serde_json::Value)>,
    next_request: u64,
    next_job: i64,
    tick: i64,
}

/// A flush, taken apart.
#[derive(Debug, Default)]
struct Flushed {
    records: Vec<Record>,
    cold: serde_json::Value,
}

impl Rig {
    fn new() -> Self {
        Self::with(SETTINGS, LIMITS)
    }

    fn with(settings: QueueSettings, limits: Limits) -> Self {
        let rng = SmallRng::seed_from_u64(1);
        let mut engine = Engine::new((QUEUE, SUB), EPOCH, settings, limits, 0, Fold::default(), rng);
        let now = Micros(1_000_000_000);
        engine.advance(now);
        Self { engine, now, journal: Vec::new(), next_request: 1, next_job: 1, tick: 0 }
    }

    /// A rig whose window holds ready jobs of these types, in this order, read in one range.
    fn ready(kinds: &[&str]) -> Self {
        let mut rig = Self::new();
        rig.load(kinds);
        rig
    }

    /// Reads one more complete range.
    fn load(&mut self, kinds: &[&str]) {
        let rows = kinds.iter().map(|kind| self.row(kind)).collect();
        self.tick += 1;
        self.engine.load(self.tick, rows, true);
    }

    /// The next job of the log.
    fn row(&mut self, kind: &str) -> LogRow {
        self.next_job += 1;
        row(self.next_job - 1, kind)
    }

    fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request - 1)
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        self.engine.advance(self.now);
    }

    /// Takes the next flush, if there is one, and lets a database with an empty waiting room take a millisecond to
    /// commit it.
    fn commit(&mut self) -> Option<Flushed> {
        let flushed = self.take()?;
        let count = |section: &str| flushed.cold[section].as_array().map_or(0, Vec::len);
        let (finish, extend) = (vec!["stale"; count("finish")], vec![0; count("extend")]);
        let unpark = vec![0; count("unpark")];
        let insert: Vec<Vec<usize>> = cold(&flushed, "insert", "jobs")
            .iter()
            .map(|jobs| (1_001..=1_000 + jobs.as_array().unwrap().len()).collect())
            .collect();
        let note = serde_json::json!({ "ids": insert });
        let answers =
            serde_json::json!({"insert": insert, "finish": finish, "extend": extend, "unpark": unpark});
        Some(self.write(flushed, note, serde_json::from_value(answers).unwrap()))
    }

    fn commit_answering(&mut self, answers: &str) -> Option<Flushed> {
        let flushed = self.take()?;
        Some(self.write(flushed, serde_json::json!({}), serde_json::from_str(answers).unwrap()))
    }

    fn write(&mut self, flushed: Flushed, note: serde_json::Value, answers: ColdAnswers) -> Flushed {
        self.now = self.now.plus_ms(1);
        self.journal.push((self.now, flushed.records.clone(), note));
        self.engine.committed(self.now, answers);
        flushed
    }

    /// Takes the next flush and leaves it under way.
    fn take(&mut self) -> Option<Flushed> {
        let flush = self.engine.take_flush()?;
        Some(Flushed {
            records: flush.data.map(|data| record::decode(&data).unwrap()).unwrap_or_default(),
            cold: flush.cold.map(|cold| serde_json::from_str(&cold).unwrap()).unwrap_or_default(),
        })
    }

    fn settle(&mut self) {
        while self.commit().is_some() {}
    }

    fn answers(&mut self) -> Vec<(RequestId, Answered)> {
        self.engine.take_answers()
    }

    /// The one answer there is.
    fn answer(&mut self) -> Answered {
        let mut answers = self.answers();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0).1
    }

    fn start_grab(&mut self, grab: Grab) -> RequestId {
        let request = self.request();
        self.engine.grab(request, grab, &[]);
        request
    }

    /// Grabs, commits, and takes the jobs.
    fn grab(&mut self, grab: Grab) -> Vec<Granted> {
        self.start_grab(grab);
        self.settle();
        granted(self.answer())
    }

    /// The one job that a plain grab for one gets.
    fn grab_one(&mut self) -> Granted {
        let mut jobs = self.grab(Grab { max: 1, ..plain() });
        assert_eq!(jobs.len(), 1);
        jobs.remove(0)
    }

    fn start_results(&mut self, results: &[(Lease, Outcome)]) -> RequestId {
        let request = self.request();
        let results: Vec<_> =
            results.iter().map(|(lease, outcome)| (Some(*lease), outcome.clone())).collect();
        self.engine.results(request, &results);
        request
    }

    /// Hands in results, commits, and takes the answers.
    fn results(&mut self, results: &[(Lease, Outcome)]) -> Vec<Answer> {
        self.start_results(results);
        self.settle();
        decided(self.answer())
    }

    fn result(&mut self, lease: Lease, outcome: Outcome) -> Answer {
        self.results(&[(lease, outcome)])[0]
    }

    fn start_heartbeat(&mut self, lease: Lease, ms: u64) -> RequestId {
        let request = self.request();
        self.engine.heartbeat(request, &[Beat { lease: Some(lease), ms: Some(ms), progress: None }]);
        request
    }

    fn heartbeat(&mut self, lease: Lease, ms: u64) -> Extended {
        self.start_heartbeat(lease, ms);
        self.settle();
        extended(self.answer())
    }

    /// A new owner that folded this one's journal, and has read nothing yet.
    fn successor(&self) -> Rig {
        let mut fold = Fold::default();
        for (at, records, note) in &self.journal {
            let note = serde_json::from_value(note.clone()).unwrap();
            fold.apply(EPOCH, *at, records.clone(), note);
        }
        let rng = SmallRng::seed_from_u64(2);
        let mut engine = Engine::new((QUEUE, SUB), EPOCH + 1, SETTINGS, LIMITS, 0, fold, rng);
        engine.advance(self.now);
        Rig { engine, now: self.now, journal: Vec::new(), next_request: 1, next_job: 1, tick: 0 }
    }
}

fn row(job: i64, kind: &str) -> LogRow {
    let event = Event { kind: Some(kind.to_owned()), data: Some("{}".to_owned()), ..Event::default() };
    LogRow { job, inserted_at: Micros(job), txid: job, owner: None, retry: None, event }
}

/// A grab for any ten jobs that does not wait.
fn plain() -> Grab {
    Grab {
        types: None,
        max: 10,
        lease_ms: None,
        wait_ms: 0,
        transactional: false,
        number: None,
        filter: None,
        holder: worker(1),
    }
}

fn of_types(types: &[&str]) -> Grab {
    Grab { types: Some(types.iter().map(|&t| t.to_owned()).collect()), ..plain() }
}

fn worker(number: u128) -> Arc<Holder> {
    Arc::new(Holder { instance: Uuid::from_u128(number), host: format!("host{number}"), pid: 4000 })
}

fn complete() -> Outcome {
    Outcome::Complete { result: None }
}

fn temp_fail(retry_in_ms: Option<u64>) -> Outcome {
    Outcome::TempFail { message: "no luck".to_owned(), retry_in_ms }
}

fn perm_fail() -> Outcome {
    Outcome::PermFail { message: "never".to_owned() }
}

fn granted(answered: Answered) -> Vec<Granted> {
    match answered {
        Answered::Grab { jobs, .. } => jobs,
        other => panic!("no answer to a grab: {other:?}"),
    }
}

fn decided(answered: Answered) -> Vec<Answer> {
    match answered {
        Answered::Results(answers) => answers.into_iter().map(|decided| decided.answer).collect(),
        other => panic!("no answer to results: {other:?}"),
    }
}

fn extended(answered: Answered) -> Extended {
    match answered {
        Answered::Heartbeat(leases) => leases[0],
        other => panic!("no answer to a heartbeat: {other:?}"),
    }
}

fn jobs(granted: &[Granted]) -> Vec<i64> {
    granted.iter().map(|job| job.lease.job).collect()
}

/// The field `key` of every item under `section` of a flush's cold part.
fn cold<'a>(flushed: &'a Flushed, section: &str, key: &str) -> Vec<&'a serde_json::Value> {
    flushed.cold[section]
        .as_array()
        .map(|items| items.iter().map(|item| &item[key]).collect())
        .unwrap_or_default()
}
