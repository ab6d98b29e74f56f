//! Back-off: how long a failed job may wait before it is tried again.

/// The bound of the wait grows with the attempts; the wait is a random time up to it (full jitter).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// `base_ms` after the first attempt, doubled with each, at most `cap_ms`.
    Exponential { base_ms: u64, cap_ms: u64 },
    /// As mail is delivered: less and less, for five days.
    Mail,
}

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// Bounds by attempt; the last one stays. With jitter the wait is half of it on average: over the default of 25 attempts
/// five days, ten at most.
const MAIL: [u64; 11] = [
    2 * MINUTE,
    10 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    4 * HOUR,
    6 * HOUR,
    8 * HOUR,
    10 * HOUR,
    12 * HOUR,
    14 * HOUR,
];

impl Backoff {
    /// The longest wait after this attempt, the first being 1.
    #[must_use]
    pub fn bound_ms(self, attempt: i32) -> u64 {
        let before = usize::try_from(attempt - 1).unwrap_or(0);
        match self {
            Self::Exponential { base_ms, cap_ms } => base_ms.saturating_mul(1 << before.min(40)).min(cap_ms),
            Self::Mail => MAIL[before.min(MAIL.len() - 1)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_doubles_up_to_its_cap() {
        let backoff = Backoff::Exponential { base_ms: 100, cap_ms: 1_000 };
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 1_000].map(|n| backoff.bound_ms(n)),
            [100, 100, 200, 400, 800, 1_000, 1_000]
        );
    }

    #[test]
    fn mail_is_tried_less_and_less_for_five_days() {
        let bounds: Vec<u64> = (1..25).map(|attempt| Backoff::Mail.bound_ms(attempt)).collect();
        assert!(bounds.is_sorted());
        let mean_hours = bounds.iter().sum::<u64>() / 2 / HOUR;
        assert_eq!(mean_hours, 5 * 24 - 1, "the 24 waits between 25 attempts");
    }
}
