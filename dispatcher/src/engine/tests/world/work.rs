//! Workers: they grab, finish, extend, repeat themselves, come too late, and complete in their own transactions.

use std::sync::Arc;

use rand::Rng;
use tidemill_common::api::{Answer, JobOptions, KeyFilter, NewJob, Outcome};
use tidemill_common::lease::Lease;
use uuid::Uuid;

use super::owner::{Ask, Asked};
use super::truth::{Checked, Said, Violation, require};
use super::{Broken, Stream, Work, World};
use crate::engine::record::{EntryKey, Holder};
use crate::engine::{Answered, Decided, Extended, Filter, Grab, Granted, Micros};

pub(super) const WORKERS: usize = 3;

fn holder(worker: usize) -> Arc<Holder> {
    Arc::new(Holder {
        instance: Uuid::from_u128(worker as u128 + 1),
        host: format!("host{worker}"),
        pid: 4_000,
    })
}

impl World {
    /// A lease that a worker knows: mostly a recent one; now and then a forged one.
    fn any_lease(&mut self) -> Option<Lease> {
        let count = self.leases.len();
        let recent = if self.rng.random_bool(0.8) { count.min(6) } else { count };
        let mut lease = (count > 0).then(|| self.leases[count - 1 - self.rng.random_range(0..recent)])?;
        if self.rng.random_bool(0.02) {
            lease.nonce ^= 1;
        }
        Some(lease)
    }

    fn any_results(&mut self, most: usize) -> Vec<(Lease, Outcome)> {
        let count = self.rng.random_range(1..=most);
        let results: Vec<_> =
            (0..count).filter_map(|_| Some((self.any_lease()?, self.any_outcome()))).collect();
        for (lease, outcome) in &results {
            match outcome {
                Outcome::Replace { jobs } => self.truth.wanted(lease, jobs.len()),
                outcome => self.truth.said(lease, Said::from(outcome)),
            }
        }
        results
    }

    fn any_jobs(&mut self) -> Vec<NewJob> {
        let count = self.rng.random_range(0..3);
        let mut job = || {
            let delay_ms = self.rng.random_bool(0.2).then_some(50);
            let options = JobOptions { delay_ms, ..JobOptions::default() };
            let mut job = NewJob::new(["a", "b"][self.rng.random_range(0..2)], None, options);
            // There is no such queue.
            job.queue = if self.rng.random_bool(0.05) { "nowhere".parse().ok() } else { None };
            job
        };
        (0..count).map(|_| job()).collect()
    }

    /// A client asks for its lease, to replace its job by a stream.
    pub(in crate::engine::tests) fn begin_stream(&mut self, index: usize) -> Checked {
        let live = self.leases.iter().rev().find(|lease| self.truth.is_live(lease, self.db.now)).copied();
        let lease = if self.rng.random_bool(0.7) { live } else { self.any_lease() };
        let Some(lease) = lease else { return Ok(()) };
        let (request, count) = (self.request(), self.rng.random_range(0..4));
        self.note(|| format!("{request:?}: {count} jobs are to be streamed instead of {lease}"));
        self.truth.wanted(&lease, count);
        self.owners[index].look_at_clock(&self.db);
        self.owners[index].lend(request, lease, count);
        self.deliver(index)
    }

    /// A stream ends: its client is gone, or it is committed, and the owner hears of it or not.
    pub(in crate::engine::tests) fn end_stream(&mut self) -> Checked {
        if self.streams.is_empty() {
            return Ok(());
        }
        let Stream { epoch, lease, count } = self.streams.remove(0);
        if self.rng.random_bool(0.2) {
            self.note(|| format!("the stream instead of {lease} breaks off"));
            return Ok(());
        }
        let jobs = serde_json::json!(vec![serde_json::json!({ "type": "a" }); count]);
        let ids = self.db.finish_stream(epoch, &lease, &jobs, &mut self.truth)?;
        self.note(|| format!("the stream instead of {lease}, of epoch {epoch}, ends: {ids:?}"));
        let owner = self.owners.iter().position(|owner| owner.epoch == epoch);
        match (ids, owner) {
            (Some(_), Some(index)) if self.rng.random_bool(0.8) => {
                self.owners[index].engine.streamed(&lease, count as u64);
                self.saw("job replaced by a stream");
                self.truth.answered(&lease, Said::Replace, Answer::Ok, (true, self.db.now))?;
            }
            // Nobody knows: in doubt the owner takes over again.
            (Some(_), Some(index)) => drop(self.owners.remove(index)),
            (Some(_) | None, _) => {}
        }
        Ok(())
    }

