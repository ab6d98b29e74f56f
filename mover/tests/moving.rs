//! What a mover does to real databases, without faults and with those a failover brings.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use support::{Db, Mover, Sizes, World};
use tidemill_common::service::Step as _;
use tidemill_common::testing::Cluster;
use tidemill_mover::{GroupSize, PageSize, PruneOrigins};
use uuid::Uuid;

#[tokio::test]
async fn events_arrive_once_untouched_in_their_source_s_order() {
    let mut world = World::new(3).await;
    let mut mover = Mover::new(&world);
    for count in [1, 0, 250, 7] {
        world.produce_and_tick(count).await;
        world.sources[0].produce_and_tick("ledger", 2).await;
        mover.finish(&world).await;
    }
    world.assert_exact().await;
    let text = mover.metrics();
    let source = world.sources[0].db.name();
    assert!(
        text.contains(&format!("tidemill_move_events_total{{queue=\"ledger\",source=\"{source}\"}} 266")),
        "{text}"
    );

    // A second mover after the first, and a queue that appears while it runs.
    drop(mover);
    world.routes = vec![("mail.*", "mail"), ("ledger", "ledger")];
    let mut mover = Mover::new(&world);
    mover.finish(&world).await;
    world.destination.create_queue("mail").await;
    world.sources[1].create_source_queue("mail.de").await;
    world.sources[1].produce_and_tick("mail.de", 5).await;
    world.produce_and_tick(3).await;
    let moved = async || world.sources[1].is_finished("mail.de").await && world.is_finished().await;
    mover.persist_until("the new queue is moved", moved).await;
    assert_eq!(world.destination.events("mail").await, world.sources[1].events("mail.de").await);
    world.assert_exact().await;
}

#[tokio::test]
async fn the_role_tidemill_mover_is_enough() {
    let mut world = World::new(2).await;
    let create = "create role mover_login login in role tidemill_mover";
    world.destination.sql.batch_execute(create).await.unwrap();
    world.user = "mover_login";
    let mut mover = Mover::new(&world);
    // Also to register, to reposition and to prune.
    let unregister = "select pgq.unregister_consumer('ledger', 'tidemill.mover')";
    world.sources[1].sql.execute(unregister, &[]).await.unwrap();
    let registered = async || {
        let found: i64 = world.sources[1].one("select count(*) from pgq.consumer").await;
        found == 1
    };
    mover.persist_until("registered", registered).await;
    let (start, _) = world.sources[0].cursor("ledger").await;
    for _ in 0..3 {
        world.produce_and_tick(10).await;
        mover.finish(&world).await;
    }
    let back = format!("select pgq.register_consumer_at('ledger', 'tidemill.mover', {start})");
    world.sources[0].sql.execute(&back, &[]).await.unwrap();
    mover.finish(&world).await;
    world.assert_exact().await;
    let mut prune =
        PruneOrigins { session: world.session(&world.destination), lease: mover.lease.clone(), keep_s: 0 };
    prune.step().await.unwrap();
    let origins: i64 = world.destination.one("select count(*) from tidemill.moved").await;
    assert_eq!(origins, 0);
}

#[tokio::test]
async fn a_batch_larger_than_a_page_is_streamed_in_one_transaction() {
    let world = World::new(2).await;
    let sizes = Sizes { page: PageSize { events: 100, bytes: 3_000 }, room: 1, ..Sizes::default() };
    let mut mover = Mover::with(&world, "tidemill.mover", Uuid::from_u128(1), sizes);
    world.produce_and_tick(2_500).await;
    // Equal ids across the end of a page are not torn apart.
    let table = world.sources[0].table("ledger").await;
    let same = format!(
        "insert into {table}_0 (ev_id, ev_time, ev_data) select 1000000, now(), current_database() || '/ledger same' \
         from generate_series(1, 250)"
    );
    world.sources[0].sql.execute(&same, &[]).await.unwrap();
    world.sources[0].tick("ledger").await;
    mover.finish(&world).await;
    world.assert_exact().await;
    let transactions: i64 = world
        .destination
        .one(&format!(
            "select count(distinct ev_txid) from {} where ev_data like '%ledger 2%'",
            world.destination.table("ledger").await
        ))
        .await;
    assert_eq!(transactions, 2, "one for each source");
}

#[tokio::test]
async fn several_ticks_and_several_sources_share_a_transaction() {
    let world = World::new(4).await;
    for _ in 0..5 {
        world.produce_and_tick(10).await;
    }
    // Ticks are forced by pushing the sequence: it counts far more events than there are.
    let sizes = Sizes { page: PageSize { events: 100_000, bytes: 1 << 20 }, ..Sizes::default() };
    let mut mover = Mover::with(&world, "tidemill.mover", Uuid::from_u128(1), sizes);
    mover.finish(&world).await;
    world.assert_exact().await;
    let batches: i64 = world.destination.one("select count(*) from tidemill.moved").await;
    assert_eq!(batches, 4, "one batch per source, over all of its ticks");
}

