//! Decimals: whole numbers of any size with a place for the point, as exact text.
//!
//! Owns: two's complement bytes to digits. Refuses numbers so long that nobody means them. Neighbours: `avro`, `protobuf`.

/// The longest number, in bytes, and the farthest that the point may be moved: digits enough for any sum of money.
pub(super) const LIMIT_BYTES: usize = 128;
pub(super) const LIMIT_SCALE: i64 = 256;

/// The number that big-endian two's complement `unscaled` stands for, with the point `scale` digits from the right; none if it
/// is beyond the limits.
pub(super) fn text(unscaled: &[u8], scale: i64) -> Option<String> {
    if unscaled.len() > LIMIT_BYTES || scale.abs() > LIMIT_SCALE {
        return None;
    }
    let negative = unscaled.first().is_some_and(|byte| byte & 0x80 != 0);
    let digits = digits(&mut if negative { negated(unscaled) } else { unscaled.to_vec() });
    let (places, zeros) = match usize::try_from(scale) {
        Ok(places) => (places, 0),
        Err(_) => (0, usize::try_from(-scale).unwrap_or(0)),
    };
    let zeros = if digits == "0" { 0 } else { zeros };
    let mut padded = format!("{digits:0>width$}", width = places + 1) + &"0".repeat(zeros);
    if places > 0 {
        padded.insert(padded.len() - places, '.');
    }
    Some(if negative { format!("-{padded}") } else { padded })
}

/// A negative number without its sign, most significant byte first.
fn negated(bytes: &[u8]) -> Vec<u8> {
    let mut negated = bytes.iter().map(|byte| !byte).collect::<Vec<_>>();
    for byte in negated.iter_mut().rev() {
        let (sum, overflow) = byte.overflowing_add(1);
        *byte = sum;
        if !overflow {
            break;
        }
    }
    negated
}

fn digits(number: &mut [u8]) -> String {
    const STEP: u64 = 1_000_000_000;
    let mut parts = Vec::new();
    while number.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u64;
        for byte in number.iter_mut() {
            let value = rest << 8 | u64::from(*byte);
            *byte = u8::try_from(value / STEP).unwrap_or(u8::MAX);
            rest = value % STEP;
        }
        parts.push(rest);
    }
    let Some(first) = parts.pop() else { return "0".to_owned() };
    parts.iter().rev().fold(first.to_string(), |text, part| text + &format!("{part:09}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_point_is_where_the_scale_says() {
        for (unscaled, scale, expected) in [
            (&[0x04, 0xd2][..], 2, "12.34"),
            (&[0xff], 2, "-0.01"),
            (&[], 2, "0.00"),
            (&[0x00], 0, "0"),
            (&[0x80], 0, "-128"),
            (&[0x05], -3, "5000"),
            (&[0x00], -3, "0"),
        ] {
            assert_eq!(text(unscaled, scale).as_deref(), Some(expected));
        }
        assert_eq!((text(&[1; LIMIT_BYTES + 1], 0), text(&[1], LIMIT_SCALE + 1)), (None, None));
    }

    proptest! {
        #[test]
        fn every_number_is_its_digits(number in any::<i128>(), pad in 0_usize..100) {
            let sign = if number < 0 { 0xff } else { 0 };
            let bytes = [vec![sign; pad], number.to_be_bytes().to_vec()].concat();
            prop_assert_eq!(text(&bytes, 0), Some(number.to_string()));
        }
    }
}
