//! Removes what the agent holds in its data directory, again until nothing is left of it.
//!
//! What others have put there is left and told: what is mounted on a name that is not the agent's or below its own, and what
//! is another user's. A name of the agent's own may be another disk, mounted or by a link: that is emptied.
//!
//! Guarantees:
//! - all that is the agent's goes, whatever guests have made there (`what_a_guest_has_nested_without_end_goes_as_well`,
//!   `what_a_guest_has_locked_goes_as_well`), also where it lies elsewhere
//!   (`a_directory_that_lies_elsewhere_is_emptied_as_well`);
//! - what is mounted and what another user has put there stays, holds up nothing, and is told
//!   (`what_another_user_has_put_there_holds_up_nothing`, `what_is_mounted_under_a_name_of_nobody_s_stays`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use freewheel_spoke_agent::remover::{self, Emptied, Foreign, mount_points};
use rustix::process::geteuid;
use tokio::time::sleep;
use tracing::warn;

/// How often it is looked for what somebody who has not ended yet has made anew.
const SWEEPS_MAX: u32 = 50;
const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// Where the key is.
pub(super) const IDENTITY: &str = "identity";
/// How names begin of what the agent makes in DIR: there people may put links, to another disk for example.
const OWN: [&str; 5] = [IDENTITY, "ledger", "modules", "pods", "removed"];

/// What one look comes to.
#[derive(Default)]
struct Look {
    /// There was nothing to remove any more.
    clean: bool,
    foreign: Foreign,
}

impl Look {
    /// Whether it is nothing of the agent's: under a name that it does not give, something is mounted, or another user has
    /// put it there.
    fn leaves(&mut self, path: &Path, mounts: &Mounts, own: u32) -> bool {
        if is_named(path, is_own) {
            return false;
        }
        let is_mount = mounts.has(path);
        let is_anothers =
            own != 0 && fs::symlink_metadata(path).is_ok_and(|found| found.uid() != own);
        if is_mount {
            self.foreign.is_mounted(path);
        } else if is_anothers {
            self.foreign.is_anothers(path);
        }
        is_mount || is_anothers
    }
}

/// Removes all of DIR but what is named. Who has not ended yet may make something anew: it is looked again until nothing is
/// there but what is not the agent's.
pub(super) async fn sweep(dir: &Path, kept: &[&str]) -> io::Result<Foreign> {
    for _ in 0..SWEEPS_MAX {
        if let Ok(Look { clean: true, foreign }) = sweep_once(dir, kept) {
            return File::open(dir)?.sync_all().map(|()| foreign);
        }
        sleep(SWEEP_EVERY).await;
    }
    match sweep_once(dir, kept)? {
        Look { clean: true, foreign } => File::open(dir)?.sync_all().map(|()| foreign),
        Look { clean: false, .. } => Err(io::Error::other("somebody goes on writing there")),
    }
}