#[tokio::test]
async fn another_producer_s_ids_in_between_do_not_confuse_origins() {
    let world = World::new(1).await;
    let mut mover = Mover::new(&world);
    for _ in 0..20 {
        world.produce_and_tick(200).await;
        let direct = async {
            for _ in 0..50 {
                let id: i64 = world.destination.one("select nextval('pgq.event_1_id_seq')").await;
                assert!(id > 0);
            }
        };
        let (..) = tokio::join!(direct, mover.finish(&world));
    }
    world.assert_exact().await;
}

#[tokio::test]
async fn two_movers_at_once_are_still_exact() {
    let world = World::new(3).await;
    // Two leases: neither knows of the other, as if the lease were not there.
    let mut one = Mover::with(&world, "one", Uuid::from_u128(1), Sizes::default());
    let mut two = Mover::with(
        &world,
        "two",
        Uuid::from_u128(2),
        Sizes { group: GroupSize { parcels: 1, events: 1, bytes: 1 }, ..Sizes::default() },
    );
    for _ in 0..30 {
        world.produce_and_tick(20).await;
        let finished = async || world.is_finished().await;
        tokio::join!(one.persist_until("moved", finished), two.persist_until("moved", finished));
    }
    world.assert_exact().await;
}

#[tokio::test]
async fn a_destination_that_went_back_gets_again_what_it_lost() {
    let world = World::new(2).await;
    let mut mover = Mover::new(&world);
    world.produce_and_tick(10).await;
    mover.finish(&world).await;
    let destination = &world.destination.sql;
    let table = world.destination.table("ledger").await;
    destination
        .batch_execute("create table old_position as select * from tidemill.mover_position; create table old_moved as select * from tidemill.moved")
        .await
        .unwrap();
    for count in [5, 6] {
        world.produce_and_tick(count).await;
        mover.finish(&world).await;
    }
    drop(mover);
    // As after a failover to a standby that lagged: positions, events and origins of the last two batches are gone.
    let back = format!(
        "begin; delete from {table} where ev_id > (select max(first_id + cardinality(source_ids)) - 1 from old_moved);
         delete from tidemill.moved m where not exists (select from old_moved o where o.first_id = m.first_id);
         delete from tidemill.mover_position; insert into tidemill.mover_position select * from old_position; commit"
    );
    destination.batch_execute(&back).await.unwrap();
    assert!(world.fault().await.is_some());
    world.produce_and_tick(3).await;
    Mover::new(&world).finish(&world).await;
    world.assert_exact().await;
}

#[tokio::test]
async fn a_source_that_forgot_what_was_finished_does_not_send_it_twice() {
    let world = World::new(1).await;
    let mut mover = Mover::new(&world);
    let (start, _) = world.sources[0].cursor("ledger").await;
    for count in [4, 5, 6] {
        world.produce_and_tick(count).await;
        mover.finish(&world).await;
    }
    drop(mover);
    // The ticks are there, the cursor is not: only the ticker waits for the standby.
    let back = format!("select pgq.register_consumer_at('ledger', 'tidemill.mover', {start})");
    world.sources[0].sql.execute(&back, &[]).await.unwrap();
    world.produce_and_tick(2).await;
    Mover::new(&world).finish(&world).await;
    world.assert_exact().await;
}

/// A queue that must not be moved stays as it is, says why, and goes on when it is mended.
async fn stops(world: &World, reason: &str, break_it: &str, on_source: bool, mend_it: &str) {
    let source = &world.sources[0];
    let side = if on_source { &source.sql } else { &world.destination.sql };
    let mut mover = Mover::new(world);
    world.produce_and_tick(5).await;
    mover.finish(world).await;
    drop(mover);
    side.batch_execute(break_it).await.unwrap();
    let (cursor, before) = (source.cursor("ledger").await.0, world.destination.events("ledger").await);
    let position: String = world
        .destination
        .one("select coalesce(string_agg(p::text, ';'), '') from tidemill.mover_position p")
        .await;

    let mut mover = Mover::new(world);
    world.produce_and_tick(5).await;
    let registry = mover.registry.clone();
    let says = |registry: &prometheus::Registry| {
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        text.contains(&format!("reason=\"{reason}\"")) && text.contains("tidemill_move_stopped")
    };
    mover.persist_until(reason, async || says(&registry)).await;
    assert_eq!(source.cursor("ledger").await.0, cursor, "the source is untouched");
    assert_eq!(world.destination.events("ledger").await, before, "nothing was moved");
    let after: String = world
        .destination
        .one("select coalesce(string_agg(p::text, ';'), '') from tidemill.mover_position p")
        .await;
    assert_eq!(after, position, "the position is untouched");

    side.batch_execute(mend_it).await.unwrap();
    mover.persist_until("moved again", async || world.is_finished().await).await;
    assert!(!says(&registry), "the reason is gone");
    world.assert_exact().await;
}

#[tokio::test]
async fn another_database_under_the_source_s_name_stops() {
    let world = World::new(1).await;
    let set =
        |by: i64| format!("update tidemill.mover_position set system_identifier = system_identifier + {by}");
    stops(&world, "source_identity", &set(1), false, &set(-1)).await;
}

