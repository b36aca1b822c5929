//! Paths: how much text the places of a schema come to when each is written out with all that it stands in, as validators keep them.
//!
//! Owns: counting it before anything is compiled. A name that is said once is part of the path of all that stands within it: a megabyte of
//! properties in one with a name of a megabyte would be gigabytes of paths. Neighbour: `json`, which compiles.

use serde_json::Value;

/// The most bytes of paths that are written out for a schema with all that it refers to.
const LIMIT_PATHS_BYTES: usize = 64 << 20;
/// The most digits of a place in a list, with the slash before it.
const INDEX_BYTES: usize = 8;

/// What the paths of documents take, each with the bytes of where it lies, if they can be compiled within the limit.
pub(super) fn check<'a>(documents: impl Iterator<Item = (usize, &'a Value)>) -> Result<usize, String> {
    let bytes = documents.fold(0_usize, |sum, (base, document)| sum.saturating_add(written(document, base)));
    if bytes > LIMIT_PATHS_BYTES {
        return Err(format!("its paths, written out in full, take {bytes} bytes; at most {LIMIT_PATHS_BYTES} are read"));
    }
    Ok(bytes)
}

/// How many places documents have.
pub(super) fn places(part: &Value) -> usize {
    let within: &mut dyn Iterator<Item = usize> = match part {
        Value::Array(items) => &mut items.iter().map(places),
        Value::Object(fields) => &mut fields.values().map(places),
        _ => return 1,
    };
    within.fold(1, usize::saturating_add)
}

fn written(part: &Value, path: usize) -> usize {
    let within: &mut dyn Iterator<Item = usize> = match part {
        Value::Array(items) => &mut items.iter().map(|item| written(item, path + INDEX_BYTES)),
        Value::Object(fields) => {
            // What says where it lies itself is looked for from there.
            let id = ["$id", "id"].iter().filter_map(|keyword| fields.get(*keyword)?.as_str()).map(str::len).sum::<usize>();
            &mut fields.iter().map(move |(name, field)| written(field, path + id + 1 + name.len()))
        }
        _ => return path,
    };
    within.fold(path, usize::saturating_add)
}
