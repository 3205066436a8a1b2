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
//! - a tree of any depth takes two descriptors and no stack, but on the way to what is mounted in it: its directories are
//!   moved up beside each other first (a guest nests them without end, and this would die of it at every start)
//!   (`a_tree_that_a_guest_has_nested_without_end_is_removed`, `a_directory_is_emptied_of_trees_without_end`);
//! - what is mounted there stays, in its place and with all that is in it, and so does another user's directory; all else
//!   goes (`what_is_mounted_stays_and_all_around_it_goes`, `what_another_user_has_put_there_stays`);
//! - what cannot be removed holds up nothing beside it, and no rights that were taken off a directory do
//!   (`what_cannot_be_removed_holds_up_nothing_else`, `rights_that_were_taken_away_hold_up_nothing`);
//! - a disk that takes no writes at first is no reason not to start (`a_disk_that_takes_writes_later_is_removed_from_then`);
//! - what cannot be removed is told once, under its own name (`what_cannot_be_removed_is_no_later_tree_s_fault`).

mod foreign;
pub mod mount_points;

use std::collections::BTreeSet;
use std::fs::{DirEntry, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc};

use rustix::fs::{Mode, OFlags};
use rustix::process::geteuid;
use tracing::warn;

pub use foreign::Foreign;

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

/// What became of a directory that was emptied.
#[derive(Debug, Default)]
pub struct Emptied {
    /// Something went.
    pub removed: bool,
    /// What stays.
    pub foreign: Foreign,
}

/// Removes all that is in a directory on the spot, whatever disk it is on, but for what is not the agent's: its directories
/// wait in it for their turn. The directory must be the agent's own.
///
/// # Errors
/// The first one, after all has been removed that can be.
pub fn empty_now(dir: &Path) -> io::Result<Emptied> {
    let dir = std::fs::canonicalize(dir)?;
    let mut sweep = Sweep::at(dir.clone());
    sweep.look(&dir);
    sweep.empty(&dir)
}

/// The path without links on the way to it, and what it names itself.
fn real(path: &Path) -> io::Result<PathBuf> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return std::fs::canonicalize(path);
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    Ok(std::fs::canonicalize(parent)?.join(name))
}

/// Somebody else was faster.
fn gone(error: io::Error) -> io::Result<bool> {
    if error.kind() == io::ErrorKind::NotFound { Ok(true) } else { Err(error) }
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
    /// What of it cannot be removed, or is not to be. It was told, and the next life tries again.
    stuck: BTreeSet<PathBuf>,
    /// What of that is not the agent's.
    foreign: Foreign,
    removed: bool,
    /// Whose process this is.
    own: u32,
    /// Where something is mounted, and the disk of all else.
    mounts: Vec<PathBuf>,
    disk: Option<u64>,
    remove_file: fn(&Path) -> io::Result<()>,
}

impl Sweep {
    fn at(deep: PathBuf) -> Self {
        let remove_file = |path: &Path| std::fs::remove_file(path);
        let (stuck, foreign, mounts) = (BTreeSet::new(), Foreign::default(), Vec::new());
        let own = geteuid().as_raw();
        Self {
            deep,
            number: 0,
            stuck,
            foreign,
            removed: false,
            own,
            mounts,
            disk: None,
            remove_file,
        }
    }

    /// Looks what is mounted below a directory, whose path is the real one.
    fn look(&mut self, dir: &Path) {
        self.mounts = mount_points::below(dir).unwrap_or_else(|error| {
            warn!(path = %dir.display(), %error, "what is mounted there is told by its disk alone");
            Vec::new()
        });
        self.disk = std::fs::metadata(dir).ok().map(|found| found.dev());
    }

