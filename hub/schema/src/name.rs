//! What names may look like, in apimachinery's words, and the suffixes that generateName adds.
//!
//! Guarantees:
//! - no complaint means valid, in the sense of kube-apiserver (`names_of_objects`, `keys_and_values_of_labels`,
//!   `names_inside_of_pods`).

use crate::kind::NameRule;

/// Longest RFC 1123 subdomain.
pub const SUBDOMAIN_MAX: usize = 253;
/// Longest DNS label.
pub const LABEL_MAX: usize = 63;
/// Letters of generated suffixes: no vowels, so no words; no digits that read like letters.
pub const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of a generated suffix.
pub const SUFFIX_LENGTH: usize = 5;
/// Longest prefix that is kept of a generateName.
pub const GENERATE_PREFIX_MAX: usize = LABEL_MAX - SUFFIX_LENGTH;

const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS1035_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_SHAPE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const ENV_TEXT: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";
const CONFIG_KEY_TEXT: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const PORT_NAME_CHARS: &str =
    "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";

/// Complaints about a metadata.name under `rule`.
#[must_use]
pub fn check(rule: NameRule, name: &str) -> Vec<String> {
    match rule {
        NameRule::DnsSubdomain => dns_subdomain(name),
        NameRule::DnsLabel => dns_label(name),
        NameRule::Dns1035Label => dns1035_label(name),
        NameRule::PathSegment => path_segment(name),
    }
}

/// RFC 1123 label.
#[must_use]
pub fn dns_label(name: &str) -> Vec<String> {
    let dots = name.contains('.') && name.split('.').all(is_dns_label);
    let rule = if dots { "must not contain dots" } else { LABEL_TEXT };
    complaints(name, LABEL_MAX, is_dns_label(name), rule)
}

/// RFC 1123 subdomain.
#[must_use]
pub fn dns_subdomain(name: &str) -> Vec<String> {
    let shape = name.split('.').all(is_dns_label);
    complaints(name, SUBDOMAIN_MAX, shape, SUBDOMAIN_TEXT)
}

/// RFC 1035 label: starts with a letter.
#[must_use]
pub fn dns1035_label(name: &str) -> Vec<String> {
    let shape = is_dns_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase());
    complaints(name, LABEL_MAX, shape, DNS1035_TEXT)
}

