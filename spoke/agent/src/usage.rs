//! How much of the disk is below a directory that a guest fills.
//!
//! ```text
//! Walk: one entry a step, down and up again by `..` ─▶ all was seen: that much
//!                                                  └─▶ no time left: at least that much; it goes on in the next round
//! ```
//!
//! What moves while this looks may count twice or not at all.
//!
//! Guarantees:
//! - no symlink is followed; a file with several names counts once; holes in files count nothing
//!   (`what_is_on_the_disk_counts_once_and_nothing_else`);
//! - a directory that is moved while this is in it leads nowhere else (`a_directory_that_is_moved_leads_nowhere_else`);
//! - a tree costs as many steps as it has entries, however deep, with a handful of open files
//!   (`a_tree_costs_as_many_steps_as_it_has_entries`, `a_tree_deeper_than_any_path_is_counted`);
//! - a round ends in time; what was not seen by then makes the result a floor, and the next round goes on
//!   (`what_takes_more_than_a_round_is_a_floor_until_all_was_seen`).

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use tracing::warn;

/// Bytes of one block in `st_blocks`, whatever the file system's own blocks are.
const BLOCK: u64 = 512;
/// How long one round takes, over all directories: a card may be slow and a guest's trees large.
const ROUND: Duration = Duration::from_secs(5);
/// Steps that every directory gets in a round, however late it is.
const LEAST: usize = 1000;
/// Steps between two looks at the clock.
const STRIDE: usize = 256;
/// What is remembered of one tree: directories to be looked into, files with several names, and directories that this
/// is in. A guest makes them without end; what is beyond is not counted, and the result stays a floor.
const MOST: usize = 1 << 18;
/// Trees that go on in the next round; of others that takes up too much time, a part is seen.
const UNFINISHED: usize = 64;

/// What a directory takes on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes.
    pub bytes: u64,
    /// All of it was seen; else it has at least so much.
    pub whole: bool,
}

/// Measures directories again and again.
#[derive(Debug, Default)]
pub struct Measurer {
    unfinished: HashMap<PathBuf, Walk>,
}

impl Measurer {
    /// One round. What cannot be read counts nothing.
    pub fn measure(&mut self, dirs: &[PathBuf]) -> Vec<Size> {
        self.within(dirs, Instant::now() + ROUND)
    }

    fn within(&mut self, dirs: &[PathBuf], end: Instant) -> Vec<Size> {
        self.unfinished.retain(|dir, walk| walk.is_still_at(dir));
        let mut left = dirs.len();
        let mut sizes = Vec::with_capacity(left);
        for dir in dirs {
            let now = Instant::now();
            let share =
                end.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX);
            left -= 1;
            sizes.push(self.one(dir, now + share).unwrap_or_else(|error| {
                warn!(dir = %dir.display(), %error, "cannot be measured");
                Size::default()
            }));
        }
        sizes
    }

    fn one(&mut self, dir: &Path, until: Instant) -> io::Result<Size> {
        let known = self.unfinished.remove(dir);
        let Some(mut walk) = known.map_or_else(|| Walk::start(dir), |walk| Ok(Some(walk)))? else {
            return Ok(Size { bytes: 0, whole: true });
        };
        let done = walk.go(until)?;
        let size = Size { bytes: walk.sum, whole: done && !walk.missed };
        if !done && self.unfinished.len() < UNFINISHED {
            self.unfinished.insert(dir.to_owned(), walk);
        }
        Ok(size)
    }
}

type Id = (u64, u64);

const fn id(stat: &Stat) -> Id {
    (stat.st_dev, stat.st_ino)
}

/// A tree that is being walked.
#[derive(Debug)]
struct Walk {
    sum: u64,
    /// Something could not be looked at.
    missed: bool,
    /// Files with several names.
    seen: HashSet<Id>,
    /// The directory that this is in, and its entries while they are read.
    here: OwnedFd,
    entries: Option<Dir>,
    /// The way to it from the top.
    way: Vec<Level>,
    /// Directories on the way that are still to be looked into.
    waiting: usize,
    #[cfg(test)]
    steps: usize,
}

