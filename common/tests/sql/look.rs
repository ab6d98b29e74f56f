//! What a look at job queues reads: leases in the waiting room, and where moved events came from.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::{all, database, one, run};

/// Job queues `q` (1) and `r` (2). In the waiting room of `q` are so many delayed jobs, every hundredth of them leased for
/// an hour by one of two workers instead; job 50's lease has ended.
async fn waiting(client: &Client, count: i32) {
    let fill = format!(
        "select tidemill.create_job_queue('q'); select tidemill.create_job_queue('r');
         insert into tidemill.waiting (queue_id, job_id, put, attempt, kind, due, lease_epoch, lease_no, lease_nonce, holder,
                                       ev_time, ev_type)
         select 1, n, 1, 1, case when l.is_leased then 'leased' else 'delayed' end,
                now() + case when n = 50 then '-1 s' else '1 h' end::interval,
                case when l.is_leased then 1 end, case when l.is_leased then n end, case when l.is_leased then 1 end,
                case when l.is_leased then jsonb_build_object(
                    'instance', format('00000000-0000-0000-0000-00000000000%s', n / 100 % 2), 'host', 'h', 'pid', 7) end,
                now(), case n / 100 % 2 when 0 then 'even' end
           from generate_series(1, {count}) n, lateral (select n % 100 = 0 or n = 50 as is_leased) l;
         insert into tidemill.waiting select 2, job_id, put, attempt, kind, due, lease_epoch, lease_no, lease_nonce, holder,
                                             null, ev_time, ev_type from tidemill.waiting where job_id = 200;
         analyze tidemill.waiting"
    );
    run(client, &fill).await;
}

async fn leased(client: &Client, arguments: &str) -> Vec<i64> {
    all(client, &format!("select o_job_id from tidemill.list_leased({arguments})")).await
}

#[tokio::test]
async fn leases_in_the_waiting_room_are_listed_and_counted() {
    let (_db, client) = database().await;
    waiting(&client, 1_000).await;
    assert_eq!(leased(&client, "1, null, null, 3").await, [100, 200, 300]);
    assert_eq!(leased(&client, "1, 300, null, 3").await, [400, 500, 600]);
    assert_eq!(leased(&client, "1, 800, null, 3").await, [900, 1_000]);
    assert_eq!(leased(&client, "1, null, 'even', 3").await, [200, 400, 600]);
    assert_eq!(leased(&client, "1, null, '', 3").await, [100, 300, 500], "a job without a type");
    assert_eq!(leased(&client, "2, null, null, 3").await, [200]);
    assert_eq!(leased(&client, "3, null, null, 3").await, Vec::<i64>::new());

    let holders = all::<Value>(
        &client,
        "select jsonb_build_array(o_queue, o_holder ->> 'instance', o_holder -> 'pid', o_count)
           from tidemill.waiting_leases() order by 1",
    )
    .await;
    let worker = |n: u8| format!("00000000-0000-0000-0000-00000000000{n}");
    let expected =
        [json!(["q", worker(0), 7, 5]), json!(["q", worker(1), 7, 5]), json!(["r", worker(0), 7, 1])];
    assert_eq!(holders, expected);

    let counts = "select array[o_queue_id, o_leased, o_waiting, o_dead]::int8[] from tidemill.queue_counts() order by 1";
    assert_eq!(all::<Vec<i64>>(&client, counts).await, [[1, 10, 990, 0], [2, 1, 0, 0]]);
}

#[tokio::test]
async fn looking_for_leases_does_not_read_what_is_delayed() {
    let (_db, client) = database().await;
    waiting(&client, 20_000).await;
    let read = async || {
        let sql = "select pg_stat_get_xact_tuples_returned('tidemill.waiting'::regclass)
                        + (select sum(pg_stat_get_xact_tuples_returned(i.indexrelid)) from pg_index i
                            where i.indrelid = 'tidemill.waiting'::regclass)::int8";
        one::<i64>(&client, sql).await
    };
    for look in ["tidemill.list_leased(1, 10000, null, 50)", "tidemill.waiting_leases()"] {
        run(&client, "begin").await;
        let before = read().await;
        let count: i64 = one(&client, &format!("select count(*) from {look}")).await;
        let read = read().await - before;
        run(&client, "rollback").await;
        assert!(count > 0 && (1..=500).contains(&read), "{look}: {read} rows read");
    }
}

#[tokio::test]
async fn origins_are_told_for_runs_of_ids_as_far_as_they_are_known() {
    let (_db, client) = database().await;
    run(
        &client,
        "insert into tidemill.moved (queue_id, first_id, source, queue, source_epoch, from_tick, to_tick, source_ids) values
             (1, 10, 'a', 'p', 1, 1, 2, '{100,101,105}'), (1, 13, 'b', 'p', 1, 1, 2, '{7}'),
             (1, 20, 'a', 'p', 1, 2, 3, array(select generate_series(200, 209))), (2, 1, 'x', 'y', 1, 1, 2, '{1}')",
    )
    .await;
    let origins = async |from: &str, to: &str| {
        let sql = format!(
            "select format('%s %s %s %s', o_first, o_source, o_queue, o_ids)
               from tidemill.read_origins(1, '{from}', '{to}') order by o_first"
        );
        all::<String>(&client, &sql).await
    };
    assert_eq!(origins("{}", "{}").await, Vec::<String>::new());
    assert_eq!(origins("{1,14,30}", "{9,19,99}").await, Vec::<String>::new());
    let whole = ["10 a p {100,101,105}", "13 b p {7}", "20 a p {200,201,202,203,204,205,206,207,208,209}"];
    assert_eq!(origins("{10}", "{29}").await, whole);
    assert_eq!(origins("{-5}", "{1000}").await, whole);
    let parts = ["11 a p {101,105}", "13 b p {7}", "20 a p {200}", "22 a p {202}", "28 a p {208,209}"];
    assert_eq!(origins("{11,14,22,28}", "{13,20,22,40}").await, parts);

    let origin = async |job: i64| {
        one::<Option<Value>>(&client, &format!("select tidemill.job_origin(1, {job})")).await
    };
    assert_eq!(origin(12).await, Some(json!({"source": "a", "queue": "p", "id": "105"})));
    assert_eq!((origin(9).await, origin(14).await, origin(30).await), (None, None, None));
    assert_eq!(
        all::<bool>(&client, "select tidemill.has_origins(n) from generate_series(1, 3) n").await,
        [true, true, false]
    );
}
