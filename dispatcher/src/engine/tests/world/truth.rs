//! Truth: what must hold, told by what the database commits and by what workers hear. It knows the rules of leases and
//! results, and nothing of windows, folds or flushes.

use std::collections::{BTreeMap, HashMap, HashSet};

use tidemill_common::api::{Answer, Outcome};
use tidemill_common::lease::Lease;

use super::limits::InForce;
use crate::engine::record::{EntryKey, LeaseKey, Record, Resolution};
use crate::engine::{Children, Extended, Granted, Micros, Target};

/// A rule that does not hold.
#[derive(Debug)]
pub(in crate::engine::tests) struct Violation(pub(in crate::engine::tests) String);

pub(in crate::engine::tests) type Checked<T = ()> = Result<T, Violation>;

/// Fails with a sentence unless the rule holds.
macro_rules! require {
    ($rule:expr, $($sentence:tt)+) => {
        if !$rule {
            return Err($crate::engine::tests::world::truth::Violation(format!($($sentence)+)));
        }
    };
}
pub(in crate::engine::tests) use require;

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::tests) enum Place {
    Log(i32),
    Waiting(i32),
    Completed,
    Replaced,
    Dead,
    Cancelled,
}

#[derive(Debug)]
pub(in crate::engine::tests) struct Job {
    pub(in crate::engine::tests) place: Place,
    pub(in crate::engine::tests) attempt: i32,
    pub(in crate::engine::tests) newest: Option<Held>,
    pub(in crate::engine::tests) max_attempts: i32,
    /// How often it was leased.
    leases: u32,
    effects: u32,
    /// The jobs that exist instead.
    children: Option<Vec<i64>>,
    pub(in crate::engine::tests) key: Option<i64>,
    /// Its type, and the key that limits go by.
    pub(super) kind: String,
    pub(super) group: Option<String>,
    /// How long an attempt may take.
    pub(in crate::engine::tests) timeout_ms: Option<u64>,
    /// When it was produced, counted in produced jobs and calls.
    born: u64,
    /// A cancellation that hits it was answered: it is not given out any more.
    barred: bool,
}

/// The newest lease of a job.
#[derive(Debug, Clone)]
pub(in crate::engine::tests) struct Held {
    pub(in crate::engine::tests) key: LeaseKey,
    /// As committed.
    until: Micros,
    /// When the time of the attempt is over: no lease ends later.
    over_at: Micros,
    /// As a worker heard.
    promised: Micros,
    /// Neither finished nor ended.
    open: bool,
}

/// Which outcome a worker named, or what a lease's end did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::engine::tests) enum Said {
    Complete,
    TempFail,
    PermFail,
    Decline,
    Replace,
}

impl From<&Outcome> for Said {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Complete { .. } => Self::Complete,
            Outcome::Replace { .. } => Self::Replace,
            Outcome::TempFail { .. } => Self::TempFail,
            Outcome::PermFail { .. } => Self::PermFail,
            Outcome::Decline => Self::Decline,
        }
    }
}

impl Held {
    /// Does it keep others out at this time?
    pub(super) fn is_live(&self, at: Micros) -> bool {
        self.open && self.until.max(self.promised) > at
    }
}

#[derive(Debug, Default)]
pub(in crate::engine::tests) struct Truth {
    pub(in crate::engine::tests) jobs: BTreeMap<i64, Job>,
    /// The results workers ever handed in.
    said: HashSet<(LeaseKey, Said)>,
    /// By how many jobs workers ever wanted to replace the job of a lease.
    wanted: HashSet<(LeaseKey, usize)>,
    finished: HashMap<LeaseKey, Said>,
    told_ok: HashSet<LeaseKey>,
    tokens: HashSet<Lease>,
    /// Cancellations that were ever asked for: which jobs, when, and when answered.
    calls: Vec<(Target, u64, Option<u64>)>,
    clock: u64,
    pub(super) in_force: InForce,
}

