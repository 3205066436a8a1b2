//! Where something is mounted, as this process sees it. A directory of the same disk may be mounted as well, which no number
//! of a device tells.
//!
//! Guarantees:
//! - a mount point is found by its real path, whatever is in its name (`mount_points_are_read_with_any_name`).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Mount points below a directory, whose path is the real one.
///
/// # Errors
/// When the kernel does not say where they are.
pub fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let all = std::fs::read("/proc/self/mountinfo")?;
    Ok(read(&all).filter(|at| at != dir && at.starts_with(dir)).collect())
}

/// The fifth word of each line (proc_pid_mountinfo(5)).
fn read(mountinfo: &[u8]) -> impl Iterator<Item = PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(unescaped)
}

/// `\040` is a blank: what would end the word is written by its number.
fn unescaped(word: &[u8]) -> PathBuf {
    let (mut name, mut rest) = (Vec::with_capacity(word.len()), word);
    while let Some((byte, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| *byte == b'\\');
        let number = digits.and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        name.push(number.unwrap_or(*byte));
        rest = if number.is_some() { &behind[3..] } else { behind };
    }
    OsString::from_vec(name).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_any_name() {
        let lines = b"36 35 98:0 / /data rw,noatime master:1 - ext4 /dev/sda1 rw\n\
            37 36 98:0 /home /data/my\\040photos\\134 rw - ext4 /dev/sda1 rw\n\
            38 36 0:32 / /data\\0 rw - tmpfs none rw\n\n";
        let found: Vec<_> = read(lines).collect();
        let names = ["/data", "/data/my photos\\", "/data\\0"];
        assert_eq!(found, names.map(PathBuf::from));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn those_of_this_process_are_found() {
        let found = below(Path::new("/")).unwrap();
        assert!(found.contains(&PathBuf::from("/proc")), "{found:?}");
        assert!(!found.contains(&PathBuf::from("/")));
    }
}
