//! Steering: what workers are told outlives the dispatchers, but not for ever.

use tokio_postgres::Client;

use crate::support::{all, database, run};

async fn told(client: &Client) -> Vec<String> {
    let list =
        "select right(o_instance::text, 1) || ' ' || o_state from tidemill.steered_workers() order by 1";
    all(client, list).await
}

fn steer(worker: u8, state: &str) -> String {
    format!("select tidemill.steer_worker('00000000-0000-4000-8000-00000000000{worker}', '{state}')")
}

#[tokio::test]
async fn the_last_order_counts_until_it_is_taken_back_or_old() {
    let (_db, client) = database().await;
    for (worker, state) in [(1, "quiet"), (2, "terminate"), (3, "quiet"), (1, "terminate"), (2, "quiet")] {
        run(&client, &steer(worker, state)).await;
    }
    assert_eq!(told(&client).await, ["1 terminate", "2 quiet", "3 quiet"]);
    run(&client, &steer(3, "run")).await;
    run(&client, &steer(4, "run")).await;
    assert_eq!(told(&client).await, ["1 terminate", "2 quiet"]);
    assert!(client.batch_execute(&steer(1, "dance")).await.is_err());

    // The next order forgets what is 30 days old, and renews its own.
    let age =
        |days: u8| format!("update tidemill.steering set at = clock_timestamp() - interval '{days} days'");
    run(&client, &age(29)).await;
    run(&client, &steer(3, "quiet")).await;
    assert_eq!(told(&client).await, ["1 terminate", "2 quiet", "3 quiet"]);
    run(&client, &age(31)).await;
    run(&client, &steer(2, "terminate")).await;
    assert_eq!(told(&client).await, ["2 terminate"]);
}