fn sweep_once(dir: &Path, kept: &[&str]) -> io::Result<Look> {
    let dir = &fs::canonicalize(dir)?;
    let (mounts, own) = (Mounts::below(dir)?, geteuid().as_raw());
    let mut look = Look { clean: true, foreign: Foreign::default() };
    let mut outcome = Ok(());
    let all = fs::read_dir(dir)?.map(|entry| Ok(entry?.path()));
    let mut all = all.collect::<io::Result<Vec<_>>>()?;
    // It has all Secrets of the plan, and is no work.
    all.sort_by_key(|path| !is_named(path, |name| name.starts_with(b"ledger")));
    for path in all {
        let stays = |name: &[u8]| kept.iter().any(|kept| name == kept.as_bytes());
        if is_named(&path, stays) || look.leaves(&path, &mounts, own) {
            continue;
        }
        // Its own disk is mounted there: what is empty says nothing.
        if is_empty(&path) && fs::remove_dir(&path).is_err() {
            continue;
        }
        match remove(&path) {
            Ok(Emptied { removed, foreign }) => {
                look.clean &= !removed;
                look.foreign.join(foreign);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => look.clean = false,
            Err(error) if is_foreign(&path, &error, own) => look.foreign.is_anothers(&path),
            // What cannot go holds up nothing else.
            Err(error) => {
                look.clean = false;
                outcome = outcome.and(Err(error));
            }
        }
    }
    outcome.map(|()| look)
}

/// What is mounted in DIR.
struct Mounts {
    points: Vec<PathBuf>,
    disk: u64,
}

impl Mounts {
    /// Those below a directory, whose path is the real one.
    fn below(dir: &Path) -> io::Result<Self> {
        let points = mount_points::below(dir).unwrap_or_else(|error| {
            warn!(path = %dir.display(), %error, "what is mounted there is told by its disk alone");
            Vec::new()
        });
        Ok(Self { points, disk: fs::metadata(dir)?.dev() })
    }

    fn has(&self, path: &Path) -> bool {
        let found = fs::symlink_metadata(path);
        let is_other = found.is_ok_and(|found| found.is_dir() && found.dev() != self.disk);
        is_other || self.points.iter().any(|point| point == path)
    }
}

fn is_named(path: &Path, so: impl Fn(&[u8]) -> bool) -> bool {
    path.file_name().is_some_and(|name| so(name.as_encoded_bytes()))
}

fn is_own(name: &[u8]) -> bool {
    OWN.iter().any(|own| name.starts_with(own.as_bytes()))
}

/// Whether it is a directory with nothing in it, and no link to one.
fn is_empty(path: &Path) -> bool {
    let is_dir = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    is_dir && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Whether it is of another user (`lost+found` of a disk of its own), and this one may not look into it or not empty it.
fn is_foreign(path: &Path, error: &io::Error, own: u32) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
        && fs::symlink_metadata(path).is_ok_and(|found| found.uid() != own)
}

/// Removes a file, or a directory with all that is in it; of the agent's own also what somebody has put elsewhere.
fn remove(path: &Path) -> io::Result<Emptied> {
    let kind = fs::symlink_metadata(path)?.file_type();
    let elsewhere = kind.is_symlink() && is_named(path, is_own) && path.exists();
    if kind.is_dir() || (elsewhere && path.is_dir()) {
        let emptied = remover::empty_now(path)?;
        if !emptied.foreign.is_empty() {
            return Ok(emptied);
        }
    } else if elsewhere {
        fs::remove_file(fs::canonicalize(path)?)?;
    }
    let removed = if kind.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    removed?;
    Ok(Emptied { removed: true, ..Emptied::default() })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{device, names};
    use super::*;

    #[tokio::test]
    async fn what_a_guest_has_locked_goes_as_well() {
        use std::os::unix::fs::PermissionsExt as _;
        let data = tempfile::tempdir().unwrap();
        device(data.path());
        let locked = data.path().join("pods/u1/volumes");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
        assert!(sweep(data.path(), &["lock"]).await.unwrap().is_empty());
        assert_eq!(names(data.path()), ["lock"]);
    }

    #[tokio::test]
    async fn what_a_guest_has_nested_without_end_goes_as_well() {
        use rustix::fs::{Mode, OFlags, mkdirat, openat};
        let data = tempfile::tempdir().unwrap();
        device(data.path());
        let mut at = File::open(data.path().join("pods/u1/volumes")).unwrap();
        for _ in 0..20_000 {
            mkdirat(&at, "a", Mode::RWXU).unwrap();
            at = openat(&at, "a", OFlags::DIRECTORY, Mode::empty()).unwrap().into();
        }
        sweep(data.path(), &["lock"]).await.unwrap();
        assert_eq!(names(data.path()), ["lock"]);
    }

    #[test]
    fn what_another_user_has_put_there_holds_up_nothing() {
        let data = tempfile::tempdir().unwrap();
        let own = fs::metadata(data.path()).unwrap().uid();
        let [denied, worn] =
            [io::ErrorKind::PermissionDenied, io::ErrorKind::Other].map(io::Error::from);
        assert!(is_foreign(data.path(), &denied, own + 1));
        assert!(!is_foreign(data.path(), &denied, own) && !is_foreign(data.path(), &worn, own + 1));
        // Not even what this one could remove, but under a name that the agent has given.
        for name in ["photos", "ledger"] {
            fs::write(data.path().join(name), "").unwrap();
        }
        let (mounts, mut look) = (Mounts::below(data.path()).unwrap(), Look::default());
        let mut leaves = |name: &str, own| look.leaves(&data.path().join(name), &mounts, own);
        assert!(leaves("photos", own + 1) && !leaves("ledger", own + 1));
        assert!(!leaves("photos", own) && !leaves("photos", 0));
        assert!(look.foreign.to_string().ends_with("photos\" is another user's"));
    }

    #[test]
    fn what_is_mounted_under_a_name_of_nobody_s_stays() {
        let data = tempfile::tempdir().unwrap();
        let dir = fs::canonicalize(data.path()).unwrap();
        fs::create_dir(dir.join("nas")).unwrap();
        let mut mounts = Mounts::below(&dir).unwrap();
        assert!(!mounts.has(&dir.join("nas")) && !mounts.has(&dir.join("absent")));
        mounts.points.push(dir.join("nas"));
        assert!(mounts.has(&dir.join("nas")));
        mounts.points.clear();
        mounts.disk += 1;
        assert!(mounts.has(&dir.join("nas")), "it is another disk");
    }

    #[tokio::test]
    async fn a_directory_that_lies_elsewhere_is_emptied_as_well() {
        let (data, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(disk.path().join("u1/volumes")).unwrap();
        fs::write(disk.path().join("u1/volumes/password"), "hunter2").unwrap();
        std::os::unix::fs::symlink(disk.path(), data.path().join("pods")).unwrap();
        let ledger = disk.path().join("plan");
        fs::write(&ledger, "hunter2").unwrap();
        std::os::unix::fs::symlink(&ledger, data.path().join("ledger")).unwrap();
        sweep(data.path(), &[]).await.unwrap();
        assert_eq!((names(data.path()).len(), names(disk.path()).len()), (0, 0));
        // What is not the agent's stays where it lies.
        fs::write(disk.path().join("photos"), "").unwrap();
        std::os::unix::fs::symlink(disk.path(), data.path().join("home")).unwrap();
        sweep(data.path(), &[]).await.unwrap();
        assert_eq!((names(data.path()).len(), names(disk.path()).len()), (0, 1));
    }
}
