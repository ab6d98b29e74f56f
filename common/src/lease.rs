//! The lease token: opaque to workers, taken apart only by the engine and by `tidemill.parse_lease`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What one worker holds on one job, between a grab and its result.
///
/// Text form: `kind-queue-epoch-number-job-put-attempt-nonce`, kind `t` (transactional) or `l`, numbers in
/// decimal, the nonce as 16 hexadecimal digits. The nonce is random per grab, so that a token cannot be guessed
/// from somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The worker will finish in its own database transaction; the job waits in the waiting room.
    pub transactional: bool,
    pub queue_id: i32,
    /// Epoch of the owner that granted it.
    pub epoch: i64,
    /// Number of the lease within the epoch.
    pub number: i64,
    pub job: i64,
    /// How often the job had been put into the log when it was leased.
    pub put: i32,
    /// Leases minus declines, this one counted.
    pub attempt: i32,
    pub nonce: u64,
}

/// A text that no engine ever issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a lease token")]
pub struct NotALease;

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.transactional { 't' } else { 'l' };
        let Self { queue_id, epoch, number, job, put, attempt, nonce, .. } = self;
        write!(f, "{kind}-{queue_id}-{epoch}-{number}-{job}-{put}-{attempt}-{nonce:016x}")
    }
}

impl FromStr for Lease {
    type Err = NotALease;

    fn from_str(text: &str) -> Result<Self, NotALease> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(NotALease);
        let transactional = match next()? {
            "t" => true,
            "l" => false,
            _ => return Err(NotALease),
        };
        let lease = Self {
            transactional,
            queue_id: number(next()?)?,
            epoch: number(next()?)?,
            number: number(next()?)?,
            job: number(next()?)?,
            put: number(next()?)?,
            attempt: number(next()?)?,
            nonce: nonce(next()?)?,
        };
        if parts.next().is_some() { Err(NotALease) } else { Ok(lease) }
    }
}

/// Digits only: `parse` alone would also take a sign, and one lease would have two spellings.
fn number<T: FromStr>(text: &str) -> Result<T, NotALease> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NotALease);
    }
    text.parse().map_err(|_| NotALease)
}

fn nonce(text: &str) -> Result<u64, NotALease> {
    if text.len() != 16 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(NotALease);
    }
    u64::from_str_radix(text, 16).map_err(|_| NotALease)
}

impl Serialize for Lease {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lease {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let lease = Lease {
            transactional: true,
            queue_id: 7,
            epoch: 3,
            number: 1042,
            job: 99_817,
            put: 0,
            attempt: 1,
            nonce: 0x0f3a_66b0,
        };
        assert_eq!(lease.to_string(), "t-7-3-1042-99817-0-1-000000000f3a66b0");
        assert_eq!(lease.to_string().parse(), Ok(lease));
    }

    #[test]
    fn forged_texts_are_refused() {
        for text in [
            "",
            "l",
            "x-7-3-1042-99817-0-1-000000000f3a66b0",
            "l-7-3-1042-99817-0-1-F3A66B0000000000",
            "l-7-3-1042-99817-0-+1-000000000f3a66b0",
            "l-7-3-1042-99817-0-1-000000000f3a66b0-1",
            "l-99999999999-3-1042-99817-0-1-000000000f3a66b0",
        ] {
            assert_eq!(text.parse::<Lease>(), Err(NotALease), "{text}");
        }
    }
}
