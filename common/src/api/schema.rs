//! JSON Schemas of the types whose shape on the wire is written by hand. All others derive theirs.

#![expect(dead_code, reason = "the types here are shapes: they are described, never made")]

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{NewJob, ProduceRequest, RawValue, ResultItem};

/// The outcome of one lease: one flat object.
#[derive(JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
enum Item {
    /// Done.
    Complete {
        /// The token that came with the job.
        lease: String,
        /// Any JSON.
        result: Option<Box<RawValue>>,
    },
    /// Failed; try again later.
    TempFail {
        /// The token that came with the job.
        lease: String,
        /// At most 4 KiB.
        message: Option<String>,
        /// Absent: the queue's back-off.
        retry_in_ms: Option<u64>,
    },
    /// Failed for good: a dead letter.
    PermFail {
        /// The token that came with the job.
        lease: String,
        /// At most 4 KiB.
        message: Option<String>,
    },
    /// Not done and not tried: another worker gets the job, and the attempt does not count.
    Decline {
        /// The token that came with the job.
        lease: String,
    },
    /// Done, and these jobs instead, in one transaction.
    Replace {
        /// The token that came with the job.
        lease: String,
        /// At most 10,000.
        jobs: Vec<NewJob>,
    },
}

/// One job, or several.
#[derive(JsonSchema)]
#[serde(untagged)]
enum Produce {
    Many(Jobs),
    One(Box<NewJob>),
}

/// All or none of these are stored.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Jobs {
    /// 1 to 10,000.
    jobs: Vec<NewJob>,
}

macro_rules! as_described_by {
    ($name:ident, $shape:ident) => {
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                $shape::json_schema(generator)
            }
        }
    };
}

as_described_by!(ResultItem, Item);
as_described_by!(ProduceRequest, Produce);