#[tokio::test]
async fn a_rebased_source_stops() {
    let world = World::new(1).await;
    let set = |by: i64| format!("update tidemill.mover_position set source_epoch = source_epoch + {by}");
    stops(&world, "source_epoch", &set(-1), false, &set(1)).await;
}

#[tokio::test]
async fn a_tick_issued_again_stops() {
    let world = World::new(1).await;
    let set = |by: i64| {
        format!("update tidemill.mover_position set tick_time = tick_time + interval '{by} microsecond'")
    };
    stops(&world, "tick_reissued", &set(1), false, &set(-1)).await;
}

#[tokio::test]
async fn a_renamed_source_stops_instead_of_starting_a_second_position() {
    let world = World::new(1).await;
    let name = world.sources[0].db.name();
    let set = |to: &str| format!("update tidemill.mover_position set source = '{to}'");
    stops(&world, "source_renamed", &set("before"), false, &set(name)).await;
}

#[tokio::test]
async fn a_lost_position_stops() {
    let world = World::new(1).await;
    let lose = "create table kept as select * from tidemill.mover_position; truncate tidemill.mover_position";
    stops(&world, "position_lost", lose, false, "insert into tidemill.mover_position select * from kept")
        .await;
}

#[tokio::test]
async fn a_tick_that_is_gone_stops() {
    let world = World::new(1).await;
    let set = |by: i64| format!("update tidemill.mover_position set tick_id = tick_id + {by}");
    stops(&world, "tick_gone", &set(-1), false, &set(1)).await;
}

#[tokio::test]
async fn a_clone_of_the_destination_gets_nothing() {
    let world = World::new(1).await;
    let set = |by: i64| format!("update tidemill.moved_to set database_oid = database_oid + {by}");
    stops(&world, "other_destination", &set(1), true, &set(-1)).await;
}

#[tokio::test]
async fn a_missing_or_closed_destination_queue_stops_until_it_is_there() {
    let world = World::new(1).await;
    let set = |closed: bool| format!("update pgq.queue set queue_disable_insert = {closed}");
    stops(&world, "no_destination_queue", &set(true), false, &set(false)).await;
}

#[tokio::test]
async fn what_the_destination_refuses_stops_only_its_own_queue() {
    let world = World::new(3).await;
    let poisoned = world.sources[1].db.name();
    let check =
        format!("alter table pgq.event_1 add constraint poison check (ev_data not like '{poisoned}/%')");
    world.destination.sql.batch_execute(&check).await.unwrap();
    world.produce_and_tick(20).await;
    let mut mover = Mover::new(&world);
    let others =
        async || world.sources[0].is_finished("ledger").await && world.sources[2].is_finished("ledger").await;
    mover.persist_until("the others are moved", others).await;
    assert!(!world.sources[1].is_finished("ledger").await);
    let registry = mover.registry.clone();
    let said = async || {
        prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
            .contains("reason=\"refused\"")
    };
    mover.persist_until("it says why", said).await;
    world.destination.sql.batch_execute("alter table pgq.event_1 drop constraint poison").await.unwrap();
    mover.persist_until("all are moved", async || world.is_finished().await).await;
    world.assert_exact().await;
}

#[tokio::test]
async fn a_source_that_is_down_delays_only_itself() {
    let cluster = Cluster::private();
    let mut world = World::new(2).await;
    let down = Db::new(&cluster).await;
    down.create_source_queue("ledger").await;
    world.sources.push(down);
    world.produce_and_tick(10).await;
    let mut mover = Mover::new(&world);
    mover.finish(&world).await;
    cluster.stop_immediate().unwrap();
    for _ in 0..3 {
        for source in &world.sources[..2] {
            source.produce_and_tick("ledger", 10).await;
        }
        let others = async || {
            world.sources[0].is_finished("ledger").await && world.sources[1].is_finished("ledger").await
        };
        mover.persist_until("the others go on", others).await;
    }
    cluster.start().unwrap();
    world.sources[2].sql = world.sources[2].db.client().await;
    world.produce_and_tick(10).await;
    mover.persist_until("it catches up", async || world.is_finished().await).await;
    world.assert_exact().await;
}

#[tokio::test]
async fn a_destination_that_restarts_is_found_again() {
    let cluster = Arc::new(Cluster::private());
    let mut world = World::new(2).await;
    world.destination = Db::new(&cluster).await;
    world.destination.create_queue("ledger").await;
    let mut mover = Mover::new(&world);
    for _ in 0..3 {
        world.produce_and_tick(500).await;
        // In the middle of whatever it is at. On a thread of its own: a client that stands still while it
        // connects would hold the server's end up.
        let cluster = Arc::clone(&cluster);
        let crash = tokio::task::spawn_blocking(move || {
            cluster.stop_immediate().unwrap();
            cluster.start().unwrap();
        });
        let (crashed, ()) =
            tokio::join!(crash, mover.persist_until("moved", async || world.is_finished().await));
        crashed.unwrap();
    }
    world.destination.sql = world.destination.db.client().await;
    world.assert_exact().await;
}
