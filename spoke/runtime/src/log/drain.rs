//! Puts a container's output on disk as lines in the form of CRI: `<time> <stream> <F|P> <text>`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::warn;

use super::sink::{LogSink, Piece, Source};
use super::stamp::stamp;

/// A file's size before it is set aside. With the one set aside, a container's log takes twice as much.
const MAX_FILE: u64 = 10 << 20;

/// A line longer than this is written in parts, as containerd does.
const MAX_LINE: usize = 16 << 10;

/// Where a log is set aside to: one older file is kept.
pub(crate) fn older(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Writes until the sink is closed and empty. A disk that takes nothing loses lines, never the guest.
pub(crate) async fn drain(sink: LogSink, log: PathBuf) {
    let mut file = LogFile::new(log);
    loop {
        let pieces = std::future::poll_fn(|cx| sink.poll_take(cx)).await;
        let last = pieces.is_none();
        // Files block; the drain's runtime must not.
        let write = tokio::task::spawn_blocking(move || {
            match pieces {
                Some(pieces) => pieces.into_iter().for_each(|piece| file.take(piece)),
                None => file.finish(),
            }
            file.flush();
            file
        });
        match write.await {
            Ok(written) => file = written,
            Err(error) => {
                warn!(%error, "log writer failed");
                return;
            }
        }
        sink.wrote(file.total);
        if last {
            return;
        }
    }
}

/// A line that has no end yet.
#[derive(Default)]
struct Partial {
    text: Vec<u8>,
    since: Option<SystemTime>,
}

struct LogFile {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    total: u64,
    buffer: Vec<u8>,
    partial: [Partial; 2],
    failed: bool,
}

impl LogFile {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            size: 0,
            total: 0,
            buffer: Vec::new(),
            partial: Default::default(),
            failed: false,
        }
    }

    fn take(&mut self, (source, time, bytes): Piece) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, whole) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let mut partial = std::mem::take(&mut self.partial[source as usize]);
            let since = *partial.since.get_or_insert(time);
            partial.text.extend_from_slice(text);
            while MAX_LINE < partial.text.len() {
                let rest = partial.text.split_off(MAX_LINE);
                self.line(source, since, 'P', &partial.text);
                partial.text = rest;
            }
            if whole {
                self.line(source, since, 'F', &partial.text);
                partial.text.clear();
                partial.since = None;
            }
            self.partial[source as usize] = partial;
        }
    }

    fn finish(&mut self) {
        for source in [Source::Stdout, Source::Stderr] {
            let partial = std::mem::take(&mut self.partial[source as usize]);
            if let (false, Some(since)) = (partial.text.is_empty(), partial.since) {
                self.line(source, since, 'F', &partial.text);
            }
        }
    }

    fn line(&mut self, source: Source, time: SystemTime, tag: char, text: &[u8]) {
        self.buffer.extend_from_slice(stamp(time).as_bytes());
        self.buffer.extend_from_slice(format!(" {} {tag} ", source.name()).as_bytes());
        self.buffer.extend_from_slice(text);
        self.buffer.push(b'\n');
    }

    fn flush(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        match self.write(&buffer) {
            Ok(()) => self.failed = false,
            Err(error) if !self.failed => {
                self.failed = true;
                warn!(%error, log = %self.path.display(), "log cannot be written; lines are lost");
            }
            Err(_) => {}
        }
        self.buffer = buffer;
        self.buffer.clear();
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if MAX_FILE < self.size {
            self.file = None;
            std::fs::rename(&self.path, older(&self.path))?;
            self.size = 0;
        }
        let file = match &mut self.file {
            Some(file) => file,
            closed => {
                let file = open(&self.path)?;
                self.size = file.metadata()?.len();
                closed.insert(file)
            }
        };
        file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        self.total += bytes.len() as u64;
        Ok(())
    }
}

/// A container starts before its log's directory is there for sure.
fn open(log: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().create(true).append(true).open(log);
    match (open(), log.parent()) {
        (Err(error), Some(dir)) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(dir)?;
            open()
        }
        (opened, _) => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn texts(log: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(log).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    fn put(file: &mut LogFile, source: Source, text: &str) {
        file.take((source, SystemTime::now(), Bytes::copy_from_slice(text.as_bytes())));
    }

    #[test]
    fn pieces_become_lines_of_their_stream() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut file = LogFile::new(log.clone());
        put(&mut file, Source::Stdout, "one\ntw");
        put(&mut file, Source::Stderr, "oops\n");
        put(&mut file, Source::Stdout, "o\n\nrest");
        file.finish();
        file.flush();
        assert_eq!(
            texts(&log),
            ["stdout F one", "stderr F oops", "stdout F two", "stdout F ", "stdout F rest"]
        );
    }

    #[test]
    fn long_lines_are_cut_into_parts() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut file = LogFile::new(log.clone());
        put(&mut file, Source::Stdout, &format!("{}\n", "x".repeat(MAX_LINE + 5)));
        file.flush();
        let lines = texts(&log);
        assert_eq!(lines[0].len(), "stdout P ".len() + MAX_LINE);
        assert_eq!(lines[1], "stdout F xxxxx");
    }

    #[test]
    fn a_full_file_is_set_aside_once() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut file = LogFile::new(log.clone());
        let line = format!("{}\n", "x".repeat(MAX_LINE));
        for _ in 0..(3 * MAX_FILE / MAX_LINE as u64) {
            put(&mut file, Source::Stdout, &line);
            file.flush();
        }
        let size = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(size(&log) <= MAX_FILE + 2 * MAX_LINE as u64);
        assert!(size(&older(&log)) <= MAX_FILE + 2 * MAX_LINE as u64);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
