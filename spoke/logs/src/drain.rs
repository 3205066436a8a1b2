//! Puts a container's output on disk as lines in the form of CRI: `<time> <stream> <F|P> <text>`.
//!
//! Guarantees:
//! - instances that write at the same time do not get into one another's lines, nor does what the spoke says
//!   (`lines_of_instances_that_write_at_the_same_time_stay_apart`), however long they are
//!   (`long_lines_of_instances_that_write_at_the_same_time_stay_apart`);
//! - lines that come one after the other are written together, and those of a container that ends at once
//!   (`lines_that_come_one_after_the_other_are_written_together`);
//! - a full or failing disk loses lines, and says how many, but leaves no half a line before a whole one
//!   (`a_full_disk_leaves_whole_lines_and_the_loss_is_said`);
//! - what comes so late that the pod may be gone makes no directory for it again
//!   (`what_comes_after_the_end_was_told_makes_no_directory`);
//! - nor does it stop the guest (`a_disk_that_takes_nothing_does_not_hold_up_the_guest`);
//! - an agent that is killed at any moment leaves files that can be read and gone on with
//!   (`a_line_that_a_killed_agent_left_in_half_stays_alone`,
//!   `an_agent_that_is_killed_between_two_files_loses_no_line`).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use freewheel_spoke_agent::volumes::log_aside;
use tracing::warn;

use crate::budget::{LogBudget, Share};
use crate::sink::{LogSink, Piece, Source, Written};
use crate::stamp::stamp;

/// A line longer than this is written in parts, as containerd does. So much is held of each stream of an instance.
pub const LINE_BYTES_MAX: usize = 16 << 10;

/// How long the next lines are gathered once some were written: who writes one for each of its requests would wake
/// three threads each time. The first line after a while waits for nothing.
const GATHER_LINES_FOR: Duration = Duration::from_millis(5);

/// How often a container that has to wait looks whether it has ended meanwhile.
const END_CHECK_EVERY: Duration = Duration::from_millis(100);

/// Bytes of the place that is kept for the next lines, on nobody's account.
const BUFFER_BYTES_KEPT: usize = 16 << 10;

/// Writes until the sink is closed and empty. A disk that takes nothing loses lines, never the guest; a guest that
/// writes more than its share waits.
pub async fn drain(sink: LogSink, log: PathBuf, budget: Arc<LogBudget>) {
    let mut file = LogFile::new(log, budget.share());
    file.sink = Some(sink.clone());
    let mut slowed = false;
    loop {
        let (pieces, waited) = std::future::poll_fn(|cx| sink.poll_take(cx)).await.unzip();
        let last = pieces.is_none();
        let turn = budget.turn().await;
        // Files block; the drain's runtime must not.
        let write = tokio::task::spawn_blocking(move || {
            match pieces {
                Some(pieces) => pieces.into_iter().for_each(|piece| file.take(piece)),
                None => file.finish(),
            }
            file.flush();
            if last {
                file.share.ended(&file.path);
            }
            file
        });
        match write.await {
            Ok(written) => file = written,
            // The runtime is going, and says itself what it leaves.
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                warn!(%error, "log writer failed");
                return;
            }
        }
        drop((turn, waited));
        sink.wrote(file.written);
        if last {
            return;
        }
        let wait = file.share.wrote(std::mem::take(&mut file.unbooked));
        if !wait.is_zero() && !std::mem::replace(&mut slowed, true) {
            warn!(log = %file.path.display(), "a container writes more than its share of logs and waits");
            sink.note("[this container writes more than its share of the node's logs: it waits]");
        }
        slow_down(&sink, wait).await;
        let much = std::future::poll_fn(|cx| sink.poll_much(cx));
        let _ = tokio::time::timeout(GATHER_LINES_FOR, much).await;
    }
}

/// Takes nothing for a while, so that the guest waits, too; what has ended is not held up.
async fn slow_down(sink: &LogSink, wait: Duration) {
    let until = tokio::time::Instant::now() + wait;
    while tokio::time::Instant::now() < until && !sink.is_closed() {
        tokio::time::sleep(END_CHECK_EVERY.min(wait)).await;
    }
}

/// A line that has no end yet.
struct Partial {
    source: Source,
    since: SystemTime,
    text: Vec<u8>,
}

struct LogFile {
    path: PathBuf,
    /// Says when the directory is not to be made any more.
    sink: Option<LogSink>,
    written: Written,
    buffer: Vec<u8>,
    /// By the streams that have begun them.
    partial: BTreeMap<u64, Partial>,
    /// The stream of the line whose last part has not been written yet, and whose words it has.
    parted: Option<(u64, Source)>,
    /// Whose line's last part the disk has not, as of what it took last.
    begun: Option<Source>,
    /// Bytes that the disk has not taken since it last took some.
    lost: u64,
    share: Share,
    /// Bytes written that the share has not been told of.
    unbooked: u64,
}

