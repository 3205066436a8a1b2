//! Formats of text that a schema may ask for. Those that Kubernetes does not know are not checked.
//!
//! Guarantees:
//! - what a format takes is what kube-apiserver takes (`formats`).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_schema::name;
use freewheel_hub_schema::time;
use regex::Regex;

/// Those of text, without the dashes that people may write in them.
const OF_TEXT: [&str; 26] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// Whether a format of text is one that is checked.
#[must_use]
pub fn is_of_text(format: &str) -> bool {
    OF_TEXT.contains(&&*format.replace('-', ""))
}

/// One of our own patterns; a test compiles them all.
type Own = LazyLock<Option<Regex>>;

fn matches(pattern: &Own, text: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

/// Whether a text has a format; one that is not known, every text has.
#[must_use]
pub fn has(format: &str, text: &str) -> bool {
    match &*format.replace('-', "") {
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "uri" => is_uri(text),
        "email" => is_email(text),
        "hostname" => is_hostname(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some('3')),
        "uuid4" => is_uuid(text, Some('4')),
        "uuid5" => is_uuid(text, Some('5')),
        "isbn" => is_isbn(text, 10) || is_isbn(text, 13),
        "isbn10" => is_isbn(text, 10),
        "isbn13" => is_isbn(text, 13),
        "creditcard" => is_credit_card(text),
        "ssn" => is_ssn(text),
        "hexcolor" => is_hex_color(text),
        "rgbcolor" => is_rgb_color(text),
        "byte" => STANDARD.decode(text).is_ok() && !text.is_empty(),
        "date" => is_date(text),
        "duration" => is_duration(text),
        "datetime" => time::read_rfc3339(text).is_some(),
        "k8sshortname" => name::dns_label(text).is_empty(),
        "k8slongname" => name::dns_subdomain(text).is_empty(),
        _ => true,
    }
}

/// As Go's net/url takes the first line of a request: absolute, or a path from the root.
fn is_uri(text: &str) -> bool {
    let clean = !text.bytes().any(|b| b < 0x20 || b == 0x7f || b == b' ');
    let whole = |(scheme, _): (&str, &str)| {
        let mut letters = scheme.bytes();
        letters.next().is_some_and(|b| b.is_ascii_alphabetic())
            && letters.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    };
    let escapes = text.split('%').skip(1);
    let escaped = escapes
        .into_iter()
        .all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit()));
    clean && escaped && (text.starts_with('/') || text.split_once(':').is_some_and(whole))
}

/// As Go's net/mail takes one address, with or without a name before it.
fn is_email(text: &str) -> bool {
    let address = match text.split_once('<') {
        Some((_, rest)) => match rest.strip_suffix('>') {
            Some(inner) => inner,
            None => return false,
        },
        None => text.trim(),
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c) || !c.is_ascii();
    let dots = |part: &str| part.split('.').all(|word| !word.is_empty());
    let quoted = local.len() > 1 && local.starts_with('"') && local.ends_with('"');
    (quoted || (local.chars().all(atom) && dots(local))) && domain.chars().all(atom) && dots(domain)
}

fn is_hostname(text: &str) -> bool {
    static NAME: Own = LazyLock::new(|| {
        let text = r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$";
        Regex::new(text).ok()
    });
    text.len() <= 255 && matches(&NAME, text) && text.split('.').all(|part| part.len() <= 63)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let plain = !bits.is_empty()
        && bits.bytes().all(|b| b.is_ascii_digit())
        && (bits.len() == 1 || !bits.starts_with('0'));
    let Ok(bits) = bits.parse::<u8>() else { return false };
    plain
        && (address.parse::<Ipv4Addr>().is_ok() && bits <= 32
            || address.parse::<Ipv6Addr>().is_ok() && bits <= 128)
}

fn is_mac(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let groups = |separator: char, length: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|part| hex(part, length))
    };
    groups(':', 2, [6, 8, 20]) || groups('-', 2, [6, 8, 20]) || groups('.', 4, [3, 4, 10])
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    let mut rest = text;
    for (length, last) in [(8, false), (4, false), (4, false), (4, false), (12, true)] {
        let Some(part) = rest.get(..length) else { return false };
        if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
            return false;
        }
        rest = &rest[length..];
        if !last {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
    }
    let digits: Vec<char> = text.chars().filter(|c| *c != '-').collect();
    let variant = |c: char| matches!(c.to_ascii_lowercase(), '8' | '9' | 'a' | 'b');
    rest.is_empty()
        && version.is_none_or(|version| digits.get(12) == Some(&version))
        && (version.is_none_or(|version| version == '3')
            || digits.get(16).is_some_and(|c| variant(*c)))
}

