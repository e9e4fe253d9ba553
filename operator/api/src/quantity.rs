//! Kubernetes resource quantities such as `500m`, `1.5Gi` or `1e3`, exact to a billionth.
//!
//! Grammar and rounding: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use thiserror::Error;

const NANO: i128 = 1_000_000_000;
/// Suffixes by powers of ten, from the greatest.
const DECIMAL: [(&str, i32); 10] =
    [("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3), ("", 0), ("m", -3), ("u", -6), ("n", -9)];
/// Suffixes by powers of two, from the greatest.
const BINARY: [(&str, u32); 6] = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];

/// An amount of a resource: CPUs, bytes or things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Quantity {
    nano: i128,
}

/// A text that is no quantity, with the cure.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "quantity \"{value}\" {problem}; write a number and a unit of n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or \
     none, such as 500m, 2, 1.5Gi or 1e3"
)]
pub struct InvalidQuantity {
    value: String,
    problem: String,
}

impl Quantity {
    /// So many thousandths, as CPUs are counted.
    #[must_use]
    pub fn from_milli(milli: i64) -> Self {
        Self { nano: i128::from(milli) * (NANO / 1000) }
    }

    /// So many bytes, or things.
    #[must_use]
    pub fn from_units(units: i64) -> Self {
        Self { nano: i128::from(units) * NANO }
    }

    /// Thousandths, rounded away from zero, within the range of the type.
    #[must_use]
    pub fn milli(self) -> i64 {
        saturated(div_away_from_zero(self.nano, NANO / 1000))
    }

    /// Bytes, or things, rounded away from zero, within the range of the type.
    #[must_use]
    pub fn units(self) -> i64 {
        saturated(div_away_from_zero(self.nano, NANO))
    }
}

fn div_away_from_zero(number: i128, by: i128) -> i128 {
    number / by + if number % by == 0 { 0 } else { number.signum() }
}

fn saturated(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

impl FromStr for Quantity {
    type Err = InvalidQuantity;

    fn from_str(value: &str) -> Result<Self, InvalidQuantity> {
        parse(value)
            .map(|nano| Self { nano })
            .map_err(|problem| InvalidQuantity { value: value.to_owned(), problem })
    }
}

fn parse(value: &str) -> Result<i128, String> {
    let unsigned = value.strip_prefix(['+', '-']).unwrap_or(value);
    let unit_at = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, unit) = unsigned.split_at(unit_at);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || fraction.contains('.') {
        return Err("does not start with a number".to_owned());
    }
    let out_of_range = || "is out of range".to_owned();
    let mantissa: i128 = digits.parse().map_err(|_| out_of_range())?;
    let decimals = i32::try_from(fraction.len()).map_err(|_| out_of_range())?;

    let (power_of_two, power_of_ten) = scale(unit)?;
    let scaled = mantissa.checked_mul(1 << power_of_two).ok_or_else(out_of_range)?;
    let nano = shift(scaled, 9 + power_of_ten - decimals).ok_or_else(out_of_range)?;
    let sign = if value.starts_with('-') { -1 } else { 1 };
    if nano <= i128::from(i64::MAX) * NANO { Ok(sign * nano) } else { Err(out_of_range()) }
}

/// The powers of two and ten that a unit or an exponent stands for.
fn scale(unit: &str) -> Result<(u32, i32), String> {
    if let Some((_, power)) = BINARY.iter().find(|(suffix, _)| *suffix == unit) {
        return Ok((*power, 0));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(suffix, _)| *suffix == unit) {
        return Ok((0, *power));
    }
    let exponent = unit.strip_prefix(['e', 'E']).and_then(|exponent| exponent.parse::<i32>().ok());
    match exponent {
        Some(power) if power.abs() <= 64 => Ok((0, power)),
        Some(_) => Err("is out of range".to_owned()),
        None => Err(format!("has the unknown unit \"{unit}\"")),
    }
}

/// `number` × 10^`power`, rounded away from zero.
fn shift(number: i128, power: i32) -> Option<i128> {
    match 10_i128.checked_pow(power.unsigned_abs()) {
        Some(factor) if power >= 0 => number.checked_mul(factor),
        Some(factor) => Some(div_away_from_zero(number, factor)),
        None if power < 0 => Some(number.signum()),
        None => (number == 0).then_some(0),
    }
}

impl fmt::Display for Quantity {
    /// In the greatest unit that needs no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let binary = BINARY.map(|(suffix, power)| (suffix, NANO << power));
        let decimal = DECIMAL.map(|(suffix, power)| (suffix, 10_i128.pow((9 + power).unsigned_abs())));
        let exact = binary.into_iter().chain(decimal).filter(|(_, unit)| self.nano % unit == 0);
        let (suffix, unit) = exact.max_by_key(|(_, unit)| *unit).unwrap_or(("n", 1));
        write!(f, "{}{suffix}", self.nano / unit)
    }
}

impl TryFrom<&ApiQuantity> for Quantity {
    type Error = InvalidQuantity;

