//! The smallest service: one step that does what the variable `SKELETON` says. Driven by `tests/service.rs`.

use std::process::ExitCode;
use std::time::Duration;

use tidemill_common::config::ConfigError;
use tidemill_common::service::{self, BoxError, Pace, Progress, Step, StepError};

struct Obey(String);

impl Step for Obey {
    const NAME: &'static str = "obey";

    async fn step(&mut self) -> Result<Progress, StepError> {
        match self.0.as_str() {
            "fail" => Err(StepError::retry("it does not work")),
            "panic" => panic!("this was not foreseen"),
            "hang" => std::future::pending().await,
            _ => Ok(Progress::Idle),
        }
    }
}

fn main() -> ExitCode {
    service::main("skeleton", |cx| -> Result<(), BoxError> {
        let order = std::env::vars_os().find(|(name, _)| name == "SKELETON");
        let order = order.and_then(|(_, order)| order.into_string().ok()).unwrap_or_default();
        match order.as_str() {
            "refuse" => return Err(ConfigError::sentence("skeleton: this cannot be").into()),
            "give up" => cx.spawn("giver-up", async { Err::<(), BoxError>("no more".into()) }),
            "end" => cx.spawn("ender", async { Ok::<(), BoxError>(()) }),
            "never ready" => drop(cx.readiness().condition("database jobs")),
            _ => {}
        }
        cx.run(Obey(order), Pace::every(Duration::from_millis(10)));
        Ok(())
    })
}