    fn any_outcome(&mut self) -> Outcome {
        let message = if self.rng.random_bool(0.05) { "\0" } else { "no luck" }.to_owned();
        match self.rng.random_range(0..12) {
            10.. => Outcome::Replace { jobs: self.any_jobs() },
            0..5 => Outcome::Complete { result: None },
            5..8 => {
                let retry_in_ms = self.rng.random_bool(0.5).then(|| self.rng.random_range(0..300));
                Outcome::TempFail { message, retry_in_ms }
            }
            8 => Outcome::PermFail { message },
            _ => Outcome::Decline,
        }
    }

    /// Under the mutant: a result counts for whatever lease its job has now.
    fn mistaken(&self, results: Vec<(Lease, Outcome)>) -> Vec<(Lease, Outcome)> {
        if self.broken != Some(Broken::OlderLeaseAccepted) {
            return results;
        }
        let newest =
            |lease: Lease| self.leases.iter().rev().find(|l| l.job == lease.job).copied().unwrap_or(lease);
        results.into_iter().map(|(lease, outcome)| (newest(lease), outcome)).collect()
    }

    pub(in crate::engine::tests) fn grab(&mut self, index: usize, diligent: bool) -> Checked {
        let worker = self.rng.random_range(0..WORKERS);
        let number = self.rng.random_bool(0.7).then(|| {
            self.numbers[worker] += u64::from(self.rng.random_bool(0.7));
            self.numbers[worker]
        });
        let types = match self.rng.random_range(0..6) {
            0 => Some(vec!["a".to_owned()]),
            1 => Some(vec!["b".to_owned(), "c".to_owned()]),
            _ => None,
        };
        let mut grab = Grab {
            types,
            max: self.rng.random_range(1..=4),
            lease_ms: self.rng.random_bool(0.7).then(|| self.rng.random_range(20..600)),
            wait_ms: if self.rng.random_bool(0.4) { self.rng.random_range(1..500) } else { 0 },
            transactional: self.rng.random_bool(if self.is_limited { 0.4 } else { 0.25 }),
            number,
            filter: self.any_filter(number),
            holder: holder(worker),
        };
        let mut results = Vec::new();
        if diligent {
            grab = Grab {
                types: None,
                wait_ms: 0,
                transactional: false,
                number: None,
                lease_ms: None,
                filter: None,
                ..grab
            };
        } else if self.rng.random_bool(0.3) {
            results = self.any_results(2);
        }
        let request = self.request();
        self.note(|| format!("worker {worker}: {request:?} {grab:?} {results:?}"));
        let results = self.mistaken(results);
        self.owners[index].look_at_clock(&self.db);
        self.owners[index].grab(request, grab, results);
        self.deliver(index)
    }

    /// A repeated grab asks for the same again.
    fn any_filter(&mut self, number: Option<u64>) -> Option<Box<Filter>> {
        let (dice, job) = match number {
            Some(number) => (number * 5 % 16, number.cast_signed()),
            None => (self.rng.random_range(0..16), self.rng.random_range(1..=self.db.next_job)),
        };
        let filter = match dice {
            0 => Filter { id: Some(job), ..Filter::default() },
            1 => Filter { args: Some(job.into()), ..Filter::default() },
            2 => {
                let coalesce_key = Some(KeyFilter::Exact("k1".to_owned()));
                Filter { coalesce_key, ..Filter::default() }
            }
            3 => {
                let coalesce_key = Some(KeyFilter::Prefix { prefix: "k".to_owned() });
                Filter { coalesce_key, ..Filter::default() }
            }
            _ => return None,
        };
        Some(Box::new(filter))
    }

