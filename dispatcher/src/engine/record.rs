//! Journal records: what one flush says happened to entries, as compact bytes.
//!
//! Integers are LEB128 varints, signed ones zigzag-coded; job ids and lease numbers inside a list are differences
//! to the one before. A completed job costs about five bytes. The first byte of a row is the format's version.

use uuid::Uuid;

/// An entry of the log: a job, and how often it had been put there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryKey {
    pub job: i64,
    pub put: i32,
}

/// A lease among all leases of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseKey {
    pub epoch: i64,
    pub number: i64,
}

/// Who holds a lease: one run of one worker process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub instance: Uuid,
    pub host: String,
    pub pid: u32,
}

/// Why an entry of the log is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// The worker completed the job.
    Completed,
    /// The worker gave it up for good: among the dead letters.
    Failed,
    /// Its attempts are used up: among the dead letters.
    Exhausted,
    /// Failed for now: in the waiting room until its back-off is over.
    Retried,
    /// In the waiting room together with its lease.
    Lent,
    /// In the waiting room until somebody asks for its type.
    Parked,
    /// Done, and other jobs exist instead.
    Replaced,
    /// Somebody cancelled it.
    Cancelled,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Leases `first`, `first + 1`, … were granted for `ms` from the row's time on, for the holder's request of this
    /// number.
    Leased {
        first: i64,
        nonce: u64,
        ms: u64,
        holder: Holder,
        request: Option<u64>,
        entries: Vec<LeasedEntry>,
    },
    /// A lease now ends `ms` after the row's time, if that is later than its end so far.
    Extended { entry: EntryKey, lease: LeaseKey, ms: u64 },
    /// The lease was given back; its attempt does not count.
    Released { entry: EntryKey, lease: LeaseKey },
    /// The entries are done with, each under its newest lease (number 0: never leased by this journal).
    Resolved { how: Resolution, entries: Vec<(EntryKey, LeaseKey)> },
}

/// One entry of [`Record::Leased`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeasedEntry {
    pub entry: EntryKey,
    pub attempt: i32,
}

/// Bytes that no version of this program wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("journal row has format {0}, this program knows {VERSION}")]
    Version(u8),
    #[error("journal row is cut short or damaged at byte {0}")]
    Damaged(usize),
}

/// The first had no leases with a request's number, and only the last has cancelled jobs. A row without these is of the
/// one before: a version that does not know them reads it, and says of the others what it lacks.
const OLDEST: u8 = 1;
const WITHOUT_CANCELLED: u8 = 2;
const VERSION: u8 = 3;
const LEASED: u8 = 1;
const EXTENDED: u8 = 2;
const RELEASED: u8 = 3;
const RESOLVED: u8 = 4;
const LEASED_FOR_REQUEST: u8 = 5;

/// Encodes the records of one flush.
#[must_use]
pub fn encode<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<u8> {
    let mut out = Writer(vec![WITHOUT_CANCELLED]);
    for record in records {
        if matches!(record, Record::Resolved { how: Resolution::Cancelled, .. }) {
            out.0[0] = VERSION;
        }
        match record {
            Record::Leased { first, nonce, ms, holder, request, entries } => {
                match request {
                    None => out.0.push(LEASED),
                    Some(number) => {
                        out.0.push(LEASED_FOR_REQUEST);
                        out.unsigned(*number);
                    }
                }
                out.signed(*first);
                out.0.extend_from_slice(&nonce.to_le_bytes());
                out.unsigned(*ms);
                out.0.extend_from_slice(holder.instance.as_bytes());
                out.unsigned(u64::from(holder.pid));
                out.unsigned(holder.host.len() as u64);
                out.0.extend_from_slice(holder.host.as_bytes());
                out.unsigned(entries.len() as u64);
                let mut job = 0;
                for e in entries {
                    out.difference(&mut job, e.entry.job);
                    out.signed(i64::from(e.entry.put));
                    out.signed(i64::from(e.attempt));
                }
            }
            Record::Extended { entry, lease, ms } => {
                out.0.push(EXTENDED);
                out.one(*entry, *lease);
                out.unsigned(*ms);
            }
            Record::Released { entry, lease } => {
                out.0.push(RELEASED);
                out.one(*entry, *lease);
            }
            Record::Resolved { how, entries } => {
                out.0.push(RESOLVED);
                out.0.push(*how as u8);
                out.unsigned(entries.len() as u64);
                let (mut job, mut epoch, mut number) = (0, 0, 0);
                for (entry, lease) in entries {
                    out.difference(&mut job, entry.job);
                    out.signed(i64::from(entry.put));
                    out.difference(&mut epoch, lease.epoch);
                    out.difference(&mut number, lease.number);
                }
            }
        }
    }
    out.0
}

