//! Directories for simulations and tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use crate::files::worker::{Work, Worker};
use crate::files::{File, Files, Measured};
use crate::host_dir::{Entered, HostDir};
use crate::usage::{Size, Tree};

/// A measurement that has no end yet: its directories and who takes the sizes.
pub type PendingMeasurement = (Vec<PathBuf>, Measured);

/// Directories that exist by being named.
#[derive(Default)]
pub struct FakeFiles {
    /// Sets by directory.
    pub sets: Mutex<BTreeMap<PathBuf, Vec<File>>>,
    /// Bytes of directories, when they are measured, and of files.
    pub sizes: Mutex<BTreeMap<PathBuf, u64>>,
    /// Inodes that are in them.
    pub inodes: Mutex<BTreeMap<PathBuf, u64>>,
    /// Measurements that have no end until [`FakeFiles::finish`]; `None`: they end at once.
    pub slow: Mutex<Option<Vec<PendingMeasurement>>>,
    /// What is measured is a floor.
    pub too_large: Mutex<bool>,
    /// How often something was measured.
    pub measured: Mutex<usize>,
    /// Room of what was removed is not free yet.
    pub removing: Mutex<bool>,
    /// Directories and files that an earlier life left, until they are removed.
    pub left: Mutex<BTreeSet<PathBuf>>,
    /// Directories that were removed, in order.
    pub removed: Mutex<Vec<PathBuf>>,
    /// How much was opened.
    pub opened: Mutex<usize>,
    /// How often a set was written.
    pub written: Mutex<usize>,
    /// Nothing new can be made in a volume.
    pub full: Mutex<bool>,
    /// What is done beside the agent and is not done until [`FakeFiles::let_go`]; `None`: it is done on the spot.
    pub held: Mutex<Option<Vec<Work>>>,
    /// A set takes so long to be written. Then what is done beside the agent has a thread.
    pub write_time: Mutex<Duration>,
    thread: Mutex<Option<Worker>>,
}

impl Files for FakeFiles {
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn write_set(&self, dir: &Path, files: &[File]) -> io::Result<()> {
        *self.written.lock() += 1;
        let time = *self.write_time.lock();
        std::thread::sleep(time);
        self.sets.lock().insert(dir.to_owned(), files.to_vec());
        Ok(())
    }

    fn enter(&self, dir: &Path, inside: &str, _: bool) -> io::Result<Entered> {
        *self.opened.lock() += 1;
        if *self.full.lock() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(Entered::Dir(HostDir::simulated(dir.join(inside))))
    }

    fn open(&self, dir: &Path) -> io::Result<HostDir> {
        *self.opened.lock() += 1;
        Ok(HostDir::simulated(dir.to_owned()))
    }

    fn link(&self, _: &std::fs::File, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn touch(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.sets.lock().retain(|path, _| !path.starts_with(dir));
        self.left.lock().retain(|path| !path.starts_with(dir));
        self.removed.lock().push(dir.to_owned());
        Ok(())
    }

    fn dirs_in(&self, dir: &Path) -> io::Result<Vec<String>> {
        let left = self.left.lock();
        let within = left.iter().filter_map(|path| path.strip_prefix(dir).ok());
        let names = within.filter_map(|path| path.iter().next()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    fn files_in(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let (left, sizes) = (self.left.lock(), self.sizes.lock());
        let within = left.iter().filter(|path| path.parent() == Some(dir));
        let one = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some((name, sizes.get(path).copied().unwrap_or(0)))
        };
        Ok(within.filter_map(one).collect())
    }

    fn is_removing(&self) -> bool {
        *self.removing.lock()
    }

    fn beside(&self, work: Work) {
        if let Some(held) = &mut *self.held.lock() {
            return held.push(work);
        }
        if self.write_time.lock().is_zero() {
            return work();
        }
        let mut thread = self.thread.lock();
        if thread.is_none() {
            *thread = Worker::start().ok();
        }
        match &*thread {
            Some(thread) => thread.add(work),
            None => work(),
        }
    }

    fn remove_file(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn measure(&self, trees: Vec<Tree>, _: u64, done: Measured) {
        let dirs: Vec<PathBuf> = trees.iter().map(|tree| tree.dir().to_owned()).collect();
        *self.measured.lock() += 1;
        if let Some(slow) = &mut *self.slow.lock() {
            slow.push((dirs, done));
        } else {
            self.tell(&dirs, done);
        }
    }
}

impl FakeFiles {
    /// Does what was held, in its order; what comes now is held again.
    pub fn let_go(&self) {
        let held = self.held.lock().as_mut().map(std::mem::take).unwrap_or_default();
        held.into_iter().for_each(|work| work());
    }

    /// Ends the measurements that had no end.
    pub fn finish(&self) {
        let slow = self.slow.lock().as_mut().map(std::mem::take).unwrap_or_default();
        slow.into_iter().for_each(|(dirs, done)| self.tell(&dirs, done));
    }

    fn tell(&self, dirs: &[PathBuf], done: Measured) {
        let (sizes, inodes) = (self.sizes.lock().clone(), self.inodes.lock().clone());
        let whole = !*self.too_large.lock();
        let of = |all: &BTreeMap<PathBuf, u64>, dir: &PathBuf| all.get(dir).copied().unwrap_or(0);
        let size = |dir: &PathBuf| Size { bytes: of(&sizes, dir), inodes: of(&inodes, dir), whole };
        done(dirs.iter().map(size).collect());
    }
}
