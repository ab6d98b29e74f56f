//! The list of all operations. What is not in it is not served.

use axum::http::Method;
use axum::routing::{MethodRouter, get, post, put};
use schemars::SchemaGenerator;
use serde_json::{Value, json};
use tidemill_common::api::ProblemKind::{
    Conflict, InvalidRequest, StaleLease, TooManyRequests, UnknownJob, UnknownWorker,
};
use tidemill_common::api::{
    CancelAnswer, CancelKeyRequest, CancelRequest, DeadPage, DeadSelection, GrabRequest, GrabResponse,
    HeartbeatRequest, HeartbeatResponse, JobDetails, JobPage, JobState, NewJob, PauseAnswer, PauseRequest,
    ProduceRequest, ProduceResponse, PurgeAnswer, QueueInfo, QueueList, QueueSettings, RedriveAnswer,
    ReplaceResponse, ResultsRequest, ResultsResponse, StreamProduceResponse, WorkerList, WorkerOrder,
};

use super::operation::{Header, Operation};
use crate::http::auth::Scope::{Admin, Produce, Read, Work};
use crate::http::state::ApiState;
use crate::http::{
    cancel, dead, details, heartbeat, list, look, pause, produce, replace, results, steer, work, workers,
};

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const LEASE: &str = "l-1-7-123-1-0-4-89abcdef01234567";

/// Everything that the API does.
pub(super) fn all() -> Vec<Operation> {
    let mut all = worker();
    all.extend(queues());
    all.extend(dead_letters());
    all.extend(workers());
    all.push(
        Operation::new(GET, "/openapi.json", "openapi", "This document", get(super::serve))
            .answer::<Value>(200, "OpenAPI 3.1."),
    );
    all
}

/// What producers and workers call.
fn worker() -> Vec<Operation> {
    let produced = vec![
        SchemaGenerator::subschema_for::<ProduceResponse>,
        SchemaGenerator::subschema_for::<StreamProduceResponse>,
    ];
    let about = json!({"instance": "6f0c0000-0000-4000-8000-000000000000", "host": "web-3", "pid": 4711,
                       "name": "mailer", "version": "1.4"});
    let job = json!({"type": "send_email", "args": {"to": "a@example.org"}, "coalesce_key": "example.org"});
    vec![
        Operation::new(
            POST,
            "/v1/queues/{queue}/jobs",
            "produce",
            "Stores one job, several, or a stream of them: all or none",
            post(produce::produce),
        )
        .scope(Produce)
        .of_queue()
        .header(Header {
            name: "Idempotency-Key",
            about: "The same key for the same queue within 24 hours gives the first answer again, and nothing is \
                    inserted. With another body, or while the first request is being carried out, it is a conflict.",
            schema: json!({"type": "string", "pattern": "^[!-~]{1,255}$"}),
            example: "order-4711",
        })
        .json::<ProduceRequest>(json!({"jobs": [job, {"type": "send_email", "delay_ms": 60000}]}))
        .lines::<NewJob>(json!([job, job]))
        .answers(200, "Nothing was inserted: of every job with a unique key there is one already.", produced.clone())
        .answers(201, "Committed. A stream is answered with the first and last id.", produced),
        Operation::new(POST, "/v1/grab", "grab", "Hands in results, then leases jobs", post(work::grab))
            .scope(Work)
            .of_queue()
            .json::<GrabRequest>(json!({
                "queues": ["mail"], "types": ["send_email"], "max": 10, "lease_ms": 60000, "wait_ms": 1000,
                "request": "17", "worker": about, "where": {"coalesce_key": {"prefix": "example"}},
                "results": [{"lease": LEASE, "outcome": "complete"}],
            }))
            .answer::<GrabResponse>(200, "Leased jobs; none if none came in time.")
            .also(&[TooManyRequests]),
        Operation::new(
            POST,
            "/v1/results",
            "results",
            "Hands in what became of leased jobs",
            post(results::results),
        )
        .scope(Work)
        .json::<ResultsRequest>(json!({"results": [
            {"lease": LEASE, "outcome": "temp_fail", "message": "451 try later", "retry_in_ms": 60000},
        ]}))
        .answer::<ResultsResponse>(200, "What became of each, in order."),
        Operation::new(
            POST,
            "/v1/leases/{lease}/replace",
            "replace",
            "Replaces a leased job by a stream of others, in one transaction",
            post(replace::replace),
        )
        .scope(Work)
        .lines::<NewJob>(json!([{"type": "notify", "args": {"n": 1}}, {"type": "notify", "args": {"n": 2}}]))
        .answer::<ReplaceResponse>(200, "Committed, now or by an earlier call.")
        .also(&[StaleLease, Conflict]),
        Operation::new(POST, "/v1/heartbeat", "heartbeat", "Extends leases", post(heartbeat::heartbeat))
            .scope(Work)
            .json::<HeartbeatRequest>(json!({"worker": about, "leases": [{
                "lease": LEASE, "extend_ms": 60000,
                "progress": {"percent": 40, "message": "page 4", "checkpoint": {"page": 4}},
            }]}))
            .answer::<HeartbeatResponse>(200, "What became of each lease, in order."),
    ]
}

