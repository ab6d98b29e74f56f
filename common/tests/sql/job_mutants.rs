//! Mutants of the functions that guard a job queue: each has one rule taken out, and a case of two sessions that the
//! function passes and its mutant does not.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tidemill_common::testing::{TestDb, wait_for};
use tokio_postgres::Client;

use crate::support::{alone, database, one, refused, run, tick};

/// A function and what of its source is to be replaced.
type Edit = (&'static str, &'static str, &'static str);
/// `Err` says what went wrong.
type Case = for<'a> fn(&'a TestDb, &'a Client) -> Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

const FENCE: &str = "tidemill.fence(integer, bigint)";
const JOURNAL_WRITE: &str = "tidemill.journal_write(integer, bigint, bigint, bytea, jsonb)";
const OWNER_TAKE: &str = "tidemill.owner_take(integer, bigint, uuid, text, integer)";
const OWNER_RENEW: &str = "tidemill.owner_renew(integer, bigint, integer, bigint)";
const ROTATE: &str = "tidemill.rotate(text)";
const COMPLETE_JOBS: &str = "tidemill.complete_jobs(text[])";
const WAITING_FINISH: &str = "tidemill.waiting_finish(integer, timestamp with time zone, jsonb)";
const PROMOTE_DUE: &str = "tidemill.promote_due(integer)";

/// Replaces each fragment. It must be there once: an edit that changes nothing proves nothing.
async fn install(client: &Client, edits: &[Edit]) {
    for (function, from, to) in edits {
        let source: String =
            one(client, &format!("select pg_get_functiondef('{function}'::regprocedure)")).await;
        assert_eq!(source.matches(from).count(), 1, "\"{from}\" in {function}");
        run(client, &source.replace(from, to)).await;
    }
}

/// The case holds in a fresh database, and does not in another one with the mutant.
async fn noticed(edits: &[Edit], case: Case) {
    for is_mutant in [false, true] {
        let (db, client) = database().await;
        judge(&db, &client, is_mutant.then_some(edits), case).await;
    }
}

async fn judge(db: &TestDb, client: &Client, mutant: Option<&[Edit]>, case: Case) {
    run(client, "select tidemill.create_job_queue('q')").await;
    if let Some(edits) = mutant {
        install(client, edits).await;
    }
    match (case(db, client).await, mutant) {
        (Ok(()), None) | (Err(_), Some(_)) => {}
        (Err(what), None) => panic!("the function itself: {what}"),
        (Ok(()), Some(edits)) => panic!("not noticed: {edits:?}"),
    }
}

const WRITE_OF_FIRST: &str = "select tidemill.journal_write(1, 1, 1, '\\x02', null)";

/// The queue's owner with epoch 1, whose term is over.
async fn first_owner(client: &Client) {
    run(client, &take(0)).await;
    assert_eq!(one::<i64>(client, "select epoch from tidemill.owner").await, 1);
    run(client, "update tidemill.owner set until = '-infinity'").await;
}

/// Takes the queue over from the owner with this epoch.
fn take(seen: i64) -> String {
    format!("select tidemill.owner_take(1, {seen}, gen_random_uuid(), 'a{seen}', 60000)")
}

/// What a statement of an owner that is none any more came to: it must be TM001.
async fn fenced(client: &Client, sql: &str) -> Result<(), String> {
    match client.batch_execute(sql).await {
        Ok(()) => Err(format!("accepted: {sql}")),
        Err(error) => {
            assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("TM001"), "{error:?}");
            Ok(())
        }
    }
}

