//! The ledger's file: a header, then entries that each carry their length and checksum.
//!
//! ```text
//! "freewheel ledger" (16 bytes) · version u32 · entries
//! entry: length u32 · CRC-32 (IEEE) of the payload u32 · payload (postcard of `Entry`)
//! ```
//! All numbers little-endian. Frozen: a change is a new version of the header or a new entry.
//!
//! Guarantees: a torn or lost tail reads as if it had never been written; nothing after it is believed.

/// First bytes of every ledger.
pub(crate) const MAGIC: &[u8; 16] = b"freewheel ledger";
/// Version that this agent writes.
pub(crate) const VERSION: u32 = 1;
/// Largest payload that is believed: a plan of 32 MiB fits, a rotten length does not.
pub(crate) const MAX_ENTRY: usize = 64 << 20;

/// The header of a new file.
pub(crate) fn header() -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out
}

/// Adds one framed payload.
pub(crate) fn push(out: &mut Vec<u8>, payload: &[u8]) {
    // A payload beyond u32 cannot be made: plans are bounded far below by the link.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc32(payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// What a file's beginning says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opening<'a> {
    /// No file yet.
    Empty,
    /// A ledger of this version; the entries follow.
    Version(u32, &'a [u8]),
    /// Something else.
    Foreign,
}

/// Reads the header.
pub(crate) fn open(file: &[u8]) -> Opening<'_> {
    if file.is_empty() {
        return Opening::Empty;
    }
    let Some((version, entries)) =
        file.strip_prefix(MAGIC.as_slice()).and_then(|rest| rest.split_first_chunk())
    else {
        return Opening::Foreign;
    };
    Opening::Version(u32::from_le_bytes(*version), entries)
}

/// Takes the next payload off; `None` at the end or at the first one that is torn.
pub(crate) fn next<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let (sum, after) = after.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    // No entry is empty, and zeros are what a lost sector reads as.
    if length == 0 || MAX_ENTRY < length {
        return None;
    }
    let (payload, after) = after.split_at_checked(length)?;
    if crc32(payload) != u32::from_le_bytes(*sum) {
        return None;
    }
    *rest = after;
    Some(payload)
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut out = [0; 256];
    let mut index = 0_u32;
    while index < 256 {
        let mut value = index;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xEDB8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        out[index as usize] = value;
        index += 1;
    }
    out
}

/// CRC-32 as in IEEE 802.3 and zip.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        let [low, ..] = sum.to_le_bytes();
        TABLE[usize::from(low ^ byte)] ^ (sum >> 8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_well_known_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn frame_bytes_are_frozen() {
        let mut file = header();
        push(&mut file, b"abc");
        assert_eq!(&file[..20], b"freewheel ledger\x01\0\0\0");
        assert_eq!(&file[20..], b"\x03\0\0\0\xc2\x41\x24\x35abc");
    }

    #[test]
    fn every_cut_of_a_file_reads_as_whole_entries() {
        let mut file = header();
        push(&mut file, b"one");
        let first = file.len();
        push(&mut file, b"two");
        for cut in 20..=file.len() {
            let Opening::Version(1, mut rest) = open(&file[..cut]) else {
                panic!("header at {cut}")
            };
            let mut seen = 0;
            while next(&mut rest).is_some() {
                seen += 1;
            }
            assert_eq!(seen, usize::from(first <= cut) + usize::from(file.len() <= cut), "{cut}");
        }
        assert_eq!(open(&file[..19]), Opening::Foreign);
        assert_eq!(next(&mut [0; 64].as_slice()), None, "a zeroed tail holds nothing");
    }
}
