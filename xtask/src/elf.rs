//! What an ELF file asks of the system that starts it.
//!
//! Guarantees:
//! - a program that needs the system's C library is told from one that needs nothing
//!   (`a_program_of_this_machine_asks_for_its_c_library`, `a_program_that_asks_for_nothing_is_static`);
//! - a file that lacks a part of what is loaded to start it, or is none of ELF, is refused (`what_is_cut_is_refused`).

use freewheel_xtask_kit::command::Stop;

/// What a file says of how it is loaded.
#[derive(Debug, Default, PartialEq)]
pub struct Needs {
    /// A program that has to be there to start it (`PT_INTERP`).
    pub interpreter: bool,
    /// How many libraries it asks for (`DT_NEEDED`).
    pub libraries: usize,
    /// It may lie anywhere in memory (`ET_DYN`), so that its addresses are not known beforehand.
    pub movable: bool,
}

/// What any system can start, wherever it lays it.
pub const IS_STATIC: Needs = Needs { interpreter: false, libraries: 0, movable: true };

/// Widths of the two kinds of files, little-endian both.
struct Layout {
    /// Of an address.
    word: usize,
    /// Where the file's header has the offset of the table, and behind it the size and number of its entries.
    table: usize,
    entries: usize,
    /// Where an entry has its part's offset and size in the file.
    offset: usize,
    size: usize,
}

const WIDE: Layout = Layout { word: 8, table: 0x20, entries: 0x36, offset: 0x08, size: 0x20 };
const NARROW: Layout = Layout { word: 4, table: 0x1c, entries: 0x2a, offset: 0x04, size: 0x10 };

const ET_DYN: u64 = 3;
const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;

/// Reads them.
pub fn needs(file: &[u8]) -> Result<Needs, Stop> {
    let layout = match file.get(..6) {
        Some(b"\x7fELF\x02\x01") => WIDE,
        Some(b"\x7fELF\x01\x01") => NARROW,
        _ => return Err(Stop("this is no ELF file with the lowest byte first".into())),
    };
    let mut needs = Needs { movable: number(file, 0x10, 2)? == ET_DYN, ..Needs::default() };
    let table = place(file, layout.table, layout.word)?;
    let (size, count) = (place(file, layout.entries, 2)?, place(file, layout.entries + 2, 2)?);
    for entry in (0..count).map(|at| table.saturating_add(at * size)) {
        let part = number(file, entry, 4)?;
        needs.interpreter |= part == PT_INTERP;
        if matches!(part, PT_LOAD | PT_DYNAMIC) {
            let from = place(file, entry.saturating_add(layout.offset), layout.word)?;
            let size = place(file, entry.saturating_add(layout.size), layout.word)?;
            let bytes = from.checked_add(size).and_then(|to| file.get(from..to)).ok_or_else(cut)?;
            if part == PT_DYNAMIC {
                needs.libraries += libraries(bytes, layout.word)?;
            }
        }
    }
    Ok(needs)
}

/// Libraries in a table of tags and values.
fn libraries(table: &[u8], word: usize) -> Result<usize, Stop> {
    let mut count = 0;
    for entry in table.chunks_exact(2 * word) {
        match number(entry, 0, word)? {
            DT_NULL => break,
            DT_NEEDED => count += 1,
            _ => {}
        }
    }
    Ok(count)
}

fn number(file: &[u8], at: usize, width: usize) -> Result<u64, Stop> {
    let bytes = at.checked_add(width).and_then(|to| file.get(at..to)).ok_or_else(cut)?;
    Ok(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn place(file: &[u8], at: usize, width: usize) -> Result<usize, Stop> {
    usize::try_from(number(file, at, width)?).map_err(|_| cut())
}

fn cut() -> Stop {
    Stop("this ELF file names parts that it does not have".into())
}

#[cfg(test)]
// The test's own program is the one that asks for a C library.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    fn this() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    /// Where the last part ends that is loaded.
    fn loaded(file: &[u8]) -> usize {
        let at = |at, width| place(file, at, width).unwrap();
        let entries = (0..at(0x38, 2)).map(|entry| at(0x20, 8) + entry * at(0x36, 2));
        let loads = entries.filter(|entry| at(*entry, 4) == 1);
        loads.map(|entry| at(entry + 0x08, 8) + at(entry + 0x20, 8)).max().unwrap()
    }

    #[test]
    fn a_program_of_this_machine_asks_for_its_c_library() {
        let needs = needs(&this()).unwrap();
        assert!(needs.interpreter && 0 < needs.libraries && needs.movable, "{needs:?}");
    }

    #[test]
    fn a_program_that_asks_for_nothing_is_static() {
        // One part, of 32 bits, with a table of two tags: a hash and the end.
        let mut file = b"\x7fELF\x01\x01".to_vec();
        file.resize(0x34 + 0x20 + 0x18, 0);
        let mut set = |at: usize, value: u8| file[at] = value;
        for (at, value) in [(0x10, 3), (0x1c, 0x34), (0x2a, 0x20), (0x2c, 1)] {
            set(at, value);
        }
        for (at, value) in [(0x34, 2), (0x38, 0x54), (0x44, 0x18), (0x54, 4)] {
            set(at, value);
        }
        assert_eq!(needs(&file).unwrap(), IS_STATIC);
        // What stands behind the end is none of it.
        file[0x64] = 1;
        assert_eq!(needs(&file).unwrap(), IS_STATIC);
        file[0x5c] = 1;
        file[0x10] = 2;
        let fixed = Needs { interpreter: false, libraries: 2, movable: false };
        assert_eq!(needs(&file).unwrap(), fixed);
        file[0x34] = 3;
        assert!(needs(&file).unwrap().interpreter);
    }

    #[test]
    fn what_is_cut_is_refused() {
        let whole = this();
        for length in [0, 4, 0x10, 0x38, 0x40, 0x100] {
            assert!(needs(&whole[..length]).is_err(), "{length}");
        }
        // Behind the last part that is loaded lies what only debuggers read.
        let loaded = loaded(&whole);
        assert!(needs(&whole[..loaded]).is_ok());
        assert!(needs(&whole[..loaded - 1]).is_err(), "{loaded}");
        let mut far = whole;
        far[0x20..0x28].fill(0xff);
        assert!(needs(&far).is_err());
        assert!(needs(b"\x7fELF\x02\x02 the highest byte first, as on other machines").is_err());
    }
}
