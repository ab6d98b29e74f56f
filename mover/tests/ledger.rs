//! A crash between every two durable steps, and two movers at once: every event is counted. The same tests must
//! fail for a mover that commits in the wrong order, and for one that does not compare before it sets.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use fail::FailScenario;
use support::mutant::{Flaw, Naive};
use support::{Mover, SOON, Sizes, World};
use tidemill_mover::PageSize;
use uuid::Uuid;

/// Every point between two durable steps, in the order in which a batch passes them.
const POINTS: [&str; 8] = [
    "mover.taken",
    "mover.decided",
    "mover.advanced",
    "mover.copied",
    "mover.commit",
    "mover.committed",
    "mover.finish",
    "mover.finished",
];

/// Which mover a test is about.
#[derive(Debug, Clone, Copy)]
enum Tested {
    /// Ours.
    Real,
    /// The one for comparison, right or wrong.
    Naive(Flaw),
}

impl Tested {
    /// A new mover moves until all is moved, or until it dies at a failpoint; true if it died.
    async fn live(self, world: &World) -> bool {
        match self {
            Self::Real => {
                let finished = async || world.is_finished().await;
                Mover::new(world).run_until("everything moved", finished).await.is_err()
            }
            Self::Naive(flaw) => {
                let mut naive = Naive::new(world, flaw, "naive");
                let run = tokio::time::timeout(SOON, naive.run(world)).await.expect("the naive mover ends");
                run.is_err()
            }
        }
    }
}

/// Dies at each point, at the first, second and third batch, and is started again. Returns what is wrong with
/// the ledger, and at which point it went wrong.
async fn crash_everywhere(tested: Tested) -> Result<(), String> {
    let scenario = FailScenario::setup();
    let world = World::new(2).await;
    for point in POINTS {
        for survived in 0..3 {
            let (mut died, mut round) = (false, 0);
            fail::cfg(point, &format!("{survived}*off->1*return(crash)")).unwrap();
            while !died && round < 4 {
                world.produce_and_tick(7).await;
                died = tested.live(&world).await;
                round += 1;
            }
            fail::remove(point);
            assert!(died, "{point} was never passed");
            // What a crash left is found and mended by the next mover, whatever it is.
            world.produce_and_tick(2).await;
            assert!(!tested.live(&world).await, "{point}: it died again");
            if let Some(fault) = world.fault().await {
                return Err(format!("{point} at batch {survived}: {fault}"));
            }
        }
    }
    scenario.teardown();
    Ok(())
}

/// Two movers that do not know of each other.
async fn two_at_once(tested: Tested) -> Result<(), String> {
    // Other tests' failpoints must not strike here.
    let scenario = FailScenario::setup();
    let world = World::new(2).await;
    for round in 0..25 {
        world.produce_and_tick(10).await;
        match tested {
            Tested::Real => {
                let finished = async || world.is_finished().await;
                let mut one = Mover::with(&world, "one", Uuid::from_u128(1), Sizes::default());
                let mut two = Mover::with(&world, "two", Uuid::from_u128(2), Sizes::default());
                tokio::join!(one.persist_until("moved", finished), two.persist_until("moved", finished));
            }
            Tested::Naive(flaw) => {
                let (mut one, mut two) = (Naive::new(&world, flaw, "one"), Naive::new(&world, flaw, "two"));
                let _one_may_lose = tokio::join!(one.run(&world), two.run(&world));
                assert!(!tested.live(&world).await, "alone, it ends");
            }
        }
        if let Some(fault) = world.fault().await {
            return Err(format!("round {round}: {fault}"));
        }
    }
    scenario.teardown();
    Ok(())
}

#[tokio::test]
async fn a_crash_between_any_two_steps_loses_and_repeats_nothing() {
    assert_eq!(crash_everywhere(Tested::Real).await, Ok(()));
}

#[tokio::test]
async fn two_movers_at_once_lose_and_repeat_nothing() {
    assert_eq!(two_at_once(Tested::Real).await, Ok(()));
}

#[tokio::test]
async fn the_naive_mover_without_a_flaw_passes() {
    assert_eq!(crash_everywhere(Tested::Naive(Flaw::None)).await, Ok(()));
    assert_eq!(two_at_once(Tested::Naive(Flaw::None)).await, Ok(()));
}

#[tokio::test]
async fn finishing_before_the_commit_is_noticed() {
    let fault = crash_everywhere(Tested::Naive(Flaw::FinishFirst)).await.unwrap_err();
    assert!(fault.contains("lost") && !fault.contains(" 0 lost"), "{fault}");
}

#[tokio::test]
async fn tracking_without_compare_and_swap_is_noticed() {
    // Crashes alone do not show it: only the order of the commits matters to them.
    assert_eq!(crash_everywhere(Tested::Naive(Flaw::CheckThenAct)).await, Ok(()));
    let fault = two_at_once(Tested::Naive(Flaw::CheckThenAct)).await.unwrap_err();
    assert!(!fault.contains(" 0 too many"), "{fault}");
}

#[tokio::test]
async fn a_crash_within_a_streamed_batch_loses_and_repeats_nothing() {
    let scenario = FailScenario::setup();
    let world = World::new(2).await;
    let sizes = Sizes { page: PageSize { events: 50, bytes: 1 << 20 }, ..Sizes::default() };
    let finished = async || world.is_finished().await;
    for point in ["mover.page", "mover.copied", "mover.commit", "mover.committed"] {
        for survived in [0, 1, 5] {
            world.produce_and_tick(400).await;
            fail::cfg(point, &format!("{survived}*off->1*return(crash)")).unwrap();
            let mut mover = Mover::with(&world, "tidemill.mover", Uuid::from_u128(1), sizes);
            // Fewer commits than that are survived: then there is no crash, and nothing to find.
            drop(mover.run_until("everything moved", finished).await);
            drop(mover);
            fail::remove(point);
            Mover::with(&world, "tidemill.mover", Uuid::from_u128(1), sizes).finish(&world).await;
            world.assert_exact().await;
        }
    }
    scenario.teardown();
}

#[tokio::test]
async fn a_crash_while_a_source_is_repositioned_loses_and_repeats_nothing() {
    let scenario = FailScenario::setup();
    let world = World::new(1).await;
    let (start, _) = world.sources[0].cursor("ledger").await;
    for _ in 0..3 {
        world.produce_and_tick(5).await;
    }
    Mover::new(&world).finish(&world).await;
    for point in ["mover.reposition", "mover.repositioned"] {
        let back = format!("select pgq.register_consumer_at('ledger', 'tidemill.mover', {start})");
        world.sources[0].sql.execute(&back, &[]).await.unwrap();
        world.produce_and_tick(5).await;
        fail::cfg(point, "1*return(crash)").unwrap();
        assert!(Tested::Real.live(&world).await, "{point} was never passed");
        fail::remove(point);
        Mover::new(&world).finish(&world).await;
        world.assert_exact().await;
    }
    scenario.teardown();
}
