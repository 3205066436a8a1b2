//! Reads a container's log as `kubectl logs` wants it.
//!
//! Guarantees:
//! - who reads no more waits for no disk (`who_went_away_waits_for_no_disk`).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use freewheel_spoke_agent::volumes::log_aside;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::sink::Written;
use crate::stamp::{self, stamp};

/// Bytes of one piece of the answer.
const PIECE_BYTES: usize = 32 << 10;

/// Pieces that wait for a slow reader; then reading waits.
const WAITING_PIECES_MAX: usize = 4;

/// Pieces that are read at a time, of all logs, as they are written ([`WRITES_AT_ONCE`](super::budget::WRITES_AT_ONCE)).
pub const READS_AT_ONCE: usize = 1;

/// Said where lines are missing.
const MISSED: &[u8] =
    b"[lines of this log are missing here: it was written faster than it was read]\n";

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Goes on while the container runs.
    pub follow: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only lines from then on.
    pub since: Option<SystemTime>,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Ends after so many bytes.
    pub limit_bytes: Option<u64>,
}

/// Reads the log in this file; `live` comes from the container that writes it, if it runs. `turns`: whose turn it is at
/// the disk.
///
/// The pieces end when everything was read and, when following, the container's log is complete. Dropping the
/// receiver ends the reading. A log that does not exist is empty: its container has not written yet.
pub fn read(
    log: PathBuf,
    options: LogOptions,
    live: Option<watch::Receiver<Written>>,
    turns: Arc<Semaphore>,
) -> mpsc::Receiver<io::Result<Bytes>> {
    let (out, pieces) = mpsc::channel(WAITING_PIECES_MAX);
    tokio::spawn(async move {
        let pumped = tokio::select! {
            biased;
            // Also while it waits for its turn: at a card that stands still, those that were given up would pile up.
            () = out.closed() => return,
            pumped = pump(log, options, live, &turns, &out) => pumped,
        };
        if let Err(error) = pumped {
            // The reader is gone, or is told why it gets no more.
            let _ = out.send(Err(error)).await;
        }
    });
    pieces
}

async fn pump(
    log: PathBuf,
    options: LogOptions,
    mut live: Option<watch::Receiver<Written>>,
    turns: &Arc<Semaphore>,
    out: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let follow = options.follow;
    let of = live.clone();
    let mut reader = at_turn(turns, move || Reader::open(log, &options, of)).await?;
    loop {
        // What is written after this mark wakes the wait below, so that nothing falls between.
        let ended = live.as_mut().is_none_or(|live| {
            live.borrow_and_update();
            live.has_changed().is_err()
        });
        loop {
            let (piece, back) = at_turn(turns, move || {
                let piece = reader.piece()?;
                Ok((piece, reader))
            })
            .await?;
            reader = back;
            let Some(piece) = piece else { break };
            if !piece.is_empty() && out.send(Ok(piece)).await.is_err() {
                return Ok(());
            }
        }
        if !follow || ended || reader.left == Some(0) {
            return Ok(());
        }
        if let Some(live) = &mut live {
            // Its end is seen at the next turn, after a last look into the file.
            let _ = live.changed().await;
        }
    }
}

