//! The file that events are written to, which is put aside under the time of day when it is large, as kube-apiserver's is.
//!
//! Guarantees:
//! - what was put aside stays as long, and in as many files, as was asked for
//!   (`a_large_file_is_put_aside_and_old_ones_go`, `a_life_longer_than_time_is_for_ever`);
//! - a file that somebody has moved or removed is made anew when it would be put aside
//!   (`a_file_that_somebody_moved_away_is_made_anew`), and where none can be made, the old one goes on until one can
//!   (`where_no_file_can_be_made_the_old_one_goes_on`);
//! - one that somebody emptied, as logrotate does with `copytruncate`, goes on where its end is now
//!   (`a_file_that_somebody_emptied_is_as_long_as_it_is`);
//! - a device is never put aside (`a_device_is_never_put_aside`);
//! - a pipe is refused at once (`a_pipe_is_refused_and_not_waited_for`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use tracing::warn;

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogDestination {
    /// To standard output.
    Stdout,
    /// To this file.
    File(PathBuf),
}

/// Where events go, and how much of them is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Where.
    pub destination: LogDestination,
    /// A file of so many bytes is put aside.
    pub bytes_max: u64,
    /// So many days after it was put aside it goes; 0 is never.
    pub age_days_max: u32,
    /// So many of those are kept; 0 is all.
    pub backups_max: usize,
}

/// Where the time in a file's name is cut.
const STAMP: &str = "%Y-%m-%dT%H-%M-%S%.3f";

pub(crate) enum LogFile {
    Stdout(io::Stdout),
    File(OneFile),
}

/// The file, as it is open.
pub(crate) struct OneFile {
    options: LogOptions,
    path: PathBuf,
    file: File,
    bytes: u64,
    /// It is no device, which nobody puts aside.
    is_regular: bool,
    /// No other one could be made, and that was told.
    is_stuck: bool,
}

