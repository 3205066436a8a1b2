//! Label selectors, from a query's text or from a LabelSelector object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::parse;
use super::requirement::{Operator, Requirement};
use crate::error::{ApiError, FieldError};
use crate::name;

/// All of its requirements must hold; without any it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Matches whatever is asked.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches nothing: an absent LabelSelector object.
    #[must_use]
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Whether it matches whatever is asked.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// The requirements, for indexes.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The `labelSelector` of a query: `a=b,c!=d,e in (f,g),h,!i,j>1`.
    ///
    /// # Errors
    /// 400 in kube-apiserver's words when the text is no selector.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        parse::requirements(text).map(|requirements| Self { requirements, nothing: false })
    }

    /// Every label of the map with its value: `Service.spec.selector`.
    #[must_use]
    pub fn from_map<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let equals = |(key, value): (&str, &str)| Requirement {
            key: key.to_owned(),
            operator: Operator::In(BTreeSet::from([value.to_owned()])),
        };
        Self { requirements: labels.into_iter().map(equals).collect(), nothing: false }
    }

    /// A LabelSelector object (`matchLabels`, `matchExpressions`). Absent matches nothing, empty
    /// everything.
    ///
    /// # Errors
    /// Every mistake, with paths below `path`.
    pub fn from_json(value: Option<&Value>, path: &str) -> Result<Self, Vec<FieldError>> {
        let Some(value) = value.filter(|v| !v.is_null()) else { return Ok(Self::nothing()) };
        let mut requirements = Vec::new();
        let mut errors = Vec::new();
        let labels = value.get("matchLabels").and_then(Value::as_object);
        for (key, value) in labels.into_iter().flatten() {
            let text = value.as_str().unwrap_or_default();
            let at = format!("{path}.matchLabels");
            let complaints = name::qualified_name(key);
            errors
                .extend(complaints.iter().map(|c| FieldError::invalid(at.clone(), &json!(key), c)));
            let complaints = name::label_value(text);
            errors.extend(complaints.iter().map(|c| FieldError::invalid(at.clone(), value, c)));
            let operator = Operator::In(BTreeSet::from([text.to_owned()]));
            requirements.push(Requirement { key: key.clone(), operator });
        }
        let expressions = value.get("matchExpressions").and_then(Value::as_array);
        for (i, expression) in expressions.into_iter().flatten().enumerate() {
            match from_expression(expression, &format!("{path}.matchExpressions[{i}]")) {
                Ok(requirement) => requirements.push(requirement),
                Err(more) => errors.extend(more),
            }
        }
        if errors.is_empty() { Ok(Self { requirements, nothing: false }) } else { Err(errors) }
    }

    /// Whether these labels satisfy it.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Whether these labels, as JSON, satisfy it.
    #[must_use]
    pub fn matches_json(&self, labels: Option<&Value>) -> bool {
        self.matches_with(|key| labels?.get(key)?.as_str())
    }

    fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.holds(get(&r.key)))
    }
}

impl std::fmt::Display for LabelSelector {
    /// As kubectl prints selectors, sorted by key: `a=b,c in (d,e),!f`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted: Vec<_> = self.requirements.iter().collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        for (i, requirement) in sorted.into_iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let key = &requirement.key;
            let join = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
            match &requirement.operator {
                Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", join(values))?,
                Operator::In(values) => write!(f, "{key} in ({})", join(values))?,
                Operator::NotIn(values) if values.len() == 1 => {
                    write!(f, "{key}!={}", join(values))?;
                }
                Operator::NotIn(values) => write!(f, "{key} notin ({})", join(values))?,
                Operator::Exists => f.write_str(key)?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
                Operator::Greater(bound) => write!(f, "{key}>{bound}")?,
                Operator::Less(bound) => write!(f, "{key}<{bound}")?,
            }
        }
        Ok(())
    }
}

