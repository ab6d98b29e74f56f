//! The identifiers of the flow as types, checked once where they enter.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not one of our names. Display is a sentence for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be 1 to {max} characters out of A-Z a-z 0-9 _ . : -")]
pub struct InvalidName {
    kind: &'static str,
    max: usize,
}

fn check_name(text: &str, kind: &'static str, max: usize) -> Result<(), InvalidName> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-');
    if (1..=max).contains(&text.len()) && text.chars().all(allowed) {
        Ok(())
    } else {
        Err(InvalidName { kind, max })
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(feature = "openapi", derive(schemars::JsonSchema), schemars(extend("maxLength" = $max)))]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                check_name(text, $kind, $max)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                check_name(&text, $kind, $max)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl $name {
            /// The number as PostgreSQL's `bigint`.
            #[must_use]
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl From<i64> for $name {
            fn from(number: i64) -> Self {
                Self(number)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

text_id!(
    /// Name of a PgQ queue: 1 to 63 characters out of `A-Za-z0-9_.:-`.
    QueueName, "a queue name", 63
);
text_id!(
    /// Name of a PgQ consumer: 1 to 63 characters out of `A-Za-z0-9_.:-`.
    ConsumerName, "a consumer name", 63
);
text_id!(
    /// Identity of a job, at most 40 characters; opaque to everybody but the dispatcher.
    JobId, "a job id", 40
);
number_id!(
    /// `pgq.tick.tick_id`: counted per queue.
    TickId
);
number_id!(
    /// `pgq.subscription.sub_batch`: one sequence for a whole database.
    BatchId
);
number_id!(
    /// `ev_id`: counted per queue.
    EventId
);
number_id!(
    /// How often something changed hands. It only grows; work under an older epoch is refused.
    Epoch
);

/// One running worker process, made anew at each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct WorkerInstance(pub Uuid);

impl WorkerInstance {
    /// An instance nobody had before.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for WorkerInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_where_they_enter() {
        for good in ["a", "orders.eu:1-x_2", &"q".repeat(63)] {
            assert_eq!(good.parse::<QueueName>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "ä", "a\n", &"q".repeat(64)] {
            assert!(bad.parse::<QueueName>().is_err(), "{bad:?}");
            assert!(serde_json::from_value::<QueueName>(serde_json::json!(bad)).is_err());
        }
        assert!("1".repeat(41).parse::<JobId>().is_err());
    }

    #[test]
    fn ids_are_plain_values_on_the_wire() {
        assert_eq!(serde_json::to_string(&TickId(7)).unwrap(), "7");
        let name: QueueName = serde_json::from_str("\"mail\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"mail\"");
    }
}
