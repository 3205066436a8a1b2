//! DER just far enough to put one element of a certificate in another's place.

/// The content of a DER element and what follows the element.
fn split(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.len() > size_of::<u32>() {
            return None;
        }
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    rest.split_at_checked(length)
}

/// The elements within a sequence, each with its header.
pub(crate) fn elements(sequence: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut rest, _) = split(sequence)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (_, after) = split(rest)?;
        found.push(rest.get(..rest.len() - after.len())?);
        rest = after;
    }
    Some(found)
}

/// An element with this tag around these parts.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let significant = length.get(zeros..).filter(|rest| !rest.is_empty()).unwrap_or(&[0]);
    let mut out = vec![tag];
    if content.len() >= 0x80 {
        // Eight at most.
        out.push(significant.iter().fold(0x80, |count, _| count + 1));
    }
    out.extend_from_slice(significant);
    out.extend_from_slice(&content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_every_length_come_back() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 70_000] {
            let content = vec![7; length];
            let inner = element(4, &[&content]);
            let outer = element(0x30, &[&inner, &[5, 0]]);
            assert_eq!(elements(&outer), Some(vec![&inner[..], &[5, 0]]), "{length}");
        }
    }

    #[test]
    fn what_is_cut_off_is_nothing() {
        let whole = element(0x30, &[&element(4, &[&[7; 300]])]);
        for end in 0..whole.len() {
            assert_eq!(elements(&whole[..end]), None, "{end}");
        }
        assert_eq!(
            elements(&[0x30, 0x89, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            None
        );
    }
}
