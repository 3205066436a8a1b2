//! The server's end of a connection: cuts frames apart, gives each stream its own bytes, and sends theirs in turn.
//!
//! ```text
//! read ──▶ pipe of a stream ──▶ whoever handles it ──▶ pipe ──▶ pump ──▶ one queue ──▶ write
//! ```
//!
//! All of it is one future, which its owner may drop at any moment.
//!
//! Guarantees:
//! - streams, and what waits in each, are bounded, and a stream beyond them is refused
//!   (`a_stream_beyond_the_bound_is_refused`);
//! - ends are told from what broke off, both ways (`ends_are_told_from_what_broke_off`);
//! - who reads slowly stops its own connection, and holds no more than its pipes (`a_slow_reader_holds_little`);
//! - a client that has gone is noticed also behind bytes for which a stream has no room
//!   (`who_has_gone_behind_what_nobody_reads_is_noticed`, `a_client_that_hears_nothing_is_pinged`);
//! - no bytes make it panic or go on for ever (`noise_ends_a_session`).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, DuplexStream,
    ReadHalf, WriteHalf, duplex, split,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use crate::frame::{Control, FrameError, HEAD_BYTES, Head, Outgoing, Status, data_head};
use crate::header_block::{Headers, Packer, Unpacker};
use crate::stream::{Ends, Stream};

/// What waits in one direction of a stream.
pub const PIPE_BYTES: usize = 32 << 10;
/// What a session holds besides its streams: the tables of the packing both ways, and buffers.
pub const SESSION_BYTES: usize = 384 << 10;
/// The most of a stream that goes out at once.
const PIECE_BYTES: usize = 16 << 10;
/// Frames that wait to go out.
const QUEUED_FRAMES_MAX: usize = 4;
/// A client that was told nothing for so long is pinged. Nobody reads on while a stream has no room, and the end of a
/// connection comes behind all its bytes: only what is written to who has gone tells of it.
const PING_AFTER: Duration = Duration::from_secs(10);
/// How long a client is read on that has been told farewell.
const FAREWELL_LINGER: Duration = Duration::from_secs(2);
/// How long the last of a session may take to go out.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams as the client opens them, each with what it is for: headers may be long, and nobody needs them for as long as
/// the stream is there.
#[derive(Debug)]
pub struct Accept(mpsc::Receiver<(Stream, Headers)>);

impl Accept {
    /// The next one; `None` when no more will come.
    pub async fn next(&mut self) -> Option<(Stream, Headers)> {
        self.0.recv().await
    }
}

/// Serves a connection with at most so many streams at a time, until the client goes or `handle` is done with what it
/// accepts; what was written by then goes out.
///
/// # Errors
/// When the connection fails, or says what is no SPDY/3.1.
pub async fn serve<T, F>(io: T, streams: usize, handle: impl FnOnce(Accept) -> F) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite,
    F: Future<Output = ()>,
{
    let (reader, writer) = split(io);
    let (out, queue) = mpsc::channel(QUEUED_FRAMES_MAX);
    let (opened, accept) = mpsc::channel(1);
    let (pumps, new_pumps) = mpsc::channel(1);
    let reading = SessionReader {
        reader: BufReader::with_capacity(PIECE_BYTES, reader),
        streams: BTreeMap::new(),
        places: Arc::new(Semaphore::new(streams)),
        last: 0,
        unpacker: Unpacker::default(),
        out: out.clone(),
        opened,
        pumps,
    };
    let handled = handle(Accept(accept));
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let work = async {
        handled.await;
        // Who pumps goes on until its stream has said its end.
        let _ = ended.send(());
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        outcome = write(writer, queue) => outcome,
        outcome = reading.run() => outcome,
        () = pump_all(new_pumps, end, out) => Ok(()),
        () = work => Ok(()),
    }
}

