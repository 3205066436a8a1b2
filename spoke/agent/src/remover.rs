//! Removes trees beside the agent: what a guest has filled may take a slow card minutes.
//!
//! ```text
//! DATA/pods/<uid>  ─rename─▶  DATA/removed/<n>  ─a thread of its own─▶ nothing
//! ```
//!
//! Guarantees:
//! - what was removed is not at its place any more when [`Remover::remove`] returns
//!   (`a_removed_tree_is_away_at_once_and_gone_soon`);
//! - what an earlier life left half-way is removed by the next (`what_an_earlier_life_left_is_removed`);
//! - a tree of any depth takes two descriptors and no stack: its directories are moved up beside each other first (a
//!   guest nests them without end, and this would die of it at every start)
//!   (`a_tree_that_a_guest_has_nested_without_end_is_removed`, `a_directory_is_emptied_of_trees_without_end`);
//! - what cannot be removed holds up nothing beside it, and no rights that were taken off a directory do
//!   (`what_cannot_be_removed_holds_up_nothing_else`, `rights_that_were_taken_away_hold_up_nothing`);
//! - a disk that takes no writes at first is no reason not to start (`a_disk_that_takes_writes_later_is_removed_from_then`);
//! - what cannot be removed is told once, under its own name (`what_cannot_be_removed_is_no_later_tree_s_fault`).

use std::collections::BTreeSet;
use std::fs::{DirEntry, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc};

use rustix::fs::{Mode, OFlags};
use tracing::warn;

/// The thread that removes, and the way to it. It ends with this.
#[derive(Debug)]
pub struct Remover {
    trash: PathBuf,
    queue: mpsc::Sender<PathBuf>,
    number: AtomicU64,
    open: Arc<AtomicUsize>,
}

impl Remover {
    /// Starts with what is left in `trash`, which is made as soon as it can be.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(trash: &Path) -> io::Result<Self> {
        let (queue, work) = mpsc::channel::<PathBuf>();
        let mut sweep = Sweep::at(trash.join(DEEP));
        if let Err(error) = sweep.make() {
            warn!(path = %trash.display(), %error, "nothing can be removed");
        }
        let open = Arc::new(AtomicUsize::new(1));
        let done = open.clone();
        let remove = move || {
            if sweep.deep.exists() {
                sweep.rest();
            }
            done.fetch_sub(1, Relaxed);
            for path in work {
                if let Err(error) = sweep.tree(&path) {
                    warn!(path = %path.display(), %error, "what was removed stays on disk");
                }
                done.fetch_sub(1, Relaxed);
            }
        };
        std::thread::Builder::new().name("remover".to_owned()).spawn(remove)?;
        let remover = Self { trash: trash.to_owned(), queue, number: AtomicU64::new(0), open };
        for left in std::fs::read_dir(trash).into_iter().flatten().flatten() {
            if left.file_name() != DEEP {
                remover.queue(left.path());
            }
        }
        Ok(remover)
    }

    /// Takes a directory away; nothing there is fine.
    ///
    /// # Errors
    /// When it cannot be taken away.
    pub fn remove(&self, dir: &Path) -> io::Result<()> {
        match std::fs::symlink_metadata(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // When this started, the disk may have taken no writes.
            _ => std::fs::create_dir_all(self.trash.join(DEEP))?,
        }
        loop {
            let place = self.trash.join(self.number.fetch_add(1, Relaxed).to_string());
            // A name that an earlier life has used: rename would replace an empty directory, and no other.
            if std::fs::symlink_metadata(&place).is_ok() {
                continue;
            }
            return match std::fs::rename(dir, &place) {
                Ok(()) => {
                    self.queue(place);
                    Ok(())
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            };
        }
    }

    /// Whether everything that was taken away is gone.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open.load(Relaxed) == 0
    }

    fn queue(&self, path: PathBuf) {
        self.open.fetch_add(1, Relaxed);
        // The thread is there as long as this is.
        if self.queue.send(path).is_err() {
            self.open.fetch_sub(1, Relaxed);
        }
    }
}

