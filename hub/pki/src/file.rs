//! Files: written whole or not at all, read within a bound.
//!
//! Guarantees:
//! - what is no file, or is too large for one that people write, is refused with what it is, and neither waited for nor
//!   read for ever (`what_is_no_file_of_that_size_is_refused_and_not_waited_for`).

use std::fs::{File, FileType};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::pki_error::PkiError;

/// Writes a file whole or not at all, with its mode from the first byte.
///
/// # Errors
/// When the disk refuses.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), PkiError> {
    let put = || -> io::Result<()> {
        let fresh = path.with_extension("new");
        if let Err(error) = std::fs::remove_file(&fresh)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
        file.write_all(content)?;
        // Before it has its name, which would lead to an empty file after a power cut; the folder after that, or the name
        // is lost.
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |parent| std::fs::File::open(parent)?.sync_all())
    };
    put().map_err(|source| PkiError::File { path: path.to_path_buf(), source })
}

pub(crate) fn read(path: &Path) -> Result<String, PkiError> {
    read_text(path).map_err(|source| PkiError::File { path: path.to_path_buf(), source })
}

/// Largest file of keys or settings: some hundred times what any is.
pub const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Whether a path, followed through its links, leads to a file that [`read_text`] reads.
///
/// # Errors
/// When nothing is there, or what is there is no file: a pipe would keep its reader waiting, and a device may never end.
pub fn check_regular(path: &Path) -> io::Result<()> {
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() {
        let why = format!("it is {}, and has to be a regular file", what(meta.file_type()));
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    if TEXT_BYTES_MAX < meta.len() {
        return Err(too_large());
    }
    Ok(())
}

/// The text of a file of keys or settings.
///
/// # Errors
/// As [`check_regular`], and when it cannot be read or is no UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    check_regular(path)?;
    let mut text = String::new();
    // It may grow, or be another one, since it was looked at.
    let read = File::open(path)?.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text)?;
    if TEXT_BYTES_MAX < read as u64 { Err(too_large()) } else { Ok(text) }
}

fn too_large() -> io::Error {
    let why = format!("it is larger than {} MiB, which no such file is", TEXT_BYTES_MAX >> 20);
    io::Error::new(io::ErrorKind::FileTooLarge, why)
}

fn what(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &Path, why: &str) {
        let error = read_text(path).unwrap_err();
        assert_eq!(error.to_string(), why, "{}", path.display());
    }

    #[test]
    fn what_is_no_file_of_that_size_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("good"), "text").unwrap();
        assert_eq!(read_text(&at("good")).unwrap(), "text");
        check(dir.path(), "it is a directory, and has to be a regular file");
        check(Path::new("/dev/zero"), "it is a device, and has to be a regular file");
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(made.success());
        check(&at("pipe"), "it is a named pipe, and has to be a regular file");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        check(&at("socket"), "it is a socket, and has to be a regular file");
        File::create(at("large")).unwrap().set_len(TEXT_BYTES_MAX + 1).unwrap();
        check(&at("large"), "it is larger than 16 MiB, which no such file is");
    }
}