/// Anything that is one segment of a URL's path.
#[must_use]
pub fn path_segment(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"]
        .into_iter()
        .filter(|c| name.contains(c))
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

/// A label's or annotation's key: `[prefix/]name`.
#[must_use]
pub fn qualified_name(key: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut parts = key.split('/');
    let (first, second, rest) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if rest.is_some() {
        return vec![format!(
            "a qualified name {QUALIFIED_SHAPE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        )];
    }
    let name = match second {
        None => first,
        Some(name) => {
            if first.is_empty() {
                found.push("prefix part must be non-empty".to_owned());
            } else {
                found.extend(
                    dns_subdomain(first).into_iter().map(|text| format!("prefix part {text}")),
                );
            }
            name
        }
    };
    if name.is_empty() {
        found.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        found.push(format!("name part must be no more than {LABEL_MAX} bytes"));
    }
    if !is_qualified(name) {
        found.push(format!("name part {QUALIFIED_SHAPE}"));
    }
    found
}

/// A label's value; empty is valid.
#[must_use]
pub fn label_value(value: &str) -> Vec<String> {
    let mut found = Vec::new();
    if value.len() > LABEL_MAX {
        found.push(format!("must be no more than {LABEL_MAX} bytes"));
    }
    if !value.is_empty() && !is_qualified(value) {
        found.push(LABEL_VALUE_TEXT.to_owned());
    }
    found
}

/// The name of an environment variable.
#[must_use]
pub fn env_var(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    let printable = name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=');
    if printable { Vec::new() } else { vec![ENV_TEXT.to_owned()] }
}

/// A key of a ConfigMap's or Secret's data: a file name.
#[must_use]
pub fn config_key(key: &str) -> Vec<String> {
    let shape = !key.is_empty()
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let mut found = complaints(key, SUBDOMAIN_MAX, shape, CONFIG_KEY_TEXT);
    if key == "." || key == ".." {
        found.push(format!("must not be '{key}'"));
    } else if key.starts_with("..") {
        found.push("must not start with '..'".to_owned());
    }
    found
}

/// The name of a port: IANA service name.
#[must_use]
pub fn port_name(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    if name.len() > 15 {
        found.push(too_long(15));
    }
    if !name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
        found.push(PORT_NAME_CHARS.to_owned());
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        found.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        found.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        found.push("must not begin or end with a hyphen".to_owned());
    }
    found
}

/// A port's number.
#[must_use]
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65_535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

/// `base` cut to what leaves room, plus a suffix out of `random` (any five bytes).
#[must_use]
pub fn generate(base: &str, random: [u8; SUFFIX_LENGTH]) -> String {
    let end = (0..=base.len().min(GENERATE_PREFIX_MAX))
        .rev()
        .find(|end| base.is_char_boundary(*end))
        .unwrap_or_default();
    let suffix = random.into_iter().map(|b| {
        let index = usize::from(b) % SUFFIX_ALPHABET.len();
        char::from(SUFFIX_ALPHABET.get(index).copied().unwrap_or(b'b'))
    });
    base.get(..end).unwrap_or_default().chars().chain(suffix).collect()
}

fn complaints(text: &str, max: usize, shape: bool, rule: &str) -> Vec<String> {
    let mut found = Vec::new();
    if text.len() > max {
        found.push(too_long(max));
    }
    if !shape {
        found.push(rule.to_owned());
    }
    found
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn is_dns_label(text: &str) -> bool {
    let inner = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    !text.is_empty() && inner && !text.starts_with('-') && !text.ends_with('-')
}

fn is_qualified(text: &str) -> bool {
    let inner = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let edge = |c: char| c.is_ascii_alphanumeric();
    inner && text.starts_with(edge) && text.ends_with(edge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn valid(rule: fn(&str) -> Vec<String>, name: &str, expected: bool) {
        assert_eq!(rule(name).is_empty(), expected, "{name:?}: {:?}", rule(name));
    }

    #[test]
    fn names_of_objects() {
        valid(dns_subdomain, "a.b-c.1", true);
        valid(dns_subdomain, "a..b", false);
        valid(dns_subdomain, "Bad_Name", false);
        valid(dns_subdomain, &"a".repeat(253), true);
        valid(dns_subdomain, &"a".repeat(254), false);
        valid(dns_label, "1-a", true);
        valid(dns_label, "a.b", false);
        valid(dns_label, "", false);
        assert_eq!(dns_label("a.b"), ["must not contain dots"]);
        valid(dns1035_label, "a-1", true);
        valid(dns1035_label, "1-a", false);
        valid(path_segment, "system:node:x", true);
        valid(path_segment, "a/b", false);
        valid(path_segment, "..", false);
    }

    #[test]
    fn keys_and_values_of_labels() {
        valid(qualified_name, "app.kubernetes.io/name", true);
        valid(qualified_name, "My_Name", true);
        valid(qualified_name, "a b", false);
        valid(qualified_name, "/a", false);
        valid(qualified_name, "a/", false);
        valid(qualified_name, "a/b/c", false);
        valid(label_value, "", true);
        valid(label_value, "v1.2_3", true);
        valid(label_value, "-", false);
        valid(label_value, &"a".repeat(64), false);
        assert_eq!(qualified_name("a b"), [format!("name part {QUALIFIED_SHAPE}")]);
    }

    #[test]
    fn names_inside_of_pods() {
        valid(env_var, "PATH", true);
        valid(env_var, "a.b-c", true);
        valid(env_var, "A=B", false);
        valid(env_var, "", false);
        valid(config_key, "ca.crt", true);
        valid(config_key, "a/b", false);
        valid(config_key, "..a", false);
        valid(port_name, "http", true);
        valid(port_name, "80", false);
        valid(port_name, "a--b", false);
        valid(port_name, "a-very-long-port-name", false);
    }

    #[test]
    fn generated_names_fit_a_label_and_use_the_alphabet() {
        let name = generate(&"x".repeat(80), [0, 1, 26, 27, 255]);
        assert_eq!(name.len(), LABEL_MAX);
        assert!(name.ends_with("bc9bq"), "{name}");
    }
}
