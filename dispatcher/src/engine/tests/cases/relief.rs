//! What would hold the mark or fill the window: leases that last long, and types that nobody asks for.

use super::*;

/// A hundred jobs fit; a type is forgotten after five seconds, a lease holds the mark for thirty.
fn limits() -> Limits {
    Limits { hold_ms: 30_000, ..LIMITS }
}

fn rig(kinds: &[&str]) -> Rig {
    let mut rig = Rig::with(QueueSettings { lease_ms: 3_600_000, ..SETTINGS }, limits());
    rig.load(kinds);
    rig
}

/// A rig whose one lease is about to move, and the flush that moves it.
fn moving() -> (Rig, Granted, Flushed) {
    let mut rig = rig(&["a"]);
    let job = rig.grab_one();
    rig.pass(31_000);
    let flushed = rig.take().unwrap();
    (rig, job, flushed)
}

fn commit(rig: &mut Rig) {
    rig.engine.committed(rig.now, ColdAnswers::default());
}

#[test]
fn a_lease_that_holds_the_mark_for_long_moves_with_its_end() {
    let (mut rig, job, flushed) = moving();
    assert_eq!(cold(&flushed, "wait", "kind"), ["leased"]);
    assert_eq!(cold(&flushed, "wait", "due"), [job.ends_at.0]);
    assert_eq!(cold(&flushed, "wait", "no"), [job.lease.number]);
    assert_eq!(rig.engine.low_water(), 0, "not before the commit");
    commit(&mut rig);
    assert_eq!((rig.engine.low_water(), rig.engine.counts().leased), (1, 0));
}

#[test]
fn a_lease_that_is_young_or_being_extended_stays() {
    let mut rig = rig(&["a"]);
    let job = rig.grab_one();
    rig.pass(29_000);
    assert!(rig.take().is_none());
    rig.start_heartbeat(job.lease, 1);
    let flushed = rig.take().unwrap();
    rig.pass(2_000);
    assert!(flushed.cold.is_null());
    commit(&mut rig);
    assert!(matches!(extended(rig.answer()), Extended::Until(_)));
}