#[derive(Debug)]
struct Level {
    id: Id,
    /// Directories in it that are still to be looked into.
    inside: Vec<CString>,
}

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Walk {
    /// At the top; `None`: there is no such directory.
    fn start(dir: &Path) -> io::Result<Option<Self>> {
        let here = match openat(CWD, dir, FLAGS, Mode::empty()) {
            Ok(here) => here,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let top = Level { id: id(&fstat(&here)?), inside: Vec::new() };
        Ok(Some(Self {
            sum: 0,
            missed: false,
            seen: HashSet::new(),
            entries: Some(Dir::read_from(&here)?),
            here,
            way: vec![top],
            waiting: 0,
            #[cfg(test)]
            steps: 0,
        }))
    }

    /// Whether the tree that this is in is still to be found there.
    fn is_still_at(&self, dir: &Path) -> bool {
        let found = statat(CWD, dir, AtFlags::empty());
        found.is_ok_and(|stat| self.way.first().is_some_and(|top| top.id == id(&stat)))
    }

    /// Goes on until then; whether it is through.
    fn go(&mut self, until: Instant) -> io::Result<bool> {
        for step in 1_usize.. {
            if self.step()? {
                return Ok(true);
            }
            if LEAST <= step && step.is_multiple_of(STRIDE) && until <= Instant::now() {
                break;
            }
        }
        Ok(false)
    }

    fn step(&mut self) -> io::Result<bool> {
        #[cfg(test)]
        {
            self.steps += 1;
        }
        match self.entries.as_mut().map(Dir::next) {
            Some(Some(Ok(entry))) => self.count(entry.file_name()),
            // The rest of a directory that was removed meanwhile, or that the card does not give.
            Some(Some(Err(error))) => {
                self.missed |= error != Errno::NOENT;
                self.entries = None;
            }
            Some(None) => self.entries = None,
            None => match self.way.last_mut().and_then(|level| level.inside.pop()) {
                Some(name) => {
                    self.waiting -= 1;
                    self.enter(&name)?;
                }
                None => return self.leave(),
            },
        }
        Ok(false)
    }

    fn count(&mut self, name: &std::ffi::CStr) {
        if matches!(name.to_bytes(), b"." | b"..") {
            return;
        }
        let Ok(stat) = statat(&self.here, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match self.way.last_mut().filter(|_| self.waiting < MOST) {
                Some(level) => {
                    level.inside.push(name.to_owned());
                    self.waiting += 1;
                }
                None => self.missed = true,
            }
        } else if 1 < stat.st_nlink {
            if self.seen.len() == MOST && !self.seen.contains(&id(&stat)) {
                self.missed = true;
                return;
            }
            if !self.seen.insert(id(&stat)) {
                return;
            }
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        self.sum = self.sum.saturating_add(blocks.saturating_mul(BLOCK));
    }

    fn enter(&mut self, name: &CString) -> io::Result<()> {
        if MOST <= self.way.len() {
            self.missed = true;
            return Ok(());
        }
        match openat(&self.here, name, FLAGS | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(inside) => {
                self.way.push(Level { id: id(&fstat(&inside)?), inside: Vec::new() });
                self.entries = Some(Dir::read_from(&inside)?);
                self.here = inside;
            }
            // Gone, or no directory any more.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(Errno::ACCESS | Errno::PERM) => self.missed = true,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Up again; whether that was the top.
    fn leave(&mut self) -> io::Result<bool> {
        self.way.pop();
        let Some(above) = self.way.last().map(|level| level.id) else { return Ok(true) };
        let up = match openat(&self.here, c"..", FLAGS, Mode::empty()) {
            Ok(up) => Some(up),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        match up {
            Some(up) if id(&fstat(&up)?) == above => {
                self.here = up;
                Ok(false)
            }
            // It was moved or removed under this walk, which has lost its way.
            Some(_) | None => {
                self.missed = true;
                self.way.clear();
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(dir: &Path) -> Size {
        Measurer::default().measure(&[dir.to_owned()])[0]
    }

    /// Directories in each other, and the innermost.
    fn nest(dir: &Path, name: &str, depth: usize) -> OwnedFd {
        let mut at = openat(CWD, dir, OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..depth {
            rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
            at = openat(&at, name, OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        at
    }

    fn remove(dir: tempfile::TempDir) {
        let home = tempfile::tempdir().unwrap();
        let remover = crate::remover::Remover::start(&home.path().join("removed")).unwrap();
        remover.remove(dir.path()).unwrap();
        while !remover.is_idle() {
            std::thread::yield_now();
        }
        let _ = dir.keep();
    }

    #[test]
    fn what_is_on_the_disk_counts_once_and_nothing_else() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("big"), vec![1; 4 << 20]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let nothing = Size { bytes: 0, whole: true };
        assert_eq!(size(dir.path()), nothing);
        assert_eq!(size(&dir.path().join("absent")), nothing);
        let deep = dir.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::create_dir_all(dir.path().join("c/d")).unwrap();
        std::fs::write(deep.join("file"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(deep.join("file"), dir.path().join("again")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
        std::fs::File::create(dir.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        let used = size(dir.path());
        assert!((1 << 20..(1 << 20) + (256 << 10)).contains(&used.bytes), "{used:?}");
        assert!(used.whole);
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let at = nest(dir.path(), &"d".repeat(200), 30);
        let flags = OFlags::CREATE | OFlags::WRONLY;
        let file = openat(&at, "file", flags, Mode::RUSR | Mode::WUSR).unwrap();
        let mut file = std::fs::File::from(file);
        std::io::Write::write_all(&mut file, &vec![1; 1 << 20]).unwrap();
        assert!(1 << 20 <= size(dir.path()).bytes);
    }

    #[test]
    fn a_tree_costs_as_many_steps_as_it_has_entries() {
        let dir = tempfile::tempdir().unwrap();
        nest(dir.path(), "a", 10_000);
        let mut walk = Walk::start(dir.path()).unwrap().unwrap();
        while !walk.step().unwrap() {}
        // Of each directory: `.`, `..`, what is in it, their end, down and up.
        assert!(walk.steps <= 10_001 * 6, "{}", walk.steps);
        assert!(!walk.missed);
        remove(dir);
    }

    #[test]
    fn what_takes_more_than_a_round_is_a_floor_until_all_was_seen() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..3 * LEAST {
            std::fs::write(dir.path().join(number.to_string()), [1]).unwrap();
        }
        let expected = size(dir.path());
        assert!(expected.whole && 0 < expected.bytes);
        let (mut measurer, dirs) = (Measurer::default(), [dir.path().to_owned()]);
        let mut last = Size::default();
        for round in 0.. {
            // There is no time at all.
            let next = measurer.within(&dirs, Instant::now())[0];
            assert!(last.bytes < next.bytes, "every round goes on");
            last = next;
            if last.whole {
                assert!(2 <= round, "{round}");
                break;
            }
        }
        assert_eq!(last, expected);
        assert!(measurer.unfinished.is_empty());
        measurer.within(&dirs, Instant::now());
        drop(dir);
        assert_eq!(measurer.within(&dirs, Instant::now())[0], Size { bytes: 0, whole: true });
        assert!(measurer.unfinished.is_empty(), "nothing is held of what is gone");
    }

    #[test]
    fn a_directory_that_is_moved_leads_nowhere_else() {
        let outside = tempfile::tempdir().unwrap();
        let dir = outside.path().join("volume");
        std::fs::create_dir_all(dir.join("a/b/c")).unwrap();
        std::fs::write(outside.path().join("secret"), vec![1; 4 << 20]).unwrap();
        let mut walk = Walk::start(&dir).unwrap().unwrap();
        while walk.way.len() < 4 {
            walk.step().unwrap();
        }
        // Now the way up from there is shorter than the way down was.
        std::fs::rename(dir.join("a/b/c"), dir.join("c")).unwrap();
        while !walk.step().unwrap() {}
        assert!(walk.missed && walk.sum < 1 << 20, "{}", walk.sum);
    }
}