/// Where the directories of a tree wait for their turn.
const DEEP: &str = "deep";

/// Removes a tree on the spot; nothing there is fine. Its parent must be the agent's own: the tree's directories wait
/// there for their turn.
///
/// # Errors
/// When it cannot be removed.
pub fn remove_now(dir: &Path) -> io::Result<()> {
    if let Err(error) = std::fs::symlink_metadata(dir) {
        return if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) };
    }
    let mut deep = dir.as_os_str().to_owned();
    deep.push(".removed");
    let mut sweep = Sweep::at(PathBuf::from(deep));
    sweep.make()?;
    sweep.rest();
    sweep.tree(dir)?;
    std::fs::remove_dir(&sweep.deep)
}

/// Removes all that is in a directory on the spot, whatever disk it is on: its directories wait in it for their turn. The
/// directory must be the agent's own.
///
/// # Errors
/// The first one, after all has been removed that can be.
pub fn empty_now(dir: &Path) -> io::Result<()> {
    let mut sweep = Sweep::at(dir.to_owned());
    let mut outcome = Ok(());
    loop {
        let mut tried = false;
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if sweep.stuck.contains(&path) {
                continue;
            }
            tried = true;
            if let Err(error) = sweep.level(&path).or_else(gone) {
                sweep.stuck.insert(path);
                outcome = outcome.and(Err(error));
            }
        }
        if !tried {
            return outcome;
        }
    }
}

/// Somebody else was faster.
fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// What an owner may do with a directory.
const OWNER: u32 = 0o700;

/// A guest may have taken the rights off a directory of its own. Whatever it puts in the place of that meanwhile is not
/// followed.
fn open_up(dir: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found = rustix::fs::open(dir, flags, Mode::empty())?;
    let name = format!("/proc/self/fd/{}", found.as_raw_fd());
    std::fs::set_permissions(name, Permissions::from_mode(OWNER))
}

/// What the thread does: one directory after the other, never one inside of another.
struct Sweep {
    deep: PathBuf,
    number: u64,
    /// What of it cannot be removed. It was told, and the next life tries again.
    stuck: BTreeSet<PathBuf>,
    remove_file: fn(&Path) -> io::Result<()>,
}

impl Sweep {
    fn at(deep: PathBuf) -> Self {
        let remove_file = |path: &Path| std::fs::remove_file(path);
        Self { deep, number: 0, stuck: BTreeSet::new(), remove_file }
    }

