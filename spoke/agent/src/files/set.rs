//! A set of files that changes at once, as with kubelet.
//!
//! ```text
//! volume/key ─▶ ..data/key        ..data ─▶ ..3/        ..4/ is being written
//! ```
//!
//! Guarantees:
//! - who reads sees the files of one version, whole (`a_set_of_files_changes_at_once_and_leaves_nothing_behind`);
//! - a version that cannot be written leaves nothing, and what was shown before stays
//!   (`a_set_that_cannot_be_written_leaves_nothing_behind_and_what_was_there_stays`);
//! - what a killed agent left goes with the next look (`what_a_killed_agent_left_of_a_set_goes_with_the_next_look`);
//! - links are relative (`links_are_relative_so_that_a_guest_can_follow_them`).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::{File, remove_if_there, stays_inside};
use crate::remover::remove_now;

/// The link to the current version.
const CURRENT: &str = "..data";
/// What becomes that link.
const NEXT: &str = "..data_tmp";

/// Longest name and path, as with kubelet: file systems take no more.
const FILE_NAME_BYTES_MAX: usize = 255;
const FILE_PATH_BYTES_MAX: usize = 4096;

/// Makes `dir` show exactly these files.
pub(super) fn write(dir: &Path, files: &[File]) -> io::Result<()> {
    check(files)?;
    std::fs::create_dir_all(dir)?;
    let current = std::fs::read_link(dir.join(CURRENT)).ok();
    let tidied = tidy(dir, current.as_deref());
    if current.is_some() && shows(dir, files) {
        // Killed between the two, an agent leaves names of the version before. What else it left takes room, and is no
        // reason to refuse what is all there: the disk may take no writes any more.
        return link_names(dir, files);
    }
    tidied?;
    let version = free_name(dir)?;
    let home = dir.join(&version);
    if let Err(error) = fill(&home, files).and_then(|()| point(dir, &version)) {
        // On a full disk there may be no room for the careful way; no guest has written here.
        let _ = remove_now(&home).or_else(|_| std::fs::remove_dir_all(&home));
        return Err(error);
    }
    link_names(dir, files)?;
    tidy(dir, Some(Path::new(&version)))
}

/// What no file system would take is not begun.
fn check(files: &[File]) -> io::Result<()> {
    let refuse = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    let mut paths = BTreeSet::new();
    for file in files {
        if !stays_inside(&file.path) {
            return refuse("a file's path leaves its volume".to_owned());
        }
        if FILE_PATH_BYTES_MAX < file.path.len()
            || file.path.split('/').any(|name| FILE_NAME_BYTES_MAX < name.len())
        {
            let begin: String = file.path.chars().take(40).collect();
            return refuse(format!(
                "the path {begin:?}... is longer than {FILE_PATH_BYTES_MAX} bytes, or a name in it than {FILE_NAME_BYTES_MAX}"
            ));
        }
        paths.insert(names(file).collect::<PathBuf>());
    }
    // In this order, what is below a path comes right behind it.
    for (above, path) in paths.iter().zip(paths.iter().skip(1)) {
        if path.starts_with(above) {
            return refuse(format!(
                "{:?} is to be a file, and a directory with {:?} in it",
                above.display().to_string(),
                path.display().to_string()
            ));
        }
    }
    Ok(())
}

/// Removes all versions but this one: a life of the agent may have ended in the middle of another.
fn tidy(dir: &Path, current: Option<&Path>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if !is_ours(&name) || name == CURRENT || current == Some(Path::new(&name)) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            remove_now(&entry.path()).or_else(|_| std::fs::remove_dir_all(entry.path()))?;
        } else {
            remove_if_there(std::fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

/// Whether no file of a set can have this name.
fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"..")
}

fn fill(home: &Path, files: &[File]) -> io::Result<()> {
    for file in files {
        write_file(&home.join(&file.path), file)?;
    }
    Ok(())
}

/// Makes a version the current one.
fn point(dir: &Path, version: &OsStr) -> io::Result<()> {
    let next = dir.join(NEXT);
    std::os::unix::fs::symlink(version, &next)?;
    std::fs::rename(&next, dir.join(CURRENT)).inspect_err(|_| {
        let _ = std::fs::remove_file(&next);
    })
}

/// Makes the directory of a version that is not there yet. The clock plays no part, as it may stand still.
fn free_name(dir: &Path) -> io::Result<OsString> {
    for number in 0_u32.. {
        let name = OsString::from(format!("..{number}"));
        match std::fs::create_dir(dir.join(&name)) {
            Ok(()) => return Ok(name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("no name left for a version"))
}

fn write_file(path: &Path, file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, &file.bytes)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(file.mode & 0o777))
}

/// The names in a file's path.
fn names(file: &File) -> impl Iterator<Item = &OsStr> {
    Path::new(&file.path).components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

fn top(file: &File) -> Option<OsString> {
    names(file).next().map(OsStr::to_owned)
}

/// Points each top-level name at the current version, and removes names that are no more.
fn link_names(dir: &Path, files: &[File]) -> io::Result<()> {
    let names: BTreeSet<OsString> = files.iter().filter_map(top).collect();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        if !is_ours(&name) && !names.contains(&name) {
            std::fs::remove_file(dir.join(name))?;
        }
    }
    for name in names {
        let link = dir.join(&name);
        if std::fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(Path::new(CURRENT).join(&name), link)?;
        }
    }
    Ok(())
}