    pub(in crate::engine::tests) fn results(&mut self, index: usize) -> Checked {
        let results = self.any_results(3);
        self.hand_in(index, results)
    }

    fn hand_in(&mut self, index: usize, results: Vec<(Lease, Outcome)>) -> Checked {
        let request = self.request();
        self.note(|| format!("{request:?}: {results:?}"));
        let results = self.mistaken(results);
        self.owners[index].look_at_clock(&self.db);
        self.owners[index].results(request, results);
        self.deliver(index)
    }

    /// Completes every lease that is live.
    pub(in crate::engine::tests) fn complete_all(&mut self, index: usize) -> Checked {
        let live: Vec<_> =
            self.leases.iter().filter(|lease| self.truth.is_live(lease, self.db.now)).copied().collect();
        let results: Vec<_> =
            live.into_iter().map(|lease| (lease, Outcome::Complete { result: None })).collect();
        for (lease, outcome) in &results {
            self.truth.said(lease, Said::from(outcome));
        }
        self.hand_in(index, results)
    }

    pub(in crate::engine::tests) fn heartbeat(&mut self, index: usize) -> Checked {
        let count = self.rng.random_range(1..=3);
        let leases: Vec<_> = (0..count).filter_map(|_| self.any_lease()).collect();
        let (request, ms) = (self.request(), self.rng.random_range(1..600));
        self.note(|| format!("{request:?}: heartbeat {leases:?} for {ms} ms"));
        self.owners[index].look_at_clock(&self.db);
        if self.broken == Some(Broken::ExtensionAnsweredEarly) {
            for lease in &leases {
                if self.truth.is_live(lease, self.db.now) {
                    self.truth.promise(lease, self.db.now.plus_ms(ms), false)?;
                }
            }
        }
        if self.broken == Some(Broken::HeartbeatIgnoresTimeout) {
            let window = &mut self.owners[index].engine.window;
            for lease in &leases {
                let slot = window.find(EntryKey { job: lease.job, put: lease.put });
                if let Some(seat) = slot.and_then(|slot| window.get_mut(slot)) {
                    seat.entry.timeout_ms = None;
                }
            }
        }
        self.owners[index].heartbeat(request, leases, ms);
        self.deliver(index)
    }

    /// A client that waits for an answer goes away.
    pub(in crate::engine::tests) fn hang_up(&mut self, index: usize) {
        let owner = &mut self.owners[index];
        if let Some(request) = owner.asked.keys().min().copied() {
            owner.asked.remove(&request);
            owner.engine.hang_up(request);
            self.note(|| format!("{request:?} hangs up"));
        }
    }

    pub(in crate::engine::tests) fn begin_work(&mut self) {
        let count = self.rng.random_range(1..=2);
        let mut leases: Vec<Lease> = Vec::new();
        for _ in 0..count {
            let recent: Vec<_> =
                self.leases.iter().rev().filter(|lease| lease.transactional).take(4).collect();
            if recent.is_empty() {
                return;
            }
            let lease = *recent[self.rng.random_range(0..recent.len())];
            if leases.iter().all(|other| other.job != lease.job) {
                leases.push(lease);
            }
        }
        if let Some(xid) = self.db.complete_jobs(&leases) {
            self.note(|| format!("a worker's transaction completes {leases:?}"));
            self.works.push(Work { xid, leases });
        }
    }

    pub(in crate::engine::tests) fn end_work(&mut self, commit: bool) -> Checked {
        if self.works.is_empty() {
            return Ok(());
        }
        let Work { xid, leases } = self.works.remove(self.rng.random_range(0..self.works.len()));
        self.note(|| format!("the worker's transaction of {leases:?} commits: {commit}"));
        if commit {
            self.saw("transaction committed");
        }
        self.db.end_work(xid, &leases, commit, &mut self.truth)
    }

