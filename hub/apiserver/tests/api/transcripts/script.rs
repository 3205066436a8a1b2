//! Requests one after the other, and what a real kube-apiserver answered to each.
//!
//! ```text
//! {"about": "…", "steps": [{"name": "…", "request": {method, path, headers?, body?},
//!                           "until": the code for which it is asked again?,
//!                           "keep": {name: JSON pointer into the answer's body}?,
//!                           "answer": what was recorded,
//!                           "different": {JSON pointer into the answer: why ours is another}?}]}
//! ```
//!
//! `{{name}}` in a path, a header or a body is what was kept under this name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::settle::Settler;
use crate::support::{Answer, Client};

/// Headers of an answer that are promises.
const HEADERS: [&str; 5] = ["content-type", "warning", "allow", "location", "retry-after"];

/// A file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    pub about: String,
    pub steps: Vec<Step>,
}

/// A request and its answer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub name: String,
    request: Request,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u16>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    keep: BTreeMap<String, String>,
    #[serde(default)]
    pub answer: Value,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    different: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    method: String,
    path: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    body: Value,
}

/// Who is asked, and with what beside a script's own headers.
pub struct Player {
    pub client: Client,
    pub headers: Vec<(String, String)>,
}

impl Player {
    /// Plays a script and gives back what was answered, step by step.
    pub async fn play(&self, script: &Script) -> Vec<Value> {
        let mut kept: BTreeMap<String, String> = BTreeMap::new();
        let mut settler = Settler::default();
        let mut answers = Vec::new();
        for step in &script.steps {
            let answer = self.answer(step, &kept).await;
            let mut body = body(&answer);
            for (name, pointer) in &step.keep {
                let value = body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                settler.name(value, name);
                kept.insert(name.clone(), value.to_owned());
            }
            settler.settle(&mut body);
            let mut headers = headers(&answer);
            settler.settle(&mut headers);
            answers.push(json!({"code": answer.code, "headers": headers, "body": body}));
        }
        answers
    }

    /// What is answered, or at last answered where that is waited for.
    async fn answer(&self, step: &Step, kept: &BTreeMap<String, String>) -> Answer {
        for _ in 0..1000 {
            let answer = self.send(&step.request, kept).await;
            if step.until.is_none_or(|code| answer.code == code) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{}: never answered with {:?}", step.name, step.until)
    }

    async fn send(&self, request: &Request, kept: &BTreeMap<String, String>) -> Answer {
        let filled = |text: &str| {
            let fill = |text: String, (name, value): (&String, &String)| {
                text.replace(&format!("{{{{{name}}}}}"), value)
            };
            kept.iter().fold(text.to_owned(), fill)
        };
        let body = match &request.body {
            Value::Null => String::new(),
            Value::String(raw) => filled(raw),
            value => filled(&value.to_string()),
        };
        let mut headers = self.headers.clone();
        headers.push(("user-agent".to_owned(), "transcript/1.0".to_owned()));
        if !body.is_empty() && !request.headers.contains_key("content-type") {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let own = request.headers.iter().map(|(name, value)| (name.clone(), filled(value)));
        headers.extend(own);
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.client.send(&request.method, &filled(&request.path), &headers, body).await
    }
}

/// JSON and YAML as such, several objects as a list of events, anything else as text.
fn body(answer: &Answer) -> Value {
    if answer.headers.get("content-type").is_some_and(|form| form == "application/yaml") {
        return serde_saphyr::from_str(&answer.text()).unwrap();
    }
    if let Ok(value) = serde_json::from_slice(&answer.bytes) {
        return value;
    }
    let lines: Result<Vec<Value>, _> =
        serde_json::Deserializer::from_slice(&answer.bytes).into_iter().collect();
    match lines {
        Ok(events) if !events.is_empty() => Value::Array(events),
        _ => Value::String(answer.text()),
    }
}

fn headers(answer: &Answer) -> Value {
    let of = |name: &str| {
        let values = answer.headers.get_all(name).iter();
        let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        (!texts.is_empty()).then(|| (name.to_owned(), json!(texts.join("; "))))
    };
    Value::Object(HEADERS.iter().filter_map(|name| of(name)).collect())
}

/// Differences that are named, by pattern, and those of them that were met.
pub struct Known<'a> {
    patterns: Vec<&'a str>,
    met: BTreeSet<&'a str>,
}

impl<'a> Known<'a> {
    pub fn new(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        Self { patterns: patterns.into_iter().collect(), met: BTreeSet::new() }
    }

