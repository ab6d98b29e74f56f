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

impl Lease {
    /// Adds the text form to `text`.
    pub fn push_to(&self, text: &mut String) {
        let mut digits = itoa::Buffer::new();
        text.push_str(if self.transactional { "t-" } else { "l-" });
        for number in [
            i64::from(self.queue_id),
            self.epoch,
            self.number,
            self.job,
            i64::from(self.put),
            i64::from(self.attempt),
        ] {
            text.push_str(digits.format(number));
            text.push('-');
        }
        for digit in (0..16).rev() {
            text.push(HEX[(self.nonce >> (4 * digit) & 0xf) as usize]);
        }
    }
}

const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        self.push_to(&mut text);
        f.write_str(&text)
    }
}

impl FromStr for Lease {
    type Err = NotALease;

    fn from_str(text: &str) -> Result<Self, NotALease> {
        let (transactional, mut rest) = match text.as_bytes() {
            [b't', b'-', rest @ ..] => (true, rest),
            [b'l', b'-', rest @ ..] => (false, rest),
            _ => return Err(NotALease),
        };
        let lease = Self {
            transactional,
            queue_id: small(&mut rest)?,
            epoch: number(&mut rest)?,
            number: number(&mut rest)?,
            job: number(&mut rest)?,
            put: small(&mut rest)?,
            attempt: small(&mut rest)?,
            nonce: nonce(rest)?,
        };
        Ok(lease)
    }
}

/// Digits and the dash behind them, taken off. Nothing else: `parse` would also take a sign, and one lease would have
/// two spellings.
fn number(text: &mut &[u8]) -> Result<i64, NotALease> {
    let mut number = 0_i64;
    for (index, byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                let digit = i64::from(byte - b'0');
                number = number.checked_mul(10).and_then(|n| n.checked_add(digit)).ok_or(NotALease)?;
            }
            b'-' if index > 0 => {
                *text = &text[index + 1..];
                return Ok(number);
            }
            _ => break,
        }
    }
    Err(NotALease)
}

fn small(text: &mut &[u8]) -> Result<i32, NotALease> {
    number(text)?.try_into().map_err(|_| NotALease)
}

fn nonce(text: &[u8]) -> Result<u64, NotALease> {
    if text.len() != 16 {
        return Err(NotALease);
    }
    text.iter().try_fold(0, |nonce, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return Err(NotALease),
        };
        Ok(nonce << 4 | u64::from(digit))
    })
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
            "l-7-3-1042-99999999999999999999-0-1-000000000f3a66b0",
            "l-7-3-1042-99817-0-1-00000000f3a66b0",
            "l-7-3-1042-99817-0-1",
            "l-7-3-1042--0-1-000000000f3a66b0",
            "l-7-3-1042-99817-0-1-000000000f3a66bg",
            "l7-3-1042-99817-0-1-000000000f3a66b0",
        ] {
            assert_eq!(text.parse::<Lease>(), Err(NotALease), "{text}");
        }
    }
}
