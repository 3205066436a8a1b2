//! Steps of a path, and where they lead.

use serde_json::Value;

use super::astray::Astray;
use super::compare::Compare;

/// Values that a path may lead to.
const FOUND_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Field(String),
    Part(Part),
    /// What all of these lead to, one after the other.
    Union(Vec<Vec<Step>>),
    /// All values of a list or a map.
    All,
    /// Whatever has something in it, from here on down.
    Anywhere,
    Filter(Filter),
}

/// A place of a list, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub from: i64,
    pub to: To,
    pub step: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// One place.
    Next,
    /// Up to this one.
    Before(i64),
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Filter {
    Exists(Vec<Step>),
    /// With a sign that there is not, it goes astray where there is something to compare.
    Compares(Vec<Step>, Option<Compare>, Operand),
}

/// What is compared with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    Literal(Value),
    Path(Vec<Step>),
}

/// Every value that these steps lead to.
///
/// # Errors
/// Where they go astray.
pub(super) fn follow<'a>(
    steps: &[Step],
    mut found: Vec<&'a Value>,
) -> Result<Vec<&'a Value>, Astray> {
    for step in steps {
        found = step.follow(&found)?;
        found.truncate(FOUND_MAX);
    }
    Ok(found)
}

impl Step {
    fn follow<'a>(&self, from: &[&'a Value]) -> Result<Vec<&'a Value>, Astray> {
        let mut found = Vec::new();
        match self {
            Self::Field(name) => found.extend(from.iter().filter_map(|value| value.get(name))),
            Self::Part(part) => part.of_all(from, &mut found)?,
            Self::Union(paths) => {
                for path in paths {
                    found.extend(follow(path, from.to_vec())?);
                    found.truncate(FOUND_MAX);
                }
            }
            Self::All => from.iter().for_each(|value| found.extend(inside(value))),
            Self::Anywhere => from.iter().for_each(|value| anywhere(value, &mut found)),
            Self::Filter(filter) => {
                for value in from {
                    for item in value.as_array().ok_or(Astray::NoList)? {
                        if filter.passes(item)? {
                            found.push(item);
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Part {
    fn of_all<'a>(self, from: &[&'a Value], found: &mut Vec<&'a Value>) -> Result<(), Astray> {
        for value in from.iter().filter(|value| !value.is_null()) {
            let items = value.as_array().ok_or(Astray::NoList)?;
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let behind = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
            let (first, last) = match self.to {
                To::Next if self.from == -1 => (length - 1, length),
                To::Next => (behind(self.from), behind(self.from.saturating_add(1))),
                To::Before(to) => (behind(self.from), behind(to)),
                To::End => (behind(self.from), length),
            };
            if first == last {
                // Kubernetes does not look at the lists behind an empty one.
                return Ok(());
            }
            let within = |at: i64| (0..=length).contains(&at);
            if !within(first) || first == length || !within(last) {
                return Err(Astray::OutOfBounds);
            }
            let step = usize::try_from(self.step.unwrap_or(1)).unwrap_or_default();
            let place = |at: i64| usize::try_from(at).unwrap_or_default();
            let part = items.get(place(first)..place(last)).filter(|_| 0 < step);
            found.extend(part.ok_or(Astray::Backwards)?.iter().step_by(step));
        }
        Ok(())
    }
}

impl Filter {
    fn passes(&self, item: &Value) -> Result<bool, Astray> {
        let (left, compare, right) = match self {
            // What leads astray is taken to be there.
            Self::Exists(path) => {
                return Ok(follow(path, vec![item]).map_or(true, |found| !found.is_empty()));
            }
            Self::Compares(left, compare, right) => (left, compare, right),
        };
        let Some(left) = single(&follow(left, vec![item])?)? else { return Ok(false) };
        let right = match right {
            Operand::Literal(right) => Some(right),
            Operand::Path(right) => single(&follow(right, vec![item])?)?,
        };
        let Some(right) = right else { return Ok(false) };
        compare.ok_or(Astray::Incomparable)?.holds(left, right)
    }
}

fn single<'a>(found: &[&'a Value]) -> Result<Option<&'a Value>, Astray> {
    match found {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(Astray::Several),
    }
}

/// The values in a list or a map.
fn inside(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

fn anywhere<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    let text = value.as_str().is_some_and(|text| !text.is_empty());
    let inside = inside(value);
    if FOUND_MAX < found.len() || (inside.is_empty() && !text) {
        return;
    }
    found.push(value);
    inside.into_iter().for_each(|value| anywhere(value, found));
}
