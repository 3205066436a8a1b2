//! Where open files lie whose paths are longer than a descriptor's link tells.
//!
//! `/proc/self/fd` ends at a page. Of a file that is mapped `/proc/self/maps` tells the path whatever its length, as
//! moved as it is by now.

#![expect(
    unsafe_code,
    reason = "maps files, which no safe wrapper does; nothing is read through them"
)]

use std::collections::HashMap;
use std::ffi::{OsStr, c_void};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Mapped at a time: mappings have a bound per process that guests' memories need.
pub(super) const AT_ONCE_MAX: usize = 64;

/// What is kept of each line: more than the longest path of a directory that can be given to a guest.
const LINE_BYTES_MAX: u64 = 8 << 10;

/// A mapping that nobody reads, of one byte.
struct Mapping(*mut c_void);

impl Mapping {
    fn of(file: &File) -> io::Result<Self> {
        let (access, flags) = (ProtFlags::empty(), MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists, and without access
        // rights nothing can be read or written through it.
        Ok(Self(unsafe { mmap(std::ptr::null_mut(), 1, access, flags, file, 0) }?))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping from above, to which no reference was ever made.
        let _ = unsafe { munmap(self.0, 1) };
    }
}

/// How the path of each of them begins, of [`AT_ONCE_MAX`] files at most; nothing of those of which it is not told.
pub(super) fn beginnings(files: &[File]) -> io::Result<Vec<Option<PathBuf>>> {
    let files = files.iter().take(AT_ONCE_MAX);
    let mapped: Vec<Option<Mapping>> = files.map(|file| Mapping::of(file).ok()).collect();
    let paths = files_mapped(BufReader::new(File::open("/proc/self/maps")?))?;
    let path = |mapped: &Mapping| paths.get(&mapped.0.addr()).cloned();
    Ok(mapped.iter().map(|mapped| mapped.as_ref().and_then(path)).collect())
}

/// The paths that mappings have, by where they begin: `7efe0d5bd000-7efe0d5be000 r--p 00000000 fe:00 998   /a/b`.
fn files_mapped(mut maps: impl BufRead) -> io::Result<HashMap<usize, PathBuf>> {
    let (mut paths, mut line) = (HashMap::new(), Vec::new());
    loop {
        line.clear();
        if maps.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(paths);
        }
        if !line.ends_with(b"\n") {
            maps.skip_until(b'\n')?;
        }
        let start = line.split(|byte| *byte == b'-').next();
        let start = start.and_then(|start| str::from_utf8(start).ok());
        let start = start.and_then(|start| usize::from_str_radix(start, 16).ok());
        let path = line.iter().position(|byte| *byte == b'/').and_then(|at| line.get(at..));
        if let (Some(start), Some(path)) = (start, path) {
            paths.insert(start, PathBuf::from(OsStr::from_bytes(path.trim_ascii_end())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_kept_to_what_tells_whose_it_is() {
        let long = format!("/data/{}", "x/".repeat(100_000));
        let maps = format!(
            "1000-2000 r--p 00000000 fe:00 7    {long}\n2000-3000 rw-p 00000000 00:00 0   [heap]\n\
             3000-4000 rw-p 00000000 00:00 0\na000-b000 ---p 00000000 fe:00 9    /data/a b (deleted)\n"
        );
        let told = files_mapped(maps.as_bytes()).unwrap();
        assert_eq!(told.len(), 2);
        assert_eq!(told[&0xa000], PathBuf::from("/data/a b (deleted)"));
        let kept = told[&0x1000].as_os_str().len();
        assert!(4096 < kept && kept <= 8 << 10, "{kept}");
    }
}