/// Queues and their jobs.
fn queues() -> Vec<Operation> {
    vec![
        Operation::new(
            GET,
            "/v1/queues",
            "queues",
            "Lists the queues that the token may read",
            get(look::queues),
        )
        .scope(Read)
        .answer::<QueueList>(200, "By name."),
        Operation::new(GET, "/v1/queues/{queue}", "queue", "Shows a queue", get(look::queue))
            .scope(Read)
            .of_queue()
            .answer::<QueueInfo>(200, "From its owner's memory."),
        Operation::new(
            Method::PUT,
            "/v1/queues/{queue}",
            "put_queue",
            "Creates a job queue, or changes its settings",
            put(steer::settings),
        )
        .scope(Admin)
        .json::<QueueSettings>(
            json!({"lease_ms": 60000, "max_attempts": 25, "backoff": {"base_ms": 1000, "cap_ms": 3600000},
                   "window": {"jobs": 50000, "bytes": 67108864}}),
        )
        .answer::<QueueSettings>(200, "The settings in force.")
        .answer::<QueueSettings>(201, "Created, with these settings.")
        .also(&[Conflict]),
        Operation::new(
            POST,
            "/v1/queues/{queue}/pause",
            "pause",
            "Hands nothing out any more: of some types and keys, or, with neither, of the queue as a whole",
            post(pause::pause),
        )
        .scope(Admin)
        .of_queue()
        .json::<PauseRequest>(json!({"types": ["send_sms"], "keys": ["tenant-9"]}))
        .answer::<PauseAnswer>(200, "What is paused now."),
        Operation::new(
            POST,
            "/v1/queues/{queue}/resume",
            "resume_queue",
            "Takes a pause back: of some types and keys, or, with neither, of the queue as a whole",
            post(pause::resume),
        )
        .scope(Admin)
        .of_queue()
        .json::<PauseRequest>(json!({"types": ["send_sms"]}))
        .answer::<PauseAnswer>(200, "What is paused now."),
        Operation::new(
            GET,
            "/v1/queues/{queue}/jobs",
            "jobs",
            "Lists jobs of one state: dead ones by time, others by id",
            get(list::jobs),
        )
        .scope(Read)
        .of_queue()
        .query::<JobState>(
            "state",
            "`waiting` (also if absent) or `dead`, of which a filtered page may be short or empty; `leased`; or `ready`: \
             only of the jobs that the owner has in its window. What it has not read yet is on no list.",
            json!("leased"),
        )
        .query::<String>("type", "Of this type only.", json!("send_email"))
        .query::<String>("cursor", "The `cursor` of the page before.", json!("1"))
        .query::<u16>("limit", "1 to 1,000; absent: 100.", json!(10))
        .answer::<JobPage>(200, "A page."),
        Operation::new(
            GET,
            "/v1/queues/{queue}/jobs/{id}",
            "job",
            "Shows a job: where it is and what happened to it",
            get(details::job),
        )
        .scope(Read)
        .of_queue()
        .answer::<JobDetails>(200, "From the owner's window, or from the database.")
        .also(&[UnknownJob]),
        Operation::new(
            POST,
            "/v1/queues/{queue}/jobs/{id}/cancel",
            "cancel",
            "Cancels a job: it ends, or its handler hears the code at the next heartbeat",
            post(cancel::job),
        )
        .scope(Work)
        .of_queue()
        .json::<CancelRequest>(json!({"code": 1}))
        .answer::<CancelAnswer>(200, "It will not be given out any more. Both are 0 if it was cancelled before.")
        .also(&[UnknownJob, Conflict]),
        Operation::new(
            POST,
            "/v1/queues/{queue}/cancel",
            "cancel_key",
            "Cancels all jobs that carry a key; not those that are produced later",
            post(cancel::key),
        )
        .scope(Work)
        .of_queue()
        .json::<CancelKeyRequest>(json!({"cancel_key": "42", "code": 1}))
        .answer::<CancelAnswer>(200, "None of them will be given out any more."),
    ]
}

