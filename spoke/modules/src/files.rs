//! `DATA/modules`: `<digest>-<profile>.cwasm` and `.envelope`, `.part` while it comes in, `.tmp` while it is written.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use freewheel_link::digest::Digest;

/// The names of one module's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) artifact: PathBuf,
    pub(crate) envelope: PathBuf,
    pub(crate) part: PathBuf,
    pub(crate) temporary: PathBuf,
}

impl Names {
    pub(crate) fn of(dir: &Path, component: &Digest, profile: &str) -> Self {
        // Profiles are this agent's own words, but a path is made of nothing unseen.
        let clean = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let profile: String = profile.chars().map(clean).collect();
        let stem = format!("{}-{profile}", component.hex());
        let with = |extension: &str| dir.join(format!("{stem}.{extension}"));
        Self {
            artifact: with("cwasm"),
            envelope: with("envelope"),
            part: with("part"),
            temporary: with("tmp"),
        }
    }

    /// Removes all of it.
    pub(crate) fn remove(&self) {
        for path in [&self.artifact, &self.envelope, &self.part, &self.temporary] {
            // What cannot be removed is verified again before it is used.
            let _ = fs::remove_file(path);
        }
    }
}

/// Writes a small file that is whole or not there.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("envelope-tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_dir(path)
}

/// Makes the names in a file's directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Removes modules that are not needed, the oldest first, until they fit into `spare` bytes.
pub(crate) fn sweep(dir: &Path, needed: &[PathBuf], spare: u64) -> io::Result<Vec<PathBuf>> {
    let mut idle: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "cwasm") && !needed.contains(&path) {
            let meta = entry.metadata()?;
            let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            idle.push((used, meta.len(), path));
        }
    }
    idle.sort();
    let mut total: u64 = idle.iter().map(|(_, size, _)| size).sum();
    let mut removed = Vec::new();
    for (_, size, path) in idle {
        if total <= spare {
            break;
        }
        fs::remove_file(&path)?;
        let _ = fs::remove_file(path.with_extension("envelope"));
        total -= size;
        removed.push(path);
    }
    Ok(removed)
}
