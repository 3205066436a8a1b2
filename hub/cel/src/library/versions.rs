//! Semantic versions. What was built in is heard, and counts for nothing.

use std::cmp::Ordering;
use std::sync::Arc;

use cel::Value;
use cel::objects::Opaque;
use semver::Version;

use super::function::{Table, added, no_overload, one};

#[derive(Clone, Debug)]
struct Semver(Version);

impl PartialEq for Semver {
    fn eq(&self, other: &Self) -> bool {
        self.0.cmp_precedence(&other.0).is_eq()
    }
}

impl Eq for Semver {}

impl Opaque for Semver {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.Semver"
    }
}

pub(super) const FUNCTIONS: Table = &[
    ("semver", |values, _| {
        let version = read(values)??;
        Ok(Value::Opaque(Arc::new(Semver(version))))
    }),
    ("isSemver", |values, _| Ok(Value::Bool(read(values)?.is_ok()))),
    ("major", |values, _| ask(values, |version| version.major)),
    ("minor", |values, _| ask(values, |version| version.minor)),
    ("patch", |values, _| ask(values, |version| version.patch)),
];

/// How two versions compare; nothing, where the first is none.
pub(super) fn compare(values: &[Value]) -> Option<Result<Ordering, String>> {
    let [one, other] = values else { return None };
    let one = added::<Semver>(one).ok()?;
    Some(added::<Semver>(other).map(|other| one.0.cmp_precedence(&other.0)))
}

fn ask(values: &[Value], number: fn(&Version) -> u64) -> Result<Value, String> {
    let number = number(&added::<Semver>(one(values)?)?.0);
    i64::try_from(number).map(Value::Int).map_err(|_| "integer overflow".to_owned())
}

/// The version that a text is, made normal first where that is asked for.
fn read(values: &[Value]) -> Result<Result<Version, String>, String> {
    match values {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Ok(parse(text)),
        [Value::String(text), Value::Bool(true)] => Ok(parse(&normal(text))),
        [..] => no_overload(),
    }
}

/// A number before a release has a bound, as upstream.
fn parse(text: &str) -> Result<Version, String> {
    let version = Version::parse(text).map_err(|why| why.to_string())?;
    let is_number = |part: &&str| part.bytes().all(|digit| digit.is_ascii_digit());
    let mut numbers = version.pre.split('.').filter(|part| !part.is_empty()).filter(is_number);
    if numbers.any(|number| number.parse::<u64>().is_err()) {
        return Err("a number before a release is too large".to_owned());
    }
    Ok(version)
}

/// Without a `v` before it and noughts before its numbers, and with all three of them.
fn normal(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(without_noughts).collect();
    // What has no third number may say nothing behind the last one.
    let is_short = parts.len() < 3 && !text.contains(['+', '-']);
    while is_short && parts.len() < 3 {
        parts.push("0".to_owned());
    }
    parts.join(".")
}

fn without_noughts(part: &str) -> String {
    if part.len() < 2 {
        return part.to_owned();
    }
    let rest = part.trim_start_matches('0');
    if rest.starts_with(|first: char| first.is_ascii_digit()) {
        rest.to_owned()
    } else {
        format!("0{rest}")
    }
}
