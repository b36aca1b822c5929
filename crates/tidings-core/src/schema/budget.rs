//! The budget of one record: how many values it may become, and how much text its schema may bring into them.
//!
//! Owns: counting both, and the depth. A name, a symbol or a default stands once in the schema, for no or few bytes of a record, and is
//! copied into each value that has it. Text that the record itself brings is not counted: it is as long as the record. Neighbours: `avro`
//! and `protobuf`, which ask before they make a value.

/// The most values that one record may become: a few bytes can stand for any number of empty ones.
const LIMIT_VALUES: usize = 1 << 20;
/// The most text that a schema may bring into them, in bytes: each value copies the names that it has there.
const LIMIT_BROUGHT_BYTES: usize = 64 << 20;
/// How deep values may lie in each other.
pub(super) const LIMIT_DEPTH: usize = 128;

/// What one record has become up to now.
#[derive(Debug, Default)]
pub(super) struct Budget {
    values: usize,
    brought_bytes: usize,
}

impl Budget {
    /// Counts values that are to be made, so deep.
    pub(super) fn values(&mut self, count: usize, depth: usize) -> Result<(), String> {
        self.values = self.values.saturating_add(count);
        if self.values > LIMIT_VALUES {
            return Err(format!("it holds more than {LIMIT_VALUES} values"));
        }
        if depth > LIMIT_DEPTH { Err(format!("it nests deeper than {LIMIT_DEPTH} levels")) } else { Ok(()) }
    }

    /// Counts text of the schema that is to be copied.
    pub(super) fn brings(&mut self, bytes: usize) -> Result<(), String> {
        self.brought_bytes = self.brought_bytes.saturating_add(bytes);
        if self.brought_bytes > LIMIT_BROUGHT_BYTES {
            let why = "names, symbols and defaults of the schema";
            return Err(format!("{why} take more than {LIMIT_BROUGHT_BYTES} bytes in what it holds"));
        }
        Ok(())
    }
}