impl LogFile {
    pub(crate) fn open(options: LogOptions) -> io::Result<Self> {
        let path = match &options.destination {
            LogDestination::Stdout => return Ok(Self::Stdout(io::stdout())),
            LogDestination::File(path) => path.clone(),
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let (file, bytes) = open(&path)?;
        prune(&path, &options, Timestamp::now());
        let is_regular = file.metadata()?.is_file();
        Ok(Self::File(OneFile { options, path, file, bytes, is_regular, is_stuck: false }))
    }

    /// Writes whole lines.
    pub(crate) fn write(&mut self, lines: &[u8], now: Timestamp) -> io::Result<()> {
        match self {
            Self::Stdout(out) => {
                let mut out = out.lock();
                out.write_all(lines)?;
                out.flush()
            }
            Self::File(file) => file.write(lines, now),
        }
    }
}

impl OneFile {
    fn write(&mut self, lines: &[u8], now: Timestamp) -> io::Result<()> {
        let more = lines.len() as u64;
        // Somebody may have emptied it: what it is cut back to is not to be longer than it was.
        if let Ok(found) = self.file.metadata() {
            self.bytes = found.len();
        }
        if self.is_regular && self.bytes != 0 && self.options.bytes_max < self.bytes + more {
            let next = self.next(now, open);
            if let (Err(error), false) = (&next, self.is_stuck) {
                warn!(%error, path = %self.path.display(), "no other file can be made for the audit log; this one grows");
            }
            self.is_stuck = next.is_err();
        }
        if let Err(error) = self.file.write_all(lines) {
            // What did not fit is not to stand there by half, before the next line.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += more;
        Ok(())
    }

    /// Puts the file aside and goes on in the next one. Where there is none, this one stays what it is.
    fn next(
        &mut self,
        now: Timestamp,
        open: impl FnOnce(&Path) -> io::Result<(File, u64)>,
    ) -> io::Result<()> {
        let aside = aside(&self.path, now);
        let is_aside = match std::fs::rename(&self.path, &aside) {
            Ok(()) => true,
            // Somebody has done so before.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        match open(&self.path) {
            Ok((file, bytes)) => (self.file, self.bytes) = (file, bytes),
            Err(error) => {
                if is_aside {
                    let _ = std::fs::rename(&aside, &self.path);
                }
                return Err(error);
            }
        }
        prune(&self.path, &self.options, now);
        Ok(())
    }
}

/// What is neither a file nor a character device is not opened: a pipe that nobody reads would hold up the hub's start, or later its requests.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let other = std::fs::metadata(path)
        .is_ok_and(|meta| !meta.is_file() && !meta.file_type().is_char_device());
    if other {
        let why = "it is there and neither a file nor a character device (standard output is `-`)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// What comes before the time in the name of a file that was put aside, and behind it.
fn around(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| {
        part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let end = path.extension().map(|end| format!(".{}", end.to_string_lossy()));
    (format!("{}-", text(path.file_stem())), end.unwrap_or_default())
}

/// A name that no other file has.
fn aside(path: &Path, mut now: Timestamp) -> PathBuf {
    let (begin, end) = around(path);
    loop {
        let free = path.with_file_name(format!("{begin}{}{end}", now.strftime(STAMP)));
        if !free.exists() {
            return free;
        }
        now += SignedDuration::from_millis(1);
    }
}

/// Removes what was put aside and is too old, or too much. Best effort: the next one tries again.
fn prune(path: &Path, options: &LogOptions, now: Timestamp) {
    let (begin, end) = around(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let Ok(entries) = std::fs::read_dir(folder.unwrap_or(Path::new("."))) else { return };
    let stamp = |name: &str| {
        let stamp = name.strip_prefix(&*begin)?.strip_suffix(&*end)?;
        jiff::civil::DateTime::strptime(STAMP, stamp).ok().map(|_| stamp.to_owned())
    };
    let mut put_aside: Vec<(String, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((stamp(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    put_aside.sort();
    let days = i64::from(options.age_days_max);
    // What reaches back to before there was a time is for ever.
    let oldest = now.checked_sub(SignedDuration::from_hours(24 * days)).ok().filter(|_| days != 0);
    let oldest = oldest.map(|oldest| oldest.strftime(STAMP).to_string());
    let beyond = match options.backups_max {
        0 => 0,
        most => put_aside.len().saturating_sub(most),
    };
    for (at, (stamp, path)) in put_aside.into_iter().enumerate() {
        if at < beyond || oldest.as_ref().is_some_and(|oldest| stamp < *oldest) {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(path: &Path) -> LogOptions {
        LogOptions {
            destination: LogDestination::File(path.to_owned()),
            bytes_max: 100,
            age_days_max: 0,
            backups_max: 0,
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_large_file_is_put_aside_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/audit.log");
        let folder = path.parent().unwrap().to_owned();
        let at = |second: i64| Timestamp::from_second(1_000_000_000 + second).unwrap();
        let line = [&[b'x'; 59][..], b"\n"].concat();
        let mut log = LogFile::open(options(&path)).unwrap();
        for second in [0, 1, 1, 2] {
            log.write(&line, at(second)).unwrap();
        }
        let all = [
            "audit-2001-09-09T01-46-41.000.log",
            "audit-2001-09-09T01-46-41.001.log",
            "audit-2001-09-09T01-46-42.000.log",
            "audit.log",
        ];
        assert_eq!(names(&folder), all);
        std::fs::write(folder.join("audit-of-mine.log"), "kept").unwrap();
        let two = LogOptions { backups_max: 2, ..options(&path) };
        prune(&path, &two, at(3));
        let kept = ["audit-of-mine.log", "audit.log"];
        assert_eq!(names(&folder), [all[1], all[2], kept[0], kept[1]]);
        let a_day = LogOptions { age_days_max: 1, ..options(&path) };
        prune(&path, &a_day, at(86_401 + 1));
        assert_eq!(names(&folder), [all[2], kept[0], kept[1]]);
        // A file that was there goes on.
        drop(log);
        let mut log = LogFile::open(options(&path)).unwrap();
        log.write(b"more\n", at(9)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [&line, &b"more\n"[..]].concat());
    }

    #[test]
    fn a_file_that_somebody_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut log = LogFile::open(options(&path)).unwrap();
        let line = [&[b'x'; 59][..], b"\n"].concat();
        log.write(&line, Timestamp::UNIX_EPOCH).unwrap();
        std::fs::remove_file(&path).unwrap();
        log.write(&line, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), line);
        assert_eq!(names(folder.path()), ["audit.log"]);
    }

    #[test]
    fn a_file_that_somebody_emptied_is_as_long_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut log = LogFile::open(options(&path)).unwrap();
        let line = [&[b'x'; 59][..], b"\n"].concat();
        log.write(&line, Timestamp::UNIX_EPOCH).unwrap();
        // As logrotate does with `copytruncate`.
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        log.write(&line, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(names(folder.path()), ["audit.log"], "it is no large one");
        assert_eq!(std::fs::read(&path).unwrap(), line);
    }

    #[test]
    fn where_no_file_can_be_made_the_old_one_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let LogFile::File(mut log) = LogFile::open(options(&path)).unwrap() else {
            panic!("a file")
        };
        log.write(b"one\n", Timestamp::UNIX_EPOCH).unwrap();
        let full = |_: &Path| Err(io::Error::other("too many open files"));
        assert!(log.next(Timestamp::UNIX_EPOCH, full).is_err());
        log.write(b"two\n", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        assert_eq!(names(folder.path()), ["audit.log"]);
    }

    #[test]
    fn a_device_is_never_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        let mut log = LogFile::open(options(&path)).unwrap();
        for _ in 0..10 {
            log.write(&[b'x'; 60], Timestamp::UNIX_EPOCH).unwrap();
        }
        assert_eq!(names(folder.path()), ["audit.log"]);
        assert_eq!(std::fs::read_link(&path).unwrap(), Path::new("/dev/null"));
    }

    #[test]
    fn a_life_longer_than_time_is_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let long = LogOptions { age_days_max: u32::MAX, ..options(&path) };
        std::fs::write(folder.path().join("audit-1999-09-09T01-46-41.000.log"), "old").unwrap();
        drop(LogFile::open(long).unwrap());
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let refused = LogFile::open(options(&path)).err().unwrap().to_string();
        assert!(refused.starts_with("it is there and neither a file nor"), "{refused}");
    }
}