/// Whether the current version holds exactly these files already.
fn shows(dir: &Path, files: &[File]) -> bool {
    let mut found = 0;
    let mut open = vec![dir.join(CURRENT)];
    while let Some(next) = open.pop() {
        let Ok(entries) = std::fs::read_dir(next) else { return false };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                _ => found += 1,
            }
        }
    }
    found == files.len()
        && files.iter().all(|file| {
            std::fs::read(dir.join(CURRENT).join(&file.path)).is_ok_and(|have| have == file.bytes)
        })
}

#[cfg(test)]
mod tests {
    use super::super::{DiskFiles, Files as _};
    use super::*;

    fn file(path: &str, bytes: &str) -> File {
        File { path: path.to_owned(), bytes: bytes.as_bytes().to_vec(), mode: 0o644 }
    }

    fn read(dir: &Path, path: &str) -> Option<String> {
        std::fs::read_to_string(dir.join(path)).ok()
    }

    /// Names in a volume that no file of its set has.
    fn versions(volume: &Path) -> Vec<String> {
        let names = std::fs::read_dir(volume).into_iter().flatten();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut versions: Vec<_> = names.filter(|name| name.starts_with("..")).collect();
        versions.sort();
        versions
    }

    #[test]
    fn a_set_of_files_changes_at_once_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        let files = [file("a", "1"), file("deep/b", "2")];
        DiskFiles::default().write_set(&volume, &files).unwrap();
        assert_eq!(read(&volume, "a").as_deref(), Some("1"));
        assert_eq!(read(&volume, "deep/b").as_deref(), Some("2"));
        let version = std::fs::read_link(volume.join("..data")).unwrap();
        DiskFiles::default().write_set(&volume, &files).unwrap();
        assert_eq!(std::fs::read_link(volume.join("..data")).unwrap(), version, "no rewrite");
        DiskFiles::default().write_set(&volume, &[file("a", "3"), file("c", "4")]).unwrap();
        assert_eq!(read(&volume, "a").as_deref(), Some("3"));
        assert_eq!(read(&volume, "c").as_deref(), Some("4"));
        assert_eq!(read(&volume, "deep/b"), None);
        let mut names: Vec<_> = std::fs::read_dir(&volume)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?}");
        DiskFiles::default().write_set(&volume, &[]).unwrap();
        assert_eq!(read(&volume, "a"), None);
    }

    #[test]
    fn a_set_that_cannot_be_written_leaves_nothing_behind_and_what_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        let files = DiskFiles::default();
        let long = "x".repeat(300);
        // As long as a path may be, and so too long below the volume.
        let deep = "d/".repeat(2040) + "f";
        let bad = [
            [file("a", "x"), file(&deep, "y")],
            [file("a", "x"), file("a/b", "y")],
            [file("a/b", "x"), file("a", "y")],
            [file("a", "x"), file(&long, "y")],
        ];
        for bad in &bad {
            for _ in 0..5 {
                assert!(files.write_set(&volume, bad).is_err());
            }
            assert_eq!(versions(&volume), Vec::<String>::new());
        }
        files.write_set(&volume, &[file("a", "1")]).unwrap();
        let before = versions(&volume);
        for bad in &bad {
            assert!(files.write_set(&volume, bad).is_err());
            assert_eq!(versions(&volume), before);
            assert_eq!(read(&volume, "a").as_deref(), Some("1"));
        }
    }

    #[test]
    fn what_a_killed_agent_left_of_a_set_goes_with_the_next_look() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        let files = DiskFiles::default();
        files.write_set(&volume, &[file("a", "1")]).unwrap();
        let whole = versions(&volume);
        // Killed while it wrote the next version, and before it pointed there.
        std::fs::create_dir(volume.join("..7")).unwrap();
        std::fs::write(volume.join("..7/a"), "half").unwrap();
        std::os::unix::fs::symlink("..7", volume.join("..data_tmp")).unwrap();
        files.write_set(&volume, &[file("a", "1")]).unwrap();
        assert_eq!(versions(&volume), whole);
        assert_eq!(read(&volume, "a").as_deref(), Some("1"));
        // Killed when it had pointed there, before it had removed the one before.
        std::fs::create_dir(volume.join("..8")).unwrap();
        std::fs::write(volume.join("..8/b"), "2").unwrap();
        std::os::unix::fs::symlink("..8", volume.join("..data_tmp")).unwrap();
        std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
        files.write_set(&volume, &[file("b", "2")]).unwrap();
        assert_eq!((read(&volume, "a"), read(&volume, "b").as_deref()), (None, Some("2")));
        assert_eq!(versions(&volume).len(), 2, "..data and where it points to");
        // Killed when all was there but the names, one of which is no more.
        files.write_set(&volume, &[file("b", "2"), file("c", "3")]).unwrap();
        let next = free_name(&volume).unwrap();
        fill(&volume.join(&next), &[file("b", "2"), file("d", "4")]).unwrap();
        point(&volume, &next).unwrap();
        files.write_set(&volume, &[file("b", "2"), file("d", "4")]).unwrap();
        assert!(std::fs::symlink_metadata(volume.join("c")).is_err(), "a name that leads nowhere");
        assert_eq!(read(&volume, "d").as_deref(), Some("4"));
    }

    #[test]
    fn links_are_relative_so_that_a_guest_can_follow_them() {
        let dir = tempfile::tempdir().unwrap();
        DiskFiles::default().write_set(dir.path(), &[file("a", "1")]).unwrap();
        for link in ["a", "..data"] {
            assert!(std::fs::read_link(dir.path().join(link)).unwrap().is_relative());
        }
    }
}