impl LogFile {
    fn new(path: PathBuf, share: Share) -> Self {
        Self {
            path,
            sink: None,
            written: Written::default(),
            buffer: Vec::new(),
            partial: BTreeMap::new(),
            parted: None,
            begun: None,
            lost: 0,
            share,
            unbooked: 0,
        }
    }

    fn take(&mut self, Piece { stream, source, time, bytes }: Piece) {
        let mut begun = self.partial.remove(&stream);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, whole) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let mut partial =
                begun.take().unwrap_or_else(|| Partial { source, since: time, text: Vec::new() });
            partial.text.extend_from_slice(text);
            while LINE_BYTES_MAX < partial.text.len() {
                let rest = partial.text.split_off(LINE_BYTES_MAX);
                self.join(stream, partial.since);
                self.line(source, partial.since, 'P', &partial.text);
                self.parted = Some((stream, source));
                partial.text = rest;
            }
            if whole {
                self.end(stream, &partial);
            } else {
                begun = Some(partial);
            }
        }
        match begun {
            Some(partial) if bytes.is_empty() => self.end(stream, &partial),
            Some(partial) => drop(self.partial.insert(stream, partial)),
            None => {}
        }
    }

    fn finish(&mut self) {
        for (stream, partial) in std::mem::take(&mut self.partial) {
            self.end(stream, &partial);
        }
    }

    fn end(&mut self, stream: u64, line: &Partial) {
        self.join(stream, line.since);
        self.line(line.source, line.since, 'F', &line.text);
        self.parted = None;
    }

    /// Before a part of this stream's line: readers add to a part whatever comes next, so that one of another's line
    /// ends here.
    fn join(&mut self, stream: u64, time: SystemTime) {
        if let Some((_, source)) = self.parted.take_if(|(of, _)| *of != stream) {
            self.line(source, time, 'F', b"");
        }
    }

    fn line(&mut self, source: Source, time: SystemTime, tag: char, text: &[u8]) {
        self.buffer.extend_from_slice(stamp(time).as_bytes());
        self.buffer.extend_from_slice(format!(" {} {tag} ", source.name()).as_bytes());
        self.buffer.extend_from_slice(text);
        self.buffer.push(b'\n');
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let guests = self.buffer.len() as u64;
        if 0 < self.lost {
            self.note_loss();
        }
        let buffer = std::mem::take(&mut self.buffer);
        match self.write(&buffer) {
            Ok(()) => {
                self.lost = 0;
                self.begun = self.parted.map(|(_, source)| source);
            }
            Err(error) => {
                if self.lost == 0 {
                    let log = self.path.display();
                    warn!(%error, %log, "log cannot be written; lines are lost");
                }
                self.lost += guests;
            }
        }
        // A flood is no reason to keep its place until the container ends.
        if buffer.capacity() <= BUFFER_BYTES_KEPT {
            self.buffer = buffer;
            self.buffer.clear();
        }
    }

    /// Says before what comes next that something is missing. Both are written together: while only the note had
    /// room, it would be all that the log is made of.
    fn note_loss(&mut self) {
        let rest = std::mem::take(&mut self.buffer);
        if let Some(source) = self.begun {
            self.line(source, SystemTime::now(), 'F', b"");
        }
        let text = format!("[{} bytes of this log were lost: the disk took none]", self.lost);
        self.line(Source::Stderr, SystemTime::now(), 'F', text.as_bytes());
        self.buffer.extend_from_slice(&rest);
    }

    fn open(&self) -> io::Result<File> {
        open(&self.path, self.sink.as_ref().is_none_or(|sink| !sink.is_end_reported()))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.open()?;
        let mut size = file.metadata()?.len();
        if self.share.file() < size {
            match std::fs::rename(&self.path, log_aside(&self.path)) {
                // Somebody has removed it: all the better.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            file = self.open()?;
            size = file.metadata()?.len();
            self.written.turns += 1;
        }
        if let Err(error) = file.write_all(bytes) {
            // A part of it may be there: the next line must not go on in the middle of this one. Where it cannot be
            // cut off, opening it the next time ends the line.
            let _ = file.set_len(size);
            return Err(error);
        }
        self.written.bytes += bytes.len() as u64;
        self.unbooked += bytes.len() as u64;
        Ok(())
    }
}

/// A container starts before its log's directory is there for sure (`make`). A log whose last line has no end, because
/// the agent was killed while it wrote, gets one.
fn open(log: &Path, make: bool) -> io::Result<File> {
    let open = || OpenOptions::new().create(true).read(true).append(true).open(log);
    let mut file = match (open(), log.parent()) {
        (Err(error), Some(dir)) if make && error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(dir)?;
            open()?
        }
        (opened, _) => opened?,
    };
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if let Some(at) = length.checked_sub(1) {
        file.read_exact_at(&mut last, at)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