/// Decodes one journal row.
pub fn decode(bytes: &[u8]) -> Result<Vec<Record>, DecodeError> {
    let mut input = Reader { bytes, at: 0 };
    let version = input.byte()?;
    if !(OLDEST..=VERSION).contains(&version) {
        return Err(DecodeError::Version(version));
    }
    let mut records = Vec::new();
    while input.at < bytes.len() {
        let record = match input.byte()? {
            LEASED => input.leased(None)?,
            LEASED_FOR_REQUEST => {
                let number = input.unsigned()?;
                input.leased(Some(number))?
            }
            EXTENDED => {
                let (entry, lease) = input.one()?;
                Record::Extended { entry, lease, ms: input.unsigned()? }
            }
            RELEASED => {
                let (entry, lease) = input.one()?;
                Record::Released { entry, lease }
            }
            RESOLVED => input.resolved()?,
            _ => return Err(input.damaged()),
        };
        records.push(record);
    }
    Ok(records)
}

struct Writer(Vec<u8>);

impl Writer {
    fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn signed(&mut self, value: i64) {
        self.unsigned(((value << 1) ^ (value >> 63)) as u64);
    }

    fn difference(&mut self, before: &mut i64, value: i64) {
        self.signed(value.wrapping_sub(*before));
        *before = value;
    }

    fn one(&mut self, entry: EntryKey, lease: LeaseKey) {
        self.signed(entry.job);
        self.signed(i64::from(entry.put));
        self.signed(lease.epoch);
        self.signed(lease.number);
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn damaged(&self) -> DecodeError {
        DecodeError::Damaged(self.at)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.at).ok_or(self.damaged())?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, len: usize) -> Result<&[u8], DecodeError> {
        let end = self.at.checked_add(len).ok_or(self.damaged())?;
        let bytes = self.bytes.get(self.at..end).ok_or(DecodeError::Damaged(self.at))?;
        self.at = end;
        Ok(bytes)
    }

