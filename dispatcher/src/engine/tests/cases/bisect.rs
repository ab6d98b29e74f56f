//! A flush the database refuses: the bad unit is found, undone and told; the others are committed.

use super::*;

/// Commits what is pending against a database that refuses every flush with a message holding "bad"; how many calls
/// that took. Fails when it does not come to an end.
fn write_all(rig: &mut Rig) -> usize {
    for calls in 0..1_000 {
        let Some(flushed) = rig.take() else { return calls };
        let bad = |section| cold(&flushed, section, "message").iter().any(|m| m.as_str() == Some("bad"));
        if bad("fail") || bad("finish") {
            rig.engine.refused("bad data");
        } else {
            rig.now = rig.now.plus_ms(1);
            rig.engine.committed(rig.now, ColdAnswers::default());
        }
    }
    panic!("the same flush is tried for ever");
}

fn bad() -> Outcome {
    Outcome::PermFail { message: "bad".to_owned() }
}

#[test]
fn the_bad_unit_is_found_wherever_it_stands() {
    for count in 1..=9 {
        for place in 0..count {
            let mut rig = Rig::ready(&vec!["a"; count]);
            let held = rig.grab(plain());
            for (n, job) in held.iter().enumerate() {
                rig.start_results(&[(job.lease, if n == place { bad() } else { complete() })]);
            }
            let calls = write_all(&mut rig);
            assert!(calls <= 10, "{calls} calls for {count} units");
            for (n, (_, answer)) in rig.answers().into_iter().enumerate() {
                if n == place {
                    assert!(matches!(&answer, Answered::Refused(why) if why == "bad data"), "{answer:?}");
                } else {
                    assert_eq!(decided(answer), [Answer::Ok], "{count} units, bad {place}, this {n}");
                }
            }
            assert_eq!(rig.result(held[place].lease, complete()), Answer::Ok, "its lease is as it was");
        }
    }
}

#[test]
fn several_bad_units_are_all_found() {
    for mask in 0..256_u32 {
        let mut rig = Rig::ready(&["a"; 8]);
        let held = rig.grab(plain());
        for (n, job) in held.iter().enumerate() {
            let outcome = if mask & (1 << n) == 0 { complete() } else { bad() };
            rig.start_results(&[(job.lease, outcome)]);
        }
        write_all(&mut rig);
        for (n, (_, answer)) in rig.answers().into_iter().enumerate() {
            assert_eq!(
                matches!(answer, Answered::Refused(_)),
                mask & (1 << n) != 0,
                "mask {mask:b}, unit {n}"
            );
        }
        assert_eq!(rig.engine.counts().leased, mask.count_ones() as usize);
    }
}

#[test]
fn a_refused_grab_undoes_its_leases_and_its_results() {
    let mut rig = Rig::ready(&["a", "a"]);
    let held = rig.grab_one();
    let request = rig.request();
    rig.engine.grab(request, plain(), &[(Some(held.lease), bad())]);
    write_all(&mut rig);
    assert!(matches!(rig.answer(), Answered::Refused(_)));
    let again = rig.grab_one();
    assert_eq!((again.lease.job, again.lease.attempt), (2, 1), "never given out, not counted");
    assert_eq!(rig.result(held.lease, complete()), Answer::Ok);
}

#[test]
fn several_jobs_given_back_keep_their_order() {
    let mut rig = Rig::ready(&["a"; 4]);
    rig.start_grab(Grab { max: 3, ..plain() });
    rig.take();
    rig.engine.refused("bad data");
    rig.answers();
    assert_eq!(jobs(&rig.grab(plain())), [1, 2, 3, 4]);
}

#[test]
fn requests_that_write_nothing_do_not_stop_the_ones_behind_them() {
    let mut rig = Rig::with(SETTINGS, Limits { flush_units: 1, ..LIMITS });
    rig.load(&["a", "a"]);
    let held = rig.grab(plain());
    rig.start_results(&[(held[0].lease, complete())]);
    rig.take();
    rig.start_results(&[(Lease { queue_id: 99, ..held[0].lease }, complete())]);
    rig.start_results(&[(held[1].lease, complete())]);
    rig.engine.committed(rig.now, ColdAnswers::default());
    assert!(rig.take().is_some(), "the second result is to be written");
}

#[test]
fn an_ended_lease_survives_a_refused_result() {
    let mut rig = Rig::ready(&["a"]);
    let held = rig.grab_one();
    rig.start_results(&[(held.lease, bad())]);
    rig.take();
    rig.pass(2 * LEASE_MS);
    rig.engine.refused("bad data");
    rig.answers();
    rig.pass(0);
    assert_eq!(rig.grab_one().lease.attempt, 2);
}