    /// Hands out the answers that may leave.
    pub(super) fn deliver(&mut self, index: usize) -> Checked {
        self.check_order(index)?;
        self.check_limits(index)?;
        self.miscount(index);
        // A job that nobody takes is given back, which may be answered at once.
        loop {
            let answers = self.owners[index].engine.take_answers();
            if answers.is_empty() {
                return self.check_ends(index);
            }
            for (request, answered) in answers {
                self.note(|| format!("  {request:?} -> {answered:?}"));
                match self.owners[index].asked.remove(&request) {
                    Some(ask) => self.tell(index, ask, answered)?,
                    None => self.give_back(index, answered)?,
                }
            }
        }
    }

    /// The client is gone.
    fn give_back(&mut self, index: usize, answered: Answered) -> Checked {
        if let Answered::Grab { jobs, .. } = answered
            && !jobs.is_empty()
        {
            for job in &jobs {
                self.truth.said(&job.lease, Said::Decline);
            }
            self.owners[index].engine.undelivered(&jobs);
        }
        Ok(())
    }

    /// A worker hears an answer.
    fn tell(&mut self, index: usize, ask: Ask, answered: Answered) -> Checked {
        let seen = (self.owners[index].epoch == self.db.epoch, self.db.now);
        match (ask, answered) {
            (_, Answered::Refused(_)) => Ok(()),
            (Ask::Grab(asked, Asked { filter, numbered, .. }), Answered::Grab { jobs, results }) => {
                if let Some(numbered) = numbered {
                    self.tell_again(self.owners[index].epoch, numbered, &jobs)?;
                }
                self.tell_jobs(jobs, filter.as_deref(), seen.0)?;
                // One that waited had none.
                require!(asked.len() == results.len(), "{} results answered by {results:?}", asked.len());
                self.tell_results(&asked, &results, seen)
            }
            (Ask::Results(asked), Answered::Results(results)) => {
                require!(asked.len() == results.len(), "{} results answered by {results:?}", asked.len());
                self.tell_results(&asked, &results, seen)
            }
            (Ask::Heartbeat(asked), Answered::Heartbeat(extended)) => {
                require!(asked.len() == extended.len(), "{} leases answered by {extended:?}", asked.len());
                asked
                    .iter()
                    .zip(extended)
                    .try_for_each(|(lease, extended)| self.tell_extension(lease, extended, seen))
            }
            (Ask::Lend(lease, count), Answered::Lent { decided, .. }) => {
                if decided.answer == Answer::Ok {
                    let epoch = self.owners[index].epoch;
                    self.streams.push(Stream { epoch, lease, count });
                    return Ok(());
                }
                self.tell_decided(&lease, Said::Replace, &decided, seen)
            }
            (Ask::Cancel(call), Answered::Cancelled { cancelled, told }) => {
                if cancelled > 0 {
                    self.saw("jobs cancelled");
                }
                if told > 0 {
                    self.saw("cancellation told");
                }
                self.truth.cancel_answered(call);
                Ok(())
            }
            (ask, answered) => Err(Violation(format!("{ask:?} answered by {answered:?}"))),
        }
    }

    fn tell_results(
        &mut self,
        asked: &[(Lease, Outcome)],
        answers: &[Decided],
        seen: (bool, Micros),
    ) -> Checked {
        for ((lease, outcome), decided) in asked.iter().zip(answers) {
            let answer = &decided.answer;
            self.saw(match answer {
                Answer::Ok => "result ok",
                Answer::Already => "result already",
                Answer::Stale => "result stale",
                Answer::Unavailable => "result unavailable",
                Answer::Cancelled => "result cancelled",
                Answer::Refused => "result refused",
            });
            if decided.children.is_some() {
                self.saw(if *answer == Answer::Ok { "job replaced" } else { "job replaced already" });
            }
            self.tell_decided(lease, Said::from(outcome), decided, seen)?;
        }
        Ok(())
    }

