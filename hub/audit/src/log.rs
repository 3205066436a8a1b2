//! Lines on their way to the disk.
//!
//! ```text
//! request ─ waits for room, as long as the disk takes something ─▶ buffer of so many bytes ─▶ one writer ─▶ file
//! end of a request that nobody waits for ─▶ beside it, and bounded as well ┘                 └ refused: counted, told, gone
//! ```
//!
//! Guarantees:
//! - while the disk takes what it is given nothing is lost, however much comes: who makes the events waits
//!   (`a_burst_beyond_the_buffer_is_written_whole`), and what nobody can wait with has room of its own
//!   (`what_ends_at_once_loses_nothing_while_the_disk_takes_events`), as has what somebody waited with who is gone
//!   (`who_goes_away_while_an_event_waits_for_room_takes_none_along`);
//! - what one request loses has no other go on without waiting: only a disk that refuses or stands still does
//!   (`what_is_lost_beside_a_well_disk_changes_nothing_for_others`);
//! - a disk that is slow and goes on loses nothing, however long it takes for what is before
//!   (`a_disk_that_goes_on_is_waited_for`);
//! - a disk that is full, or stands still, stops nobody: what it does not take is counted and told, and requests go on
//!   (`a_full_disk_is_counted_and_stops_nobody`, `a_disk_that_stands_still_stops_nobody_for_long`);
//! - what was taken is written before the log ends (`a_burst_beyond_the_buffer_is_written_whole`), or counted as lost
//!   (`what_is_not_written_at_the_end_is_counted`).

use std::any::Any;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::{error, info};

use crate::log_file::{LogFile, LogOptions};

/// Bytes of events that wait for the disk.
const BUFFER_BYTES: usize = 16 << 20;
/// Bytes of events beside them that nobody can wait with, or waits with any more: ends of watches, logs and sessions,
/// which may all end at once, and of requests whose clients have gone. Before, their requests held more than that.
const UNWAITED_BYTES_MAX: usize = 128 << 20;
/// How long a request waits for the disk to write something; for room as long as it does.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(5);
/// Most that is written at once.
const BATCH_BYTES: usize = 256 << 10;
/// How long whoever ends the log waits for the disk to write something, and for all of it: whoever stops the hub does not
/// wait for much longer.
const DRAIN_MAX: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(20));

/// What became of events.
#[derive(Debug, Default)]
pub struct Counts {
    events: AtomicU64,
    written: AtomicU64,
    lost: AtomicU64,
    /// The disk refuses, or stands still, and that was told.
    failing: AtomicBool,
    /// There was more at once than there is room for, and that was told.
    crowded: AtomicBool,
}

impl Counts {
    /// Events that there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Those of them that are in no file.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn loses(&self, events: u64, why: &str) {
        self.lost.fetch_add(events, Ordering::Relaxed);
        if !self.failing.swap(true, Ordering::Relaxed) {
            error!(error = why, "events are missing in the audit log from now on; requests go on");
        }
    }

    /// It is lost for what there was at once, and not for the disk.
    fn has_no_room(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        if !self.crowded.swap(true, Ordering::Relaxed) {
            error!(
                "more events end at once than there is room for; some are missing in the audit log"
            );
        }
    }

    fn takes(&self, events: u64) {
        self.written.fetch_add(events, Ordering::Relaxed);
        self.crowded.store(false, Ordering::Relaxed);
        if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) {
            info!(lost = self.lost(), "the audit log takes events again");
        }
    }
}

/// What keeps an account of a line.
type Account = Box<dyn Any + Send>;

/// A line, and its place in the buffer or beside it.
struct Line {
    bytes: Vec<u8>,
    room: OwnedSemaphorePermit,
    /// It is on somebody's account until this is dropped.
    held: Option<Account>,
}

/// A line that somebody waits with, who may go away.
struct WaitingLine<'a> {
    log: &'a AuditLog,
    line: Option<Vec<u8>>,
}

impl Drop for WaitingLine<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            self.log.send_beside(line, None);
        }
    }
}

