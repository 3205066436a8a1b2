//! A file that is there whole or not at all.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::keys::PkiError;

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
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |parent| std::fs::File::open(parent)?.sync_all())
    };
    put().map_err(|source| PkiError::File { path: path.to_path_buf(), source })
}

pub(crate) fn read(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path)
        .map_err(|source| PkiError::File { path: path.to_path_buf(), source })
}
