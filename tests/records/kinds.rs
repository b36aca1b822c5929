//! Every type of record, by its name.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tidings_core::record::{self, Record, RecordError};
use tidings_core::record::{audit, cursor, meta, notified, receipt, request, retry, signal};

/// A type of record, without its type.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    /// Decodes a value of a version, and encodes what was read.
    pub(crate) again: fn(u32, &Value) -> Result<Value, RecordError>,
}

pub(crate) const KINDS: [Kind; 9] = [
    kind::<notified::NotificationRecord>(),
    kind::<cursor::CursorRecord>(),
    kind::<receipt::ReceiptRecord>(),
    kind::<retry::RetryRecord>(),
    kind::<retry::UndeliveredRecord>(),
    kind::<signal::SignalRecord>(),
    kind::<meta::EpochRecord>(),
    kind::<request::RequestRecord>(),
    kind::<audit::AuditRecord>(),
];

const fn kind<R: Record>() -> Kind {
    Kind { name: R::NAME, version: R::VERSION, again: again::<R> }
}

fn again<R: Record>(version: u32, value: &Value) -> Result<Value, RecordError> {
    let read: R = record::decode(Some(version.to_string().as_bytes()), value.to_string().as_bytes())?;
    Ok(json_of(&read))
}

pub(crate) fn json_of<R: Record>(record: &R) -> Value {
    serde_json::from_slice(&record::encode(record).unwrap()).unwrap()
}

pub(crate) fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder below the project's top, in the order of their names.
pub(crate) fn files(folder: &str) -> Vec<PathBuf> {
    let mut files = std::fs::read_dir(top().join(folder))
        .unwrap_or_else(|error| panic!("{folder}: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect::<Vec<_>>();
    files.sort();
    files
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn no_type_of_record_is_left_out() {
    let mut sources = files("crates/tidings-core/src/record");
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let written = sources.iter().map(|path| std::fs::read_to_string(path).unwrap().matches("impl Record for ").count());
    assert_eq!(written.sum::<usize>(), KINDS.len());
}
