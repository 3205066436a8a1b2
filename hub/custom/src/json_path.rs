//! JSONPath as Kubernetes has it, as far as columns, selectable fields and feedback need it:
//! `.status.conditions[?(@.type=="Ready")].status`.
//!
//! It is no RFC 9535: `.a\.b/c` names one field and `['a.b']` two, filters have parentheses, a list has no more places
//! than it has, and a field that is not there is no mistake.
//!
//! ```text
//! .name ['name'] [0] [-1] [*] .* [0:2] [0:9:2] [0,1] ..name [?(@.path)] [?(@.path=="text")]   ==  !=  <  <=  >  >=
//! ```
//!
//! Guarantees:
//! - a path that is none is refused, never half followed (`paths_are_read_as_a_whole`);
//! - one that leads astray in one place leads nowhere (`who_goes_astray_finds_nothing`);
//! - a path takes no more of the stack than its text has parts in each other, which are three
//!   (`there_are_no_filters_in_filters`).

mod astray;
mod compare;
mod read;
mod step;

use serde_json::Value;

pub use astray::Astray;
use step::{Step, follow};

/// A path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

impl JsonPath {
    /// From its text; `None` when that is none.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        read::steps(text).map(Self)
    }

    /// One that leads to nothing.
    #[must_use]
    pub fn nowhere() -> Self {
        Self(vec![Step::Union(Vec::new())])
    }

    /// The first value that it leads to.
    #[must_use]
    pub fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.all(value).into_iter().next()
    }

    /// Every value that it leads to; none when it goes astray.
    #[must_use]
    pub fn all<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        self.find(value).unwrap_or_default()
    }

    /// Every value that it leads to.
    ///
    /// # Errors
    /// Where it goes astray.
    pub fn find<'a>(&self, value: &'a Value) -> Result<Vec<&'a Value>, Astray> {
        follow(&self.0, vec![value])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({
            "metadata": {"annotations": {"a.b/c": "x"}, "labels": {"a-b": "y"}},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "n": 1}, {"type": "Gone", "status": "False", "n": 2},
            ], "list": [1, 2, 3], "empty": [], "lists": [[1], [], [2]], "text": "t"},
        })
    }

    #[track_caller]
    fn finds(path: &str, expected: &Value) {
        let found = JsonPath::read(path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(json!(found.find(&object()).unwrap()), *expected, "{path}");
    }

    #[test]
    fn paths_lead_where_kubectl_goes() {
        finds(".status.list", &json!([[1, 2, 3]]));
        finds(".status.list[0]", &json!([1]));
        finds(".status.list[-1]", &json!([3]));
        finds(".status.list[1:]", &json!([2, 3]));
        finds(".status.list[:-1]", &json!([1, 2]));
        finds(".status.list[0:3:2]", &json!([1, 3]));
        finds(".status.list[0, -1]", &json!([1, 3]));
        finds(".status.list[*]", &json!([1, 2, 3]));
        finds(".status.empty[*].x", &json!([]));
        finds(".status.lists[*][*]", &json!([1]));
        finds(r".metadata.annotations.a\.b/c", &json!(["x"]));
        finds(r".metadata.annotations['a\.b/c']", &json!(["x"]));
        finds(".metadata['labels.a-b']", &json!(["y"]));
        finds(".metadata.labels.*", &json!(["y"]));
        finds(".metadata['labels','annotations'].a-b", &json!(["y"]));
        finds(r#".status.conditions[?(@.type=="Ready")].status "#, &json!(["True"]));
        finds(r#".status.conditions[?(@.type == 'Gone')].status"#, &json!(["False"]));
        finds(".status.conditions[?(@.n>1)].type", &json!(["Gone"]));
        finds(".status.conditions[?(@.n!=@.n)].type", &json!([]));
        finds(".status.conditions[?(@.x)].type", &json!([]));
        finds(".status.conditions[?(@.n[0])].type", &json!(["Ready", "Gone"]));
        finds("..type", &json!(["Ready", "Gone"]));
        finds(".nothing.here[3].at", &json!([]));
        finds(".status.empty[?(@.n=1)]", &json!([]));
        finds(".status.text.x", &json!([]));
        finds(".", &json!([]));
    }

    #[test]
    fn who_goes_astray_finds_nothing() {
        for (path, expected) in [
            (".status.list[3]", Astray::OutOfBounds),
            (".status.list[-4]", Astray::OutOfBounds),
            (".status.list[0:9]", Astray::OutOfBounds),
            (".status.empty[0]", Astray::OutOfBounds),
            (".status.lists[*][0]", Astray::OutOfBounds),
            (".status.list[2:1]", Astray::Backwards),
            (".status.list[0:2:0]", Astray::Backwards),
            (".status.text[0]", Astray::NoList),
            (".status[*]", Astray::NoList),
            (".status[?(@.x)]", Astray::NoList),
            (".status.conditions[?(@.n=='1')]", Astray::Incomparable),
            (".status.conditions[?(@.n=1)]", Astray::Incomparable),
            (".status.conditions[?(@['n','type']==1)]", Astray::Several),
        ] {
            let read = JsonPath::read(path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(read.find(&object()), Err(expected), "{path}");
            assert_eq!(read.first(&object()), None, "{path}");
        }
    }

    #[test]
    fn paths_are_read_as_a_whole() {
        for wrong in [
            ".a[",
            ".a[x]",
            ".a[?(@.x==]",
            ".a[?(@.x==)]",
            "a",
            ".a b",
            ".a{",
            r".a\",
            "[?(x)]",
            ".a....b",
            ".a[ 0 ]",
            ".a[\"b\"]",
            ".a[1:2:3:4]",
            ".a[-]",
            ".a]",
        ] {
            assert_eq!(JsonPath::read(wrong), None, "{wrong}");
        }
        assert!(JsonPath::read(&".a".repeat(65)).is_none());
        let union = |n: usize| JsonPath::read(&format!("[{}]", vec!["0"; n].join(",")));
        assert!(union(64).is_some() && union(65).is_none());
        assert_eq!(JsonPath::read(""), Some(JsonPath(Vec::new())));
        assert_eq!(JsonPath::nowhere().first(&object()), None);
    }

    #[test]
    fn there_are_no_filters_in_filters() {
        let nested = |n: usize| format!(".a{}{}", "[?(@.a".repeat(n), ")]".repeat(n));
        assert!(JsonPath::read(&nested(1)).is_some());
        assert!(JsonPath::read(&nested(2)).is_none());
        assert!(JsonPath::read(&nested(100_000)).is_none());
        assert!(JsonPath::read(&format!(".a{}", "['".repeat(100_000))).is_none());
    }
}
