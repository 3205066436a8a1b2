//! Puts a revision into stored bytes without parsing them.
//!
//! Bodies at rest are canonical JSON without `resourceVersion`; on the way out it becomes the first
//! member of `metadata`.

use bytes::Bytes;

/// Appends `body` with `metadata.resourceVersion` set to `revision`.
pub fn append(out: &mut Vec<u8>, body: &[u8], revision: u64) {
    // A dry run's object has no revision yet.
    let Some(at) = metadata_start(body).filter(|_| revision != 0) else {
        out.extend_from_slice(body);
        return;
    };
    let (before, after) = body.split_at(at);
    out.extend_from_slice(before);
    out.extend_from_slice(b"\"resourceVersion\":\"");
    append_number(out, revision);
    out.push(b'"');
    if after.first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(after);
}

/// `body` with `metadata.resourceVersion` set to `revision`.
#[must_use]
pub fn spliced(body: &[u8], revision: u64) -> Bytes {
    let mut out = Vec::with_capacity(body.len() + 48);
    append(&mut out, body, revision);
    out.into()
}

/// Appends a number in decimal.
pub fn append_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        // Below ten, so it fits.
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Just behind the `{` of the top-level member `metadata`.
fn metadata_start(body: &[u8]) -> Option<usize> {
    const MEMBER: &[u8] = b"\"metadata\":{";
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = body.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                if depth == 1 && body.get(at..)?.starts_with(MEMBER) {
                    return Some(at + MEMBER.len());
                }
                at = string_end(body, at + 1)?;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the string that began just before `from` has its closing quote.
fn string_end(body: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += body.get(at..)?.iter().position(|b| matches!(b, b'"' | b'\\'))?;
        if body.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, want: &str) {
        assert_eq!(spliced(body.as_bytes(), 42), want.as_bytes());
    }

    #[test]
    fn the_revision_goes_into_the_objects_own_metadata() {
        check(
            r#"{"metadata":{"name":"a"}}"#,
            r#"{"metadata":{"resourceVersion":"42","name":"a"}}"#,
        );
        check(r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":"42"}}"#);
        check(
            r#"{"data":{"x":"\"metadata\":{"},"a":{"metadata":{}},"metadata":{"name":"a"}}"#,
            r#"{"data":{"x":"\"metadata\":{"},"a":{"metadata":{}},"metadata":{"resourceVersion":"42","name":"a"}}"#,
        );
        check(r#"{"a":"metadata"}"#, r#"{"a":"metadata"}"#);
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, u64::MAX] {
            let mut out = Vec::new();
            append_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