    fn make(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.deep)
    }

    fn tree(&mut self, path: &Path) -> io::Result<()> {
        let outcome = self.level(path).or_else(gone);
        self.rest();
        outcome
    }

    /// Everything that was moved up, until nothing is left but what cannot be removed.
    fn rest(&mut self) {
        loop {
            let left = match std::fs::read_dir(&self.deep) {
                Ok(left) => left,
                Err(error) => {
                    return warn!(path = %self.deep.display(), %error, "what was removed stays on disk");
                }
            };
            let mut tried = false;
            for path in left.flatten().map(|entry| entry.path()) {
                if self.stuck.contains(&path) {
                    continue;
                }
                tried = true;
                if let Err(error) = self.level(&path) {
                    warn!(path = %path.display(), %error, "a part of what was removed stays on disk");
                    self.stuck.insert(path);
                }
            }
            if !tried {
                return;
            }
        }
    }

    /// One directory, or a file: files go, directories move up.
    fn level(&mut self, path: &Path) -> io::Result<()> {
        let found = std::fs::symlink_metadata(path)?;
        if !found.is_dir() {
            return (self.remove_file)(path);
        }
        if found.mode() & OWNER != OWNER {
            // What is in the way all the same is told by what follows.
            let _ = open_up(path);
        }
        loop {
            let (mut moved, mut failed) = (false, Ok(()));
            for entry in std::fs::read_dir(path)? {
                match self.entry(&entry?).or_else(gone) {
                    Ok(()) => moved = true,
                    Err(error) => failed = failed.and(Err(error)),
                }
            }
            match std::fs::remove_dir(path) {
                // The list was made while it changed.
                Err(error)
                    if error.kind() == io::ErrorKind::DirectoryNotEmpty
                        && moved
                        && failed.is_ok() => {}
                other => return failed.and(other),
            }
        }
    }

    /// What is in a directory: it goes, or moves up.
    fn entry(&mut self, entry: &DirEntry) -> io::Result<()> {
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            return (self.remove_file)(&path);
        }
        let place = self.place();
        match std::fs::rename(&path, &place) {
            // Its way up is in it, and changes.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                open_up(&path)?;
                std::fs::rename(&path, &place)
            }
            other => other,
        }
    }

    fn place(&mut self) -> PathBuf {
        loop {
            self.number += 1;
            let place = self.deep.join(self.number.to_string());
            if std::fs::symlink_metadata(&place).is_err() {
                return place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[track_caller]
    fn rest(remover: &Remover) {
        let start = Instant::now();
        while !remover.is_idle() {
            assert!(start.elapsed() < Duration::from_secs(60), "never");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_removed_tree_is_away_at_once_and_gone_soon() {
        let dir = tempfile::tempdir().unwrap();
        let trash = dir.path().join("trash");
        let remover = Remover::start(&trash).unwrap();
        for round in 0..3 {
            let tree = dir.path().join("pod");
            std::fs::create_dir_all(tree.join("a/b")).unwrap();
            std::fs::write(tree.join("a/b/file"), round.to_string()).unwrap();
            remover.remove(&tree).unwrap();
            assert!(!tree.exists());
        }
        remover.remove(&dir.path().join("absent")).unwrap();
        rest(&remover);
        assert_eq!(left(&trash), 0);
    }

    /// Entries, without the one that is always there.
    fn left(trash: &Path) -> usize {
        let inside = std::fs::read_dir(trash.join(DEEP)).unwrap().count();
        std::fs::read_dir(trash).unwrap().count() - 1 + inside
    }

    #[test]
    fn a_disk_that_takes_writes_later_is_removed_from_then() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, place) = (dir.path().join("pod"), dir.path().join("file"));
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(&place, "in the way").unwrap();
        let trash = place.join("trash");
        let remover = Remover::start(&trash).unwrap();
        remover.remove(&dir.path().join("absent")).unwrap();
        assert!(remover.remove(&tree).is_err() && tree.exists());
        std::fs::remove_file(&place).unwrap();
        remover.remove(&tree).unwrap();
        assert!(!tree.exists());
        rest(&remover);
        assert_eq!(left(&trash), 0);
    }

    #[test]
    fn a_tree_that_a_guest_has_nested_without_end_is_removed() {
        use rustix::fs::{mkdirat, openat};
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("pod");
        std::fs::create_dir(&tree).unwrap();
        let mut at = std::fs::File::open(&tree).unwrap();
        for _ in 0..20_000 {
            mkdirat(&at, "a", Mode::RWXU).unwrap();
            at = openat(&at, "a", OFlags::DIRECTORY, Mode::empty()).unwrap().into();
        }
        let trash = dir.path().join("trash");
        let remover = Remover::start(&trash).unwrap();
        remover.remove(&tree).unwrap();
        rest(&remover);
        assert_eq!(left(&trash), 0);
    }

    #[test]
    fn a_tree_is_removed_on_the_spot_without_a_stack() {
        use rustix::fs::{mkdirat, openat};
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("pod");
        std::fs::create_dir(&tree).unwrap();
        let mut at = std::fs::File::open(&tree).unwrap();
        for _ in 0..20_000 {
            mkdirat(&at, "a", Mode::RWXU).unwrap();
            at = openat(&at, "a", OFlags::DIRECTORY, Mode::empty()).unwrap().into();
        }
        remove_now(&tree).unwrap();
        remove_now(&tree).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_is_emptied_of_trees_without_end() {
        use rustix::fs::{mkdirat, openat};
        let dir = tempfile::tempdir().unwrap();
        for pod in ["u1", "u2"] {
            std::fs::create_dir(dir.path().join(pod)).unwrap();
            std::fs::write(dir.path().join(pod).join("log"), "").unwrap();
        }
        let mut at = std::fs::File::open(dir.path().join("u1")).unwrap();
        for _ in 0..20_000 {
            mkdirat(&at, "a", Mode::RWXU).unwrap();
            at = openat(&at, "a", OFlags::DIRECTORY, Mode::empty()).unwrap().into();
        }
        empty_now(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(empty_now(&dir.path().join("absent")).is_err());
    }

    #[test]
    fn what_cannot_be_removed_holds_up_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut sweep = Sweep::at(dir.path().join(DEEP));
        sweep.make().unwrap();
        sweep.remove_file = |path| match path.ends_with("stuck") {
            true => Err(io::Error::other("the card is worn")),
            false => std::fs::remove_file(path),
        };
        let tree = dir.path().join("pod");
        std::fs::create_dir_all(tree.join("volumes")).unwrap();
        for file in ["a", "stuck", "z", "volumes/secret"] {
            std::fs::write(tree.join(file), "").unwrap();
        }
        assert!(sweep.tree(&tree).is_err());
        let left = std::fs::read_dir(&tree).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["stuck"]);
        assert_eq!(std::fs::read_dir(&sweep.deep).unwrap().count(), 0);
    }

    #[test]
    fn rights_that_were_taken_away_hold_up_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("pod/a/b/c")).unwrap();
        for locked in ["pod/a/b/c", "pod/a/b", "pod/a"] {
            std::fs::write(dir.path().join(locked).join("file"), "").unwrap();
            let none = Permissions::from_mode(0o000);
            std::fs::set_permissions(dir.path().join(locked), none).unwrap();
        }
        empty_now(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        // What stands in the place of a directory is not followed.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
        std::fs::set_permissions(elsewhere.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(open_up(&link).is_err());
        let mode = std::fs::metadata(elsewhere.path()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[test]
    fn what_cannot_be_removed_is_no_later_tree_s_fault() {
        let dir = tempfile::tempdir().unwrap();
        let mut sweep = Sweep::at(dir.path().join(DEEP));
        sweep.make().unwrap();
        sweep.remove_file = |path| match path.ends_with("stuck") {
            true => Err(io::Error::other("the card is worn")),
            false => std::fs::remove_file(path),
        };
        let tree = |name: &str, file: &str| {
            let tree = dir.path().join(name);
            std::fs::create_dir_all(tree.join("a/b")).unwrap();
            std::fs::write(tree.join("a/b").join(file), "").unwrap();
            tree
        };
        sweep.tree(&tree("worn", "stuck")).unwrap();
        assert_eq!(sweep.stuck.len(), 1);
        for _ in 0..2 {
            let innocent = tree("innocent", "fine");
            sweep.tree(&innocent).unwrap();
            assert!(!innocent.exists());
        }
        assert_eq!(sweep.stuck.len(), 1, "it is not tried again and again");
        assert_eq!(std::fs::read_dir(&sweep.deep).unwrap().count(), 1);
    }

    #[test]
    fn what_an_earlier_life_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("0/deep")).unwrap();
        std::fs::create_dir_all(dir.path().join(DEEP).join("7/half/way")).unwrap();
        std::fs::write(dir.path().join("1"), "a file").unwrap();
        let remover = Remover::start(dir.path()).unwrap();
        rest(&remover);
        assert_eq!(left(dir.path()), 0);
    }
}
