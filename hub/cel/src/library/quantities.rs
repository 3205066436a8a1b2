//! Quantities: amounts with units, in billionths.

use std::cmp::Ordering;
use std::sync::Arc;

use cel::Value;
use cel::objects::Opaque;
use freewheel_hub_schema::types::canonical_quantity;

use super::function::{Table, added, no_overload, one, one_text};
use super::versions;

const BILLION: i128 = 1_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Quantity(i128);

impl Opaque for Quantity {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.Quantity"
    }
}

pub(super) const FUNCTIONS: Table = &[
    ("quantity", |values, _| {
        let why = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
        Ok(made(read(one_text(values)?).ok_or(why)?))
    }),
    ("isQuantity", |values, _| Ok(Value::Bool(read(one_text(values)?).is_some()))),
    ("sign", |values, _| {
        Ok(Value::Int(i64::try_from(amount(values)?.signum()).unwrap_or_default()))
    }),
    ("isInteger", |values, _| {
        let amount = amount(values)?;
        Ok(Value::Bool(amount % BILLION == 0 && i64::try_from(amount / BILLION).is_ok()))
    }),
    ("asInteger", |values, _| {
        let amount = amount(values)?;
        let whole = i64::try_from(amount / BILLION).ok().filter(|_| amount % BILLION == 0);
        whole.map(Value::Int).ok_or_else(|| "cannot convert value to integer".to_owned())
    }),
    ("asApproximateFloat", |values, _| {
        #[expect(clippy::cast_precision_loss, reason = "its name says so")]
        let amount = amount(values)? as f64;
        Ok(Value::Float(amount / 1e9))
    }),
    ("add", |values, _| arithmetic(values, i128::checked_add)),
    ("sub", |values, _| arithmetic(values, i128::checked_sub)),
    ("isLessThan", |values, _| compare(values).map(|order| Value::Bool(order.is_lt()))),
    ("isGreaterThan", |values, _| compare(values).map(|order| Value::Bool(order.is_gt()))),
    ("compareTo", |values, _| compare(values).map(|order| Value::Int(order as i64))),
];

fn made(amount: i128) -> Value {
    Value::Opaque(Arc::new(Quantity(amount)))
}

fn read(text: &str) -> Option<i128> {
    let canonical = canonical_quantity(text).ok()?;
    let digits = canonical.find(|c: char| !c.is_ascii_digit() && c != '-' && c != '.' && c != '+');
    let (number, unit) = canonical.split_at(digits.unwrap_or(canonical.len()));
    let power = |power: u32| 10_i128.checked_pow(power);
    let factor = match unit {
        "n" => 1,
        "u" => power(3)?,
        "m" => power(6)?,
        "" => BILLION,
        "k" => power(12)?,
        "M" => power(15)?,
        "G" => power(18)?,
        "T" => power(21)?,
        "P" => power(24)?,
        "E" => power(27)?,
        "Ki" => BILLION << 10,
        "Mi" => BILLION << 20,
        "Gi" => BILLION << 30,
        "Ti" => BILLION << 40,
        "Pi" => BILLION << 50,
        "Ei" => BILLION << 60,
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            power(u32::try_from(exponent.checked_add(9)?).ok()?)?
        }
    };
    match number.split_once('.') {
        None => number.parse::<i128>().ok()?.checked_mul(factor),
        Some((whole, fraction)) => {
            let scale = power(u32::try_from(fraction.len()).ok()?)?;
            let all: i128 = format!("{whole}{fraction}").parse().ok()?;
            Some(all.checked_mul(factor)? / scale)
        }
    }
}

fn amount(values: &[Value]) -> Result<i128, String> {
    added::<Quantity>(one(values)?).map(|quantity| quantity.0)
}

fn two(values: &[Value]) -> Result<(i128, i128), String> {
    let [one, other] = values else { return no_overload() };
    let other = match other {
        Value::Int(whole) => i128::from(*whole) * BILLION,
        other => added::<Quantity>(other)?.0,
    };
    Ok((added::<Quantity>(one)?.0, other))
}

fn arithmetic(values: &[Value], make: fn(i128, i128) -> Option<i128>) -> Result<Value, String> {
    let (one, other) = two(values)?;
    make(one, other).map(made).ok_or_else(|| "integer overflow".to_owned())
}

/// Of two quantities, or of two versions: the functions have the same names.
fn compare(values: &[Value]) -> Result<Ordering, String> {
    let versions = versions::compare(values);
    versions.unwrap_or_else(|| two(values).map(|(one, other)| one.cmp(&other)))
}
