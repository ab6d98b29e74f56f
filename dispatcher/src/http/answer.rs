//! The answer to a grab, written piece by piece: it is most of what a dispatcher sends, and of a job's nineteen fields
//! a dozen are the same text nearly always. The shape is that of [`GrabResponse`], and a test reads it as one.
//!
//! [`GrabResponse`]: tidemill_common::api::GrabResponse

use axum::response::Response;
use serde::Serialize;
use tidemill_common::api::{Answer, JobOptions, ResultAnswer, ResultItem, WorkerState};
use tidemill_common::id::{JobId, QueueName};

use super::body;
use super::job::{self, Args, Jobs};
use super::results::children;
use crate::engine::{Decided, Granted, Micros, Origin};

/// What became of the results that came with a grab.
#[derive(Debug)]
pub(super) enum Results<'a> {
    Ready(Vec<ResultAnswer>),
    /// As the engine decided, item by item.
    Decided(&'a [ResultItem], Vec<Decided>),
}

impl Results<'_> {
    pub(super) const NONE: Self = Self::Ready(Vec::new());

    fn len(&self) -> usize {
        match self {
            Self::Ready(answers) => answers.len(),
            Self::Decided(_, decided) => decided.len(),
        }
    }
}

/// `200` with jobs, answers to results, and what the worker is to do.
pub(super) fn grabbed(jobs: &Jobs, results: &Results<'_>, state: WorkerState) -> Response {
    body::text(written(jobs, results, state))
}

