//! Messages on a byte stream: a length, then postcard.
//!
//! ```text
//! varint length (1 to 3 bytes) | postcard of one message
//! ```
//!
//! Guarantees:
//! - a declared length is checked before anything is allocated for it (`a_hostile_length_is_refused_before_its_body`),
//!   also against the bound of who reads (`a_reader_that_expects_little_refuses_more_before_its_body`);
//! - memory grows only with bytes that have come (`a_stream_of_noise_ends_with_an_error_and_bounded_memory`);
//! - what a long message took goes with it (`an_idle_reader_keeps_no_more_than_it_reads_at_once`), also where the next one
//!   has begun (`what_has_begun_behind_a_long_message_keeps_none_of_it`);
//! - a message that leaves bytes over is refused (`bytes_after_the_message_are_refused`);
//! - one that is not known is skipped and counted, where that is asked for
//!   (`what_is_not_known_is_skipped_and_counted`).

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

/// Longest message. What may be larger travels in pieces: see [`crate::limits`].
pub const FRAME_BODY_BYTES_MAX: usize = crate::limits::FRAME_BYTES_MAX;

/// Read at once; what an idle stream keeps.
const READ_CHUNK_BYTES: usize = 1024;
/// What may be kept of that for what has come behind it: less is not worth a copy.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// Why a frame cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The declared length is beyond the bound.
    #[error("a frame of {length} bytes is longer than the {most} allowed")]
    TooLong {
        /// What was declared.
        length: u64,
        /// What is read here.
        most: usize,
    },
    /// The length is not the shortest form of a number.
    #[error("the frame's length is malformed")]
    BadLength,
    /// The stream ended inside of a frame.
    #[error("the stream ended inside of a frame")]
    Truncated,
    /// The body is no message that this side knows.
    #[error("the frame holds no message known here")]
    Body(#[source] postcard::Error),
    /// The message ended before the frame.
    #[error("{0} bytes are left over after the message")]
    LeftOver(usize),
    /// The stream failed.
    #[error("the stream failed")]
    Io(#[source] std::io::Error),
}

impl FrameError {
    /// Whether the frame was whole and only its message is not known here: the next one may be.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Body(_) | Self::LeftOver(_))
    }
}

/// One message as a frame.
///
/// # Errors
/// When it is longer than [`FRAME_BODY_BYTES_MAX`].
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let body = postcard::to_stdvec(message).map_err(FrameError::Body)?;
    if FRAME_BODY_BYTES_MAX < body.len() {
        return Err(FrameError::TooLong { length: body.len() as u64, most: FRAME_BODY_BYTES_MAX });
    }
    let mut out = Vec::with_capacity(body.len() + 3);
    let mut left = body.len();
    while 0x7f < left {
        out.push(low_bits(left) | 0x80);
        left >>= 7;
    }
    out.push(low_bits(left));
    out.extend_from_slice(&body);
    Ok(out)
}

const fn low_bits(value: usize) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

/// Reads a whole message, as a datagram carries it.
///
/// # Errors
/// When it is no message, or bytes are left over.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, FrameError> {
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(FrameError::Body)?;
    if rest.is_empty() { Ok(message) } else { Err(FrameError::LeftOver(rest.len())) }
}

/// Cuts frames out of bytes as they come.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    /// Bytes of what the buffer lies in, with those before it.
    whole: usize,
    /// The longest frame that is taken.
    most: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), whole: 0, most: FRAME_BODY_BYTES_MAX }
    }
}

impl Decoder {
    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame's body, when all of it is there.
    ///
    /// # Errors
    /// When the length is malformed or beyond the bound; the stream is of no use after that.
    pub fn next_body(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some((length, header)) = length(&self.buffer, self.most)? else { return Ok(None) };
        if self.buffer.len() < header + length {
            return Ok(None);
        }
        self.whole = self.held();
        self.buffer.advance(header);
        let body = self.buffer.split_to(length).freeze();
        if KEPT_BYTES_MAX < self.whole && self.buffer.len() <= self.whole / 2 {
            self.buffer = BytesMut::from(&self.buffer[..]);
            self.whole = 0;
        }
        Ok(Some(body))
    }

    /// The next message.
    ///
    /// # Errors
    /// As [`Decoder::next_body`], and when the body is no `M`.
    pub fn next_message<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        self.next_body()?.map(|body| decode(&body)).transpose()
    }

    /// Room for what is read next. What a long frame took goes with it: the buffer would keep that size for as long as
    /// its stream lives, and remember it beyond that.
    fn make_room(&mut self) {
        if self.buffer.is_empty() && READ_CHUNK_BYTES < self.held() {
            (self.buffer, self.whole) = (BytesMut::new(), 0);
        }
        self.buffer.reserve(READ_CHUNK_BYTES);
    }

    /// Bytes of memory that what has come takes.
    fn held(&self) -> usize {
        self.whole.max(self.buffer.capacity())
    }

    /// Bytes that wait for the rest of their frame.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }
}

