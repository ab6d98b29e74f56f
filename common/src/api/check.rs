//! From bytes to a checked request: syntax, then shape, then limits. Every fault says where (a JSON pointer) and what
//! (a sentence).

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What one request may hold. Beyond a limit the answer says so; nothing is cut off silently.
pub mod limit {
    /// Jobs of one grab.
    pub const GRAB_JOBS: u32 = 1_000;
    /// Queues named in one grab.
    pub const GRAB_QUEUES: usize = 100;
    /// Job types named in one grab.
    pub const GRAB_TYPES: usize = 1_000;
    /// How long a grab may wait for work.
    pub const WAIT_MS: u64 = 30_000;
    /// The shortest lease.
    pub const LEASE_MIN_MS: u64 = 1_000;
    /// The longest lease: one day. Longer work extends it.
    pub const LEASE_MAX_MS: u64 = 86_400_000;
    /// Bytes of a failure message.
    pub const MESSAGE_BYTES: usize = 4_096;
    /// Bytes of a progress report's checkpoint.
    pub const CHECKPOINT_BYTES: usize = 4_096;
    /// Bytes of a completed job's result.
    pub const RESULT_BYTES: usize = 65_536;
    /// Bytes of a job type's name.
    pub const TYPE_BYTES: usize = 255;
    /// Bytes of a key (`key`, `coalesce_key`, `unique.key`).
    pub const KEY_BYTES: usize = 255;
    /// Bytes of a trace context.
    pub const TRACE_BYTES: usize = 255;
    /// Bytes of a worker's host, name or version.
    pub const WORKER_TEXT_BYTES: usize = 255;
    /// Bytes of a lease token.
    pub const LEASE_BYTES: usize = 512;
    /// Results in one request.
    pub const RESULTS: usize = 10_000;
    /// Leases in one heartbeat.
    pub const HEARTBEAT_LEASES: usize = 10_000;
    /// Jobs in one produce call that is not streamed, and in one `replace` outcome.
    pub const PRODUCE_JOBS: usize = 10_000;
    /// How far ahead a job may be delayed: ten years. Also the longest `retry_in_ms`.
    pub const DELAY_MS: u64 = 315_360_000_000;
    /// Attempts of a job.
    pub const ATTEMPTS: u32 = 1_000;
    /// The highest priority of a job; the lowest is as far below 0.
    pub const PRIORITY: i32 = 1_000;
    /// Jobs in a queue's window.
    pub const WINDOW_JOBS: u64 = 10_000_000;
    /// The least that a window's bytes may be limited to: 1 MiB.
    pub const WINDOW_BYTES_MIN: u64 = 1 << 20;
    /// The most: 64 GiB.
    pub const WINDOW_BYTES_MAX: u64 = 1 << 36;
    /// Ids in one redrive or purge call.
    pub const SELECTED_IDS: usize = 1_000;
    /// Names of one `pause` or `resume`, of types and of keys.
    pub const PAUSED: usize = 1_000;
    /// Types that have limits of their own.
    pub const LIMITED_TYPES: usize = 100;
    /// The highest limit of leases.
    pub const LIMITED_LEASES: u64 = 1_000_000_000;
    /// The highest limit of leases a second.
    pub const LIMITED_RATE: f64 = 1_000_000.0;
}

/// One fault of a request: an element of `errors` in a `/problems/invalid-request`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Violation {
    /// RFC 6901 pointer into the request body; empty for the body itself.
    pub pointer: String,
    /// What is wrong there, as a sentence without a full stop.
    pub detail: String,
}