    /// Whether one of them fits, which is then met.
    fn meets(&mut self, pointer: &str) -> bool {
        let path: Vec<&str> = pointer.split('/').collect();
        let fits = |known: &&&'a str| is_under(&path, &known.split('/').collect::<Vec<_>>());
        let found = self.patterns.iter().find(fits).copied();
        self.met.extend(found);
        found.is_some()
    }

    /// Those that there are no more.
    pub fn gone(&self) -> impl Iterator<Item = &'a str> {
        self.patterns.iter().copied().filter(|known| !self.met.contains(known))
    }
}

impl Step {
    /// What is wrong with an answer: differences that neither the script nor `everywhere` names, and those of the script
    /// that there are no more.
    pub fn judge(&self, answer: &Value, everywhere: &mut Known<'_>) -> Vec<String> {
        let mut found = Vec::new();
        differences(&self.answer, answer, String::new(), &mut found);
        let mut here = Known::new(self.different.keys().map(String::as_str));
        found.retain(|(pointer, _)| !everywhere.meets(pointer) && !here.meets(pointer));
        let mut wrong: Vec<String> =
            found.iter().map(|(pointer, text)| format!("{pointer}: {text}")).collect();
        wrong.extend(here.gone().map(|known| format!("{known}: is no difference any more")));
        wrong
    }
}

/// Whether a path is this one or leads on from it; `*` is any one segment, `**` any number of them.
fn is_under(path: &[&str], known: &[&str]) -> bool {
    match known.split_first() {
        None => true,
        Some((&"**", rest)) => (0..=path.len()).any(|skip| is_under(&path[skip..], rest)),
        Some((first, rest)) => path
            .split_first()
            .is_some_and(|(own, path)| (*first == "*" || first == own) && is_under(path, rest)),
    }
}

/// Walks both and tells where they part.
fn differences(want: &Value, got: &Value, at: String, found: &mut Vec<(String, String)>) {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            let keys: BTreeSet<&String> = want.keys().chain(got.keys()).collect();
            for key in keys {
                let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                match (want.get(key), got.get(key)) {
                    (Some(want), Some(got)) => differences(want, got, at, found),
                    // For every reader the same.
                    (Some(Value::Null), None) | (None, Some(Value::Null)) => {}
                    (Some(want), None) => found.push((at, format!("missing, kube has {want}"))),
                    (None, Some(got)) => found.push((at, format!("{got}, kube has nothing"))),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            for (index, (want, got)) in want.iter().zip(got).enumerate() {
                differences(want, got, format!("{at}/{index}"), found);
            }
        }
        _ if want == got => {}
        _ => found.push((at, format!("{got}, kube has {want}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(different: &Value) -> Step {
        serde_json::from_value(json!({
            "name": "one",
            "request": {"method": "GET", "path": "/"},
            "answer": {"code": 200, "body": {"a": 1, "list": [{"b": 2}]}},
            "different": different,
        }))
        .unwrap()
    }

    fn judge(step: &Step, answer: &Value) -> Vec<String> {
        step.judge(answer, &mut Known::new([]))
    }

    #[test]
    fn a_difference_is_told_unless_it_is_known() {
        let ours = json!({"code": 200, "body": {"a": 1, "list": [{"b": 3}]}});
        assert_eq!(judge(&step(&json!({})), &ours), ["/body/list/0/b: 3, kube has 2"]);
        for known in ["/body/list/*/b", "/body/list", "/body/**/b", "/**/list/*"] {
            assert!(judge(&step(&json!({known: "why"})), &ours).is_empty(), "{known}");
        }
        let mut everywhere = Known::new(["/**/b", "/**/c"]);
        assert!(step(&json!({})).judge(&ours, &mut everywhere).is_empty());
        assert!(everywhere.gone().eq(["/**/c"]));
    }

    #[test]
    fn a_known_difference_that_is_gone_is_told() {
        let same = json!({"code": 200, "body": {"a": 1, "list": [{"b": 2}]}});
        assert!(judge(&step(&json!({})), &same).is_empty());
        assert_eq!(
            judge(&step(&json!({"/body/a": "why"})), &same),
            ["/body/a: is no difference any more"]
        );
    }
}
