//! Makes answers of two servers comparable: what each of them chooses becomes a placeholder.
//!
//! The same uid, revision or address is the same placeholder in the whole of a script, so what must be equal or different
//! still is.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::{Map, Value};

/// What was seen in a script so far, and its placeholders.
#[derive(Default)]
pub struct Settler {
    seen: BTreeMap<String, String>,
    /// By uid, since a number is too likely to be a part of something else.
    revisions: BTreeMap<String, Vec<String>>,
    counts: BTreeMap<String, usize>,
}

impl Settler {
    /// The script gave this value a name.
    pub fn name(&mut self, value: &str, name: &str) {
        if 3 < value.len() {
            self.seen.insert(value.to_owned(), format!("{{{{{name}}}}}"));
        }
    }

    /// Replaces what is chosen by a server.
    pub fn settle(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) => self.settle_fields(fields),
            Value::Array(items) => items.iter_mut().for_each(|item| self.settle(item)),
            Value::String(text) => *text = self.text(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn settle_fields(&mut self, fields: &mut Map<String, Value>) {
        let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
        let (uid, name) = (text("uid").filter(|uid| looks_like_uid(uid)), text("name"));
        let column = fields.contains_key("format") && fields.contains_key("priority");
        for (key, value) in fields.iter_mut() {
            match (key.as_str(), value, &uid) {
                ("resourceVersion", Value::String(text), Some(uid)) => {
                    *text = self.revision(uid, text);
                }
                ("resourceVersion", Value::String(text), None) if !text.is_empty() => {
                    *text = "{revision}".to_owned();
                }
                ("uid", Value::String(text), Some(_)) => {
                    *text = self.placeholder("uid", name.as_deref().unwrap_or_default(), text);
                }
                ("continue", Value::String(text), _) if !text.is_empty() => {
                    *text = "{continue}".to_owned();
                }
                // What a column is about is prose, and each side's own.
                ("description", Value::String(text), _) if column => *text = "{words}".to_owned(),
                (_, value, _) => self.settle(value),
            }
        }
    }

    /// The how-manieth of this object it is.
    fn revision(&mut self, uid: &str, revision: &str) -> String {
        let known = self.revisions.entry(uid.to_owned()).or_default();
        let place = known.iter().position(|known| known == revision).unwrap_or_else(|| {
            known.push(revision.to_owned());
            known.len() - 1
        });
        format!("{{revision {}}}", place + 1)
    }

    fn text(&mut self, text: &str) -> String {
        if is_time(text) {
            return if text.contains('.') { "{microtime}" } else { "{time}" }.to_owned();
        }
        if is_age(text) {
            return "{age}".to_owned();
        }
        if text.parse::<Ipv4Addr>().is_ok_and(|address| address.octets()[0] == 10) {
            return self.placeholder("address", "", text);
        }
        let mut out = text.to_owned();
        for (seen, placeholder) in &self.seen {
            if out.contains(seen.as_str()) {
                out = out.replace(seen.as_str(), placeholder);
            }
        }
        if let Some((head, _)) = out.split_once("too old resource version: ") {
            return format!("{head}too old resource version: {{revision}}");
        }
        if out.contains("ResourceVersion in") { without_numbers(&out) } else { out }
    }

    fn placeholder(&mut self, what: &str, of: &str, value: &str) -> String {
        if let Some(known) = self.seen.get(value) {
            return known.clone();
        }
        // One that was made anew under the same name is another one.
        let name = format!("{what} {}", self.text(of));
        let count = self.counts.entry(name.clone()).or_default();
        *count += 1;
        let made = format!("{{{} {count}}}", name.trim());
        self.seen.insert(value.to_owned(), made.clone());
        made
    }
}

/// Of a message about two revisions.
fn without_numbers(text: &str) -> String {
    let number = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_digit());
        if bare.is_empty() { word.to_owned() } else { word.replace(bare, "{revision}") }
    };
    text.split(' ').map(number).collect::<Vec<_>>().join(" ")
}

fn looks_like_uid(text: &str) -> bool {
    text.len() == 36 && text.bytes().filter(|byte| *byte == b'-').count() == 4
}

/// RFC 3339 in UTC, as Kubernetes writes it.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let at = |place: usize, byte: u8| bytes.get(place) == Some(&byte);
    let shape = at(4, b'-') && at(7, b'-') && at(10, b'T') && at(13, b':') && at(16, b':');
    shape && text.ends_with('Z') && bytes.iter().take(4).all(u8::is_ascii_digit)
}

/// What a column says of a time that is a moment ago, or of one that a script names: that is a day older each day.
fn is_age(text: &str) -> bool {
    let digits = ["ms", "s", "d"].iter().find_map(|unit| text.strip_suffix(unit));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}