    fn unsigned(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.damaged())
    }

    fn signed(&mut self) -> Result<i64, DecodeError> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn small(&mut self) -> Result<i32, DecodeError> {
        i32::try_from(self.signed()?).map_err(|_| self.damaged())
    }

    fn difference(&mut self, before: &mut i64) -> Result<i64, DecodeError> {
        *before = before.wrapping_add(self.signed()?);
        Ok(*before)
    }

    /// A count of things of at least one byte each: never more than there are bytes, so that a damaged row cannot
    /// make us reserve memory without bound.
    fn count(&mut self) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.unsigned()?).map_err(|_| self.damaged())?;
        if count > self.bytes.len() - self.at { Err(self.damaged()) } else { Ok(count) }
    }

    fn one(&mut self) -> Result<(EntryKey, LeaseKey), DecodeError> {
        let entry = EntryKey { job: self.signed()?, put: self.small()? };
        Ok((entry, LeaseKey { epoch: self.signed()?, number: self.signed()? }))
    }

    fn leased(&mut self, request: Option<u64>) -> Result<Record, DecodeError> {
        let first = self.signed()?;
        let nonce = u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| DecodeError::Damaged(0))?);
        let ms = self.unsigned()?;
        let instance = Uuid::from_slice(self.take(16)?).map_err(|_| DecodeError::Damaged(0))?;
        let pid = u32::try_from(self.unsigned()?).map_err(|_| self.damaged())?;
        let len = self.count()?;
        let damaged = self.damaged();
        let host = String::from_utf8(self.take(len)?.to_vec()).map_err(|_| damaged)?;
        let count = self.count()?;
        let mut entries = Vec::with_capacity(count);
        let mut job = 0;
        for _ in 0..count {
            let entry = EntryKey { job: self.difference(&mut job)?, put: self.small()? };
            entries.push(LeasedEntry { entry, attempt: self.small()? });
        }
        Ok(Record::Leased { first, nonce, ms, holder: Holder { instance, host, pid }, request, entries })
    }

    fn resolved(&mut self) -> Result<Record, DecodeError> {
        let how = match self.byte()? {
            0 => Resolution::Completed,
            1 => Resolution::Failed,
            2 => Resolution::Exhausted,
            3 => Resolution::Retried,
            4 => Resolution::Lent,
            5 => Resolution::Parked,
            6 => Resolution::Replaced,
            7 => Resolution::Cancelled,
            _ => return Err(self.damaged()),
        };
        let count = self.count()?;
        let mut entries = Vec::with_capacity(count);
        let (mut job, mut epoch, mut number) = (0, 0, 0);
        for _ in 0..count {
            let entry = EntryKey { job: self.difference(&mut job)?, put: self.small()? };
            let lease =
                LeaseKey { epoch: self.difference(&mut epoch)?, number: self.difference(&mut number)? };
            entries.push((entry, lease));
        }
        Ok(Record::Resolved { how, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = EntryKey> {
        (any::<i64>(), any::<i32>()).prop_map(|(job, put)| EntryKey { job, put })
    }

    fn lease() -> impl Strategy<Value = LeaseKey> {
        (any::<i64>(), any::<i64>()).prop_map(|(epoch, number)| LeaseKey { epoch, number })
    }

    fn record() -> impl Strategy<Value = Record> {
        let how = prop_oneof![
            Just(Resolution::Completed),
            Just(Resolution::Failed),
            Just(Resolution::Exhausted),
            Just(Resolution::Retried),
            Just(Resolution::Lent),
            Just(Resolution::Parked),
            Just(Resolution::Replaced),
            Just(Resolution::Cancelled)
        ];
        let leased = (entry(), any::<i32>()).prop_map(|(entry, attempt)| LeasedEntry { entry, attempt });
        prop_oneof![
            (
                any::<i64>(),
                any::<u64>(),
                any::<u64>(),
                any::<u128>(),
                any::<u32>(),
                ".*",
                any::<Option<u64>>(),
                prop::collection::vec(leased, 0..20)
            )
                .prop_map(|(first, nonce, ms, instance, pid, host, request, entries)| {
                    Record::Leased {
                        first,
                        nonce,
                        ms,
                        holder: Holder { instance: Uuid::from_u128(instance), host, pid },
                        request,
                        entries,
                    }
                }),
            (entry(), lease(), any::<u64>()).prop_map(|(entry, lease, ms)| Record::Extended {
                entry,
                lease,
                ms
            }),
            (entry(), lease()).prop_map(|(entry, lease)| Record::Released { entry, lease }),
            (how, prop::collection::vec((entry(), lease()), 0..20))
                .prop_map(|(how, entries)| Record::Resolved { how, entries }),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(records in prop::collection::vec(record(), 0..8)) {
            prop_assert_eq!(decode(&encode(&records)), Ok(records));
        }

        #[test]
        fn damage_is_an_error_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut row = vec![VERSION];
            row.extend(bytes);
            drop(decode(&row));
        }
    }

    #[test]
    fn only_a_row_with_cancelled_jobs_is_unknown_to_the_version_before() {
        let row = |how| {
            let entries = vec![(EntryKey { job: 1, put: 0 }, LeaseKey { epoch: 1, number: 0 })];
            encode(&[Record::Resolved { how, entries }])[0]
        };
        assert_eq!((row(Resolution::Completed), row(Resolution::Cancelled)), (2, 3));
    }

    #[test]
    fn a_completed_job_costs_few_bytes() {
        let entries = (0..100)
            .map(|n| (EntryKey { job: 1_000_000 + n, put: 0 }, LeaseKey { epoch: 7, number: 5_000 + n }))
            .collect();
        let bytes = encode(&[Record::Resolved { how: Resolution::Completed, entries }]).len();
        assert!(bytes <= 5 * 100, "{bytes} bytes for 100 jobs");
    }
}
