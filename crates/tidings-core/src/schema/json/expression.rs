//! Expressions: how many steps one may take with each byte of a text, and how many there are to share what compiling them may take.
//!
//! Owns: reading as much of a pattern as that takes. It counts too much rather than too little: what is not known to be searched in one pass
//! is taken to go back. Neighbour: `work`, which multiplies it by how often and in how much text is searched.

use serde_json::Value;

use super::LIMIT_STEPS_BACK;

/// Escapes that need no step back; signs stand for themselves.
const PLAIN: &[u8] = b"dDwWsSbBnrtfvxuUpPc";

/// The most steps for a byte: the parts of the expression, with those that repeat as often as they may, or steps back.
pub(super) fn steps(pattern: &str) -> u64 {
    let back = if goes_back(pattern.as_bytes()) { LIMIT_STEPS_BACK as u64 } else { 0 };
    parts(pattern).saturating_add(back)
}

/// How many expressions are compiled for a schema. Of one that looks around or goes back each part is compiled by itself.
pub(super) fn compiled(schema: &Value) -> usize {
    match schema {
        Value::Array(items) => items.iter().map(compiled).sum(),
        Value::Object(fields) => {
            let own = |(name, field): (&String, &Value)| match (name.as_str(), field) {
                ("pattern", Value::String(pattern)) => pieces(pattern),
                ("patternProperties", Value::Object(patterns)) => patterns.keys().map(|pattern| pieces(pattern)).sum(),
                _ => 0,
            };
            fields.iter().map(|field| own(field) + compiled(field.1)).sum()
        }
        _ => 0,
    }
}

fn pieces(pattern: &str) -> usize {
    if !goes_back(pattern.as_bytes()) {
        return 1;
    }
    1 + pattern.bytes().filter(|byte| b"(|\\".contains(byte)).count()
}

/// Whether it looks around, refers to what it has found, or is not understood.
fn goes_back(pattern: &[u8]) -> bool {
    let mut at = 0;
    while let Some(rest) = pattern.get(at..).filter(|rest| !rest.is_empty()) {
        match rest {
            [b'\\', escaped, ..] => {
                if escaped.is_ascii_alphanumeric() && !PLAIN.contains(escaped) {
                    return true;
                }
                at += 1;
            }
            [b'(', b'?', kind, ..] if *kind != b':' => return true,
            [b'?' | b'*' | b'+' | b'}', b'+', ..] => return true,
            _ => {}
        }
        at += 1;
    }
    false
}

/// How many parts there are when all that repeats is written out.
fn parts(pattern: &str) -> u64 {
    // Of each bracket that is open, all its parts before the last one, and the last one.
    let (mut open, mut all, mut last) = (Vec::new(), 0_u64, 0_u64);
    let mut rest = pattern;
    while let Some(sign) = rest.chars().next() {
        rest = &rest[sign.len_utf8()..];
        match sign {
            '(' => {
                open.push(all.saturating_add(last));
                (all, last) = (0, 0);
            }
            ')' => {
                last = all.saturating_add(last).max(1);
                all = open.pop().unwrap_or(0);
            }
            '{' => last = last.saturating_mul(times(rest)),
            _ => {
                all = all.saturating_add(last);
                last = 1;
            }
        }
    }
    open.into_iter().fold(all.saturating_add(last), u64::saturating_add)
}

/// How often something may repeat whose bracket was just opened; once if that is no repetition.
fn times(rest: &str) -> u64 {
    let numbers = rest.split_once('}').map_or("", |(numbers, _)| numbers).split(',');
    numbers.filter_map(|number| number.trim().parse::<u64>().ok()).max().unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_around_or_refers_back_costs_its_steps_back_and_what_repeats_its_parts() {
        for plain in [r"^[A-Z]{3}\d+$", r"^(?:a|b)\.x*$", r"\p{L}\/"] {
            assert!(steps(plain) < 100, "{plain}");
        }
        for back in [r"(?=a)b", r"(?<!a)b", r"(a)\1", r"a++", r"\k<a>"] {
            assert!(steps(back) >= LIMIT_STEPS_BACK as u64, "{back}");
        }
        assert!(steps("((a{1,100}){1,100}){3}") >= 30_000);
        assert!((13..20).contains(&steps("a{8}-b{4}")), "what follows does not repeat with it");
    }
}