/// Where events go.
pub struct AuditLog {
    lines: Option<UnboundedSender<Line>>,
    room: Arc<Semaphore>,
    beside: Arc<Semaphore>,
    counts: Arc<Counts>,
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl AuditLog {
    /// Opens the file and starts its writer.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(options: LogOptions) -> io::Result<Self> {
        let mut file = LogFile::open(options)?;
        Self::over(move |lines, now| file.write(lines, now))
    }

    fn over(
        write: impl FnMut(&[u8], Timestamp) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (lines, received) = unbounded_channel();
        let (ends, ended) = std::sync::mpsc::channel();
        let counts = Arc::<Counts>::default();
        let writer = Writer { lines: received, counts: counts.clone(), write };
        std::thread::Builder::new().name("audit-log".to_owned()).spawn(move || {
            writer.run();
            let _ = ends.send(());
        })?;
        let [room, beside] =
            [BUFFER_BYTES, UNWAITED_BYTES_MAX].map(|bytes| Arc::new(Semaphore::new(bytes)));
        Ok(Self { lines: Some(lines), room, beside, counts, ended: Mutex::new(ended) })
    }

    /// What became of events.
    #[must_use]
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Takes a line when there is room for it; one for which there is none for long is lost. While the disk fails nobody
    /// waits for it: who found out has done so for all. The line of who goes away meanwhile is taken beside.
    pub async fn write(&self, line: Vec<u8>) {
        self.counts.events.fetch_add(1, Ordering::Relaxed);
        let mut waits = WaitingLine { log: self, line: Some(line) };
        let room = self.room_for(waits.line.as_deref().unwrap_or_default()).await;
        let Some(line) = waits.line.take() else { return };
        match room {
            Some(room) => self.send(line, room, None),
            None => self.counts.loses(1, "the disk stands still"),
        }
    }

    /// Waits for it for as long as the disk goes on: what is before may be much.
    async fn room_for(&self, line: &[u8]) -> Option<OwnedSemaphorePermit> {
        let mut room = pin!(self.room.clone().acquire_many_owned(room_of(line)));
        loop {
            let (seen, is_failing) =
                (self.counts.written(), self.counts.failing.load(Ordering::Relaxed));
            let patience = if is_failing { Duration::ZERO } else { ROOM_WAIT_MAX };
            match timeout(patience, &mut room).await {
                Ok(room) => return room.ok(),
                Err(_) if is_failing || self.counts.written() == seen => return None,
                Err(_) => {}
            }
        }
    }

    /// The same where nobody can wait. What accounts for the line is kept until it is written.
    pub fn write_now(&self, line: Vec<u8>, held: Option<Account>) {
        self.counts.events.fetch_add(1, Ordering::Relaxed);
        self.send_beside(line, held);
    }

    fn send_beside(&self, line: Vec<u8>, held: Option<Account>) {
        let room = room_of(&line);
        // While the disk fails nothing piles up.
        if self.counts.failing.load(Ordering::Relaxed) {
            return match self.room.clone().try_acquire_many_owned(room) {
                Ok(room) => self.send(line, room, None),
                Err(_) => self.counts.loses(1, "as many events wait for the disk as may"),
            };
        }
        match self.beside.clone().try_acquire_many_owned(room) {
            Ok(room) => self.send(line, room, held),
            Err(_) => self.counts.has_no_room(),
        }
    }

