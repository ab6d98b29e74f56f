//! The real binary: aborted at each failpoint, killed, stopped, taken over, wrongly configured.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use support::{SOON, World};
use tidemill_common::testing::{Service, process, wait_for};

/// A configuration for all of a world's databases.
fn settings(world: &World) -> String {
    let mut toml = String::new();
    for db in world.sources.iter().chain([&world.destination]) {
        writeln!(toml, "[[databases]]\nname = \"{}\"\nurl = \"{}\"", db.db.name(), db.db.url()).unwrap();
    }
    write!(
        toml,
        "[mover]\ndestination = \"{}\"\nsources = [\"t*\"]\nterm_ms = 500\n\
         [[mover.routes]]\nfrom = \"ledger\"\nto = \"ledger\"\n",
        world.destination.db.name()
    )
    .unwrap();
    toml
}

async fn finished(world: &World) {
    wait_for("everything moved", SOON, async || world.is_finished().await.then_some(())).await;
}

#[tokio::test]
async fn a_binary_that_is_aborted_at_any_point_loses_and_repeats_nothing() {
    let world = World::new(2).await;
    let toml = settings(&world);
    for point in [
        "mover.taken",
        "mover.decided",
        "mover.advanced",
        "mover.copied",
        "mover.commit",
        "mover.committed",
        "mover.finish",
        "mover.finished",
    ] {
        world.produce_and_tick(20).await;
        let points = format!("{point}=1*off->return");
        let mut mover = Service::spawn("tidemill-mover", &toml, &[("FAILPOINTS", &points)]).unwrap();
        // The second time the point is passed: something is always under way elsewhere.
        let ended = async {
            while mover.is_running() {
                world.produce_and_tick(1).await;
            }
        };
        tokio::time::timeout(SOON, ended).await.unwrap_or_else(|_| panic!("{point}: {}", mover.log_text()));
        let mut mover = Service::start("tidemill-mover", &toml, &[]).await.unwrap();
        finished(&world).await;
        world.assert_exact().await;
        mover.sigterm();
        assert!(mover.wait_exit(SOON).await.success(), "{}", mover.log_text());
    }
}

#[tokio::test]
async fn kills_and_a_standby_under_load_lose_and_repeat_nothing() {
    let world = World::new(3).await;
    let toml = settings(&world);
    let mut movers = Vec::new();
    for _ in 0..2 {
        movers.push(Service::start("tidemill-mover", &toml, &[]).await.unwrap());
    }
    for round in 0..6 {
        for _ in 0..10 {
            world.produce_and_tick(30).await;
        }
        let mut killed = movers.remove(0);
        if round % 2 == 0 {
            killed.kill9();
        } else {
            killed.sigterm();
        }
        killed.wait_exit(SOON).await;
        movers.push(Service::start("tidemill-mover", &toml, &[]).await.unwrap());
    }
    finished(&world).await;
    world.assert_exact().await;
}

#[tokio::test]
async fn a_mover_that_stops_hands_over_at_once() {
    let world = World::new(1).await;
    let toml = settings(&world).replace("term_ms = 500", "term_ms = 600000");
    let mut first = Service::start("tidemill-mover", &toml, &[]).await.unwrap();
    first.wait_for_message("moving", SOON).await.unwrap();
    first.sigterm();
    assert!(first.wait_exit(SOON).await.success(), "{}", first.log_text());
    let mut second = Service::start("tidemill-mover", &toml, &[]).await.unwrap();
    second.wait_for_message("moving", SOON).await.unwrap();
    world.produce_and_tick(3).await;
    finished(&world).await;
    world.assert_exact().await;
}

#[tokio::test]
async fn a_frozen_mover_that_wakes_after_its_term_repeats_nothing() {
    let world = World::new(2).await;
    let toml = settings(&world);
    let mut frozen = Service::start("tidemill-mover", &toml, &[]).await.unwrap();
    frozen.wait_for_message("moving", SOON).await.unwrap();
    world.produce_and_tick(100).await;
    frozen.stop();
    let mut successor = Service::start("tidemill-mover", &toml, &[]).await.unwrap();
    successor.wait_for_message("moving", SOON).await.unwrap();
    world.produce_and_tick(100).await;
    frozen.cont();
    for _ in 0..5 {
        world.produce_and_tick(10).await;
    }
    finished(&world).await;
    world.assert_exact().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_in_a_sentence() {
    let world = World::new(1).await;
    let good = settings(&world);
    let without_routes = good.split("[[mover.routes]]").next().unwrap().to_owned();
    for (toml, says) in [
        (good.replace("destination =", "destinatoin ="), "unknown key \"mover.destinatoin\": did you mean"),
        (
            good.replace(&format!("destination = \"{}\"", world.destination.db.name()), ""),
            "mover.destination is missing",
        ),
        (
            good.replace("sources = [\"t*\"]", "sources = [\"shard*\"]"),
            "no configured database matches \"shard*\"",
        ),
        (without_routes, "mover.routes is empty"),
        (
            good.replace("to = \"ledger\"", "to = \"led ger\""),
            "to = \"led ger\" is neither \"*\" nor a queue name",
        ),
        (good.replace("term_ms = 500", "term_ms = 5"), "mover.term_ms = 5"),
    ] {
        let mut refused = Service::spawn("tidemill-mover", &toml, &[]).unwrap();
        let status = refused.wait_exit(SOON).await;
        let said = async || refused.log_text().replace("\\\"", "\"").contains(says).then_some(());
        wait_for(&format!("{says} in {}", refused.log_text()), Duration::from_secs(2), said).await;
        assert_eq!(status.code(), Some(78), "{says}");
    }
    let help = process::output("tidemill-mover", &["--help"], &[]).unwrap();
    assert!(help.status.success());

    // A destination queue that is not there: the mover runs, says which command makes it, and goes on then.
    let toml = good.replace("to = \"ledger\"", "to = \"other\"");
    let mut mover = Service::start("tidemill-mover", &toml, &[]).await.unwrap();
    world.produce_and_tick(4).await;
    let said =
        async || mover.log_text().contains("run `tidemill queue create other --database t").then_some(());
    wait_for("the command", SOON, said).await;
    world.destination.create_queue("other").await;
    finished(&world).await;
    assert_eq!(world.destination.events("other").await, world.sources[0].events("ledger").await);
    mover.sigterm();
    mover.wait_exit(SOON).await;

    // A source without the schema delays only itself, and says what to do.
    let empty = tidemill_common::testing::Cluster::shared().empty_database().await;
    let toml = format!("[[databases]]\nname = \"t-empty\"\nurl = \"{}\"\n{toml}", empty.url());
    let mut mover = Service::start("tidemill-mover", &toml, &[]).await.unwrap();
    world.produce_and_tick(4).await;
    finished(&world).await;
    let said =
        async || mover.log_text().contains("run `tidemill schema install --database t-empty`").then_some(());
    wait_for("the command", SOON, said).await;
    mover.sigterm();
    assert!(mover.wait_exit(SOON).await.success());
}