/// Works at the disk when it is its turn, which lasts as long as the work: also when nobody waits for it any more.
///
/// # Errors
/// Those of the work.
pub async fn at_turn<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let turn = turns.clone().acquire_owned().await.map_err(io::Error::other)?;
    let work = move || {
        let _turn = turn;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// The files of one log, oldest first, and how far they were read.
struct Reader {
    log: PathBuf,
    files: VecDeque<BufReader<File>>,
    newest: Option<u64>,
    since: Option<String>,
    timestamps: bool,
    left: Option<u64>,
    line: Vec<u8>,
    /// The container that writes it, and how often it had set a file aside when the newest one here was opened.
    live: Option<watch::Receiver<Written>>,
    turns: u64,
    /// Files are missing before the next line.
    missed: bool,
}

impl Reader {
    fn open(
        log: PathBuf,
        options: &LogOptions,
        live: Option<watch::Receiver<Written>>,
    ) -> io::Result<Self> {
        let mut reader = Self {
            log,
            files: VecDeque::new(),
            newest: None,
            since: options.since.map(stamp),
            timestamps: options.timestamps,
            left: options.limit_bytes,
            line: Vec::new(),
            live,
            turns: 0,
            missed: false,
        };
        loop {
            reader.turns = reader.turns_now();
            for path in [log_aside(&reader.log), reader.log.clone()] {
                reader.add(&path)?;
            }
            if reader.turns == reader.turns_now() {
                break;
            }
            // A file was set aside in between.
            reader.files.clear();
        }
        if let Some(lines) = options.tail_lines {
            reader.skip_to_tail(usize::try_from(lines).unwrap_or(usize::MAX))?;
        }
        Ok(reader)
    }

    fn add(&mut self, path: &Path) -> io::Result<()> {
        match File::open(path) {
            Ok(file) => {
                self.newest = Some(file.metadata()?.ino());
                self.files.push_back(BufReader::with_capacity(PIECE_BYTES, file));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn turns_now(&self) -> u64 {
        self.live.as_ref().map_or(0, |live| live.borrow().turns)
    }

    /// Leaves the last lines unread. The files are bounded, so reading them whole is too.
    fn skip_to_tail(&mut self, lines: usize) -> io::Result<()> {
        let mut starts = VecDeque::new();
        let mut begins = true;
        for (index, file) in self.files.iter_mut().enumerate() {
            let mut at = 0;
            loop {
                self.line.clear();
                let count = file.read_until(b'\n', &mut self.line)?;
                if count == 0 {
                    break;
                }
                if begins {
                    starts.push_back((index, at));
                    if lines < starts.len() {
                        starts.pop_front();
                    }
                }
                // Only a full line ends the one that the user wrote.
                begins = fields(&self.line).is_none_or(|(_, tag, _)| tag == b'F');
                at += count as u64;
            }
        }
        let end = (self.files.len().saturating_sub(1), u64::MAX);
        let (index, at) = starts.front().copied().unwrap_or(end);
        self.files.drain(..index.min(self.files.len()));
        let mut files = self.files.iter_mut();
        if let Some(first) = files.next() {
            if at == u64::MAX {
                first.seek(SeekFrom::End(0))?;
            } else {
                first.seek(SeekFrom::Start(at))?;
            }
        }
        files.try_for_each(|file| file.rewind())
    }

    /// The next bytes for the user; `None`: there are none now.
    fn piece(&mut self) -> io::Result<Option<Bytes>> {
        let mut out = Vec::new();
        while out.len() < PIECE_BYTES && self.left != Some(0) {
            let Some(file) = self.files.front_mut() else {
                if self.turn()? { continue } else { break }
            };
            file.take(1 << 20).read_until(b'\n', &mut self.line)?;
            if self.line.last() == Some(&b'\n') {
                self.emit(&mut out);
                self.line.clear();
            } else if 1 < self.files.len() {
                self.files.pop_front();
                self.line.clear();
            } else {
                self.again()?;
                if !self.turn()? {
                    break;
                }
            }
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }

    /// Goes back to the beginning of a line that has no end yet: the writer may take it back, when the disk has not
    /// taken all of it.
    fn again(&mut self) -> io::Result<()> {
        let back = i64::try_from(self.line.len()).unwrap_or(0);
        self.line.clear();
        match self.files.front_mut() {
            // Seeking also forgets what was read ahead.
            Some(file) => file.seek(SeekFrom::Current(-back)).map(drop),
            None => Ok(()),
        }
    }

    /// Whether a newer file has taken the place of the one that is being read.
    fn turn(&mut self) -> io::Result<bool> {
        let current = match std::fs::metadata(&self.log) {
            Ok(found) => found.ino(),
            Err(_) => return Ok(false),
        };
        if self.newest == Some(current) {
            return Ok(false);
        }
        let turns = self.turns_now();
        if self.newest.is_some() && self.live.is_some() && turns == self.turns {
            // It is being set aside just now: that is told in a moment. (The first file is told by nobody.)
            return Ok(false);
        }
        // What was read to its end is the one aside, or was replaced there by later ones.
        let aside = log_aside(&self.log);
        let replaced =
            std::fs::metadata(&aside).is_ok_and(|found| self.newest != Some(found.ino()));
        if self.live.is_some() && replaced {
            self.missed |= self.turns + 2 < turns;
            self.add(&aside)?;
        }
        self.turns = turns;
        self.add(&self.log.clone())?;
        Ok(true)
    }

    fn emit(&mut self, out: &mut Vec<u8>) {
        let Some((time, tag, text)) = fields(&self.line) else { return };
        if std::mem::take(&mut self.missed) {
            out.extend_from_slice(MISSED);
        }
        if self.since.as_ref().is_some_and(|since| time < since.as_bytes()) {
            return;
        }
        let start = out.len();
        if self.timestamps {
            out.extend_from_slice(time);
            out.push(b' ');
        }
        out.extend_from_slice(text);
        if tag == b'F' {
            out.push(b'\n');
        }
        if let Some(left) = &mut self.left {
            let length = (out.len() - start).min(usize::try_from(*left).unwrap_or(usize::MAX));
            out.truncate(start + length);
            *left -= length as u64;
        }
    }
}

/// Time, tag and text of a line; `None`: it is none of ours.
fn fields(line: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (time, rest) = line.split_at_checked(stamp::STAMP_BYTES)?;
    // ` stdout F ` and ` stderr F ` have one length.
    let (head, text) = rest.split_at_checked(" stdout F ".len())?;
    let tag = *head.get(head.len() - 2)?;
    Some((time, tag, text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{LogBudget, LogSink, Source, drain};

    fn write(sink: &LogSink, text: &str) {
        let mut stream = sink.stream(Source::Stdout);
        let mut left = Bytes::copy_from_slice(text.as_bytes());
        while !left.is_empty() {
            let room = stream.check_write();
            stream.write(left.split_to(room.min(left.len()))).unwrap();
        }
    }

    fn turns() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(READS_AT_ONCE))
    }

    async fn all(mut pieces: mpsc::Receiver<io::Result<Bytes>>) -> String {
        let mut out = Vec::new();
        while let Some(piece) = pieces.recv().await {
            out.extend_from_slice(&piece.unwrap());
        }
        String::from_utf8(out).unwrap()
    }

    async fn log_of(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let sink = LogSink::new();
        write(&sink, text);
        sink.close();
        drain(sink, log.clone(), LogBudget::new(1 << 30)).await;
        (dir, log)
    }

    #[tokio::test]
    async fn lines_come_back_as_they_were_written() {
        let (_dir, log) = log_of("one\ntwo\nthree").await;
        let read = |options| all(read(log.clone(), options, None, turns()));
        assert_eq!(read(LogOptions::default()).await, "one\ntwo\nthree\n");
        let tail = |lines| LogOptions { tail_lines: Some(lines), ..LogOptions::default() };
        assert_eq!(read(tail(2)).await, "two\nthree\n");
        assert_eq!(read(tail(0)).await, "");
        assert_eq!(read(tail(9)).await, "one\ntwo\nthree\n");
        let limited = LogOptions { limit_bytes: Some(5), ..LogOptions::default() };
        assert_eq!(read(limited).await, "one\nt");
        let later = SystemTime::now() + Duration::from_secs(60);
        let since = LogOptions { since: Some(later), ..LogOptions::default() };
        assert_eq!(read(since).await, "");
        let stamped = LogOptions { timestamps: true, ..LogOptions::default() };
        assert!(read(stamped).await.lines().all(|line| line.as_bytes()[10] == b'T'));
    }

    #[tokio::test]
    async fn a_tail_counts_the_users_lines_not_their_parts() {
        let long = "x".repeat(40 << 10);
        let (_dir, log) = log_of(&format!("first\n{long}\n")).await;
        let tail = LogOptions { tail_lines: Some(1), ..LogOptions::default() };
        assert_eq!(all(read(log, tail, None, turns())).await, format!("{long}\n"));
    }

    #[tokio::test]
    async fn following_ends_with_the_container_and_misses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let sink = LogSink::new();
        let draining = tokio::spawn(drain(sink.clone(), log.clone(), LogBudget::new(1 << 30)));
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let mut pieces = read(log, options, Some(sink.follow()), turns());
        write(&sink, "early\n");
        assert_eq!(pieces.recv().await.unwrap().unwrap(), "early\n");
        write(&sink, "late\n");
        sink.close();
        drop(sink);
        draining.await.unwrap();
        assert_eq!(all(pieces).await, "late\n");
    }

    #[tokio::test]
    async fn who_went_away_waits_for_no_disk() {
        let turns = turns();
        // A card that stands still.
        let (end, until) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let stands = turns.clone();
        let stuck = tokio::spawn(async move {
            let work = move || {
                let _ = begin.send(());
                let _ended = until.recv();
                Ok(())
            };
            at_turn(&stands, work).await
        });
        begun.await.unwrap();
        let waiting: Vec<_> = (0..9)
            .map(|_| read("0.log".into(), LogOptions::default(), None, turns.clone()))
            .collect();
        tokio::task::yield_now().await;
        drop(waiting);
        let gone = async {
            // Here, and where the card is waited for: with the work, and with who waits for its end.
            while 3 < Arc::strong_count(&turns) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let gone = tokio::time::timeout(Duration::from_secs(20), gone).await;
        // Who waits for the work itself may go as well, and its turn lasts.
        stuck.abort();
        let given_up = stuck.await.is_err();
        let taken = turns.available_permits() == 0;
        drop(end);
        assert!(gone.is_ok() && given_up && taken, "{gone:?}, {given_up}, {taken}");
        let again = at_turn(&turns, || Ok("again"));
        let again = tokio::time::timeout(Duration::from_secs(20), again).await;
        assert_eq!(again.unwrap().unwrap(), "again");
    }

    #[test]
    fn a_line_that_the_writer_took_back_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let line = |text: &str| format!("{} stdout F {text}", stamp(SystemTime::UNIX_EPOCH));
        let whole = format!("{}\n", line("whole"));
        std::fs::write(&log, format!("{whole}{}", line("half of a long l"))).unwrap();
        let mut reader = Reader::open(log.clone(), &LogOptions::default(), None).unwrap();
        assert_eq!(reader.piece().unwrap().unwrap(), "whole\n");
        assert_eq!(reader.piece().unwrap(), None);
        std::fs::write(&log, format!("{whole}{}\n", line("next"))).unwrap();
        assert_eq!(reader.piece().unwrap().unwrap(), "next\n");
    }

    #[test]
    fn a_reader_that_falls_behind_is_told_where_lines_are_missing_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let (told, live) = watch::channel(Written::default());
        let write = |text: &str| {
            let line = format!("{} stdout F {text}\n", stamp(SystemTime::UNIX_EPOCH));
            std::fs::write(&log, line).unwrap();
        };
        let turn = |text: &str| {
            std::fs::rename(&log, log_aside(&log)).unwrap();
            write(text);
            told.send_modify(|written| written.turns += 1);
        };
        write("0");
        let mut reader = Reader::open(log.clone(), &LogOptions::default(), Some(live)).unwrap();
        let mut next = || reader.piece().unwrap().unwrap_or_default();
        assert_eq!(next(), "0\n");
        turn("1");
        assert_eq!(next(), "1\n");
        turn("2");
        turn("3");
        assert_eq!(next(), "2\n3\n", "both are still there");
        turn("4");
        turn("5");
        turn("6");
        let said = next();
        let said = std::str::from_utf8(&said).unwrap();
        assert!(said.starts_with("[lines of this log are missing here"), "{said}");
        assert!(said.ends_with("]\n5\n6\n"), "{said}");
        turn("7");
        assert_eq!(next(), "7\n");
    }

    #[test]
    fn who_follows_before_the_first_line_reads_it_and_all_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let (_told, live) = watch::channel(Written::default());
        let mut reader = Reader::open(log.clone(), &LogOptions::default(), Some(live)).unwrap();
        assert_eq!(reader.piece().unwrap(), None);
        let line = format!("{} stdout F first\n", stamp(SystemTime::UNIX_EPOCH));
        std::fs::write(&log, &line).unwrap();
        assert_eq!(reader.piece().unwrap().unwrap(), "first\n");
        std::fs::write(&log, line.repeat(2)).unwrap();
        assert_eq!(reader.piece().unwrap().unwrap(), "first\n");
    }

    #[tokio::test]
    async fn a_log_that_does_not_exist_is_empty() {
        assert_eq!(
            all(read("/nonexistent/0.log".into(), LogOptions::default(), None, turns())).await,
            ""
        );
    }
}
