//! A walk through a tree that a guest may change meanwhile: one entry a step, down and up again by `..`.
//!
//! Guarantees:
//! - no symlink is followed; a file with several names counts once; holes in files count nothing, the directory itself
//!   does (`what_is_on_the_disk_counts_once_and_nothing_else`);
//! - a directory that is moved while this is in it leads nowhere else (`a_directory_that_is_moved_leads_nowhere_else`),
//!   and hides nothing of the rest (`a_directory_that_is_moved_hides_nothing_of_the_rest`);
//! - a tree costs as many steps as it has entries, however deep, with a handful of open files
//!   (`a_tree_costs_as_many_steps_as_it_has_entries`, `a_tree_deeper_than_any_path_is_counted`).

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::disk_size::Taken;

/// Bytes of one block in `st_blocks`, whatever the file system's own blocks are.
const STAT_BLOCK_BYTES: u64 = 512;
/// Steps that every directory gets in a round, however late it is.
pub(super) const STEPS_PER_ROUND_MIN: usize = 1000;
/// Steps between two looks at the clock.
const STEPS_PER_CLOCK_CHECK: usize = 256;
/// How often one walk looks for its way again. Each time costs as many steps as it was deep.
const REOPENS_PER_WALK_MAX: usize = 256;
/// What is remembered of a file with several names: its number, and the table's own.
const LINK_MEMORY_BYTES: usize = 48;
/// The slot of a name in its list, which grows by doubling, and of the list itself.
const NAME_SLOT_BYTES: usize = 2 * size_of::<CString>();

type Id = (u64, u64);

const fn id(stat: &Stat) -> Id {
    (stat.st_dev, stat.st_ino)
}

fn bytes(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(STAT_BLOCK_BYTES)
}

/// A tree that is being walked.
#[derive(Debug)]
pub(super) struct Walk {
    dir: PathBuf,
    pub(super) sum: Taken,
    /// Something could not be looked at.
    pub(super) missed: bool,
    /// Files with several names.
    seen: HashSet<Id>,
    /// The directory that this is in, and its entries while they are read.
    here: OwnedFd,
    entries: Option<Dir>,
    /// The way to it from the top.
    pub(super) way: Vec<Level>,
    /// The way was lost: how far down it was found again.
    back: Option<usize>,
    returns: usize,
    /// Bytes that are remembered of names, ways and files, and how many may be.
    pub(super) held: usize,
    room: usize,
    #[cfg(test)]
    pub(super) steps: usize,
}

#[derive(Debug)]
pub(super) struct Level {
    pub(super) id: Id,
    /// In the one above.
    name: CString,
    /// Directories in it that are still to be looked into.
    pub(super) inside: Vec<CString>,
    /// What this level holds, without what waits in it: itself, its name and the slots of the list.
    own: usize,
}

