//! Resource quantities: `100m`, `1.5Gi`, `1e3`.
//!
//! The behaviour is that of `k8s.io/apimachinery/pkg/api/resource.Quantity`: never a floating point number, rounded
//! away from zero below a nano-unit, printed in canonical form. The amount is an integer count of nano-units, so
//! amounts beyond ±10²⁹ units are capped (upstream keeps them; no real resource comes near).

mod parse;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde::{Deserialize, Serialize};
use std::{cmp::Ordering, fmt, hash, ops, str::FromStr};

/// Nano-units in one unit.
pub const NANOS: i128 = 1_000_000_000;
/// Largest magnitude held, in nano-units.
const LIMIT: i128 = 10i128.pow(38);

/// Which kind of suffix a quantity was written with, and is printed with again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// `m`, none, `k`, `M`, `G` …: powers of 1000.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, `Gi` …: powers of 1024.
    BinarySi,
    /// `e3`, `E-3` …: powers of ten.
    DecimalExponent,
}

/// What is wrong with the text of a quantity; the texts are upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number followed by a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number can't be read.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// The suffix is unknown.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// A fixed-point amount of a resource.
///
/// Equality, order and hash are those of the amount: `1024Mi` equals `1Gi`. Serializes as its text.
#[derive(Debug, Clone, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
    /// The text as written, where upstream prints it back unchanged although it is not the canonical form (`+5`).
    text: Option<Box<str>>,
}

impl Quantity {
    /// From a number of units.
    #[must_use]
    pub fn new(units: i64, format: Format) -> Self {
        Self::from_nanos(i128::from(units) * NANOS, format)
    }

    /// From thousandths of a unit.
    #[must_use]
    pub fn from_milli(milli: i64, format: Format) -> Self {
        Self::from_nanos(i128::from(milli) * (NANOS / 1000), format)
    }

    /// From nano-units, capped at ±10²⁹ units.
    #[must_use]
    pub fn from_nanos(nanos: i128, format: Format) -> Self {
        Self {
            nanos: nanos.clamp(-LIMIT, LIMIT),
            format,
            text: None,
        }
    }

    /// The exact amount in nano-units.
    #[must_use]
    pub fn nanos(&self) -> i128 {
        self.nanos
    }

    /// The suffix class it prints with.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whole units, rounded away from zero, capped to the range of `i64`.
    #[must_use]
    pub fn value(&self) -> i64 {
        scaled(self.nanos, NANOS)
    }

    /// Thousandths of a unit, rounded away from zero, capped to the range of `i64`.
    #[must_use]
    pub fn milli_value(&self) -> i64 {
        scaled(self.nanos, NANOS / 1000)
    }

    /// Whether the amount is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    #[must_use]
    pub fn sign(&self) -> i32 {
        self.nanos.signum() as i32
    }

    /// The amount times `by`, capped.
    #[must_use]
    pub fn times(&self, by: i64) -> Self {
        Self::from_nanos(self.nanos.saturating_mul(i128::from(by)), self.format)
    }

    /// Rounds away from zero to whole units (`unit_nanos` = [`NANOS`]), milli-units and so on.
    #[must_use]
    pub fn round_up(&self, unit_nanos: i128) -> Self {
        Self::from_nanos(
            div_away(self.nanos, unit_nanos.max(1)).saturating_mul(unit_nanos.max(1)),
            self.format,
        )
    }

    fn combine(&self, other: &Self, nanos: i128) -> Self {
        // Zero has no suffix of its own, so it takes the other's.
        Self::from_nanos(
            nanos,
            if self.nanos == 0 {
                other.format
            } else {
                self.format
            },
        )
    }

    /// As k8s-openapi carries it.
    #[must_use]
    pub fn to_api(&self) -> ApiQuantity {
        ApiQuantity(self.to_string())
    }
}

fn div_away(n: i128, by: i128) -> i128 {
    let quotient = n / by;
    if n % by == 0 {
        quotient
    } else {
        quotient + n.signum()
    }
}

fn scaled(nanos: i128, unit: i128) -> i64 {
    let rounded = div_away(nanos, unit);
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
}

