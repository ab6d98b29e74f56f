//! A job of the log in the words of the contract.

use serde::Serialize;
use tidemill_common::api::{GrabbedJob, JobOptions, ProblemKind, RawValue};
use tidemill_common::id::{JobId, QueueName};

use super::problem::Refusal;
use crate::engine::{Event, Granted};

/// Jobs on their way to a worker: those of this process are written from what the engine has, without a copy.
#[derive(Debug)]
pub(super) enum Jobs {
    Here(QueueName, Vec<Granted>),
    There(Vec<GrabbedJob>),
}

impl Jobs {
    pub(super) const NONE: Self = Self::There(Vec::new());

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Here(_, jobs) => jobs.is_empty(),
            Self::There(jobs) => jobs.is_empty(),
        }
    }

    /// About how many bytes they take as JSON.
    pub(super) fn bytes(&self) -> usize {
        /// Of everything about a job but its arguments.
        const FRAME: usize = 512;
        match self {
            Self::Here(_, jobs) => {
                jobs.iter().map(|job| FRAME + job.event.data.as_ref().map_or(0, String::len)).sum()
            }
            Self::There(jobs) => jobs.iter().map(|job| FRAME + job.args.get().len()).sum(),
        }
    }
}

/// Arguments as they are stored if they are JSON; anything else as a JSON string.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Args<'a> {
    Json(&'a RawValue),
    Text(&'a str),
    None(()),
}

impl<'a> Args<'a> {
    pub(super) fn of(data: Option<&'a str>) -> Self {
        match data {
            Some(data) => serde_json::from_str(data).map_or(Self::Text(data), Self::Json),
            None => Self::None(()),
        }
    }
}

/// The id of a job of the first lane.
pub(super) fn id(job: i64) -> Result<JobId, Refusal> {
    JobId::try_from(job.to_string()).map_err(|_| internal())
}

/// Stored arguments, as workers get them.
pub(super) fn args(data: Option<&str>) -> Result<Box<RawValue>, Refusal> {
    serde_json::value::to_raw_value(&Args::of(data)).map_err(|_| internal())
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
pub(super) fn extra(event: &Event, has_options: bool) -> Option<Vec<Option<String>>> {
    let [first, others @ ..] = &event.extra;
    let first = first.as_ref().filter(|_| !has_options);
    let extra = || std::iter::once(first).chain(others.iter().map(Option::as_ref));
    extra().any(|text| text.is_some()).then(|| extra().map(Option::<&String>::cloned).collect())
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
