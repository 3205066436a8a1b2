//! URLs: absolute ones, and paths from the root.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use cel::objects::{Key, Map, Opaque};

use super::function::{Table, added, one, one_text, text_value};
use crate::format;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Url(String);

impl Opaque for Url {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.URL"
    }
}

pub(super) const FUNCTIONS: Table = &[
    ("url", |values, _| {
        let text = one_text(values)?;
        if !format::has("uri", text) {
            let why = "URL parse error during conversion from string: parse";
            return Err(format!("{why} {text:?}: invalid URI for request"));
        }
        Ok(Value::Opaque(Arc::new(Url(text.to_owned()))))
    }),
    ("isURL", |values, _| Ok(Value::Bool(format::has("uri", one_text(values)?)))),
    ("getScheme", |values, _| ask(values, |url| text_value(url.parts().0))),
    ("getHost", |values, _| ask(values, |url| text_value(url.host()))),
    ("getHostname", |values, _| ask(values, |url| text_value(split_port(url.host()).0))),
    ("getPort", |values, _| ask(values, |url| text_value(split_port(url.host()).1))),
    ("getEscapedPath", |values, _| ask(values, |url| text_value(url.path()))),
    ("getQuery", |values, _| ask(values, Url::query)),
];

fn ask(values: &[Value], answer: impl Fn(&Url) -> Value) -> Result<Value, String> {
    added::<Url>(one(values)?).map(answer)
}

/// A host without its brackets, and its port.
fn split_port(host: &str) -> (&str, &str) {
    if let Some(rest) = host.strip_prefix('[') {
        let (name, rest) = rest.split_once(']').unwrap_or((rest, ""));
        return (name, rest.strip_prefix(':').unwrap_or_default());
    }
    host.rsplit_once(':').unwrap_or((host, ""))
}

impl Url {
    /// Scheme, authority, and what follows.
    fn parts(&self) -> (&str, &str, &str) {
        let whole = self.0.split('#').next().unwrap_or_default();
        if whole.starts_with('/') {
            return ("", "", whole);
        }
        let (scheme, rest) = whole.split_once(':').unwrap_or(("", whole));
        let Some(rest) = rest.strip_prefix("//") else { return (scheme, "", rest) };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        (scheme, &rest[..end], &rest[end..])
    }

    fn host(&self) -> &str {
        let authority = self.parts().1;
        authority.rsplit_once('@').map_or(authority, |(_, host)| host)
    }

    fn path(&self) -> &str {
        self.parts().2.split('?').next().unwrap_or_default()
    }

    fn query(&self) -> Value {
        let query = self.parts().2.split_once('?').map_or("", |(_, query)| query);
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
        };
        let mut all: HashMap<String, Vec<Value>> = HashMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            all.entry(decode(key)).or_default().push(text_value(decode(value)));
        }
        let entry = |(key, values)| (Key::String(Arc::new(key)), Value::List(Arc::new(values)));
        Value::Map(Map { map: Arc::new(all.into_iter().map(entry).collect()) })
    }
}