fn written(jobs: &Jobs, results: &Results<'_>, state: WorkerState) -> Result<String, serde_json::Error> {
    /// Of one answer to a result.
    const RESULT: usize = 128;
    // An answer that grew would be copied, and a large one take twice its size.
    let mut text = Text(String::with_capacity(jobs.bytes() + RESULT * (results.len() + 1)));
    text.push(r#"{"jobs":"#);
    match jobs {
        Jobs::Here(queue, granted) => {
            let mut times = Times::default();
            text.list(granted, |text, granted| text.job(queue, granted, &mut times))?;
        }
        Jobs::There(jobs) => text.json(jobs)?,
    }
    text.push(r#","results":"#);
    match results {
        Results::Ready(answers) => text.list(answers, |text, answer| {
            text.result(&answer.lease, answer.answer, answer.ids.as_deref(), answer.detail.as_deref())
        })?,
        Results::Decided(items, decided) => {
            text.list(items.iter().zip(decided), |text, (item, decided)| {
                text.result(&item.lease, decided.answer, children(decided).as_deref(), None)
            })?;
        }
    }
    text.push(r#","state":""#);
    text.push(state.as_str());
    text.push("\"}");
    Ok(text.0)
}

/// Times as they were written last: the jobs of one grab end together, and were often inserted together.
#[derive(Default)]
struct Times {
    ends_at: Written,
    inserted_at: Written,
}

#[derive(Default)]
struct Written {
    time: Option<Micros>,
    text: String,
}

impl Written {
    fn of(&mut self, time: Micros) -> &str {
        if self.time != Some(time) {
            self.time = Some(time);
            self.text = time.timestamp().to_string();
        }
        &self.text
    }
}

/// JSON that grows.
struct Text(String);

impl Text {
    fn push(&mut self, piece: &str) {
        self.0.push_str(piece);
    }

    fn number(&mut self, number: impl itoa::Integer) {
        self.0.push_str(itoa::Buffer::new().format(number));
    }

    /// What serde writes.
    fn json(&mut self, value: &impl Serialize) -> Result<(), serde_json::Error> {
        self.0.push_str(&serde_json::to_string(value)?);
        Ok(())
    }

    /// A string; hardly any has something to escape.
    fn string(&mut self, text: &str) -> Result<(), serde_json::Error> {
        if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            return self.json(&text);
        }
        self.0.extend(["\"", text, "\""]);
        Ok(())
    }

    fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> Result<(), serde_json::Error>,
    ) -> Result<(), serde_json::Error> {
        self.push("[");
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.push(",");
            }
            write(self, item)?;
        }
        self.push("]");
        Ok(())
    }

    fn job(
        &mut self,
        queue: &QueueName,
        granted: &Granted,
        times: &mut Times,
    ) -> Result<(), serde_json::Error> {
        let Granted {
            lease,
            ends_at,
            inserted_at,
            max_attempts,
            timeout_ms,
            previous,
            progress,
            origin,
            event,
        } = granted;
        self.push(r#"{"id":""#);
        self.number(lease.job);
        self.push(r#"","queue":""#);
        self.push(queue.as_str());
        self.push(r#"","type":"#);
        self.string(event.kind.as_deref().unwrap_or_default())?;
        self.push(r#","args":"#);
        match Args::of(event.data.as_deref()) {
            Args::Json(json) => self.push(json.get()),
            Args::Text(text) => self.json(&text)?,
            Args::None(()) => self.push("null"),
        }
        self.push(r#","attempt":"#);
        self.number(lease.attempt.unsigned_abs());
        self.push(r#","max_attempts":"#);
        self.number(max_attempts.unsigned_abs());
        if let Some(timeout_ms) = timeout_ms {
            self.push(r#","timeout_ms":"#);
            self.number(timeout_ms.get());
        }
        self.push(r#","lease":""#);
        lease.push_to(&mut self.0);
        self.push(r#"","lease_ends_at":""#);
        self.push(times.ends_at.of(*ends_at));
        self.push(r#"","inserted_at":""#);
        self.push(times.inserted_at.of(*inserted_at));
        self.push(if previous.is_some() || lease.attempt > 1 {
            r#"","reissued":true"#
        } else {
            r#"","reissued":false"#
        });
        let options = job::options(event.extra[0].as_deref());
        let extra = job::extra(event, options.is_some());
        let JobOptions { key, coalesce_key, trace, .. } = options.unwrap_or_default();
        self.field(r#","previous":"#, previous.as_ref())?;
        match origin {
            Some(origin) => self.origin(origin)?,
            None => self.push(r#","origin":null"#),
        }
        self.field(r#","extra":"#, extra.as_ref())?;
        self.field(r#","progress":"#, progress.as_deref())?;
        self.field(r#","coalesce_key":"#, coalesce_key.as_ref())?;
        self.field(r#","key":"#, key.as_ref())?;
        self.field(r#","trace":"#, trace.as_ref())?;
        self.push("}");
        Ok(())
    }

    fn origin(&mut self, Origin { place, event }: &Origin) -> Result<(), serde_json::Error> {
        self.push(r#","origin":{"source":"#);
        self.string(&place.source)?;
        self.push(r#","queue":"#);
        self.string(&place.queue)?;
        self.push(r#","id":""#);
        self.number(*event);
        self.push(r#""}"#);
        Ok(())
    }

    fn field(&mut self, name: &str, value: Option<&impl Serialize>) -> Result<(), serde_json::Error> {
        self.push(name);
        match value {
            Some(value) => self.json(value),
            None => {
                self.push("null");
                Ok(())
            }
        }
    }

    fn result(
        &mut self,
        lease: &str,
        answer: Answer,
        ids: Option<&[JobId]>,
        detail: Option<&str>,
    ) -> Result<(), serde_json::Error> {
        self.push(r#"{"lease":"#);
        self.string(lease)?;
        self.push(r#","answer":""#);
        self.push(answer.as_str());
        self.push("\"");
        if let Some(ids) = ids {
            self.push(r#","ids":"#);
            self.json(&ids)?;
        }
        if let Some(detail) = detail {
            self.push(r#","detail":"#);
            self.string(detail)?;
        }
        self.push("}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use serde_json::{Value, json};
    use tidemill_common::api::{GrabResponse, Outcome, Previous, PreviousEnd, Progress};
    use tidemill_common::id::WorkerInstance;
    use uuid::Uuid;

    use super::*;
    use crate::engine::{Children, Event, Place};

    fn granted(data: &str, extra1: Option<&str>) -> Granted {
        let event = Event {
            kind: Some("say \"hi\"\n".to_owned()),
            data: Some(data.to_owned()),
            extra: [extra1.map(str::to_owned), None, None, None],
        };
        Granted {
            lease: "l-7-3-1042-99817-0-1-000000000f3a66b0".parse().unwrap(),
            ends_at: Micros(1_700_000_060_000_001),
            inserted_at: Micros(1_700_000_000_000_000),
            max_attempts: 25,
            timeout_ms: None,
            previous: None,
            progress: None,
            origin: None,
            event: Arc::new(event),
        }
    }

    /// As JSON, and as a worker reads it.
    fn read(jobs: &Jobs, results: &Results<'_>) -> (Value, GrabResponse) {
        let text = written(jobs, results, WorkerState::Quiet).unwrap();
        (serde_json::from_str(&text).unwrap(), serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_job_is_written_as_the_contract_has_it() {
        let again = Granted {
            timeout_ms: NonZeroU32::new(30_000),
            lease: "t-7-3-1043-99818-1-2-ffffffffffffffff".parse().unwrap(),
            inserted_at: Micros(1_700_000_001_000_000),
            previous: Some(Previous {
                instance: WorkerInstance(Uuid::nil()),
                host: Some("web-3".to_owned()),
                pid: None,
                ended: PreviousEnd::Expired,
                at: Micros(1_700_000_030_000_000).timestamp(),
            }),
            progress: Some(Arc::new(Progress { percent: Some(40), message: None, checkpoint: None })),
            origin: Some(Origin {
                place: Arc::new(Place { source: "shop \"1\"".to_owned(), queue: "orders".to_owned() }),
                event: 12_345,
            }),
            ..granted("not json: \"", Some(r#"{"key":"k","coalesce_key":"c","trace":"t\\u0022"}"#))
        };
        let jobs = vec![granted(r#"{"to": [1, "\u00e4"]}"#, None), again, granted("", Some("public.\"t\""))];
        let queue: QueueName = "mail".parse().unwrap();
        let (json, answer) = read(&Jobs::Here(queue, jobs), &Results::NONE);
        assert_eq!(
            json["jobs"][0],
            json!({"id": "99817", "queue": "mail", "type": "say \"hi\"\n", "args": {"to": [1, "ä"]}, "attempt": 1,
                   "max_attempts": 25, "lease": "l-7-3-1042-99817-0-1-000000000f3a66b0",
                   "lease_ends_at": "2023-11-14T22:14:20.000001Z", "inserted_at": "2023-11-14T22:13:20Z",
                   "reissued": false, "previous": null, "origin": null, "extra": null, "progress": null,
                   "coalesce_key": null, "key": null, "trace": null})
        );
        assert_eq!(json["jobs"][1]["args"], "not json: \"");
        let origin = json!({"source": "shop \"1\"", "queue": "orders", "id": "12345"});
        assert_eq!(json["jobs"][1]["origin"], origin);
        assert_eq!(json["jobs"][1]["timeout_ms"], 30_000);
        assert_eq!(json["jobs"][1]["inserted_at"], "2023-11-14T22:13:21Z");
        assert_eq!(json["jobs"][2]["extra"], json!(["public.\"t\"", null, null, null]));
        assert_eq!(json["state"], "quiet");
        // Whatever serde makes of it, it writes the same again.
        assert_eq!(serde_json::to_value(&answer).unwrap(), json);
    }

    #[test]
    fn answers_to_results_are_written_as_the_contract_has_them() {
        let item = |lease: &str| ResultItem { lease: lease.to_owned(), outcome: Outcome::Decline };
        let items = [item("l-1"), item("forged\u{1}\"\\"), item("l-3")];
        let decided = vec![
            Answer::Ok.into(),
            Answer::Stale.into(),
            Decided {
                answer: Answer::Already,
                children: Some(Children { ids: vec![8, 9].into(), count: 2 }),
            },
        ];
        let (json, answer) = read(&Jobs::NONE, &Results::Decided(&items, decided));
        let expected = json!([
            {"lease": "l-1", "answer": "ok"}, {"lease": "forged\u{1}\"\\", "answer": "stale"},
            {"lease": "l-3", "answer": "already", "ids": ["8", "9"]},
        ]);
        assert_eq!(json["results"], expected);
        assert_eq!(json["jobs"], json!([]));
        assert_eq!(serde_json::to_value(&answer).unwrap(), json);
        let refused = ResultAnswer {
            lease: "l".to_owned(),
            answer: Answer::Refused,
            ids: None,
            detail: Some("not \"that\"".to_owned()),
        };
        let (json, _) = read(&Jobs::NONE, &Results::Ready(vec![refused.clone()]));
        assert_eq!(json["results"], json!([refused]));
        for answer in [Answer::Ok, Answer::Already, Answer::Stale, Answer::Cancelled, Answer::Unavailable] {
            assert_eq!(json!(answer), answer.as_str());
        }
    }
}
