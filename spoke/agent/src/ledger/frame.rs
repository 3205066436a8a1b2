//! The ledger's file: a header, then entries that each carry their length and checksum.
//!
//! ```text
//! header: "freewheel ledger" (16 bytes) · version u32 · salt u32 · CRC-32 (IEEE) of the 24 bytes before u32
//! entry:  length u32 · CRC-32 of salt and payload u32 · payload (postcard of `Entry`)
//! ```
//! All numbers little-endian. Frozen: a change is a new version of the header or a new entry. The salt is drawn for
//! each file: what users put into a plan cannot be made to look like an entry.
//!
//! Guarantees:
//! - no payload is believed whose checksum does not hold (`every_cut_of_a_file_reads_as_whole_entries`,
//!   `what_follows_a_damaged_entry_is_found_again`);
//! - what follows a damaged entry is found again (`what_follows_a_damaged_entry_is_found_again`), and the search costs
//!   no more than its share of work in the whole file (`the_search_behind_damages_has_one_budget_for_the_file`).

/// First bytes of every ledger.
pub(crate) const MAGIC: &[u8; 16] = b"freewheel ledger";
/// Length of the header.
pub(crate) const HEADER_BYTES: usize = 28;
/// Largest payload that is believed: far above the largest record, far below a rotten length.
pub(crate) const ENTRY_BYTES_MAX: usize = freewheel_link::limits::LEDGER_ENTRY_BYTES_MAX;
/// Bytes that the search for entries behind damages may checksum, in a whole file: seconds on a small device.
const SALVAGE_BYTES_MAX: usize = 256 << 20;

