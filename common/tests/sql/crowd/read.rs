//! Batch: ordinary consumers. They crash with a batch open, dawdle, read twice, retry events.

use rand::Rng;
use rand::rngs::StdRng;

use super::judge::{ByConsumer, Seen};
use super::seat::{Seat, Trouble};
use super::{CONSUMERS, GROUP, Round, engine};

/// An event as a consumer got it.
#[derive(Debug, PartialEq)]
pub(super) struct Event {
    id: i64,
    pub(super) number: u64,
    pub(super) retry: i32,
}

/// The events of an open batch: in order, and within it each once.
pub(super) async fn events_of(round: &Round<'_>, seat: &Seat<'_>, batch: i64) -> Result<Vec<Event>, Trouble> {
    let sql = "select ev_id, ev_data, coalesce(ev_retry, 0) from pgq.get_batch_events($1)";
    let rows = seat.rows(sql, &[&batch]).await?;
    let events: Vec<_> = rows
        .iter()
        .map(|row| Event { id: row.get(0), number: number(row.get(1)), retry: row.get(2) })
        .collect();
    if let Some(pair) = events.windows(2).find(|pair| pair[0].id > pair[1].id) {
        round.fail(format!("batch {batch} is out of order: {pair:?}"));
    }
    Ok(events)
}

fn number(data: &str) -> u64 {
    data.parse().expect("the producers' data are numbers")
}

/// The same events read in pieces, as the services do it.
async fn in_pieces(seat: &Seat<'_>, batch: i64) -> Result<Vec<Event>, Trouble> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let sql = "select e.ev_id, e.ev_data, coalesce(e.ev_retry, 0) \
                   from pgq.subscription s, tidemill.read_events( \
                        s.sub_queue, s.sub_last_tick, s.sub_next_tick, s.sub_id, $2, 7) e \
                   where s.sub_batch = $1";
        let rows = seat.rows(sql, &[&batch, &events.last().map(|event| event.id)]).await?;
        let end = rows.len() < 7;
        events.extend(rows.iter().map(|row| Event {
            id: row.get(0),
            number: number(row.get(1)),
            retry: row.get(2),
        }));
        if end {
            return Ok(events);
        }
    }
}

/// Asks for some of the events once more, some of those even a third time.
pub(super) async fn retry_some(
    seat: &Seat<'_>,
    batch: i64,
    events: &[Event],
    random: &mut StdRng,
    seen: &mut Seen,
) -> Result<(), Trouble> {
    for event in events {
        if event.retry < 2 && random.random_bool(0.03) {
            let sql = format!("select pgq.event_retry({batch}, {}, 0)", event.id);
            let asked: i32 = seat.one(&sql).await?;
            seen.asked(event, asked);
        }
    }
    Ok(())
}

/// One batch from its beginning to its end.
async fn read(
    round: &Round<'_>,
    seat: &Seat<'_>,
    random: &mut StdRng,
    seen: &mut Seen,
) -> Result<(), Trouble> {
    let next = format!("select pgq.next_batch('q', '{}')", seen.consumer);
    let Some(batch) = seat.one::<Option<i64>>(&next).await? else { return seat.pause(3).await };
    let events = events_of(round, seat, batch).await?;
    if random.random_bool(0.02) {
        // It crashes, or sleeps over several rotations, and reads its batch again.
        seat.pause(random.random_range(100..500)).await?;
        let same: Option<i64> = seat.one(&next).await?;
        if same != Some(batch) {
            round.fail(format!("{}: batch {batch} is open, but next_batch says {same:?}", seen.consumer));
        }
        let again = events_of(round, seat, batch).await?;
        let pieces = in_pieces(seat, batch).await?;
        for other in [again, pieces] {
            if other != events {
                round.fail(format!("batch {batch} was {events:?}, is {other:?}"));
            }
        }
    }
    retry_some(seat, batch, &events, random, seen).await?;
    let finished: i32 = seat.one(&format!("select pgq.finish_batch({batch})")).await?;
    if finished != 1 {
        round.fail(format!("{}: batch {batch} was not open at its end", seen.consumer));
    }
    seen.got(&events);
    Ok(())
}

/// Reads until the round's end.
pub(super) async fn consume(round: &Round<'_>, consumer: &'static str, mut random: StdRng) -> Seen {
    let seat = round.seat(consumer).await;
    let mut seen = Seen::of(consumer);
    while round.goes_on() {
        let done = read(round, &seat, &mut random, &mut seen).await;
        round.expect(done);
    }
    seen
}

/// After the producers' end: ticks, retries and reads until there is nothing left.
pub(super) async fn rest(round: &Round<'_>, seen: &mut ByConsumer) {
    let seat = round.seat("last").await;
    for _ in 0..100 {
        match rest_once(round, &seat, seen).await {
            Ok(true) if !round.is_broken() => {}
            Ok(_) => return,
            Err(Trouble::Killed) => return round.fail("the last session was killed".to_owned()),
            Err(Trouble::Refused(what)) => return round.fail(what),
        }
    }
    round.fail("there is no end of events".to_owned());
}

/// True if there was something.
async fn rest_once(round: &Round<'_>, seat: &Seat<'_>, seen: &mut ByConsumer) -> Result<bool, Trouble> {
    let moved: i32 = seat.one("select pgq.maint_retry_events()").await?;
    let mut more = engine::pass(round, seat).await? || moved > 0;
    for consumer in CONSUMERS {
        let next = format!("select pgq.next_batch('q', '{consumer}')");
        let seen = seen.entry(consumer).or_insert_with(|| Seen::of(consumer));
        while let Some(batch) = seat.one::<Option<i64>>(&next).await? {
            more = true;
            let events = events_of(round, seat, batch).await?;
            seat.run(&format!("select pgq.finish_batch({batch})")).await?;
            seen.got(&events);
        }
    }
    // Takes what members left, too: none of them lives.
    let next = format!("select pgq_coop.next_batch('q', '{GROUP}', 'last', '0 seconds')");
    let seen = seen.entry(GROUP).or_insert_with(|| Seen::of(GROUP));
    while let Some(batch) = seat.one::<Option<i64>>(&next).await? {
        more = true;
        let events = events_of(round, seat, batch).await?;
        seat.run(&format!("select pgq_coop.finish_batch({batch})")).await?;
        seen.got(&events);
    }
    Ok(more)
}