/// Waits until another session waits for the queue's fence.
async fn somebody_waits(client: &Client) {
    let sql = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
                where d.datname = current_database() and locktype = 'advisory' and classid = 7465002 and not granted";
    wait_for("somebody behind the fence", Duration::from_secs(20), async || {
        (one::<i64>(client, sql).await > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_epoch_is_read_after_the_lock() {
    const LOCK_THEN_CHECK: &str = "perform set_config('synchronous_commit', 'on', true), \
        pg_advisory_xact_lock_shared(7465002, i_queue_id);\n    \
        select o.epoch into v_epoch from tidemill.owner o where o.queue_id = i_queue_id;";
    const ONE_STATEMENT: &str = "select o.epoch into v_epoch from tidemill.owner o, \
        pg_advisory_xact_lock_shared(7465002, i_queue_id) where o.queue_id = i_queue_id;";
    noticed(&[(FENCE, LOCK_THEN_CHECK, ONE_STATEMENT)], |db, client| {
        Box::pin(async move {
            first_owner(client).await;
            let (heir, zombie) = (db.client().await, db.client().await);
            run(&heir, &format!("begin; {}", take(1))).await;
            let take_over = async {
                somebody_waits(client).await;
                run(&heir, "commit").await;
            };
            tokio::join!(fenced(&zombie, WRITE_OF_FIRST), take_over).0
        })
    })
    .await;
}

#[tokio::test]
async fn a_flush_is_fenced() {
    noticed(&[(JOURNAL_WRITE, "perform tidemill.fence(i_queue_id, i_epoch);", "")], |db, client| {
        Box::pin(async move {
            first_owner(client).await;
            run(&db.client().await, &take(1)).await;
            fenced(client, WRITE_OF_FIRST).await
        })
    })
    .await;
}

#[tokio::test]
async fn a_takeover_raises_the_epoch() {
    noticed(&[(OWNER_TAKE, "epoch = o.epoch + 1", "epoch = o.epoch")], |db, client| {
        Box::pin(async move {
            run(client, "update tidemill.owner set epoch = 1").await;
            run(&db.client().await, &take(1)).await;
            fenced(client, WRITE_OF_FIRST).await
        })
    })
    .await;
}

#[tokio::test]
async fn a_takeover_waits_for_the_flush_under_way() {
    noticed(&[(OWNER_TAKE, "perform pg_advisory_xact_lock(7465002, i_queue_id);", "")], |db, client| {
        Box::pin(async move {
            first_owner(client).await;
            let heir = db.client().await;
            run(client, &format!("begin; {WRITE_OF_FIRST}")).await;
            let taken = heir.batch_execute(&take(1)).await;
            run(client, "commit").await;
            match taken {
                Ok(()) => Err("taken over while the old owner's flush could still be committed".to_owned()),
                Err(error) => {
                    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("55P03"));
                    Ok(())
                }
            }
        })
    })
    .await;
}

#[tokio::test]
async fn the_mark_moves_behind_the_fence() {
    noticed(&[(OWNER_RENEW, "perform tidemill.fence(i_queue_id, i_epoch);", "")], |db, client| {
        Box::pin(async move {
            first_owner(client).await;
            run(&db.client().await, &take(1)).await;
            fenced(client, "select tidemill.owner_renew(1, 1, 60000, 1000)").await
        })
    })
    .await;
}

#[tokio::test]
async fn a_grant_survives_a_crash_of_the_database() {
    let edit = (FENCE, "set_config('synchronous_commit', 'on', true), ", "");
    noticed(&[edit], |_, client| {
        Box::pin(async move {
            run(client, "update tidemill.owner set epoch = 1").await;
            run(client, &format!("set synchronous_commit = off; begin; {WRITE_OF_FIRST}")).await;
            let commit: String = one(client, "select current_setting('synchronous_commit')").await;
            if commit == "on" { Ok(()) } else { Err(format!("synchronous_commit = {commit}")) }
        })
    })
    .await;
}

/// Waits for nothing but time.
const BY_TIME: &[Edit] = &[
    (ROTATE, "if tidemill.rotation_waits(q.queue_id) is not null then", "if false then"),
    (ROTATE, "if txid_snapshot_xmin(v_snap) <= q.queue_switch_step2 then", "if false then"),
    (ROTATE, "if v_unread then", "if false then"),
];

#[tokio::test]
async fn a_journal_is_kept_while_the_mark_is_below_it() {
    for mutant in [None, Some(BY_TIME)] {
        let (db, client, _turn) = alone().await;
        judge(&db, &client, mutant, |_, client| {
            Box::pin(async move {
                let at_once = "select pgq.set_queue_config('q', 'rotation_period', '0 seconds')";
                run(client, &format!("update tidemill.owner set epoch = 1; {at_once}")).await;
                run(client, "select pgq.insert_event('q', 't', 'd')").await;
                tick(client).await;
                run(client, WRITE_OF_FIRST).await;
                // Once round the queue's tables.
                for _ in 0..3 {
                    one::<Option<String>>(client, "select tidemill.rotate('q')").await;
                    run(client, "select pgq.maint_rotate_tables_step2()").await;
                }
                let kept = "select (select count(*) from tidemill.journal_1_0) + (select count(*) from tidemill.journal_1_1)
                                 + (select count(*) from tidemill.journal_1_2)";
                match one::<i64>(client, kept).await {
                    1 => Ok(()),
                    rows => Err(format!("{rows} rows of the journal are left, the mark is below it")),
                }
            })
        })
        .await;
    }
}

/// A job in the waiting room under its second lease, which ends after so many milliseconds.
async fn leased(client: &Client, ms: i32) {
    let sql = format!(
        "insert into tidemill.waiting (queue_id, job_id, put, attempt, kind, due, lease_epoch, lease_no, lease_nonce, ev_time)
         values (1, 7, 1, 2, 'leased', clock_timestamp() + {ms} * interval '1 ms', 1, 2, 2, now())"
    );
    run(client, &sql).await;
}

/// Tokens of the job's leases, the older one and the one it has.
const OLDER: &str = "t-1-1-1-7-0-1-0000000000000001";
const NEWEST: &str = "t-1-1-2-7-0-2-0000000000000002";

#[tokio::test]
async fn an_older_lease_completes_nothing() {
    const SAME_LEASE: &str =
        "and w.lease_epoch = lease.o_epoch and w.lease_no = lease.o_no and w.lease_nonce = lease.o_nonce
           and w.put = lease.o_put + 1 and w.attempt = lease.o_attempt";
    noticed(&[(COMPLETE_JOBS, SAME_LEASE, "")], |_, client| {
        Box::pin(async move {
            leased(client, 60_000).await;
            let complete = |lease: &str| format!("select tidemill.complete_jobs(array['{lease}'])");
            match client.batch_execute(&complete(OLDER)).await {
                Ok(()) => return Err("the older lease completed the job".to_owned()),
                Err(error) => {
                    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("TM002"));
                }
            }
            run(client, &complete(NEWEST)).await;
            assert_eq!(refused(client, &complete(NEWEST)).await.0, "TM002");
            Ok(())
        })
    })
    .await;
}

#[tokio::test]
async fn a_result_of_an_older_lease_is_stale() {
    const SAME_LEASE: &str =
        "and l.lease_epoch = v_item.epoch and l.lease_no = v_item.no and l.lease_nonce = v_item.nonce
                   and l.put = v_item.put + 1 and l.attempt = v_item.attempt
                   for update skip locked";
    noticed(&[(WAITING_FINISH, SAME_LEASE, "for update skip locked")], |_, client| {
        Box::pin(async move {
            run(client, "update tidemill.owner set epoch = 1").await;
            leased(client, 60_000).await;
            let answer = "select (o_answers -> 'finish' ->> 0) from tidemill.journal_write(1, 1, 1, null, '{\"finish\":
                [{\"job\": 7, \"put\": 0, \"attempt\": 1, \"epoch\": 1, \"no\": 1, \"nonce\": 1, \"outcome\": \"complete\"}]}')";
            match one::<String>(client, answer).await.as_str() {
                "stale" => Ok(()),
                answer => Err(format!("the older lease's result was answered {answer}")),
            }
        })
    })
    .await;
}

#[tokio::test]
async fn what_is_due_is_looked_for_from_the_beginning() {
    const CURSOR: &[Edit] = &[
        (
            PROMOTE_DUE,
            "w.due <= v_now order by",
            "w.due <= v_now and w.due > coalesce(nullif(current_setting('test.cursor', true), ''), '-infinity')::timestamptz \
             order by",
        ),
        (
            PROMOTE_DUE,
            "return array_length(v_due, 1);",
            "perform set_config('test.cursor', v_now::text, false); return array_length(v_due, 1);",
        ),
    ];
    noticed(CURSOR, |db, client| {
        Box::pin(async move {
            let delayed = |job: i32| {
                format!(
                    "insert into tidemill.waiting (queue_id, job_id, put, kind, due, ev_time)
                     values (1, {job}, 0, 'delayed', clock_timestamp(), now())"
                )
            };
            let slow = db.client().await;
            run(&slow, &format!("begin; {}", delayed(1))).await;
            run(client, &delayed(2)).await;
            let promote = "select tidemill.promote_due(100)";
            assert_eq!(one::<i32>(client, promote).await, 1);
            run(&slow, "commit").await;
            match one::<i32>(client, promote).await {
                1 => Ok(()),
                _ => Err("a job that was due before the last look, and committed after it, stays".to_owned()),
            }
        })
    })
    .await;
}

#[tokio::test]
async fn what_is_due_waits_for_no_worker() {
    noticed(&[(PROMOTE_DUE, "for update skip locked", "for update")], |db, client| {
        Box::pin(async move {
            leased(client, 500).await;
            let worker = db.client().await;
            run(&worker, &format!("begin; select tidemill.complete_jobs(array['{NEWEST}'])")).await;
            let over = "select due < clock_timestamp() from tidemill.waiting";
            wait_for("the end of the lease", Duration::from_secs(20), async || {
                one::<bool>(client, over).await.then_some(())
            })
            .await;
            let promoted =
                client.batch_execute("set lock_timeout = '500ms'; select tidemill.promote_due(100)").await;
            run(&worker, "commit").await;
            promoted.map_err(|error| format!("it waits for the worker's transaction: {error:?}"))
        })
    })
    .await;
}