fn is_isbn(text: &str, length: usize) -> bool {
    let digits: Vec<char> = text.chars().filter(|c| *c != '-' && *c != ' ').collect();
    if digits.len() != length {
        return false;
    }
    let mut sum = 0;
    for (place, digit) in digits.iter().enumerate() {
        let last = place + 1 == length;
        let value = match digit.to_digit(10) {
            Some(value) => value,
            None if length == 10 && last && *digit == 'X' => 10,
            None => return false,
        };
        let place = u32::try_from(place).unwrap_or_default();
        sum += if length == 10 { (place + 1) * value } else { value * (1 + 2 * (place % 2)) };
    }
    sum % if length == 10 { 11 } else { 10 } == 0
}

/// The card companies' own check sum.
fn is_credit_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let doubled = |(place, digit): (usize, &u32)| {
        let twice = if place % 2 == 1 { digit * 2 } else { *digit };
        if twice > 9 { twice - 9 } else { twice }
    };
    let sum: u32 = digits.iter().rev().enumerate().map(doubled).sum();
    (13..=16).contains(&digits.len()) && sum.is_multiple_of(10)
}

fn is_ssn(text: &str) -> bool {
    static SSN: Own = LazyLock::new(|| Regex::new(r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$").ok());
    matches(&SSN, text)
}

fn is_hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_rgb_color(text: &str) -> bool {
    let inside = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')'));
    let parts: Vec<&str> = inside.unwrap_or_default().split(',').map(str::trim).collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u8>().is_ok())
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// As Go's time package reads one, or in words: `2 days`.
fn is_duration(text: &str) -> bool {
    static GO: Own = LazyLock::new(|| {
        let text = r"^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";
        Regex::new(text).ok()
    });
    static WORDS: Own = LazyLock::new(|| {
        let text = r"(?x)^[-+]?[0-9]+(\.[0-9]+)?[\ \t]*(
            ns|nano(second)?s?|us|micro(second)?s?|ms|milli(second)?s?|s|sec(ond)?s?|m|min(ute)?s?
            |h|hrs?|hours?|d|days?|w|wks?|weeks?)$";
        Regex::new(text).ok()
    });
    matches(&GO, text) || matches(&WORDS, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: &str, right: &[&str], wrong: &[&str]) {
        for text in right {
            assert!(has(format, text), "{format} {text}");
        }
        for text in wrong {
            assert!(!has(format, text), "{format} {text}");
        }
    }

    #[test]
    fn formats() {
        check("uri", &["https://a.b/c?d=e", "/a/b", "mailto:x@y"], &["a b", "a", "", "http://%zz"]);
        check("email", &["a@b.c", "A B <a@b.c>"], &["a", "a@", "@b", "a b@c.d"]);
        check("hostname", &["a", "a.example.com", "1a.example"], &["-a", "a..b", "a_b"]);
        check("ipv4", &["10.0.0.1"], &["10.0.0", "::1", "10.0.0.256"]);
        check("ipv6", &["::1", "fe80::1"], &["10.0.0.1", "x::"]);
        check("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33", "10.0.0.0/08"]);
        check("mac", &["01:02:03:04:05:06", "0102.0304.0506"], &["01:02", "01-02:03:04:05:06"]);
        check(
            "uuid",
            &["0DD8D7A0-7A1C-4F0B-9F3A-0123456789ab", "0dd8d7a07a1c4f0b9f3a0123456789ab"],
            &["0dd8d7a0", "gdd8d7a0-7a1c-4f0b-9f3a-0123456789ab"],
        );
        check(
            "uuid4",
            &["0dd8d7a0-7a1c-4f0b-9f3a-0123456789ab"],
            &["0dd8d7a0-7a1c-3f0b-9f3a-0123456789ab"],
        );
        check("isbn", &["0321751043", "978-0321751041"], &["0321751044", "x"]);
        check("creditcard", &["4111 1111 1111 1111"], &["4111 1111 1111 1112", "1"]);
        check("ssn", &["123-45-6789"], &["123"]);
        check("hexcolor", &["#fff", "FFFFFF"], &["#ffff", "g"]);
        check("rgbcolor", &["rgb(1,2,3)"], &["rgb(1,2)", "rgb(1,2,256)"]);
        check("byte", &["aGk="], &["aGk", "!"]);
        check("date", &["2026-02-28"], &["2026-02-30", "2026-2-1"]);
        check("date-time", &["2026-02-28T00:00:00Z"], &["2026-02-28"]);
        check("duration", &["1h30m", "22 ns", "3 days", "0"], &["1", "h", "1x"]);
        check("k8s-short-name", &["a-b"], &["a.b", "A"]);
        check("anything", &["at all"], &[]);
        assert!(is_of_text("date-time") && !is_of_text("int32") && !is_of_text("x"));
    }
}