/// The declared length, which is `most` at the most, and the bytes that it took, once they are all there.
fn length(bytes: &[u8], most: usize) -> Result<Option<(usize, usize)>, FrameError> {
    let mut value: u64 = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        if index == 9 && 1 < *byte {
            return Err(FrameError::BadLength);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 != 0 {
            continue;
        }
        if *byte == 0 && 0 < index {
            return Err(FrameError::BadLength);
        }
        return match usize::try_from(value) {
            Ok(length) if length <= most => Ok(Some((length, index + 1))),
            _ => Err(FrameError::TooLong { length: value, most }),
        };
    }
    if bytes.len() < 10 { Ok(None) } else { Err(FrameError::BadLength) }
}

/// Reads messages from a stream. [`FrameReader::next`] is cancel safe.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from this stream.
    pub fn new(stream: R) -> Self {
        Self { stream, decoder: Decoder::default() }
    }

    /// Bytes of memory that what has come takes here.
    #[must_use]
    pub fn held(&self) -> usize {
        self.decoder.held()
    }

    /// The next message that is known here; `None` at the end of the stream. `skipped` counts the others.
    ///
    /// # Errors
    /// When the stream fails or ends early.
    pub async fn next_known<M: DeserializeOwned>(
        &mut self,
        skipped: &AtomicU64,
    ) -> Result<Option<M>, FrameError> {
        loop {
            match self.next().await {
                Err(error) if error.is_unknown() => {
                    skipped.fetch_add(1, Ordering::Relaxed);
                    // Without a pause a peer could keep this side busy with nothing else.
                    tokio::task::yield_now().await;
                }
                other => return other,
            }
        }
    }

    /// The next message, which is this long at the most: for who has proven little yet, or has no place. Cancel safe.
    ///
    /// # Errors
    /// As [`FrameReader::next`], and when a longer one comes.
    pub async fn next_within<M: DeserializeOwned>(
        &mut self,
        most: usize,
    ) -> Result<Option<M>, FrameError> {
        self.decoder.most = most.min(FRAME_BODY_BYTES_MAX);
        self.read(|_| ()).await
    }

    /// The next message; `None` at the end of the stream.
    ///
    /// # Errors
    /// When the stream fails, ends early or holds no such message.
    pub async fn next<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        self.next_counted(|_| ()).await
    }

    /// The same, which tells whenever something has come how many bytes of memory it takes here by then.
    ///
    /// # Errors
    /// As [`FrameReader::next`].
    pub async fn next_counted<M: DeserializeOwned>(
        &mut self,
        held: impl FnMut(usize),
    ) -> Result<Option<M>, FrameError> {
        self.decoder.most = FRAME_BODY_BYTES_MAX;
        self.read(held).await
    }

    async fn read<M: DeserializeOwned>(
        &mut self,
        mut held: impl FnMut(usize),
    ) -> Result<Option<M>, FrameError> {
        loop {
            if let Some(message) = self.decoder.next_message()? {
                return Ok(Some(message));
            }
            self.decoder.make_room();
            let read =
                self.stream.read_buf(&mut self.decoder.buffer).await.map_err(FrameError::Io)?;
            held(self.held());
            if read == 0 {
                let clean = self.decoder.pending() == 0;
                return if clean { Ok(None) } else { Err(FrameError::Truncated) };
            }
        }
    }
}

/// What follows the last message, as raw bytes.
impl<R: AsyncRead + Unpin> AsyncRead for FrameReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let rest = &mut self.decoder.buffer;
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, out);
        }
        let some = rest.split_to(rest.len().min(out.remaining()));
        out.put_slice(&some);
        Poll::Ready(Ok(()))
    }
}

