//! Where a redirect leads to, by RFC 3986, as Go's net/url has it.

use std::net::IpAddr;

use http::uri::Authority;

/// What may stand in a path as it is, beside letters and digits.
const AS_IT_IS: &[u8] = b"-._~:/?[]@!$&'()*+,;=";

/// A path with its query as a request has it: rooted, and with no byte in it that has no place there.
pub(super) fn rooted(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut out = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        out.push('/');
    }
    let bytes = path.as_bytes();
    let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    for (at, byte) in bytes.iter().enumerate() {
        let escape = *byte == b'%' && is_hex(at + 1) && is_hex(at + 2);
        if escape || byte.is_ascii_alphanumeric() || AS_IT_IS.contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The port and path that a `Location` leads to from a port and path of this address; `None`: elsewhere, or to where
/// TLS is spoken.
pub(super) fn follow(location: &str, ip: IpAddr, from: (u16, &str)) -> Option<(u16, String)> {
    let (port, path) = from;
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, rest) = scheme(location);
    if scheme.is_some_and(|scheme| !scheme.eq_ignore_ascii_case("http")) {
        return None;
    }
    if let Some(rest) = rest.strip_prefix("//") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.parse::<Authority>().ok()?;
        let here = authority.host() == ip.to_string();
        return here.then(|| (authority.port_u16().unwrap_or(80), plain(path)));
    }
    if scheme.is_some() {
        return None;
    }
    let (own, _) = path.split_once('?').unwrap_or((path, ""));
    let path = match rest.bytes().next() {
        None => path.to_owned(),
        Some(b'?') => format!("{own}{rest}"),
        Some(b'/') => plain(rest),
        Some(_) => plain(&format!("{}/{rest}", own.rsplit_once('/').map_or("", |(dir, _)| dir))),
    };
    Some((port, rooted(&path)))
}

/// The scheme of a reference, if it has one, and what follows it.
fn scheme(reference: &str) -> (Option<&str>, &str) {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    match reference.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, reference),
    }
}

/// A path without `.` and `..`, and its query.
fn plain(path: &str) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let mut out = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(out.pop()),
            part => out.push(part),
        }
    }
    // What leads to a directory ends with its slash.
    if matches!(path.rsplit('/').next(), Some("." | "..")) {
        out.push("");
    }
    rooted(&format!("/{}{query}", out.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(location: &str, leads: Option<(u16, &str)>) {
        let to = follow(location, [10, 64, 0, 1].into(), (8080, "/a/b?c=d"));
        let to = to.as_ref().map(|(port, path)| (*port, path.as_str()));
        assert_eq!(to, leads, "{location}");
    }

    #[test]
    fn redirects_lead_where_their_reference_says() {
        for (location, path) in [
            ("login", "/a/login"),
            ("./login?x=../y", "/a/login?x=../y"),
            ("../login", "/login"),
            ("../../../login", "/login"),
            ("..", "/"),
            ("/x/./y/../z#part", "/x/z"),
            ("?e=f", "/a/b?e=f"),
            ("#part", "/a/b?c=d"),
            ("log in", "/a/log%20in"),
            ("/ü%20%zz", "/%C3%BC%20%25zz"),
            ("1:2", "/a/1:2"),
        ] {
            check(location, Some((8080, path)));
        }
        check("http://10.64.0.1", Some((80, "/")));
        check("HTTP://10.64.0.1:81/x", Some((81, "/x")));
        check("//10.64.0.1:81?x=y", Some((81, "/?x=y")));
        for elsewhere in [
            "http://example.com/",
            "//10.64.0.2/",
            "https://10.64.0.1/",
            "mailto:me",
            "http:x",
            "http://:::/",
        ] {
            check(elsewhere, None);
        }
    }

    #[test]
    fn paths_are_escaped_as_go_does() {
        for (path, rooted_path) in [
            ("", "/"),
            ("healthz", "/healthz"),
            ("/a b?c=d e", "/a%20b?c=d%20e"),
            ("/%41%", "/%41%25"),
        ] {
            assert_eq!(rooted(path), rooted_path);
        }
    }
}
