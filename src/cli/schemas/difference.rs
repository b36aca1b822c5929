//! What differs between two schemas, line by line.
//!
//! Owns: what does not count: blanks, comments, and the order of keys in JSON. Neighbours: `schemas` shows it.

use serde_json::Value;
use tidings_core::schema::{Definition, Format};

/// Nothing if they say the same. With `-` what only `theirs` has, with `+` what only `ours` has.
pub(super) fn lines(theirs: &Definition, ours: &Definition) -> Vec<String> {
    if theirs.format != ours.format {
        return vec![format!("- {}", theirs.format), format!("+ {}", ours.format)];
    }
    between(&plain(theirs), &plain(ours))
}

fn plain(definition: &Definition) -> Vec<String> {
    let text = match definition.format {
        Format::Protobuf => definition.text.clone(),
        // Keys come in the order of their names.
        Format::Avro | Format::JsonSchema => serde_json::from_str::<Value>(&definition.text)
            .and_then(|value| serde_json::to_string_pretty(&value))
            .unwrap_or_else(|_| definition.text.clone()),
    };
    let said = |line: &str| {
        let code = if definition.format == Format::Protobuf { line.split("//").next().unwrap_or_default() } else { line };
        let words = code.split_whitespace().collect::<Vec<_>>().join(" ");
        (!words.is_empty()).then_some(words)
    };
    text.lines().filter_map(said).collect()
}

/// By their longest common lines.
fn between(theirs: &[String], ours: &[String]) -> Vec<String> {
    let width = ours.len() + 1;
    let mut common = vec![0_u32; (theirs.len() + 1) * width];
    for (row, their) in theirs.iter().enumerate().rev() {
        for (column, our) in ours.iter().enumerate().rev() {
            common[row * width + column] = if their == our {
                common[(row + 1) * width + column + 1] + 1
            } else {
                common[(row + 1) * width + column].max(common[row * width + column + 1])
            };
        }
    }
    let (mut row, mut column, mut lines) = (0, 0, Vec::new());
    while row < theirs.len() || column < ours.len() {
        let is_common = row < theirs.len() && column < ours.len() && theirs[row] == ours[column];
        if is_common {
            (row, column) = (row + 1, column + 1);
        } else if column == ours.len()
            || (row < theirs.len() && common[(row + 1) * width + column] >= common[row * width + column + 1])
        {
            lines.push(format!("- {}", theirs[row]));
            row += 1;
        } else {
            lines.push(format!("+ {}", ours[column]));
            column += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(format: Format, text: &str) -> Definition {
        Definition { format, text: text.to_owned(), references: Vec::new() }
    }

    #[test]
    fn what_says_the_same_does_not_differ() {
        let same = [
            (Format::Avro, "{\"type\": \"record\", \"name\": \"a\"}", "{\n\"name\":\"a\",\n\"type\":\"record\"}"),
            (Format::Protobuf, "message A {\n  string a = 1;\n}\n", "// One.\nmessage A {\n\n string  a = 1; // The a.\n}"),
        ];
        for (format, theirs, ours) in same {
            assert_eq!(lines(&of(format, theirs), &of(format, ours)), Vec::<String>::new());
        }
    }

    #[test]
    fn what_is_added_taken_and_changed_is_a_line_each() {
        let theirs = of(Format::Protobuf, "message A {\n string a = 1;\n string b = 2;\n}");
        let ours = of(Format::Protobuf, "message A {\n string a = 1;\n int32 b = 2;\n bool c = 3;\n}");
        assert_eq!(lines(&theirs, &ours), ["- string b = 2;", "+ int32 b = 2;", "+ bool c = 3;"]);
        assert_eq!(lines(&theirs, &of(Format::Avro, "\"string\"")), ["- Protobuf", "+ Avro"]);
    }
}
