//! What breaks, and when: a plan made from a seed before the run, so that a run can be repeated.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

/// How often every program is killed with SIGKILL, at least.
pub(super) const KILLS: usize = 2;

/// One thing to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Fault {
    /// SIGKILL to program number n; it is started again `restart_after` later.
    Kill { program: usize, restart_after: Duration },
    /// Every database connection of program number n is terminated by the server.
    Disconnect { program: usize },
    /// Every database connection of source number n's pgbench is terminated: that pgbench dies.
    DisconnectLoad { source: usize },
}

/// The faults of one run in order of time, each with its moment after the start of the load.
///
/// Every program is killed at least [`KILLS`] times and disconnected at least once, every
/// source's pgbench is disconnected once, all within the given span. The same arguments give
/// the same plan.
pub(super) fn plan(seed: u64, programs: usize, sources: usize, span: Duration) -> Vec<(Duration, Fault)> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut plan = Vec::new();
    for program in 0..programs {
        // One share of the span for each kill, so that the second does not hit a program that is still down.
        let share = span / u32::try_from(KILLS).unwrap_or(1);
        for n in 0..KILLS {
            let at = share * u32::try_from(n).unwrap_or(0) + share.mul_f64(rng.random_range(0.0..0.9));
            let restart_after = Duration::from_millis(rng.random_range(0..300));
            plan.push((at, Fault::Kill { program, restart_after }));
        }
        plan.push((span.mul_f64(rng.random_range(0.0..1.0)), Fault::Disconnect { program }));
    }
    for source in 0..sources {
        // Not in the last third: the pgbench that takes over has something left to do.
        plan.push((span.mul_f64(rng.random_range(0.0..0.67)), Fault::DisconnectLoad { source }));
    }
    plan.shuffle(&mut rng);
    plan.sort_by_key(|(at, _)| *at);
    plan
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use super::{Fault, KILLS, plan};

    #[test]
    fn a_seed_gives_one_plan_in_which_everything_breaks() {
        let span = Duration::from_secs(13);
        for seed in 0..200 {
            let faults = plan(seed, 5, 8, span);
            assert_eq!(faults, plan(seed, 5, 8, span));
            assert!(faults.is_sorted_by_key(|(at, _)| *at));
            assert!(faults.iter().all(|(at, _)| *at <= span));
            let mut kills: HashMap<usize, usize> = HashMap::new();
            for (_, fault) in &faults {
                if let Fault::Kill { program, .. } = fault {
                    *kills.entry(*program).or_default() += 1;
                }
            }
            assert!((0..5).all(|program| kills.get(&program).is_some_and(|n| *n >= KILLS)));
            assert!((0..5).all(|program| faults.iter().any(|(_, f)| *f == Fault::Disconnect { program })));
            assert!((0..8).all(|source| faults.iter().any(|(_, f)| *f == Fault::DisconnectLoad { source })));
        }
    }

    #[test]
    fn seeds_differ() {
        let span = Duration::from_secs(13);
        assert_ne!(plan(1, 5, 8, span), plan(2, 5, 8, span));
    }
}
