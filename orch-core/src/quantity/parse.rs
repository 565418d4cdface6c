//! Reading a quantity's text, with upstream's grammar to the letter (it is laxer than its documentation).

use super::{Format, LIMIT, NANOS, Quantity, QuantityError};

/// The text cut into its parts: leading zeros are stripped off the integer digits.
struct Parts<'a> {
    negative: bool,
    integer: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn digits_end(text: &str, from: usize) -> usize {
    text.as_bytes()[from..]
        .iter()
        .position(|b| !b.is_ascii_digit())
        .map_or(text.len(), |n| from + n)
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    let bytes = text.as_bytes();
    let negative = bytes.first() == Some(&b'-');
    let start = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
    let number = bytes[start..]
        .iter()
        .position(|b| *b != b'0')
        .map_or(text.len(), |n| start + n);
    let end = digits_end(text, number);
    let integer = &text[number..end];
    let (fraction, suffix_start) = if bytes.get(end) == Some(&b'.') {
        let fraction_end = digits_end(text, end + 1);
        (&text[end + 1..fraction_end], fraction_end)
    } else {
        ("", end)
    };
    let suffix = &text[suffix_start..];
    let letters = suffix.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
    let rest = &suffix[letters..];
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if !rest.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Format);
    }
    Ok(Parts {
        negative,
        integer,
        fraction,
        suffix,
    })
}

/// Base 10 or 2 and the exponent.
fn interpret(suffix: &str) -> Option<(bool, i32, Format)> {
    let decimal = |exponent| Some((false, exponent, Format::DecimalSi));
    let binary = |exponent| Some((true, exponent, Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent: i64 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            Some((
                false,
                exponent.clamp(-1_000_000, 1_000_000) as i32,
                Format::DecimalExponent,
            ))
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Quantity, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    let parts = split(text)?;
    let (binary, exponent, mut format) = interpret(parts.suffix).ok_or(QuantityError::Suffix)?;
    let magnitude = if binary {
        binary_nanos(&parts, exponent as u32)?
    } else {
        decimal_nanos(&parts, exponent)?
    };
    if format == Format::BinarySi && magnitude > 0 && magnitude < NANOS {
        // Avoids a rounding that would confuse.
        format = Format::DecimalSi;
    }
    let nanos = if parts.negative { -magnitude } else { magnitude };
    let mut quantity = Quantity::from_nanos(nanos, format);
    if kept_as_written(&parts, exponent, format) && quantity.to_string() != text {
        quantity.text = Some(text.into());
    }
    Ok(quantity)
}

/// Amount of `digits × 10^exponent` in nano-units, rounded up and capped.
fn decimal_nanos(parts: &Parts<'_>, exponent: i32) -> Result<i128, QuantityError> {
    let digits: String = [parts.integer, parts.fraction].concat();
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    let fraction = i64::try_from(parts.fraction.len()).map_err(|_| QuantityError::Numeric)?;
    let shift = i64::from(exponent) + 9 - fraction;
    let width = digits.len() as i64 + shift;
    if width > 38 {
        return Ok(LIMIT);
    }
    if shift >= 0 {
        let number: i128 = digits.parse().map_err(|_| QuantityError::Numeric)?;
        return Ok(number * 10i128.pow(shift as u32));
    }
    let kept = width.max(0) as usize;
    let number: i128 = if kept == 0 {
        0
    } else {
        digits[..kept].parse().map_err(|_| QuantityError::Numeric)?
    };
    let lost = digits[kept..].bytes().any(|b| b != b'0');
    Ok(number + i128::from(lost))
}

/// Amount of `number × 2^exponent` in nano-units, rounded up and capped at the largest `i64` number of units.
/// Beyond 18 digits of fraction the rest only counts as "more".
fn binary_nanos(parts: &Parts<'_>, exponent: u32) -> Result<i128, QuantityError> {
    let cap = i128::from(i64::MAX) * NANOS;
    let integer: i128 = match parts.integer {
        "" => 0,
        digits if digits.len() > 19 => return Ok(cap),
        digits => digits.parse().map_err(|_| QuantityError::Numeric)?,
    };
    let whole = integer << exponent;
    if whole > i128::from(i64::MAX) {
        return Ok(cap);
    }
    let (head, tail) = parts.fraction.split_at(parts.fraction.len().min(18));
    let mut fraction: i128 = if head.is_empty() {
        0
    } else {
        head.parse().map_err(|_| QuantityError::Numeric)?
    };
    fraction *= 10i128.pow(18 - head.len() as u32);
    let scaled = fraction << exponent;
    let lost = scaled % NANOS != 0 || tail.bytes().any(|b| b != b'0');
    Ok((whole * NANOS + scaled / NANOS + i128::from(lost)).min(cap))
}

/// Whether upstream remembers the text itself (its fast path takes it for canonical) and prints it back.
fn kept_as_written(parts: &Parts<'_>, exponent: i32, format: Format) -> bool {
    let integer = if parts.integer.is_empty() {
        "0"
    } else {
        parts.integer
    };
    let (integer_len, fraction_len) = (integer.len() as i64, parts.fraction.len() as i64);
    let digits = [integer, parts.fraction].concat();
    // The end of an all-zero number is found before its suffix is looked at.
    let Ok(value) = digits.parse::<i64>() else {
        return false;
    };
    if value == 0 {
        return false;
    }
    if format == Format::BinarySi {
        let precision = 15 - integer_len - i64::from(exponent) * 3 / 10 - 1;
        return parts.fraction.is_empty()
            && precision >= 0
            && value & 7 != 0
            && value.checked_mul(1i64 << exponent).is_some();
    }
    let scale = i64::from(exponent) - fraction_len;
    18 - integer_len - fraction_len >= 0
        && scale >= -9
        && scale % 3 == 0
        && !digits.ends_with("000")
        && !digits.starts_with('0')
}
