//! Produce: random transactions. Their sessions may be killed at any moment.

use rand::Rng;
use rand::rngs::StdRng;

use super::Round;
use super::seat::{Seat, Trouble};

/// How a transaction ended, as far as its producer knows.
enum End {
    Committed,
    Undone,
    Unknown,
}

/// Transactions until the round's end.
pub(super) async fn produce(round: &Round<'_>, n: u64, mut random: StdRng) {
    let mut seat = round.seat("producer").await;
    let mut count = 0_u64;
    while round.produces() {
        count += 1;
        let gid = format!("p{n}-{}-{count}", seat.pid);
        let size = random.random_range(1..5);
        let numbers = round.numbers(size);
        let end = match random.random_range(0..9) {
            0 => rolled_back(&seat, &numbers).await,
            1 => savepoints(round, &seat, &numbers).await,
            2 => slow(&seat, &numbers, &mut random).await,
            3 => direct(&seat, &numbers).await,
            4 => stale_name(&seat, &numbers, &mut random).await,
            5 => old_snapshot(&seat, &numbers).await,
            6 => prepared(round, &mut seat, &numbers, &gid, &mut random).await,
            _ => plain(&seat, &numbers).await,
        };
        match end {
            Ok(End::Committed) => round.ledger.committed(numbers),
            Ok(End::Unknown) => round.ledger.unknown(numbers),
            // Killed before COMMIT was sent.
            Ok(End::Undone) | Err(Trouble::Killed) => round.ledger.undone(numbers),
            Err(Trouble::Refused(what)) => return round.fail(what),
        }
        if seat.run("select 1").await.is_err() {
            seat.again().await;
        }
    }
}

fn inserts(numbers: &[u64]) -> String {
    numbers.iter().map(|n| format!("select pgq.insert_event('q', 't', '{n}'); ")).collect()
}

fn values(numbers: &[u64]) -> String {
    numbers.iter().map(|n| format!("(now(), 't', '{n}')")).collect::<Vec<_>>().join(", ")
}

async fn commit(seat: &Seat<'_>) -> Result<End, Trouble> {
    match seat.run("commit").await {
        Ok(()) => Ok(End::Committed),
        Err(Trouble::Killed) => Ok(End::Unknown),
        Err(refused) => Err(refused),
    }
}

async fn plain(seat: &Seat<'_>, numbers: &[u64]) -> Result<End, Trouble> {
    seat.run(&format!("begin; {}", inserts(numbers))).await?;
    commit(seat).await
}

async fn rolled_back(seat: &Seat<'_>, numbers: &[u64]) -> Result<End, Trouble> {
    seat.run(&format!("begin; {} rollback", inserts(numbers))).await?;
    Ok(End::Undone)
}

/// One savepoint is rolled back, one released, one rolled back with a released one in it.
async fn savepoints(round: &Round<'_>, seat: &Seat<'_>, numbers: &[u64]) -> Result<End, Trouble> {
    let undone = round.numbers(4);
    let (first, kept) = numbers.split_at(numbers.len() / 2);
    let sql = format!(
        "begin; savepoint a; {} rollback to a; {} savepoint b; {} release b; \
         savepoint c; {} savepoint d; {} release d; rollback to c;",
        inserts(&undone[..1]),
        inserts(first),
        inserts(kept),
        inserts(&undone[1..2]),
        inserts(&undone[2..]),
    );
    round.ledger.undone(undone);
    seat.run(&sql).await?;
    commit(seat).await
}

/// Open over several ticks, and sometimes over several rotations.
async fn slow(seat: &Seat<'_>, numbers: &[u64], random: &mut StdRng) -> Result<End, Trouble> {
    seat.run(&format!("begin; {}", inserts(numbers))).await?;
    let ms = if random.random_bool(0.1) { 400 } else { random.random_range(5..100) };
    seat.pause(ms).await?;
    commit(seat).await
}

/// The transaction id first, then the table's name, in one transaction.
async fn direct(seat: &Seat<'_>, numbers: &[u64]) -> Result<End, Trouble> {
    seat.run("begin").await?;
    let table: String = seat.one("select pgq.current_event_table('q')").await?;
    let values = values(numbers);
    seat.run(&format!("insert into {table} (ev_time, ev_type, ev_data) values {values}")).await?;
    commit(seat).await
}

/// The table's name from an earlier transaction; rotation may have made it stale.
async fn stale_name(seat: &Seat<'_>, numbers: &[u64], random: &mut StdRng) -> Result<End, Trouble> {
    let table: String = seat.one("select pgq.current_event_table('q')").await?;
    seat.pause(random.random_range(0..300)).await?;
    let values = values(numbers);
    seat.run(&format!(
        "begin; select txid_current(); insert into {table} (ev_time, ev_type, ev_data) values {values}"
    ))
    .await?;
    commit(seat).await
}

/// REPEATABLE READ: the snapshot, and so the table's name, is old.
async fn old_snapshot(seat: &Seat<'_>, numbers: &[u64]) -> Result<End, Trouble> {
    seat.run("begin isolation level repeatable read; select 1").await?;
    seat.pause(60).await?;
    seat.run(&inserts(numbers)).await?;
    commit(seat).await
}

/// Two-phase: another session decides, whatever becomes of the one that prepared.
async fn prepared(
    round: &Round<'_>,
    seat: &mut Seat<'_>,
    numbers: &[u64],
    gid: &str,
    random: &mut StdRng,
) -> Result<End, Trouble> {
    seat.run(&format!("begin; {}", inserts(numbers))).await?;
    let prepared = seat.run(&format!("prepare transaction '{gid}'")).await;
    if let Err(Trouble::Refused(what)) = prepared {
        return Err(Trouble::Refused(what));
    }
    let other = round.seat("coordinator").await;
    other.pause(random.random_range(0..60)).await?;
    // A session that was killed has said so after it prepared, or it has not prepared.
    let sql = format!("select exists (select from pg_prepared_xacts where gid = '{gid}')");
    if !other.one::<bool>(&sql).await? {
        return Ok(End::Undone);
    }
    let commits = random.random_bool(0.7);
    let verb = if commits { "commit" } else { "rollback" };
    other.run(&format!("{verb} prepared '{gid}'")).await?;
    Ok(if commits { End::Committed } else { End::Undone })
}