    fn make(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.deep)
    }

    fn tree(&mut self, path: &Path) -> io::Result<()> {
        let path = real(path)?;
        self.look(&path);
        let outcome = self.level(&path).or_else(gone);
        self.rest();
        let foreign = std::mem::take(&mut self.foreign);
        outcome?;
        if foreign.is_empty() { Ok(()) } else { Err(io::Error::other(foreign.to_string())) }
    }

    /// All that is in a directory.
    fn empty(mut self, dir: &Path) -> io::Result<Emptied> {
        let mut outcome = Ok(());
        loop {
            let mut tried = false;
            for entry in std::fs::read_dir(dir)? {
                let path = entry?.path();
                if self.stuck.contains(&path) {
                    continue;
                }
                tried = true;
                match self.level(&path).or_else(gone) {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => outcome = outcome.and(Err(error)),
                }
                self.stuck.insert(path);
            }
            if !tried {
                let (removed, foreign) = (self.removed, self.foreign);
                return outcome.map(|()| Emptied { removed, foreign });
            }
        }
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
                match self.level(&path) {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => {
                        warn!(path = %path.display(), %error, "a part of what was removed stays on disk");
                    }
                }
                self.stuck.insert(path);
            }
            if !tried {
                return;
            }
        }
    }

    /// One directory, or a file: files go, directories move up. Whether it went: what is not the agent's stays.
    fn level(&mut self, path: &Path) -> io::Result<bool> {
        let found = std::fs::symlink_metadata(path)?;
        if !found.is_dir() {
            return self.file(path);
        }
        let is_elsewhere = self.disk.is_some_and(|disk| disk != found.dev());
        if is_elsewhere || self.mounts.iter().any(|mount| mount == path) {
            return Ok(self.mount_stays(path));
        }
        if self.own != 0 && found.uid() != self.own {
            return Ok(self.anothers_stays(path));
        }
        if found.mode() & OWNER != OWNER {
            // What is in the way all the same is told by what follows.
            let _ = open_up(path);
        }
        let is_full = |error: &io::Error| error.kind() == io::ErrorKind::DirectoryNotEmpty;
        loop {
            let (mut moved, mut stays, mut failed) = (false, false, Ok(()));
            for entry in std::fs::read_dir(path)? {
                match self.entry(&entry?).or_else(gone) {
                    Ok(true) => moved = true,
                    Ok(false) => stays = true,
                    Err(error) => failed = failed.and(Err(error)),
                }
            }
            match std::fs::remove_dir(path) {
                // The list was made while it changed.
                Err(error) if is_full(&error) && moved && failed.is_ok() => {}
                Err(error) if is_full(&error) && stays => return failed.map(|()| false),
                other => {
                    self.removed |= other.is_ok();
                    return failed.and(other).map(|()| true);
                }
            }
        }
    }

    /// What is in a directory: it goes, or moves up. Whether it does.
    fn entry(&mut self, entry: &DirEntry) -> io::Result<bool> {
        let path = entry.path();
        if self.stuck.contains(&path) {
            return Ok(false);
        }
        if !entry.file_type()?.is_dir() {
            return self.file(&path);
        }
        // What is mounted in it would move along, and its owner looks for it where it was.
        if self.mounts.iter().any(|mount| mount.starts_with(&path)) {
            return self.level(&path);
        }
        let place = self.place();
        match std::fs::rename(&path, &place) {
            // Its way up is in it, and changes.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                if self.is_anothers(&path) {
                    return Ok(self.anothers_stays(&path));
                }
                open_up(&path)?;
                std::fs::rename(&path, &place)?;
            }
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                return Ok(self.mount_stays(&path));
            }
            other => other?,
        }
        self.removed = true;
        Ok(true)
    }

    fn file(&mut self, path: &Path) -> io::Result<bool> {
        match (self.remove_file)(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(self.mount_stays(path)),
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied && self.is_anothers(path) =>
            {
                Ok(self.anothers_stays(path))
            }
            other => {
                self.removed |= other.is_ok();
                other.map(|()| true)
            }
        }
    }

    fn is_anothers(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|found| found.uid() != self.own)
    }

    /// It is another user's, and does not go.
    fn anothers_stays(&mut self, path: &Path) -> bool {
        self.foreign.is_anothers(path);
        self.stuck.insert(path.to_owned());
        false
    }

    /// Something is mounted there, and does not go.
    fn mount_stays(&mut self, path: &Path) -> bool {
        self.foreign.is_mounted(path);
        self.stuck.insert(path.to_owned());
        false
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
mod tests;
