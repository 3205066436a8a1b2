//! Files that a manifest names and that are not there. Each is told where it is asked for; all of them at the start,
//! while there may still be a copy.
//!
//! Guarantees:
//! - every manifest and every module of one is looked for (`what_is_named_and_not_there_is_found`).

use std::path::PathBuf;

use tracing::error;

use crate::blobs::Blobs;
use crate::tags::TagTable;

/// Files that are told by name.
const FILES_NAMED_MAX: usize = 20;

/// Says what is lost.
pub(super) fn report(book: &TagTable, blobs: &Blobs) {
    let lost = find(book, blobs);
    for path in lost.iter().take(FILES_NAMED_MAX) {
        error!(
            path = %path.display(),
            "a file of the registry is missing: put it back from a copy of the data folder, or push its module again"
        );
    }
    if FILES_NAMED_MAX < lost.len() {
        error!(files = lost.len(), "more files of the registry are missing");
    }
}

fn find(book: &TagTable, blobs: &Blobs) -> Vec<PathBuf> {
    let lost = book.named().into_iter().filter(|digest| blobs.size(digest).is_none());
    lost.map(|digest| blobs.path(&digest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::tests::{module, modules, push};

    #[tokio::test]
    async fn what_is_named_and_not_there_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let modules = modules(dir.path());
        let pushed = push(&modules, "app", "v1", module("app")).await;
        let inner = &modules.inner;
        assert!(find(&inner.tags.book(), &inner.blobs).is_empty());
        let mut paths = [pushed.manifest, pushed.component].map(|one| inner.blobs.path(&one));
        for path in &paths {
            std::fs::remove_file(path).unwrap();
        }
        paths.sort();
        let mut lost = find(&inner.tags.book(), &inner.blobs);
        lost.sort();
        assert_eq!(lost, paths);
    }
}
