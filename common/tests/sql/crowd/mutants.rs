//! The test of the test: the crowd must find out what is wrong with an engine in which one thing was broken.

use std::time::Duration;

use tokio_postgres::Client;

use super::{Crowd, seed};
use crate::support::{one, run};

/// An engine with a fault.
struct Mutant {
    name: &'static str,
    /// Function, what its source contains, and what it is to contain instead.
    edits: &'static [(&'static str, &'static str, &'static str)],
}

const CONDITIONS: &str = "tidemill.event_conditions(txid_snapshot, txid_snapshot, integer)";
const TICK_LOCK: &str = "perform pg_advisory_xact_lock(7465001, q.queue_id);";

const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "loses a transaction that straddles a tick",
        edits: &[(CONDITIONS, "if v_ended <> '{}' then", "if false then")],
    },
    Mutant {
        name: "no lower snapshot bound",
        edits: &[(CONDITIONS, "ev_txid < %s', txid_snapshot_xmax(i_from)", "ev_txid < %s', 0")],
    },
    Mutant {
        name: "retry visible to all",
        edits: &[("tidemill.retry_due(integer, integer)", "$3, ev_owner, ev_retry", "$3, null, ev_retry")],
    },
    Mutant {
        name: "only one table probed",
        edits: &[(
            "tidemill.event_tables(integer)",
            "generate_series(0, q.queue_ntables - 1)",
            "generate_series(q.queue_cur_table, q.queue_cur_table)",
        )],
    },
    Mutant {
        name: "rotation without its guard",
        edits: &[
            (
                "tidemill.rotate(text)",
                "if tidemill.rotation_waits(q.queue_id) is not null then",
                "if false then",
            ),
            (
                "tidemill.rotate(text)",
                "if txid_snapshot_xmin(v_snap) <= q.queue_switch_step2 then",
                "if false then",
            ),
            ("tidemill.rotate(text)", "if v_unread then", "if false then"),
        ],
    },
    Mutant {
        name: "unlocked ticker",
        edits: &[
            (
                "tidemill.tick_pass()",
                "if not pg_try_advisory_xact_lock(7465001, q.queue_id) then",
                "if false then",
            ),
            ("pgq.ticker(text)", TICK_LOCK, ""),
        ],
    },
    Mutant {
        name: "lock and snapshot in one statement",
        edits: &[
            ("pgq.ticker(text)", TICK_LOCK, ""),
            (
                "tidemill.cut_tick(integer, bigint)",
                "from pgq.queue where queue_id = i_queue_id\n    returning",
                "from pgq.queue, pg_advisory_xact_lock(7465001, i_queue_id) where queue_id = i_queue_id returning",
            ),
        ],
    },
    Mutant {
        name: "idle check by the sequence alone",
        edits: &[(
            "tidemill.has_straggler(integer, bigint, txid_snapshot)",
            "if current_setting(v_settled, true) = i_tick_id::text then",
            "if true then",
        )],
    },
];

impl Mutant {
    /// Breaks this database's engine. The fragment must be there: an edit that changes nothing proves nothing.
    async fn install(&self, client: &Client) {
        for (function, from, to) in self.edits {
            let source: String =
                one(client, &format!("select pg_get_functiondef('{function}'::regprocedure)")).await;
            assert_eq!(source.matches(from).count(), 1, "{}: \"{from}\" in {function}", self.name);
            run(client, &source.replace(from, to)).await;
        }
    }
}

/// At most this many rounds of this time; nearly always the first one is enough.
const ROUNDS: u64 = 4;
const TIME: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_broken_engine_is_found_out() {
    let seed = seed();
    let cluster = Crowd::cluster();
    for mutant in MUTANTS {
        let crowd = Crowd::new(&cluster, seed).await;
        mutant.install(&crowd.db.client().await).await;
        let mut found = None;
        for number in 0..ROUNDS {
            match crowd.round(number, TIME).await {
                Err(what) => {
                    found = Some((number, what));
                    break;
                }
                Ok(done) => println!("{}: round {number}: {done:?}", mutant.name),
            }
        }
        let Some((number, what)) = found else {
            panic!("TIDEMILL_TEST_SEED={seed}: not found out: {}", mutant.name)
        };
        println!("{}: round {number}: {}", mutant.name, what.chars().take(200).collect::<String>());
    }
}