/// Writes one message.
///
/// # Errors
/// When it is too long or the stream fails.
pub async fn write<M, W>(stream: &mut W, message: &M) -> Result<(), FrameError>
where
    M: Serialize,
    W: AsyncWrite + Unpin,
{
    let frame = encode(message)?;
    stream.write_all(&frame).await.map_err(FrameError::Io)?;
    stream.flush().await.map_err(FrameError::Io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn round_trip(length: usize) {
        let message = vec![7_u8; length];
        let mut decoder = Decoder::default();
        for byte in encode(&message).unwrap() {
            assert!(decoder.next_body().unwrap().is_none());
            decoder.push(&[byte]);
        }
        assert_eq!(decoder.next_message::<Vec<u8>>().unwrap(), Some(message));
        assert_eq!(decoder.pending(), 0);
    }

    #[test]
    fn a_frame_reads_back_byte_by_byte() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
            round_trip(length);
        }
    }

    #[test]
    fn a_hostile_length_is_refused_before_its_body() {
        let mut decoder = Decoder::default();
        decoder.push(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(matches!(
            decoder.next_body(),
            Err(FrameError::TooLong { length: 0xffff_ffff, .. })
        ));
        let mut decoder = Decoder::default();
        decoder.push(&[0xff; 10]);
        assert!(matches!(decoder.next_body(), Err(FrameError::BadLength)));
        let mut decoder = Decoder::default();
        decoder.push(&[0x80, 0x00]);
        assert!(matches!(decoder.next_body(), Err(FrameError::BadLength)));
        let exactly = [0x80, 0x80, 0x40];
        let mut decoder = Decoder::default();
        decoder.push(&exactly);
        assert!(matches!(decoder.next_body(), Ok(None)), "1 MiB itself is allowed");
        let longer = encode(&vec![0_u8; FRAME_BODY_BYTES_MAX]);
        assert!(matches!(longer, Err(FrameError::TooLong { .. })));
    }

    #[tokio::test]
    async fn a_reader_that_expects_little_refuses_more_before_its_body() {
        let bytes = encode(&vec![7_u8; 100]).unwrap();
        let mut reader = FrameReader::new(&bytes[..1]);
        let refused = reader.next_within::<Vec<u8>>(100).await.unwrap_err();
        assert!(matches!(refused, FrameError::TooLong { length: 101, most: 100 }), "{refused}");
        let mut reader = FrameReader::new(&bytes[..]);
        assert_eq!(reader.next_within::<Vec<u8>>(101).await.unwrap().unwrap().len(), 100);
        let twice = [encode(&1_u8).unwrap(), bytes].concat();
        let mut reader = FrameReader::new(&twice[..]);
        assert_eq!(reader.next_within::<u8>(1).await.unwrap(), Some(1));
        let next = reader.next::<Vec<u8>>().await;
        assert_eq!(next.unwrap().unwrap().len(), 100, "what comes after it has the usual bound");
    }

    #[test]
    fn bytes_after_the_message_are_refused() {
        assert!(matches!(decode::<u8>(&[1, 2]), Err(FrameError::LeftOver(1))));
        assert!(matches!(decode::<u16>(&[]), Err(FrameError::Body(_))));
    }

    #[tokio::test]
    async fn an_idle_reader_keeps_no_more_than_it_reads_at_once() {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let mut reader = FrameReader::new(far);
        for length in [3, 70_000, 300_000, 5, 200_000] {
            let message = vec![7_u8; length];
            write(&mut near, &message).await.unwrap();
            assert_eq!(reader.next().await.unwrap(), Some(message));
            let mut idle = Box::pin(reader.next::<u8>());
            assert!(futures::poll!(&mut idle).is_pending());
            drop(idle);
            let kept = reader.decoder.buffer.capacity();
            assert!(kept <= READ_CHUNK_BYTES, "{kept} bytes after a message of {length}");
        }
    }

    #[tokio::test]
    async fn what_has_begun_behind_a_long_message_keeps_none_of_it() {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let [long, next] = [300_000, 1000].map(|length| encode(&vec![7_u8; length]).unwrap());
        near.write_all(&[&long[..], &next[..10]].concat()).await.unwrap();
        let (mut reader, mut most) = (FrameReader::new(far), 0);
        let message = reader.next_counted::<Vec<u8>>(|held| most = most.max(held)).await.unwrap();
        assert!(message.is_some() && 300_000 <= most);
        assert!(reader.held() <= KEPT_BYTES_MAX, "{}", reader.held());
        near.write_all(&next[10..]).await.unwrap();
        assert_eq!(reader.next::<Vec<u8>>().await.unwrap().unwrap().len(), 1000);
    }

    #[tokio::test]
    async fn raw_bytes_after_the_last_message_are_kept() {
        let bytes = [&encode(&7_u8).unwrap()[..], b"raw"].concat();
        let mut reader = FrameReader::new(&bytes[..]);
        assert_eq!(reader.next::<u8>().await.unwrap(), Some(7));
        let mut rest = String::new();
        reader.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "raw");
    }

    #[tokio::test]
    async fn what_is_not_known_is_skipped_and_counted() {
        #[derive(Debug, PartialEq, Eq, serde::Deserialize)]
        enum Known {
            One(u8),
        }
        let newer = encode(&(9_u8, 1_u8, 2_u8)).unwrap();
        let longer = encode(&(0_u8, 5_u8, 6_u8)).unwrap();
        let known = encode(&(0_u8, 7_u8)).unwrap();
        let bytes = [newer, longer, known, vec![0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
        let (mut reader, skipped) = (FrameReader::new(&bytes[..]), AtomicU64::new(0));
        assert_eq!(reader.next_known(&skipped).await.unwrap(), Some(Known::One(7)));
        assert_eq!(skipped.load(Ordering::Relaxed), 2);
        let lost: Result<Option<Known>, _> = reader.next_known(&skipped).await;
        assert!(matches!(lost, Err(FrameError::TooLong { .. })), "nothing can follow that");
    }

    #[tokio::test]
    async fn a_stream_that_ends_inside_of_a_frame_says_so() {
        let mut reader = FrameReader::new(&[5_u8, 1, 2][..]);
        assert!(matches!(reader.next::<Vec<u8>>().await, Err(FrameError::Truncated)));
        let mut reader = FrameReader::new(&[][..]);
        assert!(matches!(reader.next::<Vec<u8>>().await, Ok(None)));
    }
}