    fn try_from(quantity: &ApiQuantity) -> Result<Self, InvalidQuantity> {
        quantity.0.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0", 0)]
    #[case("1", 1000)]
    #[case("500m", 500)]
    #[case("0.5", 500)]
    #[case(".5", 500)]
    #[case("2.", 2000)]
    #[case("+1", 1000)]
    #[case("-250m", -250)]
    #[case("1e3", 1_000_000)]
    #[case("1E3", 1_000_000)]
    #[case("5e-1", 500)]
    #[case("1e+1", 10_000)]
    #[case("1500u", 2)]
    #[case("100n", 1)]
    #[case("2k", 2_000_000)]
    fn cpus(#[case] text: &str, #[case] milli: i64) {
        assert_eq!(text.parse::<Quantity>().unwrap().milli(), milli);
    }

    #[rstest]
    #[case("1Ki", 1024)]
    #[case("1Gi", 1_073_741_824)]
    #[case("1.5Gi", 1_610_612_736)]
    #[case("128974848", 128_974_848)]
    #[case("129e6", 129_000_000)]
    #[case("129M", 129_000_000)]
    #[case("128974848000m", 128_974_848)]
    #[case("123Mi", 128_974_848)]
    #[case("1E", 1_000_000_000_000_000_000)]
    #[case("7Ei", 8_070_450_532_247_928_832)]
    #[case("1m", 1)]
    #[case("1e-30", 1)]
    #[case("9223372036854775807", i64::MAX)]
    fn bytes(#[case] text: &str, #[case] units: i64) {
        assert_eq!(text.parse::<Quantity>().unwrap().units(), units);
    }

    #[rstest]
    #[case("", "does not start with a number")]
    #[case(".", "does not start with a number")]
    #[case("Gi", "does not start with a number")]
    #[case("1.2.3", "does not start with a number")]
    #[case("two", "does not start with a number")]
    #[case("1GB", "has the unknown unit \"GB\"")]
    #[case("1gi", "has the unknown unit \"gi\"")]
    #[case("2 Gi", "has the unknown unit \" Gi\"")]
    #[case("0,5", "has the unknown unit \",5\"")]
    #[case("1e", "has the unknown unit \"e\"")]
    #[case("1-1", "has the unknown unit \"-1\"")]
    #[case("--1", "does not start with a number")]
    #[case("8Ei", "is out of range")]
    #[case("1e19", "is out of range")]
    #[case("1e999", "is out of range")]
    #[case("99999999999999999999999999999999999999999", "is out of range")]
    fn errors_name_the_value_and_the_cure(#[case] text: &str, #[case] problem: &str) {
        let error = text.parse::<Quantity>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("quantity \"{text}\" {problem}; write")), "{error}");
        assert!(error.contains("such as 500m"), "{error}");
    }

    #[rstest]
    #[case("0", "0")]
    #[case("1000m", "1")]
    #[case("1500m", "1500m")]
    #[case("0.0001", "100u")]
    #[case("1024", "1Ki")]
    #[case("1000", "1k")]
    #[case("1.5Gi", "1536Mi")]
    #[case("2000000", "2M")]
    #[case("-2Gi", "-2Gi")]
    fn shown_in_the_greatest_unit_without_a_fraction(#[case] text: &str, #[case] shown: &str) {
        assert_eq!(text.parse::<Quantity>().unwrap().to_string(), shown);
    }

    #[test]
    fn the_api_type_is_understood() {
        assert_eq!(Quantity::try_from(&ApiQuantity("2Gi".to_owned())), Ok(Quantity::from_units(2 << 30)));
        assert!(Quantity::try_from(&ApiQuantity("2GiB".to_owned())).is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(nano in -9_223_372_036_854_775_807_000_000_000_i128..9_223_372_036_854_775_807_000_000_000) {
            let quantity = Quantity { nano };
            prop_assert_eq!(quantity.to_string().parse::<Quantity>(), Ok(quantity));
        }

        #[test]
        fn whole_units_and_thousandths_are_exact(number in any::<i32>()) {
            let number = i64::from(number);
            prop_assert_eq!(Quantity::from_units(number).units(), number);
            prop_assert_eq!(Quantity::from_milli(number).milli(), number);
            prop_assert_eq!(number.to_string().parse(), Ok(Quantity::from_units(number)));
            prop_assert_eq!(format!("{number}m").parse(), Ok(Quantity::from_milli(number)));
        }

        #[test]
        fn order_is_that_of_the_amounts(a in 0_i64..1 << 40, b in 0_i64..1 << 40) {
            let parse = |bytes: i64| bytes.to_string().parse::<Quantity>().unwrap();
            prop_assert_eq!(parse(a).cmp(&parse(b)), a.cmp(&b));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,50}", number in "[-+.0-9eE]{0,60}[a-zA-Z]{0,3}") {
            let _ = text.parse::<Quantity>();
            let _ = number.parse::<Quantity>();
        }
    }
}
