//! Events on their way: read from one server and written to the other without being looked at.

use std::ops::Range;

use bytes::{BufMut as _, BytesMut};
use tidemill_common::db::Row;
use tokio_postgres::types::{FromSql, Type};

use crate::copy::{Tuples, length};

/// Columns of an event that a page carries, id first. Everything but the id is passed on as it came.
pub(crate) const COLUMNS: &str =
    "ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4";
const FIELDS: i16 = 8;

/// Some events of one batch, in order of their source id.
#[derive(Debug, Default)]
pub struct Page {
    /// Source ids.
    ids: Vec<i64>,
    /// For each event, everything behind the id, as fields of a binary tuple.
    fields: BytesMut,
    /// Where each event ends in `fields`.
    ends: Vec<usize>,
}

/// A field as the server sent it: binary results and binary COPY have the same form.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl Page {
    /// Takes over rows of `tidemill.read_move_page`; the second value is true if the batch ends with them.
    ///
    /// # Errors
    /// If the rows have other columns.
    pub(crate) fn from_rows(rows: &[Row]) -> Result<(Self, bool), tokio_postgres::Error> {
        let mut page = Self::default();
        for row in rows {
            page.ids.push(row.try_get("ev_id")?);
            for column in
                ["ev_time", "ev_type", "ev_data", "ev_extra1", "ev_extra2", "ev_extra3", "ev_extra4"]
            {
                match row.try_get::<_, Option<Raw<'_>>>(column)? {
                    Some(Raw(bytes)) => {
                        page.fields.put_i32(length(bytes.len()));
                        page.fields.put_slice(bytes);
                    }
                    None => page.fields.put_i32(-1),
                }
            }
            page.ends.push(page.fields.len());
        }
        let last = match rows.last() {
            Some(row) => row.try_get("o_last")?,
            None => true,
        };
        Ok((page, last))
    }

    /// Number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True for a page without events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Size of the events, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.fields.len() + 14 * self.ids.len()
    }

    /// The last source id, where the next page goes on.
    pub(crate) fn last_id(&self) -> Option<i64> {
        self.ids.last().copied()
    }

    /// Source ids of some of the events.
    pub(crate) fn source_ids(&self, range: Range<usize>) -> &[i64] {
        &self.ids[range]
    }

    /// Writes one of the events as a tuple of [`COLUMNS`], under another id.
    pub(crate) fn write(&self, event: usize, id: i64, out: &mut Tuples) {
        let start = if event == 0 { 0 } else { self.ends[event - 1] };
        out.tuple(FIELDS);
        out.int8(id);
        out.encoded(&self.fields[start..self.ends[event]]);
    }
}
