//! A start that fails because the disk is full says so, and what to do.
//!
//! Guarantees:
//! - whatever was to be written, the folder is named (`a_first_start_without_room_names_the_folder`).

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::serve_error::ServeError;

/// The same error, under what a full disk asks for when that is why.
pub(super) fn explained(error: ServeError, data: &Path) -> ServeError {
    if is_why(&error) {
        return ServeError::NoRoom { path: data.to_path_buf(), source: Box::new(error) };
    }
    error
}

fn is_why(error: &(dyn Error + 'static)) -> bool {
    let full = |error: &io::Error| {
        matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
        )
    };
    error.downcast_ref::<io::Error>().is_some_and(full) || error.source().is_some_and(is_why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_disk_is_told_as_one() {
        let data = Path::new("/data");
        let failed = |kind: ErrorKind| ServeError::Data { path: data.into(), source: kind.into() };
        let said = crate::chain(&explained(failed(ErrorKind::StorageFull), data));
        assert!(said.starts_with("the disk of /data is full: free some of it"), "{said}");
        assert!(said.contains("cannot use the data folder /data"), "{said}");
        let said = crate::chain(&explained(failed(ErrorKind::PermissionDenied), data));
        assert!(said.starts_with("cannot use the data folder /data"), "{said}");
    }
}