/// The header of a file of any version: the checksum is there in each.
pub(crate) fn header(version: u32, salt: u32) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&salt.to_le_bytes());
    let sum = crc32(0, &out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// Adds one framed payload.
pub(crate) fn push(out: &mut Vec<u8>, salt: u32, payload: &[u8]) {
    // The ledger makes none beyond [`ENTRY_BYTES_MAX`].
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc32(salt, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// What a file's beginning says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// No file yet.
    Empty,
    /// A ledger of this version.
    Version {
        /// Its version.
        version: u32,
        /// Its salt.
        salt: u32,
    },
    /// No header that holds; if it was one, this was its salt.
    Foreign {
        /// The salt, unless the damage is there.
        salt: u32,
    },
}

/// Reads the header.
pub(crate) fn open(file: &[u8]) -> Opening {
    if file.is_empty() {
        return Opening::Empty;
    }
    let number = |at: usize| {
        let bytes = file.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let (version, salt, sum) = (number(16), number(20), number(24));
    let holds = file.starts_with(MAGIC) && HEADER_BYTES <= file.len();
    if holds && crc32(0, &file[..HEADER_BYTES - 4]) == sum {
        Opening::Version { version, salt }
    } else {
        Opening::Foreign { salt }
    }
}

/// The salt of a file of this version.
pub(crate) fn salt(file: &[u8], version: u32) -> Option<u32> {
    match open(file) {
        Opening::Version { version: found, salt } => (found == version).then_some(salt),
        Opening::Empty | Opening::Foreign { .. } => None,
    }
}

/// Walks the entries of a file.
pub(crate) struct Reader<'a> {
    file: &'a [u8],
    salt: u32,
    at: usize,
    /// What is left of [`SALVAGE_BYTES_MAX`].
    search: usize,
}

impl<'a> Reader<'a> {
    /// From the first entry on.
    pub(crate) const fn new(file: &'a [u8], salt: u32) -> Self {
        Self { file, salt, at: HEADER_BYTES, search: SALVAGE_BYTES_MAX }
    }

    /// Where the next entry starts, or the damage.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// Length of the file.
    pub(crate) const fn length(&self) -> usize {
        self.file.len()
    }

    /// Whether there is nothing left.
    pub(crate) const fn is_done(&self) -> bool {
        self.file.len() <= self.at
    }

    /// Takes the next payload; `None` at the end or before the first entry that does not hold.
    pub(crate) fn next(&mut self) -> Option<&'a [u8]> {
        let payload = whole(self.file, self.at, self.salt)?;
        self.at += 8 + payload.len();
        Some(payload)
    }

    /// Steps over a damage; whether there is an entry behind it.
    pub(crate) fn resume(&mut self) -> bool {
        let (file, salt) = (self.file, self.salt);
        let holds = |at: usize| whole(file, at, salt).is_some();
        // Mostly the payload alone is damaged, and the length leads to the next.
        if let Some(length) = length(self.file, self.at)
            && holds(self.at + 8 + length)
        {
            self.at += 8 + length;
            return true;
        }
        for at in self.at + 1..self.file.len() {
            let Some(cost) = length(self.file, at) else { continue };
            let Some(left) = self.search.checked_sub(cost) else { break };
            self.search = left;
            if holds(at) {
                self.at = at;
                return true;
            }
        }
        false
    }
}

/// The length of the entry at an offset, if one can be there.
fn length(file: &[u8], at: usize) -> Option<usize> {
    let length = file.get(at..)?.first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    // No entry is empty, and zeros are what a lost sector reads as.
    let fits = 0 < length && length <= ENTRY_BYTES_MAX && at + 8 + length <= file.len();
    fits.then_some(length)
}

/// The payload of the entry at an offset, if it holds.
fn whole(file: &[u8], at: usize, salt: u32) -> Option<&[u8]> {
    let length = length(file, at)?;
    let sum = file.get(at + 4..)?.first_chunk()?;
    let payload = file.get(at + 8..at + 8 + length)?;
    (crc32(salt, payload) == u32::from_le_bytes(*sum)).then_some(payload)
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

/// CRC-32 as in IEEE 802.3 and zip, of the salt and then the bytes; 0 is no salt.
fn crc32(salt: u32, bytes: &[u8]) -> u32 {
    let salt = salt.to_le_bytes();
    let salt: &[u8] = if salt == [0; 4] { &[] } else { &salt };
    !salt.iter().chain(bytes).fold(!0, |sum, byte| {
        let [low, ..] = sum.to_le_bytes();
        TABLE[usize::from(low ^ byte)] ^ (sum >> 8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(payloads: &[&[u8]]) -> Vec<u8> {
        let mut file = header(1, 7);
        payloads.iter().for_each(|payload| push(&mut file, 7, payload));
        file
    }

    fn read<'a>(reader: &mut Reader<'a>) -> Vec<&'a [u8]> {
        std::iter::from_fn(|| reader.next()).collect()
    }

    #[test]
    fn the_checksum_is_the_well_known_one() {
        assert_eq!(crc32(0, b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(u32::from_le_bytes(*b"1234"), b"56789"), 0xCBF4_3926);
    }

    #[test]
    fn frame_bytes_are_frozen() {
        let mut file = header(1, 0);
        push(&mut file, 0, b"abc");
        assert_eq!(&file[..24], b"freewheel ledger\x01\0\0\0\0\0\0\0");
        assert_eq!(crc32(0, &file[..24]).to_le_bytes(), file[24..28]);
        assert_eq!(&file[28..], b"\x03\0\0\0\xc2\x41\x24\x35abc");
    }

    #[test]
    fn every_cut_of_a_file_reads_as_whole_entries() {
        let whole = file(&[b"one", b"two"]);
        let first = HEADER_BYTES + 11;
        for cut in HEADER_BYTES..=whole.len() {
            let file = &whole[..cut];
            assert_eq!(open(file), Opening::Version { version: 1, salt: 7 });
            let seen = read(&mut Reader::new(file, 7)).len();
            assert_eq!(seen, usize::from(first <= cut) + usize::from(whole.len() <= cut), "{cut}");
        }
        assert!(matches!(open(&whole[..19]), Opening::Foreign { .. }));
        let zeros = [header(1, 7), vec![0; 64]].concat();
        assert_eq!(Reader::new(&zeros, 7).next(), None, "a zeroed tail holds nothing");
    }

    /// Every byte of the second entry, header and payload, in turn.
    #[test]
    fn what_follows_a_damaged_entry_is_found_again() {
        let whole = file(&[b"one", b"number two", b"three", b"four"]);
        for at in HEADER_BYTES + 11..HEADER_BYTES + 11 + 18 {
            let mut file = whole.clone();
            file[at] ^= 0x10;
            let mut reader = Reader::new(&file, 7);
            assert_eq!(read(&mut reader), [b"one"], "{at}");
            assert!(reader.resume(), "{at}");
            assert_eq!(read(&mut reader), [&b"three"[..], b"four"], "{at}");
            assert!(reader.is_done());
        }
    }

    #[test]
    fn an_entry_within_a_payload_is_not_taken_for_one() {
        let mut forged = Vec::new();
        push(&mut forged, 0, b"forged");
        let mut file = file(&[b"one", &forged, b"three"]);
        let at = HEADER_BYTES + 11;
        file[at..at + 8].fill(0xff);
        let mut reader = Reader::new(&file, 7);
        assert_eq!(read(&mut reader), [b"one"]);
        assert!(reader.resume());
        assert_eq!(read(&mut reader), [b"three"]);
    }

    #[test]
    fn the_search_behind_damages_has_one_budget_for_the_file() {
        let mut file = file(&[b"one", b"two", b"three", b"four", b"five"]);
        // The lengths of the second and the fourth entry: only a search finds what follows.
        for at in [HEADER_BYTES + 11, HEADER_BYTES + 11 + 11 + 13] {
            file[at..at + 4].fill(0xff);
        }
        let mut reader = Reader::new(&file, 7);
        assert_eq!(read(&mut reader), [b"one"]);
        assert!(reader.resume());
        let spent = SALVAGE_BYTES_MAX - reader.search;
        assert!(5 <= spent, "what was found was checksummed");
        assert_eq!(read(&mut reader), [b"three"]);
        assert!(reader.resume());
        assert_eq!(read(&mut reader), [b"five"]);

        let mut poor = Reader { search: spent, ..Reader::new(&file, 7) };
        assert_eq!(read(&mut poor), [b"one"]);
        assert!(poor.resume());
        assert_eq!(read(&mut poor), [b"three"]);
        assert!(!poor.resume(), "nothing is left for a second search");
    }
}
