//! Syntax: what of the language is not read, told by its name before anything is compiled.
//!
//! Owns: the refusal of editions (the values of a field depend on features there), of message sets (their wire format is their own), of brackets
//! that nest deeper than parsers may follow, and of messages that are extended very often. All else of proto2 and proto3 is read.
//! Neighbour: `protobuf`, which parses and compiles.

use prost_reflect::DescriptorPool;
use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto};

/// How deep brackets may nest in a schema: parsers follow them on the stack.
const LIMIT_BRACKETS: usize = 64;
/// How often a message may be extended: for each field of a record that it does not have itself all its extensions are gone through. Those of
/// schemas' options count too, since a record may hold such a message.
const LIMIT_EXTENSIONS: usize = 128;
const MESSAGE_SET: &str = "message_set_wire_format";

/// Whether a text may be parsed.
pub(super) fn check_text(text: &str) -> Result<(), String> {
    if nests_deep(text) {
        return Err(format!("brackets nest deeper than {LIMIT_BRACKETS} levels"));
    }
    // Only behind comments, as `syntax` would stand.
    let rest = code(text).strip_prefix("edition").map(code);
    match rest.and_then(|rest| rest.strip_prefix('=')) {
        Some(year) => Err(edition(code(year).split([';', '\n']).next().unwrap_or_default().trim())),
        None => Ok(()),
    }
}

/// Whether a file may be compiled.
pub(super) fn check(file: &FileDescriptorProto) -> Result<(), String> {
    match file.syntax.as_deref() {
        None | Some("" | "proto2" | "proto3") => {}
        Some("editions") => return Err(edition("that a compiler has left out")),
        Some(other) => return Err(format!("its syntax is `{other}`; proto2 and proto3 are read")),
    }
    match file.message_type.iter().find_map(message_set) {
        Some(name) => Err(format!("the message `{name}` is a message set (`{MESSAGE_SET}`), which is not read")),
        None => Ok(()),
    }
}

/// Whether values may be read with what was compiled.
pub(super) fn check_extended(pool: &DescriptorPool) -> Result<(), String> {
    match pool.all_messages().find(|message| message.extensions().len() > LIMIT_EXTENSIONS) {
        Some(message) => {
            let (name, count) = (message.full_name(), message.extensions().len());
            Err(format!("the message `{name}` is extended by {count} fields; at most {LIMIT_EXTENSIONS} are read"))
        }
        None => Ok(()),
    }
}

fn edition(which: &str) -> String {
    format!("it is written in the edition {which}; proto2 and proto3 are read (`syntax = \"proto3\";`)")
}

/// The name of a message set.
fn message_set(message: &DescriptorProto) -> Option<&str> {
    let is_one = message.options.as_ref().is_some_and(|options| {
        let mut unread = options.uninterpreted_option.iter();
        options.message_set_wire_format()
            || unread.any(|option| {
                let [part] = option.name.as_slice() else { return false };
                part.name_part == MESSAGE_SET && option.identifier_value() == "true"
            })
    });
    if is_one { Some(message.name()) } else { message.nested_type.iter().find_map(message_set) }
}

/// What follows blanks and comments.
fn code(text: &str) -> &str {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        rest = match (rest.strip_prefix("//"), rest.strip_prefix("/*")) {
            (Some(comment), _) => comment.split_once('\n').map_or("", |(_, rest)| rest),
            (_, Some(comment)) => comment.split_once("*/").map_or("", |(_, rest)| rest),
            _ => return rest,
        }
        .trim_start();
    }
}

/// Whether brackets nest too deep, outside of texts and comments.
fn nests_deep(schema: &str) -> bool {
    let (mut depth, mut bytes) = (0_usize, schema.bytes().peekable());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' | b'\'' => {
                while let Some(within) = bytes.next() {
                    match within {
                        b'\\' => drop(bytes.next()),
                        end if end == byte => break,
                        _ => {}
                    }
                }
            }
            b'/' if bytes.peek() == Some(&b'/') => drop(bytes.by_ref().find(|byte| *byte == b'\n')),
            b'/' if bytes.peek() == Some(&b'*') => {
                bytes.next();
                while let Some(within) = bytes.next() {
                    if within == b'*' && bytes.peek() == Some(&b'/') {
                        break;
                    }
                }
            }
            b'{' | b'[' | b'(' | b'<' => depth += 1,
            b'}' | b']' | b')' | b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > LIMIT_BRACKETS {
            return true;
        }
    }
    false
}