/// What a name on the heap takes, with what the allocator adds.
fn cost(name: &CStr) -> usize {
    name.count_bytes() + 17
}

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Walk {
    /// At the top; `None`: there is no such directory.
    pub(super) fn start(dir: &Path) -> io::Result<Option<Self>> {
        let here = match openat(CWD, dir, FLAGS, Mode::empty()) {
            Ok(here) => here,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let found = fstat(&here)?;
        let top = Level { id: id(&found), name: CString::default(), inside: vec![], own: 0 };
        Ok(Some(Self {
            dir: dir.to_owned(),
            // It grows with the names that were ever in it.
            sum: Taken { bytes: bytes(&found), inodes: 0 },
            missed: false,
            seen: HashSet::new(),
            entries: Some(Dir::read_from(&here)?),
            here,
            way: vec![top],
            back: None,
            returns: 0,
            held: 0,
            room: usize::MAX,
            #[cfg(test)]
            steps: 0,
        }))
    }

    /// Whether the tree that this is in is still to be found where it was.
    pub(super) fn is_still_there(&self) -> bool {
        let found = statat(CWD, &self.dir, AtFlags::empty());
        found.is_ok_and(|stat| self.way.first().is_some_and(|top| top.id == id(&stat)))
    }

    /// Goes on until then, with room to remember so many bytes; whether it is through.
    pub(super) fn go(&mut self, until: Instant, room: usize) -> io::Result<bool> {
        self.room = room;
        for step in 1_usize.. {
            if self.step()? {
                return Ok(true);
            }
            if STEPS_PER_ROUND_MIN <= step
                && step.is_multiple_of(STEPS_PER_CLOCK_CHECK)
                && until <= Instant::now()
            {
                break;
            }
        }
        Ok(false)
    }

    pub(super) fn step(&mut self) -> io::Result<bool> {
        #[cfg(test)]
        {
            self.steps += 1;
        }
        if let Some(depth) = self.back {
            self.go_back(depth);
            return Ok(false);
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
                    self.held -= cost(&name);
                    self.enter(name)?;
                }
                None => return self.leave(),
            },
        }
        Ok(false)
    }

    fn count(&mut self, name: &CStr) {
        if matches!(name.to_bytes(), b"." | b"..") {
            return;
        }
        let Ok(stat) = statat(&self.here, name, AtFlags::SYMLINK_NOFOLLOW) else {
            // Removed since it was listed, or only called otherwise now: nobody can tell.
            self.missed = true;
            return;
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let more = cost(name) + NAME_SLOT_BYTES;
            match self.way.last_mut().filter(|_| self.held + more <= self.room) {
                Some(level) => {
                    level.inside.push(name.to_owned());
                    level.own += NAME_SLOT_BYTES;
                    self.held += more;
                }
                None => self.missed = true,
            }
        } else if 1 < stat.st_nlink {
            if self.seen.contains(&id(&stat)) {
                return;
            }
            if self.room < self.held + LINK_MEMORY_BYTES {
                self.missed = true;
                return;
            }
            self.seen.insert(id(&stat));
            self.held += LINK_MEMORY_BYTES;
        }
        self.sum.add(Taken { bytes: bytes(&stat), inodes: 1 });
    }

    fn enter(&mut self, name: CString) -> io::Result<()> {
        // The list of levels grows by doubling, too.
        let own = 2 * size_of::<Level>() + cost(&name);
        if self.room < self.held + own {
            self.missed = true;
            return Ok(());
        }
        match openat(&self.here, &name, FLAGS | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(inside) => {
                let id = id(&fstat(&inside)?);
                self.held += own;
                self.way.push(Level { id, name, inside: Vec::new(), own });
                self.entries = Some(Dir::read_from(&inside)?);
                self.here = inside;
            }
            // Gone, or only called otherwise now; or not for this to read.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::PERM) => {
                self.missed = true;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Up again; whether that was the top.
    fn leave(&mut self) -> io::Result<bool> {
        self.forget(self.way.len().saturating_sub(1));
        let Some(above) = self.way.last().map(|level| level.id) else { return Ok(true) };
        match openat(&self.here, c"..", FLAGS, Mode::empty()) {
            Ok(up) if id(&fstat(&up)?) == above => self.here = up,
            // It was moved or removed under this walk, which has lost its way.
            Ok(_) | Err(Errno::NOENT) => return Ok(self.turn_back()),
            Err(error) => return Err(error.into()),
        }
        Ok(false)
    }

    /// Starts at the top again, to go down to where it was; whether there is nothing to go on from.
    fn turn_back(&mut self) -> bool {
        self.missed = true;
        self.returns += 1;
        let top = self.way.first().map(|level| level.id);
        let found = openat(CWD, &self.dir, FLAGS, Mode::empty()).ok();
        let same = |here: &OwnedFd| fstat(here).is_ok_and(|stat| Some(id(&stat)) == top);
        match found.filter(|here| self.returns <= REOPENS_PER_WALK_MAX && same(here)) {
            Some(here) => {
                self.here = here;
                self.back = Some(0);
                false
            }
            None => {
                self.forget(0);
                true
            }
        }
    }

    /// One level down on the way that was lost; where it leads elsewhere now, this goes on from there.
    fn go_back(&mut self, depth: usize) {
        let Some(next) = self.way.get(depth + 1) else {
            self.back = None;
            return;
        };
        let inside = openat(&self.here, &next.name, FLAGS | OFlags::NOFOLLOW, Mode::empty()).ok();
        let same = |inside: &OwnedFd| fstat(inside).is_ok_and(|stat| id(&stat) == next.id);
        match inside.filter(same) {
            Some(inside) => {
                self.here = inside;
                self.back = Some(depth + 1);
            }
            None => {
                self.forget(depth + 1);
                self.back = None;
            }
        }
    }

    /// Gives the levels of the way from `depth` on back.
    fn forget(&mut self, depth: usize) {
        let of = |level: &Level| level.inside.iter().fold(level.own, |sum, name| sum + cost(name));
        let freed: usize = self.way.drain(depth..).map(|level| of(&level)).sum();
        self.held -= freed;
    }
}