    fn tell_decided(
        &mut self,
        lease: &Lease,
        said: Said,
        decided: &Decided,
        seen: (bool, Micros),
    ) -> Checked {
        self.truth.answered(lease, said, decided.answer, seen)?;
        match &decided.children {
            Some(children) => self.truth.told_children(lease, children),
            None => {
                let owes = said == Said::Replace && decided.answer == Answer::Ok;
                require!(!owes, "{lease} was replaced, and nobody says by what");
                Ok(())
            }
        }
    }

    fn tell_extension(&mut self, lease: &Lease, extended: Extended, seen: (bool, Micros)) -> Checked {
        self.saw(match extended {
            Extended::Until(_) => "lease extended",
            Extended::Stopping(..) => "handler told to stop",
            Extended::Stale => "heartbeat stale",
            Extended::Unavailable => "heartbeat unavailable",
        });
        if let Extended::Until(until) = extended
            && self.truth.has_all_its_time(lease, until)
        {
            self.saw("lease extended to its bound");
        }
        self.truth.extension_answered(lease, extended, seen)
    }

    /// A repeated grab gets what it got before, as far as it is still leased, and nothing else.
    fn tell_again(&mut self, epoch: i64, numbered: (Uuid, u64), jobs: &[Granted]) -> Checked {
        let leases: Vec<Lease> = jobs.iter().map(|job| job.lease).collect();
        let Some((told_by, before)) = self.told.get(&numbered).cloned() else {
            self.told.insert(numbered, (epoch, leases));
            return Ok(());
        };
        // One that somebody handed a result in for may be on its way out.
        let is_live = |l: &&Lease| self.truth.is_live(l, self.db.now) && !self.truth.is_spoken_of(l);
        let (live, same) = (before.iter().any(|l| is_live(&l)), leases.iter().all(|l| before.contains(l)));
        // A new owner knows as much as the journal does.
        require!(!live || same || told_by != epoch, "{numbered:?} got {before:?} before, and now {leases:?}");
        if live && !leases.is_empty() && same && told_by != epoch {
            self.saw("grab repeated to a new owner");
        }
        if same && leases.iter().any(|lease| lease.transactional) && !before.is_empty() {
            self.saw("transactional grab repeated");
        }
        // One that was on its way into the waiting room may be told again later.
        if !leases.is_empty() {
            self.told.insert(numbered, (epoch, if same { before } else { leases }));
        }
        Ok(())
    }

    fn tell_jobs(&mut self, jobs: Vec<Granted>, filter: Option<&Filter>, current: bool) -> Checked {
        for job in jobs {
            let lease = job.lease;
            if let Some(filter) = filter.filter(|_| !self.leases.contains(&lease)) {
                self.saw("job found by a search");
                let key = (lease.job % 3 != 0).then(|| format!("k{}", lease.job % 3));
                let key = key.or_else(|| job.event.extra[0].as_ref().map(|_| "k0".to_owned()));
                let fits = filter.id.is_none_or(|id| id == lease.job)
                    && filter.args.as_ref().is_none_or(|args| *args == lease.job)
                    && filter.coalesce_key.as_ref().is_none_or(|wanted| match wanted {
                        KeyFilter::Exact(wanted) => key.as_ref() == Some(wanted),
                        KeyFilter::Prefix { .. } => key.is_some(),
                    });
                require!(fits, "{lease} was given to a search for {filter:?}");
            }
            self.saw(if self.leases.contains(&lease) { "lease repeated" } else { "lease granted" });
            require!(
                job.event.data.as_deref() == Some(lease.job.to_string().as_str()),
                "{lease} came with the arguments {:?}",
                job.event.data
            );
            // An owner that does not know yet that it is none may repeat an answer from memory.
            if current || self.broken.is_some() {
                self.truth.granted(&job)?;
            }
            if !self.leases.contains(&lease) {
                self.leases.push(lease);
            }
        }
        Ok(())
    }
}
