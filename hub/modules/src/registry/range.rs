//! Which part of a blob a client asks for (RFC 9110, section 14), and where an upload's next piece goes.

/// What a `Range` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: no header, or one that the RFC has us ignore.
    Whole,
    /// From the first byte to the last, both included.
    Part(u64, u64),
    /// Nothing of that is there.
    Nothing,
}

/// Reads a `Range` header against the size of what there is. Several ranges at once are answered with all.
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let spec = header.and_then(|text| text.trim().strip_prefix("bytes="));
    let Some((first, last)) = spec.and_then(|spec| spec.trim().split_once('-')) else {
        return Wanted::Whole;
    };
    let number = |text: &str| -> Option<u64> {
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
    };
    match (number(first), number(last)) {
        // The last so many bytes.
        (_, Some(count)) if first.is_empty() => match count.min(size) {
            0 => Wanted::Nothing,
            count => Wanted::Part(size - count, size - 1),
        },
        (Some(first), None) if last.is_empty() => part(first, u64::MAX, size),
        (Some(first), Some(last)) if first <= last => part(first, last, size),
        _ => Wanted::Whole,
    }
}

fn part(first: u64, last: u64, size: u64) -> Wanted {
    if first < size { Wanted::Part(first, last.min(size - 1)) } else { Wanted::Nothing }
}

/// The first byte that an upload's `Content-Range` names: `0-99`, which the distribution spec asks for, or
/// `bytes 0-99/*`, as it is elsewhere.
pub(super) fn start_of_piece(header: &str) -> Option<u64> {
    let text = header.trim().trim_start_matches("bytes").trim_start_matches(['=', ' ']);
    let (first, last) = text.split('/').next()?.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, size: u64, expected: Wanted) {
        assert_eq!(wanted(Some(header), size), expected, "{header} of {size}");
    }

    #[test]
    fn ranges_of_blobs() {
        assert_eq!(wanted(None, 10), Wanted::Whole);
        check("bytes=0-3", 10, Wanted::Part(0, 3));
        check("bytes=3-", 10, Wanted::Part(3, 9));
        check("bytes=-3", 10, Wanted::Part(7, 9));
        check("bytes=-30", 10, Wanted::Part(0, 9));
        check("bytes=9-99", 10, Wanted::Part(9, 9));
        check("bytes=10-", 10, Wanted::Nothing);
        check("bytes=-0", 10, Wanted::Nothing);
        check("bytes=0-", 0, Wanted::Nothing);
        for ignored in
            ["bytes=3-2", "bytes=a-b", "bytes=-", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2"]
        {
            check(ignored, 10, Wanted::Whole);
        }
        check(&format!("bytes=0-{}0", u64::MAX), 10, Wanted::Whole);
    }

    #[test]
    fn places_of_pieces() {
        assert_eq!(start_of_piece("0-99"), Some(0));
        assert_eq!(start_of_piece("bytes 5-9/10"), Some(5));
        assert_eq!(start_of_piece("bytes=5-9"), Some(5));
        for wrong in ["", "5", "9-5", "a-b", "-5"] {
            assert_eq!(start_of_piece(wrong), None, "{wrong}");
        }
    }
}