#[test]
fn a_result_that_comes_while_its_lease_moves_is_for_the_row_to_decide() {
    for answer in ["ok", "stale", "unavailable"] {
        let (mut rig, job, _) = moving();
        rig.start_results(&[(job.lease, complete())]);
        rig.start_results(&[(Lease { nonce: job.lease.nonce ^ 1, ..job.lease }, complete())]);
        commit(&mut rig);
        let flushed = rig.commit_answering(&format!(r#"{{"finish":["{answer}"],"extend":[]}}"#)).unwrap();
        assert_eq!(cold(&flushed, "finish", "no"), [job.lease.number]);
        let answers: Vec<_> = rig.answers().into_iter().map(|(_, a)| decided(a)[0]).collect();
        let expected = match answer {
            "ok" => Answer::Ok,
            "stale" => Answer::Stale,
            _ => Answer::Unavailable,
        };
        assert_eq!(answers, [expected, Answer::Stale], "the second is forged");
    }
}

#[test]
fn a_heartbeat_that_comes_while_its_lease_moves_extends_the_row() {
    let (mut rig, job, _) = moving();
    rig.start_heartbeat(job.lease, 9);
    commit(&mut rig);
    let flushed = rig.commit_answering(r#"{"finish":[],"extend":[77]}"#).unwrap();
    assert_eq!(cold(&flushed, "extend", "ms"), [9]);
    assert_eq!(extended(rig.answer()), Extended::Until(Micros(77)));
}

#[test]
fn a_lease_that_ends_while_it_moves_is_not_issued_again_here() {
    let (mut rig, _, _) = moving();
    rig.pass(7_200_000);
    assert_eq!(rig.engine.counts().ready, 0);
    commit(&mut rig);
    assert_eq!(rig.engine.low_water(), 1);
    assert!(rig.take().is_none(), "its end is the waiting room's affair");
}

#[test]
fn a_move_that_is_refused_leaves_the_lease_where_it_was() {
    let (mut rig, job, _) = moving();
    rig.start_results(&[(job.lease, complete())]);
    rig.start_heartbeat(job.lease, 9);
    rig.engine.refused("bad data");
    rig.commit_answering(r#"{"finish":["stale"],"extend":[0]}"#).unwrap();
    let answers = rig.answers();
    assert!(matches!(&answers[0].1, Answered::Results(a) if a[..] == [Answer::Unavailable]), "{answers:?}");
    assert!(matches!(&answers[1].1, Answered::Heartbeat(e) if e[..] == [Extended::Unavailable]));
    rig.pass(5_000);
    assert!(rig.take().is_none(), "it is not tried again");
    assert_eq!(rig.result(job.lease, complete()), Answer::Ok);
}

#[test]
fn of_many_leases_the_one_that_is_refused_is_found() {
    let mut rig = rig(&["a"; 10]);
    rig.grab(plain());
    rig.pass(31_000);
    for _ in 0..100 {
        let Some(flushed) = rig.take() else {
            rig.pass(1_000);
            continue;
        };
        if cold(&flushed, "wait", "job").contains(&&serde_json::json!(7)) {
            rig.engine.refused("bad data");
        } else {
            commit(&mut rig);
        }
    }
    assert_eq!(rig.engine.counts().leased, 1);
    assert!(rig.engine.find(7).is_some());
}

/// A full window of idle jobs, and somebody who waits for another type.
fn full() -> Rig {
    let mut rig = rig(&["idle"; 100]);
    rig.pass(10_000);
    assert!(rig.take().is_none(), "nobody goes without");
    rig.start_grab(Grab { wait_ms: 60_000, ..of_types(&["busy"]) });
    rig.pass(1_000);
    rig
}

#[test]
fn a_type_that_nobody_asks_for_is_parked_when_it_is_in_the_way() {
    let mut rig = full();
    let flushed = rig.commit().unwrap();
    assert_eq!(cold(&flushed, "wait", "kind"), ["parked"; 100]);
    assert_eq!(cold(&flushed, "wait", "put"), [1; 100]);
    assert!(matches!(&flushed.records[..], [Record::Resolved { how: record::Resolution::Parked, .. }]));
    let counts = rig.engine.counts();
    assert_eq!((counts.ready, counts.parked, rig.engine.low_water()), (0, 100, 1));
    rig.pass(20_000);
    assert!(rig.take().is_none(), "and costs nothing while nobody asks");
}

#[test]
fn a_type_that_somebody_asked_for_a_moment_ago_stays() {
    let mut rig = rig(&["idle"; 101]);
    rig.pass(10_000);
    let job = rig.grab(Grab { max: 1, ..of_types(&["idle"]) }).remove(0);
    rig.result(job.lease, complete());
    rig.start_grab(Grab { wait_ms: 60_000, ..of_types(&["busy"]) });
    rig.pass(4_000);
    assert!(rig.take().is_none());
    rig.pass(2_000);
    assert!(rig.take().is_some());
}

#[test]
fn a_new_owner_gives_workers_time_to_find_it() {
    let mut rig = rig(&["idle"; 100]);
    rig.start_grab(Grab { wait_ms: 60_000, ..of_types(&["busy"]) });
    rig.pass(4_000);
    assert!(rig.take().is_none());
}

#[test]
fn nothing_is_parked_while_somebody_takes_anything() {
    let mut rig = rig(&["idle"; 101]);
    rig.pass(10_000);
    let job = rig.grab_one();
    rig.result(job.lease, complete());
    rig.start_grab(Grab { wait_ms: 60_000, ..of_types(&["busy"]) });
    rig.pass(1_000);
    assert!(rig.take().is_none());
}

#[test]
fn whoever_asks_for_a_parked_type_calls_a_portion_back() {
    let mut rig = full();
    rig.settle();
    rig.start_grab(Grab { wait_ms: 60_000, ..of_types(&["idle"]) });
    let flushed = rig.take().unwrap();
    assert_eq!(cold(&flushed, "unpark", "type"), ["idle"]);
    assert_eq!(cold(&flushed, "unpark", "limit"), [25], "a quarter of the window");
    rig.start_grab(Grab { wait_ms: 60_000, holder: worker(2), ..of_types(&["idle"]) });
    rig.engine.committed(rig.now, serde_json::from_str(r#"{"unpark":[25]}"#).unwrap());
    assert!(rig.take().is_none(), "once, until they are read");
    assert_eq!(rig.engine.counts().parked, 75);
    let mut again = row(1, "idle");
    (again.owner, again.retry) = (Some(SUB), Some(1));
    rig.engine.load(2, vec![again], true);
    let flushed = rig.take().unwrap();
    assert_eq!(flushed.records.len(), 1, "the one is granted");
    assert_eq!(cold(&flushed, "unpark", "type"), ["idle"], "and the other poll gets the next portion");
}

#[test]
fn what_is_not_there_any_more_is_not_called_for_ever() {
    let mut rig = full();
    rig.settle();
    rig.start_grab(Grab { wait_ms: 60_000, ..of_types(&["idle"]) });
    rig.take().unwrap();
    rig.engine.committed(rig.now, serde_json::from_str(r#"{"unpark":[0]}"#).unwrap());
    rig.pass(5_000);
    assert!(rig.take().is_none());
    assert_eq!(rig.engine.counts().parked, 0);
}

#[test]
fn a_call_that_is_refused_is_repeated_later() {
    let mut rig = full();
    rig.settle();
    rig.start_grab(Grab { wait_ms: 60_000, ..of_types(&["idle"]) });
    rig.take().unwrap();
    rig.engine.refused("bad data");
    assert!(rig.take().is_none());
    rig.pass(1_000);
    assert!(rig.take().is_some());
}

#[test]
fn jobs_that_others_overtake_for_long_are_parked_with_room_to_spare() {
    let mut rig = rig(&["idle"]);
    rig.pass(10_000);
    for _ in 0..21 {
        rig.load(&["busy"; 10]);
        let jobs = rig.grab(of_types(&["busy"]));
        rig.results(&jobs.iter().map(|job| (job.lease, complete())).collect::<Vec<_>>());
    }
    assert_eq!(rig.engine.low_water(), 0, "one job holds the mark");
    rig.pass(1_000);
    rig.settle();
    assert_eq!((rig.engine.low_water(), rig.engine.counts().parked), (22, 1));
}

#[test]
fn a_new_owner_knows_what_is_parked() {
    let mut fold = Fold::default();
    fold.parked("idle".to_owned(), 3);
    let rng = SmallRng::seed_from_u64(2);
    let mut engine = Engine::new((QUEUE, SUB), EPOCH, SETTINGS, LIMITS, 0, fold, rng);
    assert_eq!(engine.counts().parked, 3);
    engine.grab(RequestId(1), of_types(&["idle"]), &[]);
    assert!(engine.take_flush().unwrap().cold.is_some());
}
