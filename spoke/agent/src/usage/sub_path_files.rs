//! Single files that containers are shown: links to files in volumes, where they count.
//!
//! A guest may take away a file's name in its volume; the link keeps the file, and nothing else counts it then. The
//! agent makes these directories itself, with as many links as pods have mounts: they are looked through as they are.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::disk_size::{Size, Taken};

/// Bytes of one block in `st_blocks`, whatever the file system's own blocks are.
const STAT_BLOCK_BYTES: u64 = 512;

/// What is kept by nothing but its names below this directory.
pub(super) fn size(dir: &Path) -> Size {
    let mut files: HashMap<(u64, u64), (u64, Metadata)> = HashMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                open.push(entry.path());
            } else {
                let id = (found.dev(), found.ino());
                files.entry(id).or_insert((0, found)).0 += 1;
            }
        }
    }
    let alone = files.into_values().filter(|(names, file)| file.nlink() <= *names);
    let mut sum = Taken::default();
    alone.for_each(|(_, file)| {
        sum.add(Taken { bytes: file.blocks().saturating_mul(STAT_BLOCK_BYTES), inodes: 1 });
    });
    sum.size(true)
}