/// Where in the request we are. Lives on the stack and becomes a pointer only when something is wrong.
#[derive(Debug, Clone, Copy)]
pub enum At<'a> {
    /// The body itself.
    Body,
    /// A field of an object.
    Field(&'a At<'a>, &'a str),
    /// An element of an array.
    Item(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    /// The field `name` of what is here.
    pub const fn field(&'a self, name: &'a str) -> At<'a> {
        At::Field(self, name)
    }

    /// The element `index` of what is here.
    pub const fn item(&'a self, index: usize) -> At<'a> {
        At::Item(self, index)
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Body => Ok(()),
            At::Field(parent, name) => write!(f, "{parent}/{}", name.replace('~', "~0").replace('/', "~1")),
            At::Item(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

/// The faults found so far. It keeps the first 20: enough to repair a request, too few to make the answer large.
#[derive(Debug, Default)]
pub struct Faults(Vec<Violation>);

impl Faults {
    const KEPT: usize = 20;

    /// Notes a fault at `at`.
    pub fn add(&mut self, at: At<'_>, detail: impl fmt::Display) {
        self.add_at(at.to_string(), detail);
    }

    fn add_at(&mut self, pointer: String, detail: impl fmt::Display) {
        if self.0.len() < Self::KEPT {
            self.0.push(Violation { pointer, detail: detail.to_string() });
        }
    }

    /// Notes `detail` unless `holds`.
    pub fn require(&mut self, holds: bool, at: At<'_>, detail: impl fmt::Display) {
        if !holds {
            self.add(at, detail);
        }
    }

    /// `number` must lie between `min` and `max`, both included.
    pub fn range<T: PartialOrd + fmt::Display>(&mut self, number: T, min: T, max: T, at: At<'_>) {
        if number < min || number > max {
            self.add(at, format_args!("must be between {min} and {max}, and is {number}"));
        }
    }

    /// Nothing wrong?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults as the elements of `errors`.
    pub fn into_violations(self) -> Vec<Violation> {
        self.0
    }
}

/// Limits that the shape alone does not express.
pub trait Validate {
    /// Notes everything that is wrong with `self`, which stands at `at` in the request.
    fn validate(&self, at: At<'_>, faults: &mut Faults);
}

/// Parses and checks a request body.
///
/// # Errors
/// At least one [`Violation`]: malformed JSON (with line and column), a missing, unknown or mistyped field, a limit.
pub fn parse<T: DeserializeOwned + Validate>(body: &[u8]) -> Result<T, Vec<Violation>> {
    let request: T = shape(body)?;
    let mut faults = Faults::default();
    request.validate(At::Body, &mut faults);
    if faults.is_empty() { Ok(request) } else { Err(faults.into_violations()) }
}

/// Syntax and shape only. The path of a fault costs a second pass, which only a faulty request pays.
pub(super) fn shape<T: DeserializeOwned>(body: &[u8]) -> Result<T, Vec<Violation>> {
    // One look at the whole text is cheaper than one at each string in it; who sent no text hears where it ends.
    let parsed = match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    };
    parsed.map_err(|first| {
        let mut from = serde_json::Deserializer::from_slice(body);
        let violation = match serde_path_to_error::deserialize::<_, T>(&mut from) {
            Err(error) => Violation { pointer: pointer(error.path()), detail: error.inner().to_string() },
            // What follows the value is not part of a path.
            Ok(_) => Violation { pointer: String::new(), detail: first.to_string() },
        };
        vec![violation]
    })
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push_str(&At::Body.field(key).to_string());
            }
            // The place where the syntax ends; the sentence has line and column.
            Segment::Unknown => break,
        }
    }
    pointer
}

/// A string that goes into a PostgreSQL `text`: at most `max` bytes and no NUL character.
pub fn check_text(text: &str, min: usize, max: usize, at: At<'_>, faults: &mut Faults) {
    if text.len() < min || text.len() > max {
        faults.add(at, format_args!("must have {min} to {max} bytes, and has {}", text.len()));
    } else if text.contains('\0') {
        faults.add(at, "must not contain the character U+0000, which PostgreSQL cannot store");
    }
}

/// The name of a job type: 1 to 255 bytes, no NUL.
pub fn check_type_name(name: &str, at: At<'_>, faults: &mut Faults) {
    check_text(name, 1, limit::TYPE_BYTES, at, faults);
}

/// JSON text that goes into a PostgreSQL `jsonb`: no `\u0000` and no half of a surrogate pair in any string, neither of
/// which PostgreSQL can store.
pub fn check_json(json: &RawValue, at: At<'_>, faults: &mut Faults) {
    let Some(what) = unstorable_escape(json.get()) else { return };
    // Slow path: look for the place.
    let mut pointer = at.to_string();
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(json.get())
        && let Some(inner) = nul_place(&value)
    {
        pointer.push_str(&inner);
    }
    faults.add_at(pointer, format_args!("must not contain {what}, which PostgreSQL cannot store"));
}

/// JSON text of at most so many bytes, as it was sent.
pub(super) fn check_size(json: &RawValue, max: usize, at: At<'_>, faults: &mut Faults) {
    let bytes = json.get().len();
    faults.require(bytes <= max, at, format_args!("must have at most {max} bytes, and has {bytes}"));
}

/// The first escape in valid JSON text that PostgreSQL refuses. Looks at backslashes only: they occur in strings alone.
fn unstorable_escape(json: &str) -> Option<&'static str> {
    let bytes = json.as_bytes();
    let hex = |at: usize| {
        bytes
            .get(at..at + 4)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u16::from_str_radix(h, 16).ok())
    };
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == b'\\')) {
        at += found;
        if bytes.get(at + 1) != Some(&b'u') {
            at += 2;
            continue;
        }
        match hex(at + 2) {
            Some(0) => return Some("the character U+0000"),
            Some(0xD800..=0xDBFF) => {
                let low = (bytes.get(at + 6..at + 8) == Some(b"\\u")).then(|| hex(at + 8)).flatten();
                if !matches!(low, Some(0xDC00..=0xDFFF)) {
                    return Some("half of a surrogate pair");
                }
                at += 12;
            }
            Some(0xDC00..=0xDFFF) => return Some("half of a surrogate pair"),
            Some(_) | None => at += 6,
        }
    }
    None
}

/// The pointer of the first string or key with a NUL below `value`.
fn nul_place(value: &serde_json::Value) -> Option<String> {
    use serde_json::Value;
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| nul_place(item).map(|inner| format!("/{index}{inner}"))),
        Value::Object(fields) => fields.iter().find_map(|(key, item)| {
            if key.contains('\0') {
                return Some(String::new());
            }
            nul_place(item).map(|inner| format!("{}{inner}", At::Body.field(key)))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}
