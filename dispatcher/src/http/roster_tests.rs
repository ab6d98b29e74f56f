use tidemill_common::id::WorkerInstance;

use super::*;

fn worker(instance: u128) -> WorkerInfo {
    let (host, name) = (Some(format!("web-{instance}")), Some("mailer".to_owned()));
    WorkerInfo {
        instance: WorkerInstance(Uuid::from_u128(instance)),
        host,
        pid: Some(7),
        name,
        version: None,
    }
}

fn queues(names: &[&str]) -> Vec<QueueName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[test]
fn a_worker_is_what_it_said_of_itself_last() {
    let (roster, start) = (Roster::default(), Instant::now());
    roster.hear(&worker(1), &queues(&["mail"]), start);
    // A heartbeat of the instance alone takes nothing back.
    let bare = WorkerInfo { host: None, pid: None, name: None, ..worker(1) };
    roster.hear(&bare, &[], after(start, 1));
    roster.hear(
        &WorkerInfo { version: Some("2".to_owned()), ..bare },
        &queues(&["sms", "mail"]),
        after(start, 2),
    );
    let known = Known {
        worker: WorkerInfo { version: Some("2".to_owned()), ..worker(1) },
        queues: queues(&["mail", "sms"]),
        first: start,
        last: after(start, 2),
    };
    assert_eq!(roster.look(after(start, 3), |_| false), [known]);
    assert_eq!(roster.queues(Uuid::from_u128(1)), Some(queues(&["mail", "sms"])));
    assert_eq!(roster.queues(Uuid::from_u128(2)), None);
}

#[test]
fn queues_are_remembered_up_to_a_number() {
    let roster = Roster::default();
    let names: Vec<String> = (0..50).map(|n| format!("q{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for part in names.chunks(15) {
        roster.hear(&worker(1), &queues(part), Instant::now());
    }
    assert_eq!(roster.queues(Uuid::from_u128(1)).unwrap(), queues(&names[..QUEUES]));
    roster.hear(&worker(2), &queues(&names), Instant::now());
    assert_eq!(roster.queues(Uuid::from_u128(2)).unwrap(), queues(&names[..QUEUES]));
}

#[test]
fn who_is_silent_and_holds_nothing_is_forgotten() {
    let (roster, start) = (Roster::default(), Instant::now());
    for (instance, seconds) in [(1, 0), (2, 0), (3, 1)] {
        roster.hear(&worker(instance), &[], after(start, seconds));
    }
    let instances = |now: Instant| {
        let known = roster.look(now, |instance| instance == Uuid::from_u128(2));
        let mut instances: Vec<u128> = known.iter().map(|known| known.worker.instance.0.as_u128()).collect();
        instances.sort_unstable();
        instances
    };
    assert_eq!(instances(start + SILENCE - Duration::from_nanos(1)), [1, 2, 3]);
    assert_eq!(instances(start + SILENCE), [2, 3]);
    assert_eq!(instances(after(start, 1) + SILENCE), [2]);
}

#[test]
fn there_are_never_too_many_and_the_most_silent_go_first() {
    let (roster, start) = (Roster::default(), Instant::now());
    for instance in 0..WORKERS as u128 {
        roster.hear(&worker(instance), &[], start + Duration::from_millis(u64::try_from(instance).unwrap()));
    }
    let later = after(start, 60);
    // The first one is no longer the most silent.
    roster.hear(&worker(0), &[], later);
    assert_eq!(roster.lock().len(), WORKERS);
    roster.hear(&worker(u128::MAX), &[], later);
    assert_eq!(roster.lock().len(), WORKERS - FORGOTTEN + 1);
    let known = |instance: u128| roster.queues(Uuid::from_u128(instance)).is_some();
    assert!(known(0) && known(u128::MAX));
    assert!(!known(1) && !known(FORGOTTEN as u128) && known(FORGOTTEN as u128 + 1));
}
