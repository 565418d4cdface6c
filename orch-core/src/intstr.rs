//! Values that are either a number or a percentage (`maxSurge: 25%`).

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What is wrong with an int-or-percent; the texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntOrPercentError {
    /// A string without a trailing `%`.
    #[error("invalid value for IntOrString: invalid type: string is not a percentage")]
    NotPercent,
    /// A percentage whose number can't be read.
    #[error("invalid value for IntOrString: invalid value {text:?}: {cause}")]
    Number {
        /// The text as given.
        text: String,
        /// Why, in upstream's words.
        cause: String,
    },
}

/// Which way a percentage of a total is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To the next larger whole number.
    Up,
    /// To the next smaller whole number.
    Down,
}

/// The number itself, or the percentage of `total`.
///
/// # Errors
/// If it is a string that is not a whole number followed by `%`.
pub fn scaled_value(value: &IntOrString, total: i32, rounding: Rounding) -> Result<i32, IntOrPercentError> {
    let text = match value {
        IntOrString::Int(n) => return Ok(*n),
        IntOrString::String(text) => text,
    };
    let number = text.strip_suffix('%').ok_or(IntOrPercentError::NotPercent)?;
    let percent: i64 = number.parse().map_err(|e: std::num::ParseIntError| {
        let why = match e.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        IntOrPercentError::Number {
            text: text.clone(),
            cause: format!("strconv.Atoi: parsing {number:?}: {why}"),
        }
    })?;
    let product = i128::from(percent) * i128::from(total);
    let quotient = match rounding {
        Rounding::Up => product.div_euclid(100) + i128::from(product.rem_euclid(100) != 0),
        Rounding::Down => product.div_euclid(100),
    };
    Ok(i32::try_from(quotient).unwrap_or(if quotient < 0 { i32::MIN } else { i32::MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_and_rounds() {
        let s = |t: &str| IntOrString::String(t.into());
        for (value, total, up, down) in [
            (IntOrString::Int(3), 10, 3, 3),
            (s("25%"), 10, 3, 2),
            (s("25%"), 3, 1, 0),
            (s("100%"), 7, 7, 7),
            (s("0%"), 7, 0, 0),
            (s("-10%"), 5, 0, -1),
        ] {
            assert_eq!(scaled_value(&value, total, Rounding::Up), Ok(up), "{value:?}");
            assert_eq!(scaled_value(&value, total, Rounding::Down), Ok(down), "{value:?}");
        }
        assert_eq!(
            scaled_value(&s("5"), 1, Rounding::Up).unwrap_err().to_string(),
            "invalid value for IntOrString: invalid type: string is not a percentage"
        );
        assert_eq!(
            scaled_value(&s("x%"), 1, Rounding::Up).unwrap_err().to_string(),
            "invalid value for IntOrString: invalid value \"x%\": strconv.Atoi: parsing \"x\": invalid syntax"
        );
    }
}
