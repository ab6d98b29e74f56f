//! Limits: how many leases may be live at once, and how many are picked a second, told from what is committed and from
//! what the engines pick, not from what they count.

use std::collections::{BTreeMap, HashMap, HashSet};

use rand::Rng;
use tidemill_common::api::{Limit, QueueLimits};

use super::truth::{Checked, Truth, Violation, require};
use super::{Broken, World};
use crate::engine::record::LeaseKey;
use crate::engine::window::State;
use crate::engine::{Engine, LentLease, Micros};

/// What concerns a job of this type and key: names of limits, and the limits.
fn limits_of<'a>(
    limits: &'a QueueLimits,
    kind: &str,
    group: Option<&str>,
) -> impl Iterator<Item = (Scope, &'a Limit)> {
    let queue = limits.queue.iter().map(|limit| (Scope::Queue, limit));
    let of_type = limits.types.get(kind).map(|limit| (Scope::Type(kind.to_owned()), limit));
    let of_key = limits.key.as_ref().zip(group).map(|(limit, key)| (Scope::Key(key.to_owned()), limit));
    queue.chain(of_type).chain(of_key)
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    Queue,
    Type(String),
    Key(String),
}

impl Scope {
    fn holds(&self, kind: &str, group: Option<&str>) -> bool {
        match self {
            Scope::Queue => true,
            Scope::Type(of) => of == kind,
            Scope::Key(of) => group == Some(of.as_str()),
        }
    }
}

/// What limits are in force, and of which owner's leases from which number on.
#[derive(Debug, Default)]
pub(super) struct InForce {
    limits: QueueLimits,
    from: HashMap<i64, i64>,
    /// When jobs were picked under them, by owner.
    picks: BTreeMap<(i64, Scope), Vec<Micros>>,
    picked: HashSet<LeaseKey>,
}

/// A look at the waiting room that began.
#[derive(Debug)]
pub(super) enum Survey {
    All(Vec<LentLease>),
    There(Vec<(i64, LeaseKey)>, HashSet<LeaseKey>),
}

impl Truth {
    /// A lease was committed: those that are live now are no more than its limits say.
    pub(super) fn check_limits(&self, job: i64, lease: LeaseKey, at: Micros) -> Checked {
        if self.in_force.from.get(&lease.epoch).is_none_or(|from| lease.number < *from) {
            return Ok(());
        }
        let Some(of) = self.jobs.get(&job) else { return Ok(()) };
        for (scope, limit) in limits_of(&self.in_force.limits, &of.kind, of.group.as_deref()) {
            let live = self.jobs.values().filter(|job| {
                scope.holds(&job.kind, job.group.as_deref())
                    && job.newest.as_ref().is_some_and(|held| held.is_live(at))
            });
            let live = live.count() as u64;
            let most = limit.leased.unwrap_or(u64::MAX);
            require!(
                live <= most,
                "{lease:?} of job {job}: {live} are leased of {scope:?}, and {most} may be"
            );
        }
        Ok(())
    }

    /// An owner picks a job.
    fn picked(&mut self, job: i64, lease: LeaseKey, at: Micros) -> Checked {
        let Some(of) = self.jobs.get(&job) else { return Ok(()) };
        let is_new = self.in_force.picked.insert(lease);
        if !is_new || self.in_force.from.get(&lease.epoch).is_none_or(|from| lease.number < *from) {
            return Ok(());
        }
        for (scope, limit) in limits_of(&self.in_force.limits, &of.kind, of.group.as_deref()) {
            let Some(rate) = limit.per_second else { continue };
            let picks = self.in_force.picks.entry((lease.epoch, scope.clone())).or_default();
            picks.push(at);
            for (n, since) in picks.iter().enumerate() {
                let (count, seconds) = ((picks.len() - n) as f64, (at.0 - since.0) as f64 / 1e6);
                let most = rate * seconds + rate.floor().max(1.0) + 0.001;
                let is_slow = count <= most;
                require!(
                    is_slow,
                    "{count} jobs of {scope:?} were picked within {seconds} s: {rate} a second"
                );
            }
        }
        Ok(())
    }
}

impl World {
    /// An administrator changes the limits, or lifts them: every owner hears of it, and those that come.
    pub(in crate::engine::tests) fn limit(&mut self, lift: bool) -> Checked {
        let limits = if lift { QueueLimits::default() } else { self.any_limits() };
        self.saw("limits changed");
        self.note(|| format!("limits: {limits:?}"));
        self.truth.in_force = InForce { limits: limits.clone(), ..InForce::default() };
        for owner in &mut self.owners {
            // What it picked before is not under them.
            self.truth.in_force.from.insert(owner.epoch, owner.engine.next_lease);
            owner.survey = None;
            owner.engine.set_limits(&limits);
        }
        (0..self.owners.len()).try_for_each(|index| self.deliver(index))
    }

