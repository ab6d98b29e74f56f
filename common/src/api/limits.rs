//! Limits of a queue: how many of its jobs are leased at once, and how many a second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{At, Faults, Validate, check_type_name, limit};

/// How many jobs are leased at once, and how many a second: of the queue as a whole, of a type, of each key. A job is
/// leased when all the limits that concern it let it through; until then it waits, and jobs of other types and keys go on.
/// Given limits replace all former ones; `{}` lifts them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QueueLimits {
    /// Of all jobs of the queue together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Limit>,
    /// Of the jobs of a type, by its name; at most 100 types.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, Limit>,
    /// Of the jobs with the same `key`, for each key by itself. Jobs without a key are free of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Limit>,
}

/// One limit: at least one of both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// So many at once: 1 to 1,000,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leased: Option<u64>,
    /// So many a second on average: above 0, up to 1,000,000. After a rest up to one second's worth of them at once, but
    /// always one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
}

impl QueueLimits {
    /// Is nothing limited?
    pub fn is_empty(&self) -> bool {
        self.queue.is_none() && self.types.is_empty() && self.key.is_none()
    }
}

impl Validate for QueueLimits {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        if let Some(queue) = &self.queue {
            queue.validate(at.field("queue"), faults);
        }
        let types = at.field("types");
        faults.require(
            self.types.len() <= limit::LIMITED_TYPES,
            types,
            format_args!("must name at most {} types", limit::LIMITED_TYPES),
        );
        for (name, of) in &self.types {
            check_type_name(name, types.field(name), faults);
            of.validate(types.field(name), faults);
        }
        if let Some(key) = &self.key {
            key.validate(at.field("key"), faults);
        }
    }
}

impl Validate for Limit {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        faults.require(*self != Self::default(), at, "must have `leased`, `per_second` or both");
        if let Some(leased) = self.leased {
            faults.range(leased, 1, limit::LIMITED_LEASES, at.field("leased"));
        }
        if let Some(rate) = self.per_second {
            faults.require(
                rate > 0.0 && rate <= limit::LIMITED_RATE,
                at.field("per_second"),
                format_args!("must be above 0 and at most {}, and is {rate}", limit::LIMITED_RATE),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(json: &str) -> Vec<(String, String)> {
        match super::super::parse::<QueueLimits>(json.as_bytes()) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.into_iter().map(|fault| (fault.pointer, fault.detail)).collect(),
        }
    }

    #[test]
    fn limits_are_read_as_they_are_written() {
        for json in [
            "{}",
            r#"{"queue":{"leased":200,"per_second":100.0}}"#,
            r#"{"types":{"a":{"leased":20,"per_second":14.5}},"key":{"leased":1}}"#,
        ] {
            let limits: QueueLimits = serde_json::from_str(json).unwrap();
            assert_eq!(faults(json), []);
            assert_eq!(serde_json::to_string(&limits).unwrap(), json);
        }
        assert!(QueueLimits::default().is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_where_it_is() {
        let pointers = |json: &str| -> Vec<String> { faults(json).into_iter().map(|(at, _)| at).collect() };
        assert_eq!(pointers(r#"{"queue":{}}"#), ["/queue"]);
        assert_eq!(pointers(r#"{"queue":{"leased":0}}"#), ["/queue/leased"]);
        assert_eq!(pointers(r#"{"queue":{"leased":1.5}}"#), ["/queue/leased"]);
        assert_eq!(pointers(r#"{"key":{"leased":1000000001}}"#), ["/key/leased"]);
        assert_eq!(pointers(r#"{"key":{"per_second":0}}"#), ["/key/per_second"]);
        assert_eq!(pointers(r#"{"key":{"per_second":-1}}"#), ["/key/per_second"]);
        assert_eq!(pointers(r#"{"key":{"per_second":1000001}}"#), ["/key/per_second"]);
        assert_eq!(pointers(r#"{"types":{"a/b":{"per_second":0}}}"#), ["/types/a~1b/per_second"]);
        assert_eq!(pointers(r#"{"types":{"":{"leased":1}}}"#), ["/types/"]);
        assert_eq!(pointers(r#"{"keys":{"leased":1}}"#), ["/keys"]);
        assert_eq!(pointers(r#"{"key":{"lease":1}}"#), ["/key/lease"]);
        let many: Vec<String> = (0..101).map(|n| format!(r#""t{n}":{{"leased":1}}"#)).collect();
        assert_eq!(pointers(&format!(r#"{{"types":{{{}}}}}"#, many.join(","))), ["/types"]);
        assert_eq!(
            faults(r#"{"key":{"per_second":1e7}}"#)[0].1,
            "must be above 0 and at most 1000000, and is 10000000"
        );
    }
}
