//! The members of the cooperative consumer: killed with a batch open, or so slow that another one takes it.

use rand::Rng;
use rand::rngs::StdRng;

use super::judge::Seen;
use super::read::{events_of, retry_some};
use super::seat::{Seat, Trouble};
use super::{GROUP, Round};

/// Works under one name after the other until the round's end. What counts is what was in the batches that it finished.
pub(super) async fn work(round: &Round<'_>, n: u64, mut random: StdRng) -> Seen {
    let mut seat = round.seat("member").await;
    let killer = round.seat("killer").await;
    let mut seen = Seen::of(GROUP);
    let mut name = format!("m{n}");
    while round.goes_on() {
        let done = batch(&seat, round, &name, &mut random, &mut seen).await;
        if round.expect(done) == Some(true) {
            // Killed with the batch open. It comes back, or another one does, and who is left takes the batch.
            let kill = format!("select pg_terminate_backend({}, 5000)", seat.pid);
            round.expect(killer.run(&kill).await);
            seat.again().await;
            if random.random_bool(0.5) {
                name = format!("m{n}-{}", seat.pid);
            }
        }
    }
    seen
}

/// One batch; true if the member is to be killed with it.
async fn batch(
    seat: &Seat<'_>,
    round: &Round<'_>,
    name: &str,
    random: &mut StdRng,
    seen: &mut Seen,
) -> Result<bool, Trouble> {
    let next = format!("select pgq_coop.next_batch('q', '{GROUP}', '{name}', '0.2 seconds')");
    let Some(batch) = seat.one::<Option<i64>>(&next).await? else {
        seat.pause(5).await?;
        return Ok(false);
    };
    // Another one may have taken it by now.
    let events = match events_of(round, seat, batch).await {
        Err(Trouble::Refused(what)) if what.contains("batch not found") => return Ok(false),
        events => events?,
    };
    if random.random_bool(0.05) {
        return Ok(true);
    }
    if random.random_bool(0.05) {
        seat.pause(random.random_range(150..400)).await?;
    } else {
        match retry_some(seat, batch, &events, random, seen).await {
            Err(Trouble::Refused(what)) if what.contains("event not found") => return Ok(false),
            retried => retried?,
        }
    }
    if seat.one::<i32>(&format!("select pgq_coop.finish_batch({batch})")).await? == 1 {
        seen.got(&events);
    }
    Ok(false)
}