/// Jobs that failed for good.
fn dead_letters() -> Vec<Operation> {
    let selection = || json!({"all": true, "type": "send_email"});
    vec![
        Operation::new(
            GET,
            "/v1/queues/{queue}/dead",
            "dead",
            "Lists dead letters, the oldest first",
            get(dead::list),
        )
        .scope(Read)
        .of_queue()
        .query::<String>("cursor", "The `cursor` of the page before.", json!("1764576000000000-123"))
        .query::<u16>("limit", "1 to 1,000; absent: 100.", json!(10))
        .answer::<DeadPage>(200, "A page."),
        Operation::new(
            POST,
            "/v1/queues/{queue}/dead/redrive",
            "redrive",
            "Makes dead letters jobs again, with all their attempts",
            post(dead::redrive),
        )
        .scope(Admin)
        .of_queue()
        .json::<DeadSelection>(selection())
        .answer::<RedriveAnswer>(200, "How many."),
        Operation::new(
            POST,
            "/v1/queues/{queue}/dead/purge",
            "purge",
            "Deletes dead letters",
            post(dead::purge),
        )
        .scope(Admin)
        .of_queue()
        .json::<DeadSelection>(selection())
        .answer::<PurgeAnswer>(200, "How many."),
    ]
}

/// Those who work, and what they are told.
fn workers() -> Vec<Operation> {
    let order = |path, id, summary, route: MethodRouter<ApiState>| {
        Operation::new(POST, path, id, summary, route)
            .scope(Admin)
            .answer::<WorkerOrder>(200, "What it is told from now on, by every dispatcher within a second.")
            .also(&[InvalidRequest, UnknownWorker])
    };
    vec![
        Operation::new(
            GET,
            "/v1/workers",
            "workers",
            "Lists the workers heard of lately, of the queues that the token may read",
            get(workers::list),
        )
        .scope(Read)
        .answer::<WorkerList>(200, "By host, process and instance."),
        order(
            "/v1/workers/{instance}/quiet",
            "quiet",
            "Tells a worker to finish what it has and grab nothing",
            post(workers::quiet),
        ),
        order(
            "/v1/workers/{instance}/terminate",
            "terminate",
            "Tells a worker to hand back what it has not begun, finish the rest, and exit",
            post(workers::terminate),
        ),
        order(
            "/v1/workers/{instance}/resume",
            "resume",
            "Takes an order to a worker back",
            post(workers::resume),
        ),
    ]
}
