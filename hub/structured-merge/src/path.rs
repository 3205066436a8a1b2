//! What leads from a value to one inside it, and the text of that in `fieldsV1`.
//!
//! ```text
//! f:NAME        a field, or a key of a map        .NAME
//! k:{"a":1}     an element of a list, by its keys [a=1]
//! v:"x"         a value of a set                  [="x"]
//! i:0           an element by its place           [0]
//! ```

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use freewheel_hub_schema::truncated_text::TruncatedText;
use serde_json::Value;

use crate::scalar;

/// One step. What stands in the paths of all that is inside of a value is shared by them, and told to be the same at a look.
#[derive(Clone, Debug)]
pub enum PathElement {
    /// A field of a struct, or a key of a map.
    Field(Arc<str>),
    /// An element of a list that has keys, by name in order.
    Key(Arc<[(String, Value)]>),
    /// A value of a set.
    Value(Value),
    /// A place in a list.
    Index(i64),
}

/// It is no step of a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotAStep {
    /// A kind of step that may come one day.
    Unknown,
    /// Broken.
    Broken,
}

impl PathElement {
    /// A step from its text.
    pub(crate) fn read(text: &str) -> Result<Self, NotAStep> {
        let broken = |_| NotAStep::Broken;
        match text.split_at_checked(2) {
            Some(("f:", name)) => Ok(Self::Field(name.into())),
            Some(("v:", json)) => serde_json::from_str(json).map(Self::Value).map_err(broken),
            Some(("k:", json)) => match serde_json::from_str(json) {
                // A JSON object is sorted by name.
                Ok(Value::Object(keys)) => Ok(Self::Key(keys.into_iter().collect())),
                Ok(_) | Err(_) => Err(NotAStep::Broken),
            },
            Some(("i:", place)) => place.parse().map(Self::Index).map_err(|_| NotAStep::Broken),
            Some((kind, _)) if kind.ends_with(':') => Err(NotAStep::Unknown),
            Some(_) | None => Err(NotAStep::Broken),
        }
    }

    /// Its text.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Value(value) => format!("v:{}", scalar::json(value)),
            Self::Index(place) => format!("i:{place}"),
            Self::Key(keys) => {
                let keys = keys.iter().map(|(name, value)| {
                    format!("{}:{}", Value::from(name.as_str()), scalar::json(value))
                });
                format!("k:{{{}}}", keys.collect::<Vec<_>>().join(","))
            }
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) if Arc::ptr_eq(a, b) => Ordering::Equal,
            (Self::Key(a), Self::Key(b)) if Arc::ptr_eq(a, b) => Ordering::Equal,
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            (Self::Value(a), Self::Value(b)) => scalar::compare(a, b),
            (Self::Key(a), Self::Key(b)) => {
                let differs = a
                    .iter()
                    .zip(b.iter())
                    .map(|((na, a), (nb, b))| na.cmp(nb).then_with(|| scalar::compare(a, b)))
                    .find(|order| order.is_ne());
                differs.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for PathElement {}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => write!(f, "[={}]", scalar::shown(value)),
            Self::Index(place) => write!(f, "[{place}]"),
            Self::Key(keys) => {
                let keys =
                    keys.iter().map(|(name, value)| format!("{name}={}", scalar::shown(value)));
                write!(f, "[{}]", keys.collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// A path as messages show it: `.spec.ports[port=80,protocol="TCP"]`, or the beginning of a long one.
pub(crate) fn shown<'a>(path: impl IntoIterator<Item = &'a PathElement>) -> String {
    let mut text = TruncatedText::default();
    for step in path {
        // It takes whatever is written to it.
        let _ = write!(text, "{step}");
    }
    text.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_written_as_they_were_read() {
        for text in [
            "f:name",
            "f:a:b",
            "f:",
            r#"k:{"containerPort":80,"protocol":"TCP"}"#,
            r#"v:"x""#,
            "v:1",
            "v:true",
            "i:3",
        ] {
            assert_eq!(PathElement::read(text).unwrap().text(), text);
        }
        let float = PathElement::read(r#"k:{"b":80.0,"a":"<"}"#).unwrap();
        assert_eq!(float.text(), r#"k:{"a":"\u003c","b":80}"#);
        assert_eq!(shown(&[PathElement::Field("ports".into()), float]), r#".ports[a="<",b=80]"#);
    }

    #[test]
    fn what_is_no_step_is_told_from_what_may_come_to_be_one() {
        assert_eq!(PathElement::read("x:1"), Err(NotAStep::Unknown));
        for text in ["", "f", "name", "k:1", "i:x", "v:{"] {
            assert_eq!(PathElement::read(text), Err(NotAStep::Broken), "{text}");
        }
    }
}