fn from_expression(expression: &Value, path: &str) -> Result<Requirement, Vec<FieldError>> {
    let text = |key: &str| expression.get(key).and_then(Value::as_str).unwrap_or_default();
    let (key, operator) = (text("key"), text("operator"));
    let values: BTreeSet<String> = expression
        .get("values")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect();
    let mut errors: Vec<_> = name::qualified_name(key)
        .iter()
        .map(|complaint| FieldError::invalid(format!("{path}.key"), &json!(key), complaint))
        .collect();
    let at = format!("{path}.values");
    match operator {
        "In" | "NotIn" if values.is_empty() => errors
            .push(FieldError::required(at, "must be specified when `operator` is 'In' or 'NotIn'")),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
            at,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        "In" | "NotIn" => {
            for value in &values {
                let complaints = name::label_value(value);
                let error = |c: &String| FieldError::invalid(at.clone(), &json!(value), c);
                errors.extend(complaints.iter().map(error));
            }
        }
        "Exists" | "DoesNotExist" => {}
        other => errors.push(FieldError::invalid(
            format!("{path}.operator"),
            &json!(other),
            "not a valid selector operator",
        )),
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let operator = match operator {
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        "Exists" => Operator::Exists,
        _ => Operator::DoesNotExist,
    };
    Ok(Requirement { key: key.to_owned(), operator })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(selector: &str, labels: &[(&str, &str)], expected: bool) {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let parsed = LabelSelector::parse(selector).unwrap();
        assert_eq!(parsed.matches(&labels), expected, "{selector:?} on {labels:?}");
    }

    #[test]
    fn selectors_of_queries() {
        check("", &[], true);
        check("a=b", &[("a", "b")], true);
        check("a==b", &[("a", "c")], false);
        check("a=", &[("a", "")], true);
        check("a!=b", &[], true);
        check("a != b", &[("a", "b")], false);
        check("a", &[("a", "")], true);
        check("!a", &[("a", "")], false);
        check("! a", &[], true);
        check("a in (b, c)", &[("a", "c")], true);
        check("a in (b,c),d", &[("a", "c")], false);
        check("a notin (b,c)", &[], true);
        check("a notin (b)", &[("a", "b")], false);
        check("a>1", &[("a", "2")], true);
        check("a<1", &[("a", "x")], false);
        check(
            "app.kubernetes.io/name=web,in=in",
            &[("app.kubernetes.io/name", "web"), ("in", "in")],
            true,
        );
    }

    #[track_caller]
    fn refused(selector: &str, message: &str) {
        let error = LabelSelector::parse(selector).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (400, message), "{selector:?}");
    }

    #[test]
    fn what_is_no_selector_is_refused_in_known_words() {
        refused(
            "a b c",
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
        );
        refused("a,", "found '', expected: identifier after ','");
        refused("a in b", "unable to parse requirement: found 'b' expected: '('");
        refused("a=b=c", "found '=', expected: ',' or 'end of string'");
        assert!(LabelSelector::parse("a b/c/d=1").is_err());
        assert!(LabelSelector::parse(&"a,".repeat(2000)).is_err());
        assert!(LabelSelector::parse("a in (((((").is_err());
    }

    #[test]
    fn selectors_of_objects() {
        let parse = |value: Value| LabelSelector::from_json(Some(&value), "spec.selector");
        assert!(!LabelSelector::from_json(None, "s").unwrap().matches(&BTreeMap::new()));
        assert!(parse(json!({})).unwrap().matches(&BTreeMap::new()));
        let both = parse(json!({
            "matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["d", "e"]}],
        }))
        .unwrap();
        assert!(both.matches_json(Some(&json!({"a": "b"}))));
        assert!(!both.matches_json(Some(&json!({"a": "b", "c": "d"}))));
        assert_eq!(both.to_string(), "a=b,c notin (d,e)");
        let wrong = parse(json!({"matchExpressions": [{"key": "c", "operator": "Within"}]}));
        assert_eq!(wrong.unwrap_err()[0].field, "spec.selector.matchExpressions[0].operator");
    }
}
