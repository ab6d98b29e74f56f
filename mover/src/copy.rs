//! PostgreSQL's binary COPY format, as far as the mover writes it.

use bytes::{BufMut as _, Bytes, BytesMut};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Type of the elements of a `bigint[]`.
const INT8_OID: i32 = 20;

/// A stream of tuples being written; taken out in chunks, so that it never holds more than a few pages.
#[derive(Debug)]
pub(crate) struct Tuples {
    buffer: BytesMut,
}

impl Tuples {
    /// A stream with its header.
    pub(crate) fn new() -> Self {
        let mut buffer = BytesMut::new();
        buffer.put_slice(SIGNATURE);
        buffer.put_i32(0); // flags
        buffer.put_i32(0); // no header extension
        Self { buffer }
    }

    /// Begins a tuple of `fields` fields.
    pub(crate) fn tuple(&mut self, fields: i16) {
        self.buffer.put_i16(fields);
    }

    /// Adds an `integer` field.
    pub(crate) fn int4(&mut self, value: i32) {
        self.buffer.put_i32(4);
        self.buffer.put_i32(value);
    }

    /// Adds a `bigint` field.
    pub(crate) fn int8(&mut self, value: i64) {
        self.buffer.put_i32(8);
        self.buffer.put_i64(value);
    }

    /// Adds a `text` field. Names only: far below 2 GiB.
    pub(crate) fn text(&mut self, value: &str) {
        self.buffer.put_i32(length(value.len()));
        self.buffer.put_slice(value.as_bytes());
    }

    /// Adds a `bigint[]` field. One page of ids: far below 2 GiB.
    pub(crate) fn int8_array(&mut self, values: &[i64]) {
        self.buffer.put_i32(length(20 + 12 * values.len()));
        self.buffer.put_i32(1); // dimensions
        self.buffer.put_i32(0); // no nulls
        self.buffer.put_i32(INT8_OID);
        self.buffer.put_i32(length(values.len()));
        self.buffer.put_i32(1); // lower bound
        for value in values {
            self.int8(*value);
        }
    }

    /// Adds fields that are encoded already.
    pub(crate) fn encoded(&mut self, fields: &[u8]) {
        self.buffer.put_slice(fields);
    }

    /// Bytes not taken yet.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Takes what was written so far.
    pub(crate) fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    /// Ends the stream and gives what was not taken yet.
    pub(crate) fn finish(mut self) -> Bytes {
        self.buffer.put_i16(-1);
        self.buffer.freeze()
    }
}

/// A length in PostgreSQL's protocol.
pub(crate) fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("a field of PostgreSQL is shorter than 2 GiB")
}