/// One stream as what comes in sees it.
struct Inbound {
    /// `None` when nobody reads it any more, or its end was said.
    pipe: Option<WriteHalf<DuplexStream>>,
    ends: Arc<Ends>,
    _place: Arc<OwnedSemaphorePermit>,
}

type Pump = BoxFuture<'static, ()>;

struct SessionReader<R> {
    reader: BufReader<R>,
    streams: BTreeMap<u32, Inbound>,
    places: Arc<Semaphore>,
    /// The newest stream's number: they only grow.
    last: u32,
    unpacker: Unpacker,
    out: mpsc::Sender<Outgoing>,
    opened: mpsc::Sender<(Stream, Headers)>,
    pumps: mpsc::Sender<Pump>,
}

impl<R: AsyncRead + Unpin> SessionReader<R> {
    /// Until the client goes.
    async fn run(mut self) -> io::Result<()> {
        let mut head = [0; HEAD_BYTES];
        loop {
            // An end between two frames is one in order.
            if self.reader.read(&mut head[..1]).await? == 0 {
                return Ok(());
            }
            self.reader.read_exact(&mut head[1..]).await?;
            match Head::read(head).map_err(broken)? {
                Head::Data { stream, fin, length } => self.data(stream, fin, length).await?,
                Head::Control { kind, flags, length } => {
                    let mut body = vec![0; length];
                    self.reader.read_exact(&mut body).await?;
                    let control = Control::read((kind, flags), &body, &mut self.unpacker);
                    if !self.control(control.map_err(broken)?).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn data(&mut self, stream: u32, fin: bool, mut left: usize) -> io::Result<()> {
        if self.last < stream {
            self.reset(stream, Status::InvalidStream).await;
        }
        let known = self.streams.get_mut(&stream);
        let mut pipe = known.and_then(|known| known.pipe.take());
        let mut piece = [0; 4096];
        while 0 < left {
            let most = left.min(piece.len());
            let read = self.reader.read(&mut piece[..most]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= read;
            if let Some(open) = &mut pipe
                && open.write_all(&piece[..read]).await.is_err()
            {
                // Nobody reads it any more; the pump tells the client.
                pipe = None;
            }
        }
        match (self.streams.get_mut(&stream), fin) {
            (Some(known), false) => known.pipe = pipe,
            (Some(_), true) => self.fin(stream, pipe).await,
            (None, _) => {}
        }
        Ok(())
    }

    async fn fin(&mut self, stream: u32, pipe: Option<WriteHalf<DuplexStream>>) {
        let Some(known) = self.streams.get_mut(&stream) else { return };
        known.ends.by_peer.store(true, Relaxed);
        if let Some(mut pipe) = pipe.or_else(|| known.pipe.take()) {
            let _ = pipe.shutdown().await;
        }
        if known.ends.is_over() {
            self.streams.remove(&stream);
        }
    }

    /// Whether the session goes on.
    async fn control(&mut self, control: Control) -> io::Result<bool> {
        match control {
            Control::SynStream { stream, fin, headers } => self.open(stream, fin, headers).await,
            Control::RstStream { stream, .. } => {
                if let Some(known) = self.streams.remove(&stream) {
                    known.ends.reset.store(true, Relaxed);
                    if let Some(mut pipe) = known.pipe {
                        let _ = pipe.shutdown().await;
                    }
                }
            }
            // Those of the server's own would be even.
            Control::Ping(id) if id % 2 == 1 => {
                let _ = self.out.send(Outgoing::Control(Control::Ping(id))).await;
            }
            Control::Headers { stream, fin: true } => self.fin(stream, None).await,
            Control::GoAway => return Ok(false),
            Control::Ping(_)
            | Control::Headers { .. }
            | Control::SynReply { .. }
            | Control::Other(_) => {}
        }
        Ok(true)
    }

    async fn open(&mut self, stream: u32, fin: bool, headers: Headers) {
        self.streams.retain(|_, known| !known.ends.is_over());
        // A client's streams have odd numbers.
        if stream <= self.last || stream.is_multiple_of(2) {
            return self.reset(stream, Status::ProtocolError).await;
        }
        self.last = stream;
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return self.reset(stream, Status::RefusedStream).await;
        };
        let (place, ends) = (Arc::new(place), Arc::new(Ends::default()));
        let (pipe, far) = duplex(PIPE_BYTES);
        let (outward, inward) = split(far);
        let known = Inbound { pipe: Some(inward), ends: ends.clone(), _place: place.clone() };
        self.streams.insert(stream, known);
        let pump = pump(stream, outward, ends.clone(), (self.out.clone(), place.clone()));
        let out = self.out.clone();
        let new = Stream { id: stream, pipe, ends, out, _place: place };
        if fin {
            self.fin(stream, None).await;
        }
        // Without a handler it is dropped, and so refused.
        let _ = self.pumps.send(Box::pin(pump)).await;
        let _ = self.opened.send((new, headers)).await;
    }

    async fn reset(&mut self, stream: u32, status: Status) {
        let reset = Control::RstStream { stream, status: status as u32 };
        let _ = self.out.send(Outgoing::Control(reset)).await;
    }
}

fn broken(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Sends what a stream's handler writes, and how it ends.
async fn pump(
    stream: u32,
    mut pipe: ReadHalf<DuplexStream>,
    ends: Arc<Ends>,
    (out, _place): (mpsc::Sender<Outgoing>, Arc<OwnedSemaphorePermit>),
) {
    loop {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        let read = pipe.read_buf(&mut piece).await.unwrap_or(0);
        if ends.reset.load(Relaxed) {
            return;
        }
        let last = if read != 0 {
            Outgoing::Data { stream, fin: false, bytes: piece.freeze() }
        } else if ends.here.load(Relaxed) {
            Outgoing::Data { stream, fin: true, bytes: Bytes::new() }
        } else {
            ends.reset.store(true, Relaxed);
            let status = Status::Cancel as u32;
            Outgoing::Control(Control::RstStream { stream, status })
        };
        if out.send(last).await.is_err() || read == 0 {
            return;
        }
    }
}

/// Runs all pumps, and says farewell after `end` when all that they have is sent. Ready when that takes too long.
async fn pump_all(
    mut new: mpsc::Receiver<Pump>,
    end: tokio::sync::oneshot::Receiver<()>,
    out: mpsc::Sender<Outgoing>,
) {
    let mut pumps = FuturesUnordered::new();
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            biased;
            Some(pump) = new.recv() => pumps.push(pump),
            Some(()) = pumps.next() => {}
            _ = &mut end => break,
        }
    }
    let rest = async {
        while pumps.next().await.is_some() {}
        // Whoever writes ends the session with it.
        let _ = out.send(Outgoing::Control(Control::GoAway)).await;
        std::future::pending::<()>().await;
    };
    let _ = timeout(FAREWELL_TIMEOUT, rest).await;
}

async fn write<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<Outgoing>,
) -> io::Result<()> {
    let mut packer = Packer::default();
    // The server's own are even.
    let mut pings = (2..).step_by(2);
    loop {
        let next = match timeout(PING_AFTER, queue.recv()).await {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(()),
            Err(_) => Outgoing::Control(Control::Ping(pings.next().unwrap_or_default())),
        };
        match next {
            Outgoing::Control(control) => {
                writer.write_all(&control.write(&mut packer).map_err(broken)?).await?;
                if control == Control::GoAway {
                    writer.shutdown().await?;
                    // What is closed over bytes that nobody has read takes back what is on its way.
                    tokio::time::sleep(FAREWELL_LINGER).await;
                    return Ok(());
                }
            }
            Outgoing::Data { stream, fin, bytes } => {
                let mut frame = BytesMut::with_capacity(HEAD_BYTES + bytes.len());
                frame.put_slice(&data_head(stream, fin, bytes.len()));
                frame.put_slice(&bytes);
                writer.write_all(&frame).await?;
            }
        }
        writer.flush().await?;
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