impl Truth {
    pub(in crate::engine::tests) fn produced(&mut self, job: i64, place: Place, max_attempts: i32) {
        self.clock += 1;
        let new = Job {
            place,
            attempt: 0,
            newest: None,
            max_attempts,
            leases: 0,
            effects: 0,
            children: None,
            key: None,
            kind: String::new(),
            group: None,
            timeout_ms: None,
            born: self.clock,
            barred: false,
        };
        self.jobs.insert(job, new);
    }

    /// The job is of this type, and limited by this key.
    pub(in crate::engine::tests) fn of_kind(&mut self, job: i64, kind: &str, group: Option<&str>) {
        if let Some(job) = self.jobs.get_mut(&job) {
            (job.kind, job.group) = (kind.to_owned(), group.map(str::to_owned));
        }
    }

    /// The job carries this key.
    pub(in crate::engine::tests) fn keyed(&mut self, job: i64, key: Option<i64>) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.key = key;
        }
    }

    /// Its attempts have so long.
    pub(in crate::engine::tests) fn timed(&mut self, job: i64, timeout_ms: Option<u64>) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.timeout_ms = timeout_ms;
        }
    }

    /// Does the lease last as long as the attempt's time?
    pub(in crate::engine::tests) fn has_all_its_time(&self, lease: &Lease, until: Micros) -> bool {
        let newest = self.jobs.get(&lease.job).and_then(|job| job.newest.as_ref());
        newest.is_some_and(|held| held.key == key_of(lease) && held.over_at == until)
    }

    /// Whoever keeps the end of this lease, in the window or in the waiting room: it is not after the attempt's time.
    pub(in crate::engine::tests) fn check_end(&self, job: i64, lease: LeaseKey, until: Micros) -> Checked {
        let newest = self.jobs.get(&job).and_then(|job| job.newest.as_ref()).filter(|held| held.key == lease);
        let ends_in_time = newest.is_none_or(|held| until <= held.over_at);
        require!(ends_in_time, "{lease:?} of job {job} is to end at {until:?}: {newest:?}");
        Ok(())
    }

    /// Jobs without a final outcome.
    pub(in crate::engine::tests) fn unfinished(&self) -> Vec<i64> {
        let is_open = |job: &Job| matches!(job.place, Place::Log(_) | Place::Waiting(_));
        self.jobs.iter().filter(|(_, job)| is_open(job)).map(|(id, _)| *id).collect()
    }

    /// Somebody asks for a cancellation; the call's number.
    pub(in crate::engine::tests) fn cancel_asked(&mut self, target: Target) -> usize {
        self.clock += 1;
        self.calls.push((target, self.clock, None));
        self.calls.len() - 1
    }

    /// A cancellation is answered: whatever it hits is not given out any more.
    pub(in crate::engine::tests) fn cancel_answered(&mut self, call: usize) {
        self.clock += 1;
        let clock = self.clock;
        let Some((target, asked, answered)) = self.calls.get_mut(call) else { return };
        *answered = Some(clock);
        let (target, asked) = (*target, *asked);
        for (id, job) in &mut self.jobs {
            let is_final =
                matches!(job.place, Place::Completed | Place::Replaced | Place::Dead | Place::Cancelled);
            job.barred |= !is_final && job.born < asked && is_target(target, *id, job);
        }
    }

    /// Did anybody ask for the end of this job? Of a key's jobs only those that existed before the answer.
    fn may_be_cancelled(&self, id: i64) -> bool {
        self.jobs.get(&id).is_some_and(|job| {
            self.calls.iter().any(|(target, _, answered)| {
                is_target(*target, id, job) && answered.is_none_or(|answered| job.born < answered)
            })
        })
    }

    /// A row of the waiting room ended, nobody having its job.
    pub(in crate::engine::tests) fn cancelled_waiting(&mut self, job: i64, at: Micros) -> Checked {
        require!(
            self.may_be_cancelled(job),
            "job {job} was cancelled in the waiting room: nobody wanted that"
        );
        let is = self.job(job)?;
        require!(
            matches!(is.place, Place::Waiting(_)),
            "job {job} was cancelled there, and is {:?}",
            is.place
        );
        let live = is.newest.as_ref().filter(|held| held.open && held.until.max(held.promised) > at);
        require!(live.is_none(), "job {job} was cancelled under {live:?}");
        if let Some(held) = &mut is.newest {
            held.open = false;
        }
        is.place = Place::Cancelled;
        Ok(())
    }

    /// A worker hands in a result, whoever takes it.
    pub(in crate::engine::tests) fn said(&mut self, lease: &Lease, said: Said) {
        self.said.insert((key_of(lease), said));
    }

    /// Did anybody hand in a result for it, whatever became of that?
    pub(in crate::engine::tests) fn is_spoken_of(&self, lease: &Lease) -> bool {
        self.said.iter().any(|(key, _)| *key == key_of(lease))
    }

    /// A worker wants other jobs instead.
    pub(in crate::engine::tests) fn wanted(&mut self, lease: &Lease, count: usize) {
        self.said(lease, Said::Replace);
        self.wanted.insert((key_of(lease), count));
    }

    /// These jobs exist instead of one that was just finished so.
    pub(in crate::engine::tests) fn replaced(&mut self, job: i64, lease: LeaseKey, ids: &[i64]) -> Checked {
        let count = ids.len();
        require!(self.wanted.contains(&(lease, count)), "{lease:?}: nobody wanted {count} jobs instead");
        let is = self.job(job)?;
        require!(is.place == Place::Replaced, "{ids:?} instead of job {job}, which is {:?}", is.place);
        require!(is.children.is_none(), "job {job} is replaced twice");
        is.children = Some(ids.to_vec());
        Ok(())
    }

    /// A streamed replace was committed, by the queue's present owner or not.
    pub(in crate::engine::tests) fn stream_committed(&self, current: bool) -> Checked {
        require!(current, "a stream of a former owner was committed");
        Ok(())
    }

    /// A worker hears of the jobs that exist instead.
    pub(in crate::engine::tests) fn told_children(&mut self, lease: &Lease, told: &Children) -> Checked {
        let known = self.job(lease.job)?.children.as_deref();
        let same = told.ids.is_empty() || known == Some(&*told.ids);
        require!(
            same && known.map(<[_]>::len) == usize::try_from(told.count).ok(),
            "{lease}: told of {told:?}, but {known:?} exist instead"
        );
        Ok(())
    }

    fn job(&mut self, job: i64) -> Checked<&mut Job> {
        self.jobs.get_mut(&job).ok_or_else(|| Violation(format!("job {job} was never produced")))
    }

    /// A flush was committed.
    pub(in crate::engine::tests) fn committed(
        &mut self,
        epoch: i64,
        at: Micros,
        records: &[Record],
    ) -> Checked {
        for record in records {
            match record {
                Record::Leased { first, ms, entries, .. } => {
                    for (number, leased) in (*first..).zip(entries) {
                        let key = LeaseKey { epoch, number };
                        self.leased(key, leased.entry, leased.attempt, at, at.plus_ms(*ms))?;
                    }
                }
                Record::Extended { entry, lease, ms } => self.extended(entry.job, *lease, at.plus_ms(*ms))?,
                Record::Released { entry, lease } => {
                    self.released(entry.job, Place::Log(entry.put), *lease)?;
                }
                Record::Resolved { how, entries } => {
                    for (entry, lease) in entries {
                        self.resolved(*how, *entry, *lease, at)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn leased(&mut self, key: LeaseKey, entry: EntryKey, attempt: i32, at: Micros, until: Micros) -> Checked {
        let job = self.job(entry.job)?;
        require!(
            job.place == Place::Log(entry.put),
            "{entry:?} leased as {key:?}, but the job is {:?}",
            job.place
        );
        require!(!job.barred, "{entry:?} leased as {key:?}, but the job was cancelled");
        if let Some(held) = &job.newest {
            require!(
                !held.open || held.until.max(held.promised) <= at,
                "{entry:?} leased as {key:?} at {at:?}, before {held:?} has ended"
            );
        }
        require!(
            attempt == job.attempt + 1,
            "{entry:?} leased for attempt {attempt} after attempt {}",
            job.attempt
        );
        require!(
            attempt <= job.max_attempts,
            "{entry:?} leased for attempt {attempt} of {}",
            job.max_attempts
        );
        job.attempt = attempt;
        job.leases += 1;
        let over_at = job.timeout_ms.map_or(Micros(i64::MAX), |ms| at.plus_ms(ms));
        job.newest = Some(Held { key, until, over_at, promised: Micros(0), open: true });
        self.check_end(entry.job, key, until)?;
        self.check_limits(entry.job, key, at)
    }

    /// A lease ends later, by the journal or in the waiting room, but within the time of the attempt.
    pub(in crate::engine::tests) fn extended(&mut self, job: i64, lease: LeaseKey, until: Micros) -> Checked {
        let held = self.live(job, lease)?;
        held.until = held.until.max(until.min(held.over_at));
        Ok(())
    }

    /// The job's newest lease, which must be this one, not finished.
    fn live(&mut self, job: i64, lease: LeaseKey) -> Checked<&mut Held> {
        let newest = &mut self.job(job)?.newest;
        let is_live = newest.as_ref().is_some_and(|held| held.key == lease && held.open);
        require!(is_live, "{lease:?} of job {job} accepted, the newest is {newest:?}");
        newest.as_mut().ok_or_else(|| Violation(format!("job {job} has no lease")))
    }

    fn close(&mut self, job: i64, lease: LeaseKey, how: Said) -> Checked {
        self.live(job, lease)?.open = false;
        require!(
            self.said.contains(&(lease, how)),
            "{lease:?} of job {job} finished by {how:?}: nobody said so"
        );
        require!(self.finished.insert(lease, how).is_none(), "{lease:?} of job {job} finished twice");
        Ok(())
    }

    /// A lease was given back; `place` is where the job was.
    pub(in crate::engine::tests) fn released(&mut self, job: i64, place: Place, lease: LeaseKey) -> Checked {
        self.close(job, lease, Said::Decline)?;
        let job = self.job(job)?;
        require!(job.place == place, "declined in {place:?}, but the job is {:?}", job.place);
        job.attempt -= 1;
        Ok(())
    }

    fn resolved(&mut self, how: Resolution, entry: EntryKey, lease: LeaseKey, at: Micros) -> Checked {
        let wanted = how != Resolution::Cancelled || self.may_be_cancelled(entry.job);
        require!(wanted, "{entry:?} was cancelled: nobody wanted that");
        let job = self.job(entry.job)?;
        require!(
            job.place == Place::Log(entry.put),
            "{entry:?} resolved ({how:?}), but the job is {:?}",
            job.place
        );
        let exhausted = job.attempt >= job.max_attempts;
        match how {
            Resolution::Lent => {
                self.live(entry.job, lease)?;
                self.job(entry.job)?.place = Place::Waiting(entry.put + 1);
                return Ok(());
            }
            Resolution::Parked => {
                let live = job.newest.as_ref().filter(|held| held.open && held.until.max(held.promised) > at);
                require!(live.is_none(), "{entry:?} parked, but {live:?} is live");
                job.place = Place::Waiting(entry.put + 1);
                return Ok(());
            }
            Resolution::Cancelled => {
                if let Some(held) = job.newest.as_mut().filter(|held| held.open) {
                    held.open = false;
                    let (key, ended) = (held.key, held.until.max(held.promised) <= at);
                    let gives_back = |said| self.said.contains(&(lease, said));
                    let given_back = gives_back(Said::TempFail) || gives_back(Said::Decline);
                    require!(ended || (key == lease && given_back), "{entry:?} was cancelled under {key:?}");
                }
            }
            Resolution::Completed => self.close(entry.job, lease, Said::Complete)?,
            Resolution::Replaced => self.close(entry.job, lease, Said::Replace)?,
            Resolution::Failed => self.close(entry.job, lease, Said::PermFail)?,
            Resolution::Retried => {
                require!(!exhausted, "{entry:?} retried after its last attempt");
                self.close(entry.job, lease, Said::TempFail)?;
            }
            Resolution::Exhausted => {
                require!(exhausted, "{entry:?} exhausted after attempt {}", job.attempt);
                if let Some(held) = job.newest.as_mut().filter(|held| held.open) {
                    require!(
                        held.key == lease,
                        "{entry:?} exhausted under {lease:?}, the newest is {held:?}"
                    );
                    let ended = held.until.max(held.promised) <= at;
                    held.open = false;
                    require!(
                        ended || self.said.contains(&(lease, Said::TempFail)),
                        "{entry:?} exhausted before its lease has ended"
                    );
                    self.finished.insert(lease, Said::TempFail);
                }
            }
        }
        self.job(entry.job)?.place = match how {
            Resolution::Completed => Place::Completed,
            Resolution::Replaced => Place::Replaced,
            Resolution::Failed | Resolution::Exhausted => Place::Dead,
            Resolution::Cancelled => Place::Cancelled,
            Resolution::Retried | Resolution::Lent | Resolution::Parked => Place::Waiting(entry.put + 1),
        };
        Ok(())
    }

    /// A result of a lease in the waiting room was taken.
    pub(in crate::engine::tests) fn finished_waiting(
        &mut self,
        job: i64,
        lease: LeaseKey,
        how: Said,
    ) -> Checked {
        let Place::Waiting(put) = self.job(job)?.place else {
            return Err(Violation(format!("job {job} finished in the waiting room, and is not there")));
        };
        if how == Said::Decline {
            return self.released(job, Place::Waiting(put), lease);
        }
        self.close(job, lease, how)?;
        let job = self.job(job)?;
        job.place = match how {
            Said::Complete => Place::Completed,
            Said::Replace => Place::Replaced,
            Said::PermFail => Place::Dead,
            Said::TempFail if job.attempt >= job.max_attempts => Place::Dead,
            Said::TempFail | Said::Decline => Place::Waiting(put),
        };
        Ok(())
    }

    /// A result of a job that is being cancelled was taken in the waiting room, and is its end.
    pub(in crate::engine::tests) fn finished_cancelled(
        &mut self,
        job: i64,
        lease: LeaseKey,
        how: Said,
    ) -> Checked {
        require!(self.may_be_cancelled(job), "job {job} was cancelled by a result: nobody wanted that");
        require!(matches!(how, Said::TempFail | Said::Decline), "job {job} was cancelled by {how:?}");
        self.close(job, lease, how)?;
        self.finished.remove(&lease);
        self.job(job)?.place = Place::Cancelled;
        Ok(())
    }

    /// A worker's own transaction with the job's effects was committed.
    pub(in crate::engine::tests) fn transacted(&mut self, job: i64, lease: LeaseKey) -> Checked {
        self.said.insert((lease, Said::Complete));
        self.finished_waiting(job, lease, Said::Complete)?;
        let is = self.job(job)?;
        is.effects += 1;
        require!(is.effects == 1, "the effects of job {job} happened {} times", is.effects);
        Ok(())
    }

    /// The ticker put a job from the waiting room into the log.
    pub(in crate::engine::tests) fn promoted(
        &mut self,
        job: i64,
        put: i32,
        now: Micros,
        leased: bool,
    ) -> Checked {
        let is = self.job(job)?;
        require!(is.place == Place::Waiting(put), "job {job} put into the log from {:?}", is.place);
        if leased && let Some(held) = &mut is.newest {
            require!(
                held.until.max(held.promised) <= now,
                "job {job} put into the log before {held:?} has ended"
            );
            held.open = false;
        }
        is.place = Place::Log(put);
        Ok(())
    }

    /// Is this the live lease of its job? Only of tokens that were issued.
    pub(in crate::engine::tests) fn is_live(&self, lease: &Lease, now: Micros) -> bool {
        self.tokens.contains(lease)
            && self
                .jobs
                .get(&lease.job)
                .and_then(|job| job.newest.as_ref())
                .is_some_and(|held| held.key == key_of(lease) && held.open && held.until > now)
    }

    /// A worker hears of a job.
    pub(in crate::engine::tests) fn granted(&mut self, granted: &Granted) -> Checked {
        let lease = granted.lease;
        let fresh = self.tokens.insert(lease);
        let job = self.job(lease.job)?;
        let attempt = job.attempt;
        let again = job.leases > 1;
        let Some(held) = job.newest.as_mut().filter(|held| held.key == key_of(&lease) && held.open) else {
            return Err(Violation(format!("a worker got {lease}, which is not live: {:?}", job.newest)));
        };
        // A repeated answer may not know yet of an extension committed with it.
        let in_time = granted.ends_at == held.until || (!fresh && granted.ends_at < held.until);
        require!(in_time, "a worker got {lease} until {:?}: {held:?}", granted.ends_at);
        require!(lease.attempt == attempt, "a worker got {lease} for attempt {attempt}");
        require!(granted.previous.is_some() == again, "{lease}: who had it before is {:?}", granted.previous);
        held.promised = held.promised.max(granted.ends_at);
        Ok(())
    }

    /// A worker hears what became of its result, from the queue's present owner or not.
    pub(in crate::engine::tests) fn answered(
        &mut self,
        lease: &Lease,
        said: Said,
        answer: Answer,
        (current, now): (bool, Micros),
    ) -> Checked {
        let how = self.finished.get(&key_of(lease));
        match answer {
            Answer::Ok => {
                require!(how == Some(&said), "{lease}: {said:?} is ok, but it was finished by {how:?}");
                require!(self.told_ok.insert(key_of(lease)), "{lease}: ok twice");
                require!(self.tokens.contains(lease), "{lease} was forged, and {said:?} is ok");
            }
            Answer::Already => {
                require!(how == Some(&said), "{lease}: {said:?} is already, but it was finished by {how:?}");
            }
            Answer::Stale => {
                require!(
                    !current || !self.is_live(lease, now),
                    "{lease}: {said:?} is stale, but the lease is live"
                );
            }
            Answer::Cancelled => {
                let place = self.jobs.get(&lease.job).map(|job| job.place);
                require!(place == Some(Place::Cancelled), "{lease}: {said:?} is cancelled: {place:?}");
            }
            Answer::Unavailable | Answer::Refused => {}
        }
        Ok(())
    }

    /// A worker hears when its lease ends now.
    pub(in crate::engine::tests) fn extension_answered(
        &mut self,
        lease: &Lease,
        extended: Extended,
        (current, now): (bool, Micros),
    ) -> Checked {
        match extended {
            Extended::Until(until) | Extended::Stopping(until, _) => {
                require!(self.tokens.contains(lease), "{lease} was forged, and is extended");
                self.promise(lease, until, true)
            }
            Extended::Stale => {
                require!(
                    !current || !self.is_live(lease, now),
                    "heartbeat of {lease}: stale, but the lease is live"
                );
                Ok(())
            }
            Extended::Unavailable => Ok(()),
        }
    }

    /// A worker believes that its lease lasts so long; `kept` if that must be so.
    pub(in crate::engine::tests) fn promise(&mut self, lease: &Lease, until: Micros, kept: bool) -> Checked {
        let Some(held) = self.job(lease.job)?.newest.as_mut().filter(|held| held.key == key_of(lease)) else {
            require!(!kept, "heartbeat of {lease}: until {until:?}, but it is not the newest lease");
            return Ok(());
        };
        require!(!kept || held.until >= until, "heartbeat of {lease}: until {until:?}: {held:?}");
        require!(!kept || until <= held.over_at, "heartbeat of {lease}: until {until:?}: {held:?}");
        held.promised = held.promised.max(until.min(held.over_at));
        Ok(())
    }
}

fn is_target(target: Target, id: i64, job: &Job) -> bool {
    match target {
        Target::Job(job) => job == id,
        Target::Key(key) => job.key == Some(key),
    }
}

pub(in crate::engine::tests) fn key_of(lease: &Lease) -> LeaseKey {
    LeaseKey { epoch: lease.epoch, number: lease.number }
}
