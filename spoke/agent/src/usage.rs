//! How much of the disk is below directories that guests fill: bytes, and inodes, of which a file system may have
//! fewer.
//!
//! ```text
//! Measurer: a walk through each ─▶ all was seen: that much
//!                               └─▶ no time left: at least that much; it goes on in the next round
//! ```
//!
//! What moves while this looks may count twice or not at all, and then takes nothing back.
//!
//! Guarantees:
//! - a round ends in time; what was not seen by then makes the result a floor, and the next round goes on
//!   (`what_takes_more_than_a_round_is_a_floor_until_all_was_seen`);
//! - of trees that take several rounds each, all are known in one round of the same shortage
//!   (`trees_that_take_many_rounds_are_all_known_in_one`), and what was known in another shortage is no answer
//!   (`what_was_known_in_another_shortage_is_no_answer`);
//! - a walk that starts anew, or that a guest has led astray, takes nothing back from what those before have seen,
//!   until one has missed nothing (`a_walk_that_starts_anew_takes_nothing_back`,
//!   `a_directory_that_is_renamed_takes_nothing_back`);
//! - an empty file costs an inode, whatever names it has (`what_is_on_the_disk_counts_once_and_nothing_else`);
//! - what has no name any more counts as long as it is open (`files_without_a_name_count_while_they_are_open`), however
//!   deep it lay (`files_without_a_name_count_however_deep_they_lay`);
//! - a file that is shown counts where it lies, and once its name there is gone as what is shown
//!   (`what_is_shown_counts_once_its_name_in_the_volume_is_gone`);
//! - what is remembered of all trees has one bound in bytes, whatever guests make
//!   (`what_is_remembered_of_all_trees_has_one_bound`).

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::warn;

use disk_size::Taken;
use walk::Walk;

pub use disk_size::Size;

mod disk_size;
mod mapped;
mod sub_path_files;
mod unlinked;
mod walk;

/// How long one round takes, over all directories: a card may be slow and a guest's trees large.
const ROUND_TIME: Duration = Duration::from_secs(5);
/// What walks that go on remember together, in bytes. A guest makes names without end; what is beyond is not counted,
/// and the result stays a floor.
const WALK_MEMORY_BYTES_MAX: usize = 12 << 20;
/// Of these, what every tree gets, however much others take.
const TREE_MEMORY_BYTES_MIN: usize = 64 << 10;
/// Trees that go on in the next round; of others that takes up too much time, a part is seen.
const UNFINISHED_TREES_MAX: usize = 64;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// A directory that a guest fills, or its log.
    Filled(PathBuf),
    /// The directory in which the agent shows single files out of others.
    Shown(PathBuf),
}

impl Tree {
    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        match self {
            Self::Filled(dir) | Self::Shown(dir) => dir,
        }
    }
}

/// What the walks before this one found in a directory.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The least that is said until the next has ended: the most since the last that missed nothing.
    floor: Taken,
    /// All of it, as it was seen in this shortage.
    whole: Option<Taken>,
}

/// Measures directories again and again.
#[derive(Debug)]
pub struct Measurer {
    unfinished: HashMap<PathBuf, Walk>,
    known: HashMap<PathBuf, Known>,
    shortage: u64,
    budget: usize,
}

impl Default for Measurer {
    fn default() -> Self {
        let (unfinished, known) = (HashMap::new(), HashMap::new());
        Self { unfinished, known, shortage: 0, budget: WALK_MEMORY_BYTES_MAX }
    }
}

impl Measurer {
    /// One round through trees of both kinds, as [`Self::measure`].
    pub fn measure_all(&mut self, trees: &[Tree], shortage: u64) -> Vec<Size> {
        let filled = trees.iter().filter(|tree| matches!(tree, Tree::Filled(_)));
        let filled: Vec<PathBuf> = filled.map(|tree| tree.dir().to_owned()).collect();
        let mut sizes = self.measure(&filled, shortage).into_iter();
        let of = |tree: &Tree| match tree {
            Tree::Filled(_) => sizes.next().unwrap_or_default(),
            Tree::Shown(dir) => sub_path_files::size(dir),
        };
        trees.iter().map(of).collect()
    }

    /// One round. What cannot be read counts nothing. While the disk is short `shortage` says which time that is: until
    /// it is over, directories that were seen whole count as seen. Zero: it is not short.
    pub fn measure(&mut self, dirs: &[PathBuf], shortage: u64) -> Vec<Size> {
        self.within(dirs, shortage, Instant::now() + ROUND_TIME)
    }

    fn within(&mut self, dirs: &[PathBuf], shortage: u64, end: Instant) -> Vec<Size> {
        self.unfinished.retain(|_, walk| walk.is_still_there());
        self.known.retain(|dir, _| dir.is_dir());
        if shortage != self.shortage {
            self.shortage = shortage;
            // What they had once says nothing of who has most now.
            self.known.values_mut().for_each(|known| known.whole = None);
        }
        let mut left = dirs.len();
        let mut sizes = Vec::with_capacity(left);
        for dir in dirs {
            let now = Instant::now();
            let share =
                end.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX);
            left -= 1;
            sizes.push(self.one(dir, now + share).unwrap_or_else(|error| {
                warn!(dir = %dir.display(), %error, "cannot be measured");
                self.known.get(dir).map_or_else(Taken::default, |known| known.floor).size(false)
            }));
        }
        for (size, open) in sizes.iter_mut().zip(unlinked::below(dirs)) {
            size.bytes = size.bytes.saturating_add(open.bytes);
            size.inodes = size.inodes.saturating_add(open.inodes);
        }
        sizes
    }

    fn one(&mut self, dir: &Path, until: Instant) -> io::Result<Size> {
        let going_on = self.unfinished.remove(dir);
        let Some(mut walk) = going_on.map_or_else(|| Walk::start(dir), |walk| Ok(Some(walk)))?
        else {
            self.known.remove(dir);
            return Ok(Taken::default().size(true));
        };
        // Never all: the trees that come later have something to remember, too.
        let room = self.budget.saturating_sub(self.held()) / 2;
        let done = walk.go(until, room.max(TREE_MEMORY_BYTES_MIN.min(self.budget)))?;
        let mut known = self.known.get(dir).copied().unwrap_or_default();
        if !done {
            let seen = walk.sum.most(known.floor).most(known.whole.unwrap_or_default());
            if self.unfinished.len() < UNFINISHED_TREES_MAX {
                self.unfinished.insert(dir.to_owned(), walk);
            }
            return Ok(seen.size(known.whole.is_some()));
        }
        if walk.missed {
            known.floor = walk.sum.most(known.floor);
        } else {
            known.floor = walk.sum;
            known.whole = Some(walk.sum).filter(|_| self.shortage != 0);
        }
        self.known.insert(dir.to_owned(), known);
        let seen = known.floor.most(known.whole.unwrap_or_default());
        Ok(seen.size(!walk.missed || known.whole.is_some()))
    }

    /// Bytes that the walks remember.
    fn held(&self) -> usize {
        self.unfinished.values().map(|walk| walk.held).sum()
    }
}

#[cfg(test)]
mod tests;
