//! A job of the log in the words of the contract.

use std::sync::Arc;

use tidemill_common::api::{GrabbedJob, JobOptions, ProblemKind, RawValue};
use tidemill_common::id::{JobId, QueueName};

use super::problem::Refusal;
use crate::engine::{Event, Granted};

/// A job on its way to a worker.
pub(super) fn grabbed(queue: &QueueName, granted: Granted) -> Result<GrabbedJob, Refusal> {
    let Granted { lease, ends_at, inserted_at, max_attempts, previous, progress, event } = granted;
    let options = options(event.extra[0].as_deref());
    let extra = extra(&event, options.is_some());
    let JobOptions { key, coalesce_key, trace, .. } = options.unwrap_or_default();
    Ok(GrabbedJob {
        id: id(lease.job)?,
        queue: queue.clone(),
        job_type: event.kind.clone().unwrap_or_default(),
        args: args(event.data.as_deref())?,
        attempt: lease.attempt.unsigned_abs(),
        max_attempts: max_attempts.unsigned_abs(),
        lease: lease.to_string(),
        lease_ends_at: ends_at.timestamp(),
        inserted_at: inserted_at.timestamp(),
        reissued: previous.is_some() || lease.attempt > 1,
        previous,
        origin: None,
        extra,
        progress: progress.map(Arc::unwrap_or_clone),
        coalesce_key,
        key,
        trace,
    })
}

/// The id of a job of the first lane.
pub(super) fn id(job: i64) -> Result<JobId, Refusal> {
    JobId::try_from(job.to_string()).map_err(|_| internal())
}

/// Arguments as they are stored if they are JSON; anything else as a JSON string.
pub(super) fn args(data: Option<&str>) -> Result<Box<RawValue>, Refusal> {
    let Some(data) = data else { return Ok(RawValue::NULL.to_owned()) };
    if let Ok(json) = RawValue::from_string(data.to_owned()) {
        return Ok(json);
    }
    serde_json::value::to_raw_value(data).map_err(|_| internal())
}

/// The options in `ev_extra1`: only if it is a JSON object. One of somebody else's has none of ours.
pub(super) fn options(extra1: Option<&str>) -> Option<JobOptions> {
    let text = extra1.filter(|text| text.trim_start().starts_with('{'))?;
    match serde_json::from_str(text) {
        Ok(options) => Some(options),
        Err(_) => serde_json::from_str::<serde_json::Map<_, _>>(text).ok().map(|_| JobOptions::default()),
    }
}

/// The extras of a plain PgQ event; none if there is nothing in them but options.
fn extra(event: &Event, has_options: bool) -> Option<Vec<Option<String>>> {
    let mut extra = event.extra.clone();
    if has_options {
        extra[0] = None;
    }
    extra.iter().any(Option::is_some).then(|| extra.into())
}

fn internal() -> Refusal {
    Refusal::new(ProblemKind::Internal, "a stored job cannot be shown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_json_or_become_a_string() {
        let shown = |data| args(data).unwrap().get().to_owned();
        assert_eq!(shown(Some(r#"{"a": 1.0}"#)), r#"{"a": 1.0}"#);
        assert_eq!(shown(Some("id=1&x=\"2\"")), r#""id=1&x=\"2\"""#);
        assert_eq!(shown(Some("")), "\"\"");
        assert_eq!(shown(None), "null");
    }

    #[test]
    fn options_are_no_extra_and_extras_no_options() {
        let event = |extra1: &str, extra2: Option<&str>| Event {
            extra: [Some(extra1.to_owned()), extra2.map(str::to_owned), None, None],
            ..Event::default()
        };
        let shown = |event: &Event| extra(event, options(event.extra[0].as_deref()).is_some());
        assert_eq!(shown(&event(r#"{"trace":"t"}"#, None)), None);
        assert_eq!(shown(&event(r#"{"key":7}"#, Some("b"))), Some(vec![None, Some("b".into()), None, None]));
        assert_eq!(shown(&event("public.t", None)), Some(vec![Some("public.t".into()), None, None, None]));
        assert_eq!(shown(&event("{broken", None)), Some(vec![Some("{broken".into()), None, None, None]));
        assert_eq!(options(Some(r#"{"trace":"t"}"#)).unwrap().trace.as_deref(), Some("t"));
    }
}
