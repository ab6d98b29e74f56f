//! The loop in paused time: every wait is exact but for its jitter, and nothing really waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use prometheus::Registry;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::admin::Beats;
use super::*;

/// Plays a list of outcomes, then is idle for ever; tells when each pass began.
struct Script {
    outcomes: VecDeque<Result<Progress, StepError>>,
    passes: mpsc::UnboundedSender<Instant>,
    /// How long each pass takes.
    takes: Duration,
}

impl Step for Script {
    const NAME: &'static str = "play";

    async fn step(&mut self) -> Result<Progress, StepError> {
        self.passes.send(Instant::now()).unwrap();
        sleep_until(Instant::now() + self.takes).await;
        self.outcomes.pop_front().unwrap_or(Ok(Progress::Idle))
    }
}

struct Play {
    wake: Wake,
    shutdown: Shutdown,
    passes: mpsc::UnboundedReceiver<Instant>,
    registry: Registry,
    done: JoinHandle<()>,
    last: Instant,
}

#[expect(clippy::disallowed_methods, reason = "the loop under test is a task")]
fn play(pace: Pace, takes: Duration, outcomes: Vec<Result<Progress, StepError>>) -> Play {
    let (sender, passes) = mpsc::unbounded_channel();
    let (wake, shutdown, registry) = (Wake::new(), Shutdown::new(), Registry::new());
    let metrics = StepMetrics::new(&registry).unwrap();
    let beat = Beats::default().join("play".to_owned());
    let with = Loop { pace, wake: wake.clone(), shutdown: shutdown.clone(), metrics, beat };
    let done = tokio::spawn(drive(Script { outcomes: outcomes.into(), passes: sender, takes }, with));
    Play { wake, shutdown, passes, registry, done, last: Instant::now() }
}

impl Play {
    /// Time between the beginnings of the last pass and the next one.
    async fn next(&mut self) -> Duration {
        let begun = self.passes.recv().await.unwrap();
        let since = begun - self.last;
        self.last = begun;
        since
    }

    async fn stopped(self) {
        self.shutdown.begin();
        self.done.await.unwrap();
    }
}

fn failed() -> Result<Progress, StepError> {
    Err(StepError::retry("it did not work"))
}

#[track_caller]
fn about(wait: Duration, most_ms: u64) {
    // Tokio's timers have a resolution of one millisecond.
    let most = Duration::from_millis(most_ms + 1);
    assert!(wait <= most && wait * 2 >= most - Duration::from_millis(2), "{wait:?} is not about {most:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_pass_is_followed_at_once_and_idle_waits_grow() {
    let worked = vec![Ok(Progress::Worked(3)), Ok(Progress::Worked(1))];
    let mut play = play(Pace::between_ms(8, 20), Duration::ZERO, worked);
    for _ in 0..3 {
        assert_eq!(play.next().await, Duration::ZERO);
    }
    about(play.next().await, 8);
    about(play.next().await, 16);
    about(play.next().await, 20);
    about(play.next().await, 20);
    play.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_ends_an_idle_wait_and_is_kept_during_a_pass() {
    let mut play = play(Pace::between_ms(60_000, 60_000), Duration::from_millis(100), Vec::new());
    assert_eq!(play.next().await, Duration::ZERO);
    // The first pass runs now: the wake-up waits for its end.
    play.wake.wake();
    play.wake.wake();
    assert_eq!(play.next().await, Duration::from_millis(100));
    // Both were one: the third pass waits for the pace.
    about(play.next().await, 60_100);
    play.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_does_not_shorten_back_off() {
    let mut play = play(Pace::between_ms(5, 5), Duration::ZERO, vec![failed(), failed(), failed()]);
    play.next().await;
    for most in [100, 200, 400] {
        play.wake.wake();
        about(play.next().await, most);
    }
    play.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_person_must_mend_is_tried_slowly() {
    let stop = || Err(StepError::stop("there is no schema"));
    let mut play = play(Pace::between_ms(5, 5), Duration::ZERO, vec![stop(), stop()]);
    play.next().await;
    about(play.next().await, 30_000);
    about(play.next().await, 30_000);
    about(play.next().await, 5);
    play.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_holds_between_full_passes_and_after_wake_ups() {
    let pace = Pace::between_ms(60_000, 60_000).with_gap(Duration::from_millis(50));
    let mut play = play(pace, Duration::from_millis(20), vec![Ok(Progress::Worked(1))]);
    play.next().await;
    assert_eq!(play.next().await, Duration::from_millis(50));
    play.wake.wake();
    assert_eq!(play.next().await, Duration::from_millis(50));
    play.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_may_have_a_shorter_gap() {
    let pace = Pace::between_ms(60_000, 60_000)
        .with_gap(Duration::from_millis(50))
        .with_woken_gap(Duration::from_millis(30));
    let mut play =
        play(pace, Duration::from_millis(20), vec![Ok(Progress::Worked(1)), Ok(Progress::Worked(1))]);
    play.next().await;
    assert_eq!(play.next().await, Duration::from_millis(50));
    play.wake.wake();
    assert_eq!(play.next().await, Duration::from_millis(30));
    play.wake.wake();
    assert_eq!(play.next().await, Duration::from_millis(30));
    play.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn stop_ends_a_wait_at_once_but_never_a_pass() {
    let begun = Instant::now();
    let mut idle = play(Pace::between_ms(60_000, 60_000), Duration::ZERO, Vec::new());
    idle.next().await;
    idle.stopped().await;
    let mut back_off = play(Pace::between_ms(5, 5), Duration::ZERO, vec![Err(StepError::stop("no"))]);
    back_off.next().await;
    back_off.stopped().await;
    assert!(begun.elapsed() < Duration::from_millis(5));

    let mut busy = play(Pace::between_ms(5, 5), Duration::from_secs(3), Vec::new());
    busy.next().await;
    busy.stopped().await;
    assert_eq!(begun.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn every_outcome_is_counted() {
    let outcomes = vec![Ok(Progress::Worked(1)), failed(), Ok(Progress::Worked(1))];
    let mut play = play(Pace::between_ms(60_000, 60_000), Duration::ZERO, outcomes);
    for _ in 0..4 {
        play.next().await;
    }
    play.shutdown.begin();
    (&mut play.done).await.unwrap();
    let text = prometheus::TextEncoder::new().encode_to_string(&play.registry.gather()).unwrap();
    for (outcome, count) in [("failed", 1), ("idle", 1), ("worked", 2)] {
        let line = format!("tidemill_step_seconds_count{{outcome=\"{outcome}\",step=\"play\"}} {count}\n");
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
}

/// Collects log lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_pass_is_logged_once_with_its_causes() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let cause = std::io::Error::other("the cable is cut");
    let error = crate::config::ConfigError::Read { path: "x".into(), source: cause };
    let mut play = play(Pace::between_ms(5, 5), Duration::ZERO, vec![Err(StepError::retry(error))]);
    play.next().await;
    play.next().await;
    play.stopped().await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("step failed").count(), 1, "{text}");
    assert!(text.contains("\"WARN\"") && text.contains("\"step\":\"play\""), "{text}");
    assert!(text.contains("cannot read the configuration file x: the cable is cut"), "{text}");
}
