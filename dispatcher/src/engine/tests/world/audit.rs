//! Audit: does what the database holds agree with the truth, and would a new owner see it so?

use std::collections::BTreeSet;

use super::truth::{Checked, Place, key_of, require};
use super::{World, owner::Ask};
use crate::engine::record::EntryKey;
use crate::engine::recover::Last;

impl World {
    /// Every job is where it must be, and nowhere else; a new owner's fold says the same.
    pub(in crate::engine::tests) fn audit(&mut self) -> Checked {
        let mut fold = self.db.fold()?;
        let mut live = BTreeSet::new();
        for key in self.db.entries() {
            let Some(job) = self.truth.jobs.get(&key.job) else { continue };
            let folded = fold.take(key);
            if job.place != Place::Log(key.put) {
                let resolved = folded.as_ref().is_some_and(|f| matches!(f.last, Last::Resolved));
                require!(resolved, "{key:?} is given out again by a new owner: the job is {:?}", job.place);
                continue;
            }
            require!(live.insert(key.job), "{key:?} is in the log twice");
            match folded.as_ref().map(|f| (&f.last, f.attempt)) {
                None => {}
                Some((Last::Resolved, _)) => {
                    require!(false, "{key:?} is lost: a new owner takes it for resolved");
                }
                Some((Last::Released(_), attempt)) => {
                    require!(
                        attempt == job.attempt,
                        "{key:?} folds to attempt {attempt}, not {}",
                        job.attempt
                    );
                }
                Some((Last::Leased(held), attempt)) => {
                    require!(
                        attempt == job.attempt,
                        "{key:?} folds to attempt {attempt}, not {}",
                        job.attempt
                    );
                    let newest = job.newest.as_ref().map(|newest| newest.key);
                    require!(newest == Some(held.lease), "{key:?} folds to {:?}, not {newest:?}", held.lease);
                }
            }
        }
        for (id, job) in &self.truth.jobs {
            let waits = self.db.waits(*id);
            match job.place {
                Place::Log(put) => {
                    require!(
                        live.contains(id),
                        "job {id} is lost: put {put} is not in the log above the mark"
                    );
                    require!(waits.is_none(), "job {id} is in the log and waits");
                }
                Place::Waiting(_) => {
                    require!(waits == Some(job.place), "job {id} is {:?}, and waits as {waits:?}", job.place);
                }
                Place::Completed | Place::Replaced | Place::Dead | Place::Cancelled => {
                    require!(waits.is_none(), "job {id} is {:?}, and waits as {waits:?}", job.place);
                }
            }
            let dead = self.db.dead.contains(id);
            require!(
                dead == (job.place == Place::Dead),
                "job {id} is {:?}; among the dead: {dead}",
                job.place
            );
            let is_open = matches!(job.place, Place::Log(_) | Place::Waiting(_));
            let held = self.db.keys.get(id).copied();
            require!(
                held.is_none_or(|held| held == is_open),
                "job {id} is {:?}; holds its unique key: {held:?}",
                job.place
            );
        }
        Ok(())
    }

    /// No lease that this owner or the waiting room has is to end after the time of its attempt.
    pub(super) fn check_ends(&self, index: usize) -> Checked {
        for (_, seat) in self.owners[index].engine.window.iter() {
            if let Some(held) = seat.state.lease() {
                self.truth.check_end(seat.entry.key.job, held.lease, held.until)?;
            }
        }
        self.db.lent().try_for_each(|(job, lease, due)| self.truth.check_end(job, lease, due))
    }

    /// The low-water mark never passes an unresolved entry.
    pub(super) fn check_low_water(&self) -> Checked {
        for logged in &self.db.log {
            let key = EntryKey { job: logged.row.job, put: logged.row.retry.unwrap_or(0) };
            let resolved = self.truth.jobs.get(&key.job).is_none_or(|job| job.place != Place::Log(key.put));
            let passed = logged.tick.is_some_and(|tick| tick <= self.db.low_water);
            require!(!passed || resolved, "the low-water mark {} passed {key:?}", self.db.low_water);
        }
        Ok(())
    }

    /// Under the mutant: the highest tick below which every entry is resolved, or has a result that nobody answered yet.
    pub(super) fn low_water_over(&self, index: usize) -> i64 {
        let owner = &self.owners[index];
        let handed_in: BTreeSet<_> = owner
            .asked
            .values()
            .flat_map(|ask| match ask {
                Ask::Grab(results, _) | Ask::Results(results) => results.as_slice(),
                Ask::Heartbeat(_) | Ask::Lend(..) | Ask::Cancel(_) => &[],
            })
            .map(|(lease, _)| (lease.job, key_of(lease)))
            .collect();
        let holds = |logged: &&super::database::Logged| {
            let (job, put) = (logged.row.job, logged.row.retry.unwrap_or(0));
            self.truth.jobs.get(&job).is_some_and(|is| {
                let newest = is.newest.as_ref().map(|newest| (job, newest.key));
                is.place == Place::Log(put) && newest.is_none_or(|newest| !handed_in.contains(&newest))
            })
        };
        let first = self.db.log.iter().filter(holds).filter_map(|logged| logged.tick).min();
        first.map_or(self.db.last_tick(), |tick| tick - 1).max(owner.engine.low_water())
    }

    /// Every job has one final outcome, and nothing is left.
    pub(in crate::engine::tests) fn check_finished(&self) -> Checked {
        for (id, job) in &self.truth.jobs {
            let is_final =
                matches!(job.place, Place::Completed | Place::Replaced | Place::Dead | Place::Cancelled);
            require!(is_final, "job {id} is {:?} at the end", job.place);
        }
        Ok(())
    }

    pub(in crate::engine::tests) fn is_finished(&self) -> bool {
        self.check_finished().is_ok()
    }

    /// The owner has nothing in hand, and its mark is where the log ends.
    pub(in crate::engine::tests) fn check_empty(&self, index: usize) -> Checked {
        let engine = &self.owners[index].engine;
        let counts = engine.counts();
        require!(
            (counts.ready, counts.leased, counts.limited) == (0, 0, 0),
            "at the end the window holds {counts:?}"
        );
        let room = (self.limits.window_jobs, self.limits.window_bytes);
        require!(engine.room() == room, "at the end the window has room for {:?}", engine.room());
        let (mark, last) = (self.db.low_water, self.db.last_tick());
        require!(mark == last, "at the end the low-water mark is {mark}, the last tick {last}");
        Ok(())
    }
}