impl FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse::parse(text)
    }
}

impl TryFrom<&ApiQuantity> for Quantity {
    type Error = QuantityError;
    fn try_from(quantity: &ApiQuantity) -> Result<Self, QuantityError> {
        quantity.0.trim().parse()
    }
}

impl From<Quantity> for ApiQuantity {
    fn from(quantity: Quantity) -> Self {
        quantity.to_api()
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        if let Some(text) = &self.text {
            return f.write_str(text);
        }
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let mut format = self.format;
        if format == Format::BinarySi && (self.nanos.abs() < 1024 * NANOS || self.nanos % NANOS != 0) {
            // Binary suffixes have no fractions, and below 1024 they have nothing to say.
            format = Format::DecimalSi;
        }
        match format {
            Format::BinarySi => {
                let (mut number, mut step) = (self.nanos / NANOS, 0);
                while number % 1024 == 0 && step + 1 < BINARY.len() {
                    (number, step) = (number / 1024, step + 1);
                }
                write!(f, "{number}{}", BINARY[step])
            }
            Format::DecimalSi => {
                let (mut number, mut step) = (self.nanos, 0);
                while number % 1000 == 0 && step + 1 < DECIMAL.len() {
                    (number, step) = (number / 1000, step + 1);
                }
                write!(f, "{number}{}", DECIMAL[step])
            }
            Format::DecimalExponent => {
                let (mut number, mut exponent) = (self.nanos, -9);
                while number % 1000 == 0 {
                    (number, exponent) = (number / 1000, exponent + 3);
                }
                if exponent == 0 {
                    write!(f, "{number}")
                } else {
                    write!(f, "{number}e{exponent}")
                }
            }
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}
impl hash::Hash for Quantity {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}
impl ops::Add for &Quantity {
    type Output = Quantity;
    fn add(self, other: Self) -> Quantity {
        self.combine(other, self.nanos.saturating_add(other.nanos))
    }
}
impl ops::Sub for &Quantity {
    type Output = Quantity;
    fn sub(self, other: Self) -> Quantity {
        self.combine(other, self.nanos.saturating_sub(other.nanos))
    }
}
impl ops::Neg for &Quantity {
    type Output = Quantity;
    fn neg(self) -> Quantity {
        Quantity::from_nanos(-self.nanos, self.format)
    }
}
impl ops::AddAssign<&Quantity> for Quantity {
    fn add_assign(&mut self, other: &Self) {
        *self = &*self + other;
    }
}
impl ops::SubAssign<&Quantity> for Quantity {
    fn sub_assign(&mut self, other: &Self) {
        *self = &*self - other;
    }
}

impl Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.trim().parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Quantity, E> {
                Ok(Quantity::new(n, Format::DecimalSi))
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Quantity, E> {
                Ok(Quantity::from_nanos(i128::from(n) * NANOS, Format::DecimalSi))
            }
            fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<Quantity, E> {
                n.to_string().parse().map_err(E::custom)
            }
            fn visit_unit<E: serde::de::Error>(self) -> Result<Quantity, E> {
                Ok(Quantity::default())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn q(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn canonical_form() {
        for (text, canonical) in [
            ("0", "0"),
            ("0Ki", "0"),
            ("00", "0"),
            (".", "0"),
            ("1", "1"),
            ("1E", "1E"),
            ("1e3", "1e3"),
            ("1E3", "1E3"),
            ("1024Mi", "1Gi"),
            ("1000M", "1G"),
            ("1.5Gi", "1536Mi"),
            ("1.5", "1500m"),
            ("0.5", "500m"),
            (".001Ki", "1024m"),
            (".000001Ki", "1024u"),
            (".000000001Ki", "1024n"),
            (".000000000001Ki", "2n"),
            ("307200Ki", "300Mi"),
            ("1025024Mi", "1001Gi"),
            ("5000m", "5"),
            ("0.001T", "1G"),
            ("1.08", "1080m"),
            ("1080000000n", "1080m"),
            ("0.001e0", "1e-3"),
            (".001e12", "1e9"),
            ("1000e-12", "1e-9"),
            ("1000u", "1m"),
            ("100m", "100m"),
            ("12E", "12E"),
            ("9Ei", "9223372036854775807"),
            ("0.1m", "100u"),
            ("0.9n", "1n"),
            ("3.001n", "4n"),
            ("100.035Ki", "102435840m"),
            ("0.025Ti", "27487790694400m"),
            ("-1.5", "-1500m"),
            ("-3.001n", "-4n"),
            ("+5", "+5"),
            ("512Ki", "512Ki"),
            ("1025", "1025"),
            ("123456789012345678901234567890", "100000000000E"),
            ("1.G", "1.G"),
            ("0.0000000001", "1n"),
            ("1Ei", "1Ei"),
            ("10Ei", "9223372036854775807"),
            ("m", "0"),
        ] {
            assert_eq!(q(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn wrong_texts() {
        use QuantityError::{Format, Suffix};
        for (text, error) in [
            ("", Format),
            ("1.1.M", Format),
            ("1+1.0M", Format),
            ("0.1mi", Suffix),
            ("0.1am", Format),
            ("aoeu", Format),
            (".5i", Suffix),
            ("1i", Suffix),
            ("-3.01i", Suffix),
            ("-3.01e-", Suffix),
            (" 1", Format),
            ("1 ", Format),
            ("1e", Suffix),
            ("3e2Ki", Format),
            ("1KiB", Format),
            ("1ee3", Suffix),
            ("１", Format),
            ("100mm", Suffix),
        ] {
            assert_eq!(text.parse::<Quantity>().err(), Some(error), "{text:?}");
        }
    }

    #[test]
    fn rounding_and_arithmetic() {
        assert_eq!(
            (q("1500m").value(), q("0.1m").milli_value(), q("-1.1").value()),
            (2, 1, -2)
        );
        assert_eq!((q("1Gi").value(), q("12E").value()), (1 << 30, i64::MAX));
        assert_eq!((&q("0") + &q("1Ki")).to_string(), "1Ki");
        assert_eq!((&q("1Gi") - &q("512Mi")).to_string(), "512Mi");
        assert_eq!(q("100m").times(15).to_string(), "1500m");
        assert_eq!(serde_json::from_str::<Quantity>("2").unwrap(), q("2"));
        assert_eq!(serde_json::from_str::<Quantity>("1.5").unwrap(), q("1500m"));
        assert_eq!(serde_json::to_string(&q("1024Mi")).unwrap(), "\"1Gi\"");
    }

    proptest! {
        #[test]
        fn print_then_parse_is_identity(nanos in -LIMIT..LIMIT, format in 0..3) {
            let format = [Format::DecimalSi, Format::BinarySi, Format::DecimalExponent][format as usize];
            let quantity = Quantity::from_nanos(nanos, format);
            // Binary amounts above i64 are capped when read, as upstream caps them.
            prop_assume!(format != Format::BinarySi || nanos.abs() <= i128::from(i64::MAX) * NANOS);
            prop_assert_eq!(&q(&quantity.to_string()), &quantity);
        }
        #[test]
        fn printing_settles(text in "[+-]?[0-9]{0,6}(\\.[0-9]{0,12})?(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|e3|e-4|E6)?") {
            if let Ok(quantity) = text.parse::<Quantity>() {
                let printed = quantity.to_string();
                prop_assert_eq!(q(&printed).to_string(), printed.clone());
                prop_assert_eq!(q(&printed), quantity);
            }
        }
        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") { drop(text.parse::<Quantity>()); }
        #[test]
        fn long_numbers_never_panic(text in "-?[0-9]{0,60}\\.?[0-9]{0,60}(Ki|Ei|n|E|e-?[0-9]{1,20})?") { drop(text.parse::<Quantity>()); }
        #[test]
        fn order_and_sums(a in any::<i64>(), b in any::<i64>()) {
            let (x, y) = (Quantity::new(a, Format::DecimalSi), Quantity::from_milli(b, Format::BinarySi));
            prop_assert_eq!(&(&(&x + &y) - &y), &x);
            prop_assert_eq!(&x + &y, &y + &x);
            prop_assert_eq!(x < y, x.nanos() < y.nanos());
        }
    }
}