    /// The limits before there is an owner.
    pub(super) fn first_limits(&mut self) {
        let limits = self.any_limits();
        self.note(|| format!("limits: {limits:?}"));
        self.truth.in_force.limits = limits;
    }

    fn any_limits(&mut self) -> QueueLimits {
        let leased = |leased| Some(Limit { leased: Some(leased), per_second: None });
        let rate = |rate| Some(Limit { leased: None, per_second: Some(rate) });
        let types = |kind: &str, limit: Option<Limit>| {
            limit.into_iter().map(|limit| (kind.to_owned(), limit)).collect::<BTreeMap<_, _>>()
        };
        match self.rng.random_range(0..9) {
            0 => QueueLimits::default(),
            1 => QueueLimits { queue: leased(self.rng.random_range(1..=3)), ..QueueLimits::default() },
            2 => QueueLimits { types: types("a", leased(1)), ..QueueLimits::default() },
            3 => QueueLimits { types: types("b", rate(12.5)), ..QueueLimits::default() },
            4 => QueueLimits { key: leased(1), ..QueueLimits::default() },
            5 => QueueLimits { key: rate(5.0), ..QueueLimits::default() },
            6 => QueueLimits { queue: rate(20.0), ..QueueLimits::default() },
            7 => {
                let both = Limit { leased: Some(2), per_second: Some(10.0) };
                QueueLimits { key: Some(both), types: types("b", leased(2)), queue: None }
            }
            _ => QueueLimits { queue: leased(3), types: types("a", leased(2)), key: leased(1) },
        }
    }

    /// A new owner's engine hears of the limits.
    pub(super) fn tell_limits(&mut self, epoch: i64, engine: &mut Engine) {
        engine.set_limits(&self.truth.in_force.limits);
        if engine.wants_lent() {
            let forgets = self.broken == Some(Broken::LentForgotten);
            engine.count_lent(if forgets { Vec::new() } else { self.db.lent_leases() });
        }
        if self.broken == Some(Broken::UnreadForgotten) {
            engine.window.read_all();
        }
        self.truth.in_force.from.insert(epoch, 1);
    }

    /// An owner looks into the waiting room for leases that limits count.
    pub(in crate::engine::tests) fn begin_survey(&mut self, index: usize) {
        let owner = &mut self.owners[index];
        if owner.survey.is_none() {
            owner.survey = match owner.engine.wants_lent() {
                true => Some(Survey::All(self.db.lent_leases())),
                false => owner.engine.survey().map(|asked| {
                    let blind = self.broken == Some(Broken::SurveyBlind);
                    let there = self.db.lent_leases().into_iter().filter(|_| !blind).map(|lent| lent.lease);
                    Survey::There(asked, there.collect())
                }),
            };
        }
    }

    pub(in crate::engine::tests) fn end_survey(&mut self, index: usize) -> Checked {
        match self.owners[index].survey.take() {
            None => return Ok(()),
            Some(Survey::All(leases)) => {
                self.saw("lent leases counted");
                self.owners[index].engine.count_lent(leases);
            }
            Some(Survey::There(asked, there)) => {
                if asked.iter().any(|(_, lease)| !there.contains(lease)) {
                    self.saw("lent lease found gone");
                }
                self.owners[index].engine.surveyed(&asked, &there);
            }
        }
        self.deliver(index)
    }

    /// Looks at what the owner has picked, and at what it holds back.
    pub(super) fn check_limits(&mut self, index: usize) -> Checked {
        let (epoch, engine) = (self.owners[index].epoch, &self.owners[index].engine);
        let granting = engine.window.iter().filter_map(|(_, seat)| match &seat.state {
            State::Granting(held) => Some((seat.entry.key.job, held.lease, held.since)),
            State::Ready | State::Leased(..) | State::Finishing(_) | State::Moving(_) => None,
        });
        let mut picked: Vec<_> = granting.filter(|(_, lease, _)| lease.epoch == epoch).collect();
        picked.sort_unstable_by_key(|(_, lease, _)| lease.number);
        let counts = engine.counts();
        engine.window.audit_limits().map_err(|what| Violation(format!("epoch {epoch}: {what}")))?;
        for (job, lease, at) in picked {
            self.truth.picked(job, lease, at)?;
        }
        if counts.limited > 0 {
            self.saw("job limited");
        }
        Ok(())
    }

    /// Under the mutants: what the owner counts wrongly.
    pub(super) fn miscount(&mut self, index: usize) {
        let (broken, engine) = (self.broken, &mut self.owners[index].engine);
        let is_spoilt = |state: &State| match (broken, state) {
            (Some(Broken::GrantNotCounted), State::Granting(_)) => true,
            (Some(Broken::EndNotCounted), State::Leased(held, _)) => held.until <= engine.now,
            _ => false,
        };
        let slots: Vec<_> =
            engine.window.iter().filter(|(_, seat)| is_spoilt(&seat.state)).map(|(slot, _)| slot).collect();
        for slot in slots {
            engine.window.miscount(slot, broken == Some(Broken::GrantNotCounted));
        }
    }
}
