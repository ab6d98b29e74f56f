//! A real process: what it says, what it answers, and how it ends.
#![expect(clippy::unwrap_used, reason = "functions that only tests call")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tidemill_common::testing::Service;
use tidemill_common::testing::process::output;

const SOON: Duration = Duration::from_secs(10);
const CONFIG: &str = "[database]\nurl = \"postgresql://u:canary-s3cret@localhost/shop\"\n";

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn it_gets_ready_answers_and_stops_in_order() {
    let mut service = Service::start("skeleton", CONFIG, &[]).await.unwrap();
    let admin = service.admin_address();
    assert!(get(admin, "/livez").starts_with("HTTP/1.1 200"));
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200"));
    let metrics = get(admin, "/metrics");
    assert!(metrics.contains("tidemill_step_seconds_count{outcome=\"idle\",step=\"obey\"}"), "{metrics}");
    assert!(metrics.contains("tidemill_database_weak_tls{database=\"shop\"} 0"), "{metrics}");
    assert!(get(admin, "/nothing").starts_with("HTTP/1.1 404"));
    service.sigterm();
    assert_eq!(service.wait_exit(SOON).await.code(), Some(0));
    assert!(!format!("{}{metrics}", service.log_text()).contains("canary-s3cret"));
}

#[tokio::test]
async fn a_condition_that_does_not_hold_is_named() {
    let mut service = Service::spawn("skeleton", CONFIG, &[("SKELETON", "never ready")]).unwrap();
    service.wait_for_message("admin server listening", SOON).await.unwrap();
    let admin = service.admin_address();
    let answer = tidemill_common::testing::wait_for("the start", SOON, async || {
        let answer = get(admin, "/readyz");
        (!answer.contains("started")).then_some(answer)
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("not ready: database jobs\n"), "{answer}");
}

#[tokio::test]
async fn a_pass_that_hangs_is_given_up_after_the_drain_time() {
    let config = format!("{CONFIG}[admin]\ndrain_ms = 300\n");
    let mut service = Service::start("skeleton", &config, &[("SKELETON", "hang")]).await.unwrap();
    let begun = Instant::now();
    service.sigterm();
    service.wait_for_message("stopping", SOON).await.unwrap();
    let admin = service.admin_address();
    let answer = get(admin, "/readyz");
    assert!(answer.ends_with("not ready: shutting down\n"), "probes are answered while draining: {answer}");
    assert_eq!(service.wait_exit(SOON).await.code(), Some(0));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(service.log_text().contains("stopped before everything was drained"));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut service = Service::start("skeleton", CONFIG, &[("SKELETON", "hang")]).await.unwrap();
    service.sigterm();
    service.wait_for_message("stopping", SOON).await.unwrap();
    service.sigterm();
    assert_eq!(service.wait_exit(SOON).await.code(), Some(1));
}

#[tokio::test]
async fn the_first_task_that_is_lost_ends_the_process() {
    for (order, said) in
        [("panic", "task panicked"), ("give up", "task failed"), ("end", "task ended by itself")]
    {
        let mut service = Service::spawn("skeleton", CONFIG, &[("SKELETON", order)]).unwrap();
        assert_eq!(service.wait_exit(SOON).await.code(), Some(1), "{order}");
        service.wait_for_message(said, SOON).await.unwrap();
    }
}

#[tokio::test]
async fn a_failing_step_does_not_end_it() {
    let mut service = Service::start("skeleton", CONFIG, &[("SKELETON", "fail")]).await.unwrap();
    let event = service.wait_for_message("step failed", SOON).await.unwrap();
    assert_eq!((event["step"].as_str(), event["level"].as_str()), (Some("obey"), Some("WARN")));
    assert!(get(service.admin_address(), "/livez").starts_with("HTTP/1.1 200"));
    service.sigterm();
    assert_eq!(service.wait_exit(SOON).await.code(), Some(0));
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = output("skeleton", arguments, environment).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_wrong_configuration_is_78_and_wrong_usage_2() {
    let url = ("TIDEMILL_DATABASE__URL", "postgresql://u:canary-s3cret@localhost/shop");
    let (code, said, _) = run(&["--check-config"], &[url]);
    assert_eq!((code, said.as_str()), (Some(0), "tidemill-skeleton: the configuration is good\n"));
    let (code, shown, _) = run(&["--print-config"], &[url]);
    assert!(code == Some(0) && shown.contains("[ticker]") && !shown.contains("canary-s3cret"), "{shown}");

    let (code, _, said) =
        run(&["--check-config"], &[url, ("TIDEMILL_TICKER__TICK_MS", "5"), ("TIDEMILL_LOG__FORMAT", "xml")]);
    assert_eq!(code, Some(78));
    assert_eq!(
        said,
        "tidemill-skeleton: unknown key \"ticker.tick_ms\"\ntidemill-skeleton: log.format must be one of: text, json\n"
    );
    let (code, _, said) = run(&["--config", "/nowhere.toml"], &[url]);
    assert_eq!(code, Some(78));
    assert!(
        said.starts_with("tidemill-skeleton: cannot read the configuration file /nowhere.toml: No such file"),
        "{said}"
    );
    let (code, _, said) = run(&[], &[("TIDEMILL_CONFIG", "/nowhere.toml")]);
    assert!(code == Some(78) && said.contains("/nowhere.toml"), "{said}");
    let (code, _, said) = run(&[], &[url, ("RUST_LOG", "a=b=c")]);
    assert!(code == Some(78) && said.contains("RUST_LOG"), "{said}");
    let (code, _, said) = run(&[], &[url, ("SKELETON", "refuse")]);
    assert!(code == Some(78) && said.contains("skeleton: this cannot be"), "{said}");
    let (code, _, said) = run(&["--chck-config"], &[url]);
    assert!(code == Some(2) && said.contains("--check-config"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let environment =
        [("TIDEMILL_DATABASE__URL", "host=localhost dbname=x"), ("TIDEMILL_ADMIN__LISTEN", &address)];
    let (code, _, said) = run(&[], &environment);
    assert!(
        code == Some(1) && said.contains(&format!("cannot listen on {address}: Address already in use")),
        "{said}"
    );
}
