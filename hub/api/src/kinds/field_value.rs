//! A place in an object: a value, and the path by which mistakes name it.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::metadata;
use freewheel_hub_schema::name as names;
use freewheel_hub_schema::quantity::Quantity;
use freewheel_hub_schema::selector::LabelSelector;
use serde_json::{Value, json};

static NOTHING: Value = Value::Null;

/// Complaints about a text.
pub(super) type Rule = fn(&str) -> Vec<String>;

/// What may not be changed says this.
pub(super) const IMMUTABLE: &str = "field is immutable";

/// A value in an object, with its path. What is not there is null.
#[derive(Clone, Debug)]
pub(super) struct FieldValue<'a> {
    /// What is there.
    pub value: &'a Value,
    /// `spec.ports[0]`
    pub path: String,
}

impl<'a> FieldValue<'a> {
    /// A field of the object itself.
    pub fn of(object: &'a Value, field: &str) -> Self {
        Self { value: object.get(field).unwrap_or(&NOTHING), path: field.to_owned() }
    }

    /// Any value under any path.
    pub fn at(value: &'a Value, path: impl Into<String>) -> Self {
        Self { value, path: path.into() }
    }

    /// A field of what is here.
    pub fn child(&self, field: &str) -> Self {
        let path = format!("{}.{field}", self.path);
        Self { value: self.value.get(field).unwrap_or(&NOTHING), path }
    }

    /// Items of the list that is here.
    pub fn items(&self) -> impl Iterator<Item = Self> + '_ {
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.map(|(i, value)| Self { value, path: format!("{}[{i}]", self.path) })
    }

    /// Entries of the map that is here.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Self)> + '_ {
        let entries = self.value.as_object().into_iter().flatten();
        entries.map(|(key, value)| {
            (key.as_str(), Self { value, path: format!("{}[{key}]", self.path) })
        })
    }

    /// Whether anything is here.
    pub fn is_there(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether nothing is here, or something that is empty.
    pub fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// The text that is here.
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// The number that is here.
    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// The amount that is here.
    pub fn amount(&self) -> Option<Quantity> {
        self.value.as_str()?.parse().ok()
    }

    /// It breaks a rule.
    pub fn invalid(&self, text: &str) -> FieldError {
        FieldError::invalid(&*self.path, self.value, text)
    }

    /// It is not there.
    pub fn required(&self, detail: &str) -> FieldError {
        FieldError::required(&*self.path, detail)
    }

    /// It may not be there.
    pub fn forbidden(&self, detail: &str) -> FieldError {
        FieldError::forbidden(&*self.path, detail)
    }

    /// It was there before.
    pub fn duplicate(&self) -> FieldError {
        FieldError::duplicate(&*self.path, self.value)
    }

    /// It is none of these.
    pub fn not_supported(&self, supported: &[&str]) -> FieldError {
        FieldError::not_supported(&*self.path, self.value, supported)
    }

    /// Something has to be here.
    pub fn must_be(&self) -> Option<FieldError> {
        self.is_empty().then(|| self.required(""))
    }

    /// A text has to be one of these; nothing at all is fine.
    pub fn one_of(&self, supported: &[&str]) -> Option<FieldError> {
        let fits = !self.is_there() || supported.contains(&self.text());
        (!fits).then(|| self.not_supported(supported))
    }

    /// A text has to follow the rule, empty or not.
    pub fn follows(&self, rule: Rule) -> Vec<FieldError> {
        let found = rule(self.text());
        let text = json!(self.text());
        found.iter().map(|why| FieldError::invalid(&*self.path, &text, why)).collect()
    }

    /// A text has to be there and to follow the rule.
    pub fn named(&self, rule: Rule) -> Vec<FieldError> {
        if self.is_empty() { vec![self.required("")] } else { self.follows(rule) }
    }

    /// A number, if there is one, has to be so large.
    pub fn at_least(&self, least: i64) -> Option<FieldError> {
        let text = format!("must be greater than or equal to {least}");
        self.int().filter(|number| *number < least).map(|_| self.invalid(&text))
    }

    /// A number, if there is one, has to be within these, with both.
    pub fn within(&self, least: i64, most: i64) -> Option<FieldError> {
        let text = format!("must be between {least} and {most}, inclusive");
        let outside = |number: &i64| *number < least || most < *number;
        self.int().filter(outside).map(|_| self.invalid(&text))
    }

    /// No text may be longer.
    pub fn no_longer(&self, most: usize) -> Option<FieldError> {
        (most < self.text().len()).then(|| FieldError::too_long(&*self.path, most))
    }

    /// No list may have more items.
    pub fn no_more(&self, most: usize) -> Option<FieldError> {
        let found = self.value.as_array().map_or(0, Vec::len);
        (most < found).then(|| FieldError::too_many(&*self.path, found, most))
    }

    /// It has to be what it was.
    pub fn stays(&self, old: &FieldValue<'_>) -> Option<FieldError> {
        (self.value != old.value).then(|| self.invalid(IMMUTABLE))
    }

    /// Mistakes of the LabelSelector that is here.
    pub fn selector(&self) -> Vec<FieldError> {
        LabelSelector::from_json(Some(self.value), &self.path).err().unwrap_or_default()
    }

    /// Mistakes of the labels that are here.
    pub fn labels(&self) -> Vec<FieldError> {
        metadata::check_label_map(Some(self.value), &self.path)
    }

    /// A domain and a path below it.
    pub fn domain_path(&self) -> Vec<FieldError> {
        const BAD: &str = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        const PATH: &str =
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        if self.is_empty() {
            return vec![self.required("")];
        }
        let parts = self.text().split_once('/').filter(|(a, b)| !a.is_empty() && !b.is_empty());
        let Some((domain, path)) = parts else { return vec![self.invalid(BAD)] };
        let of = |part: &str, why: &str| FieldError::invalid(&*self.path, &json!(part), why);
        let wrong = names::dns_subdomain(domain);
        let mut errors: Vec<_> = wrong.iter().map(|why| of(domain, why)).collect();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
        if !path.bytes().all(plain) {
            errors.push(of(path, PATH));
        }
        errors
    }

    /// An amount that may not be negative.
    pub fn not_negative(&self) -> Option<FieldError> {
        let negative = self.amount().is_some_and(|amount| amount.is_negative());
        negative.then(|| self.invalid("must be greater than or equal to 0"))
    }

    /// An amount that has to be more than nothing.
    pub fn positive(&self) -> Option<FieldError> {
        let none = self.amount().is_some_and(|amount| amount.is_negative() || amount.is_zero());
        none.then(|| self.invalid("must be greater than zero"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_name_their_place() {
        let object = json!({"spec": {"ports": [{"port": 0}], "hard": {"cpu": "-1"}, "mode": "x"}});
        let spec = FieldValue::of(&object, "spec");
        let ports = spec.child("ports");
        let port = ports.items().next().unwrap();
        let error = port.child("port").at_least(1).unwrap();
        assert_eq!(error.field, "spec.ports[0].port");
        assert_eq!(error.message, "Invalid value: 0: must be greater than or equal to 1");
        let hard = spec.child("hard");
        let (key, amount) = hard.entries().next().unwrap();
        assert_eq!((key, &*amount.path), ("cpu", "spec.hard[cpu]"));
        assert!(amount.not_negative().is_some() && amount.positive().is_some());
        assert_eq!(
            spec.child("mode").one_of(&["a", "b"]).unwrap().reason,
            "FieldValueNotSupported"
        );
        assert_eq!(spec.child("nothing").one_of(&["a"]), None);
        assert_eq!(spec.child("nothing").must_be().unwrap().message, "Required value");
    }
}
