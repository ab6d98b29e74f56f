//! Times in an answer with many jobs: these were leased together, and often inserted together. To compare a time with that
//! of the job before takes a tenth of what it takes to read it.

use std::cell::RefCell;
use std::fmt;
use std::thread::LocalKey;

use jiff::Timestamp;
use serde::de::{Deserializer, Error, Visitor};

thread_local! {
    static LEASE_ENDS_AT: Last = Last::default();
    static INSERTED_AT: Last = Last::default();
}

/// The time read last, and how it was written.
type Last = RefCell<Option<(String, Timestamp)>>;

pub(super) fn lease_ends_at<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    from.deserialize_str(Time(&LEASE_ENDS_AT))
}

pub(super) fn inserted_at<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    from.deserialize_str(Time(&INSERTED_AT))
}

struct Time(&'static LocalKey<Last>);

impl Visitor<'_> for Time {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time as RFC 3339 writes it")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
        self.0.with_borrow_mut(|last| match last {
            Some((known, time)) if known == text => Ok(*time),
            _ => {
                let time = text.parse().map_err(E::custom)?;
                *last = Some((text.to_owned(), time));
                Ok(time)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_its_own() {
        let read = |text: &str| lease_ends_at(&mut serde_json::Deserializer::from_str(text)).ok();
        let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        assert_eq!(read("\"\""), None);
        for text in ["2026-12-01T08:00:00Z", "2026-12-01T08:00:00Z", "2026-12-01T08:00:00.5Z"] {
            assert_eq!(read(&format!("\"{text}\"")), time(text));
        }
        assert_eq!(read("\"2026-13-01T08:00:00Z\""), None);
        assert_eq!(read("\"2026-12-01T08:00:00.5Z\""), time("2026-12-01T08:00:00.5Z"));
        assert_eq!(read("7"), None);
    }
}