    fn send(&self, bytes: Vec<u8>, room: OwnedSemaphorePermit, held: Option<Account>) {
        let sent = self.lines.as_ref().map(|lines| lines.send(Line { bytes, room, held }));
        if !matches!(sent, Some(Ok(()))) {
            self.counts.loses(1, "the writer of the audit log has ended");
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.lines = None;
        let (began, ended) = (Instant::now(), self.ended.lock());
        let mut seen = self.counts.written();
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(DRAIN_MAX.0) {
            let written = self.counts.written();
            if written == seen || DRAIN_MAX.1 <= began.elapsed() {
                break;
            }
            seen = written;
        }
        let known = self.counts.written() + self.counts.lost();
        let left = self.counts.events().saturating_sub(known);
        if left != 0 {
            self.counts.loses(left, "the disk was too slow for what there was at the end");
        }
    }
}

/// A line that is larger than the buffer takes all of it.
fn room_of(line: &[u8]) -> u32 {
    u32::try_from(line.len().min(BUFFER_BYTES)).unwrap_or(u32::MAX)
}

struct Writer<W> {
    lines: UnboundedReceiver<Line>,
    counts: Arc<Counts>,
    write: W,
}

impl<W: FnMut(&[u8], Timestamp) -> io::Result<()>> Writer<W> {
    fn run(mut self) {
        while let Some(first) = self.lines.blocking_recv() {
            let (mut batch, mut rooms) = (first.bytes, vec![(first.room, first.held)]);
            while batch.len() < BATCH_BYTES
                && let Ok(Line { bytes, room, held }) = self.lines.try_recv()
            {
                batch.extend(bytes);
                rooms.push((room, held));
            }
            match (self.write)(&batch, Timestamp::now()) {
                Ok(()) => self.counts.takes(rooms.len() as u64),
                Err(error) => self.counts.loses(rooms.len() as u64, &error.to_string()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::log_file::LogDestination;

    fn to(path: &Path) -> AuditLog {
        AuditLog::open(LogOptions {
            destination: LogDestination::File(path.to_owned()),
            bytes_max: u64::MAX,
            age_days_max: 0,
            backups_max: 0,
        })
        .unwrap()
    }

    #[tokio::test]
    async fn a_burst_beyond_the_buffer_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let log = to(&path);
        let line = [&vec![b'x'; 1 << 20][..], b"\n"].concat();
        for _ in 0..40 {
            log.write(line.clone()).await;
        }
        log.write_now(b"the last\n".to_vec(), None);
        let counts = log.counts().clone();
        drop(log);
        assert_eq!((counts.events(), counts.lost()), (41, 0));
        let written = std::fs::read(&path).unwrap();
        assert_eq!(written.len(), 40 * line.len() + 9);
        assert!(written.ends_with(b"x\nthe last\n"));
    }

    #[tokio::test]
    async fn what_ends_at_once_loses_nothing_while_the_disk_takes_events() {
        let written = Arc::<AtomicU64>::default();
        let (goes_on, waits) = std::sync::mpsc::channel::<()>();
        let counted = written.clone();
        let log = AuditLog::over(move |lines, _| {
            // It is slow until all of them wait, and takes what it is given.
            let _ = waits.recv();
            let ends = lines.iter().filter(|byte| **byte == b'\n').count();
            counted.fetch_add(ends as u64, Ordering::Relaxed);
            Ok(())
        });
        let log = Arc::new(log.unwrap());
        let line = [&vec![b'x'; 1 << 20][..], b"\n"].concat();
        for _ in 0..15 {
            log.write(line.clone()).await;
        }
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let (log, line) = (log.clone(), line.clone());
            waiting.spawn(async move { log.write(line).await });
        }
        tokio::task::yield_now().await;
        for _ in 0..50 {
            log.write_now(line.clone(), None);
        }
        assert_eq!(log.counts().lost(), 0);
        assert!(!log.counts().failing.load(Ordering::Relaxed), "requests wait for it yet");
        drop(goes_on);
        waiting.join_all().await;
        let counts = log.counts().clone();
        drop(Arc::into_inner(log).unwrap());
        assert_eq!((counts.events(), counts.lost()), (70, 0));
        assert_eq!(written.load(Ordering::Relaxed), 70);
    }

    #[tokio::test]
    async fn what_is_lost_beside_a_well_disk_changes_nothing_for_others() {
        let (goes_on, waits) = std::sync::mpsc::channel::<()>();
        let log = AuditLog::over(move |_, _| {
            let _ = waits.recv();
            Ok(())
        });
        let (log, held) = (log.unwrap(), Arc::new(()));
        for _ in 0..200 {
            log.write_now(vec![b'x'; 1 << 20], Some(Box::new(held.clone())));
        }
        let lost = log.counts().lost();
        assert!((70..=72).contains(&lost), "{lost}");
        assert_eq!(Arc::strong_count(&held) as u64, 201 - lost, "they are on their accounts yet");
        assert!(!log.counts().failing.load(Ordering::Relaxed));
        drop(goes_on);
        drop(log);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn a_full_disk_is_counted_and_stops_nobody() {
        let log = to(Path::new("/dev/full"));
        for _ in 0..1_000 {
            log.write(vec![b'x'; 100 << 10]).await;
        }
        let counts = log.counts().clone();
        drop(log);
        assert_eq!((counts.events(), counts.lost()), (1_000, 1_000));
        counts.takes(0);
        assert!(!counts.failing.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_goes_on_is_waited_for() {
        let (goes_on, waits) = std::sync::mpsc::channel::<()>();
        let log = AuditLog::over(move |_, _| {
            let _ = waits.recv();
            Ok(())
        });
        let log = Arc::new(log.unwrap());
        let (counts, line) = (log.counts().clone(), vec![b'x'; 1 << 20]);
        // They are before those that fill the buffer, and the disk takes one of them in four seconds.
        (0..3).for_each(|_| log.write_now(line.clone(), None));
        for _ in 0..16 {
            log.write(line.clone()).await;
        }
        let (waiting, mebibyte) = (log.clone(), line.clone());
        let waiting = tokio::spawn(async move { waiting.write(mebibyte).await });
        for written in 1..=3 {
            tokio::time::advance(Duration::from_secs(4)).await;
            goes_on.send(()).unwrap();
            while counts.written() < written {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!((counts.lost(), waiting.is_finished()), (0, false));
        goes_on.send(()).unwrap();
        while !waiting.is_finished() {
            tokio::task::yield_now().await;
        }
        drop(goes_on);
        drop(Arc::into_inner(log).unwrap());
        assert_eq!((counts.events(), counts.written(), counts.lost()), (20, 20, 0));
    }

    #[tokio::test]
    async fn who_goes_away_while_an_event_waits_for_room_takes_none_along() {
        let (goes_on, waits) = std::sync::mpsc::channel::<()>();
        let written = Arc::<AtomicU64>::default();
        let counted = written.clone();
        let log = AuditLog::over(move |lines, _| {
            let _ = waits.recv();
            counted.fetch_add(lines.len() as u64, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        let line = vec![b'x'; 1 << 20];
        for _ in 0..16 {
            log.write(line.clone()).await;
        }
        for _ in 0..3 {
            let gone = timeout(Duration::ZERO, log.write(line.clone())).await;
            assert!(gone.is_err(), "it waited for room");
        }
        let counts = log.counts().clone();
        assert_eq!((counts.events(), counts.lost()), (19, 0));
        drop(goes_on);
        drop(log);
        assert_eq!((counts.events(), counts.written(), counts.lost()), (19, 19, 0));
        assert_eq!(written.load(Ordering::Relaxed), 19 << 20);
    }

    #[tokio::test]
    async fn what_is_not_written_at_the_end_is_counted() {
        let (moves, stands) = std::sync::mpsc::channel::<()>();
        let log = AuditLog::over(move |_, _| {
            let _ = stands.recv();
            Ok(())
        })
        .unwrap();
        (0..7).for_each(|_| log.write_now(vec![b'x'; 1 << 20], None));
        let counts = log.counts().clone();
        drop(log);
        assert_eq!((counts.events(), counts.lost()), (7, 7));
        drop(moves);
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_stands_still_stops_nobody_for_long() {
        let (moves, stands) = std::sync::mpsc::channel::<()>();
        let log = AuditLog::over(move |_, _| {
            let _ = stands.recv();
            Ok(())
        })
        .unwrap();
        let start = tokio::time::Instant::now();
        for _ in 0..18 {
            log.write(vec![b'x'; 1 << 20]).await;
        }
        assert_eq!(start.elapsed().as_secs(), ROOM_WAIT_MAX.as_secs(), "one waits, and no other");
        log.write_now(vec![b'x'; 1 << 20], None);
        assert_eq!(log.counts().lost(), 3);
        drop(moves);
    }
}
