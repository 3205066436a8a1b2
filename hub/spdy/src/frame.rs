//! Frames of SPDY/3.1: what is on the wire, and nothing of what it means.
//!
//! ```text
//! control: 1 version type | flags length | body…        data: 0 stream | flags length | bytes…
//! ```
//!
//! Guarantees:
//! - a declared length is checked before anything is kept of a control frame, and data is read in pieces, however long
//!   its frame says it is (`a_hostile_length_is_refused`);
//! - no bytes make it panic (`noise_is_refused_and_takes_nobody_down`).

use bytes::Bytes;

use crate::header_block::{BadHeaders, HEADER_BYTES_MAX, Headers, Packer, Unpacker};

/// Bytes before the body of a frame.
pub const HEAD_BYTES: usize = 8;
/// The longest body of a control frame: packed headers are hardly longer than what they come to.
const CONTROL_BYTES_MAX: usize = HEADER_BYTES_MAX + 1024;
/// The longest body of a data frame that the wire can say.
const DATA_BYTES_MAX: usize = (1 << 24) - 1;

const SPDY_VERSION: u16 = 3;
const FIN: u8 = 1;
const STREAM_MASK: u32 = 0x7fff_ffff;

/// Why a frame ends the connection.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It is no frame of this version.
    #[error("a frame of SPDY version {0}")]
    Version(u16),
    /// It is too long.
    #[error("a control frame of {0} bytes")]
    TooLong(usize),
    /// It is too short for what it says it is.
    #[error("a control frame of type {0} that is cut short")]
    Short(u16),
    /// Its headers.
    #[error(transparent)]
    Headers(#[from] BadHeaders),
}

/// What begins a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// So many bytes of a stream follow, with its end behind them.
    Data {
        /// Which.
        stream: u32,
        /// Nothing comes after them.
        fin: bool,
        /// How many.
        length: usize,
    },
    /// A control frame with a body of this length.
    Control {
        /// Which.
        kind: u16,
        /// With these flags.
        flags: u8,
        /// How long.
        length: usize,
    },
}

impl Head {
    /// Reads it.
    ///
    /// # Errors
    /// When it is of another version, or too long.
    pub fn read(bytes: [u8; HEAD_BYTES]) -> Result<Self, FrameError> {
        let [a, b, c, d, flags, x, y, z] = bytes;
        let length = usize::from(x) << 16 | usize::from(y) << 8 | usize::from(z);
        if a & 0x80 == 0 {
            let stream = u32::from_be_bytes([a, b, c, d]);
            return Ok(Self::Data { stream, fin: flags & FIN != 0, length });
        }
        let version = u16::from_be_bytes([a & 0x7f, b]);
        if version != SPDY_VERSION {
            return Err(FrameError::Version(version));
        }
        if CONTROL_BYTES_MAX < length {
            return Err(FrameError::TooLong(length));
        }
        Ok(Self::Control { kind: u16::from_be_bytes([c, d]), flags, length })
    }
}

/// The code of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// What came makes no sense.
    ProtocolError = 1,
    /// There is no such stream.
    InvalidStream = 2,
    /// It is not taken.
    RefusedStream = 3,
    /// It is not wanted any more.
    Cancel = 5,
}

/// A control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A new stream.
    SynStream {
        /// Which.
        stream: u32,
        /// Nothing comes on it.
        fin: bool,
        /// What it is for.
        headers: Headers,
    },
    /// A stream is taken.
    SynReply {
        /// Which.
        stream: u32,
        /// Nothing comes on it.
        fin: bool,
        /// What is said of it.
        headers: Headers,
    },
    /// A stream is over.
    RstStream {
        /// Which.
        stream: u32,
        /// Why.
        status: u32,
    },
    /// Comes back as it is.
    Ping(u32),
    /// The other side goes.
    GoAway,
    /// More of a stream's headers.
    Headers {
        /// Which.
        stream: u32,
        /// Nothing comes on it any more.
        fin: bool,
    },
    /// Settings and windows: Kubernetes' clients send none and heed none. What is not known is skipped.
    Other(u16),
}

/// One frame on its way out.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Control(Control),
    Data { stream: u32, fin: bool, bytes: Bytes },
}

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const HEADERS: u16 = 8;

impl Control {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is cut short or its headers cannot be read.
    pub fn read(
        (kind, flags): (u16, u8),
        body: &[u8],
        unpacker: &mut Unpacker,
    ) -> Result<Self, FrameError> {
        let number = |at: usize| {
            let bytes = body.get(at..).and_then(|rest| rest.first_chunk::<4>());
            bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or(FrameError::Short(kind))
        };
        let rest = |at: usize| body.get(at..).ok_or(FrameError::Short(kind));
        let fin = flags & FIN != 0;
        let stream = || number(0).map(|id| id & STREAM_MASK);
        Ok(match kind {
            SYN_STREAM => {
                // Behind both: the stream that it belongs to, priority and slot.
                let (stream, headers) = (stream()?, unpacker.headers(rest(10)?)?);
                Self::SynStream { stream, fin, headers }
            }
            SYN_REPLY => {
                let (stream, headers) = (stream()?, unpacker.headers(rest(4)?)?);
                Self::SynReply { stream, fin, headers }
            }
            RST_STREAM => Self::RstStream { stream: stream()?, status: number(4)? },
            PING => Self::Ping(number(0)?),
            GO_AWAY => Self::GoAway,
            HEADERS => {
                // They are read for those that come after them.
                let stream = stream()?;
                unpacker.headers(rest(4)?)?;
                Self::Headers { stream, fin }
            }
            other => Self::Other(other),
        })
    }

    /// All of the frame.
    ///
    /// # Errors
    /// When its headers are too long.
    pub fn write(&self, packer: &mut Packer) -> Result<Vec<u8>, FrameError> {
        let (kind, fin, body) = match self {
            Self::SynStream { stream, fin, headers } => {
                let mut body = stream.to_be_bytes().to_vec();
                body.extend_from_slice(&[0; 6]);
                body.extend(packer.block(headers)?);
                (SYN_STREAM, *fin, body)
            }
            Self::SynReply { stream, fin, headers } => {
                let mut body = stream.to_be_bytes().to_vec();
                body.extend(packer.block(headers)?);
                (SYN_REPLY, *fin, body)
            }
            Self::RstStream { stream, status } => {
                (RST_STREAM, false, [stream.to_be_bytes(), status.to_be_bytes()].concat())
            }
            Self::Ping(id) => (PING, false, id.to_be_bytes().to_vec()),
            Self::GoAway => (GO_AWAY, false, vec![0; 8]),
            Self::Headers { stream, fin } => {
                let mut body = stream.to_be_bytes().to_vec();
                body.extend(packer.block(&Headers::default())?);
                (HEADERS, *fin, body)
            }
            Self::Other(kind) => (*kind, false, Vec::new()),
        };
        let mut frame = [(SPDY_VERSION | 0x8000).to_be_bytes(), kind.to_be_bytes()].concat();
        frame.extend_from_slice(&flags_and_length(fin, body.len()));
        frame.extend(body);
        Ok(frame)
    }
}

/// The head of a data frame.
#[must_use]
pub fn data_head(stream: u32, fin: bool, length: usize) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = (stream & STREAM_MASK).to_be_bytes();
    let [e, f, g, h] = flags_and_length(fin, length);
    [a, b, c, d, e, f, g, h]
}

fn flags_and_length(fin: bool, length: usize) -> [u8; 4] {
    let length = u32::try_from(length.min(DATA_BYTES_MAX)).unwrap_or_default();
    let [_, x, y, z] = length.to_be_bytes();
    [u8::from(fin), x, y, z]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(frame: &[u8], unpacker: &mut Unpacker) -> Result<Control, FrameError> {
        let (head, body) = frame.split_first_chunk().unwrap();
        let Head::Control { kind, flags, length } = Head::read(*head)? else { panic!("data") };
        assert_eq!(length, body.len());
        Control::read((kind, flags), body, unpacker)
    }

    #[test]
    fn frames_come_back_as_they_were() {
        let (mut packer, mut unpacker) = (Packer::default(), Unpacker::default());
        let headers = Headers::from([("streamtype", "error")]);
        for frame in [
            Control::SynStream { stream: 1, fin: true, headers: headers.clone() },
            Control::SynReply { stream: 3, fin: false, headers },
            Control::RstStream { stream: 5, status: Status::Cancel as u32 },
            Control::Ping(7),
            Control::GoAway,
            Control::Headers { stream: 9, fin: true },
            Control::Other(9),
        ] {
            let bytes = frame.write(&mut packer).unwrap();
            assert_eq!(read(&bytes, &mut unpacker).unwrap(), frame);
        }
        let head = Head::read(data_head(7, true, 70_000)).unwrap();
        assert_eq!(head, Head::Data { stream: 7, fin: true, length: 70_000 });
    }

    #[test]
    fn a_hostile_length_is_refused() {
        let long = [0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff];
        assert!(matches!(Head::read(long), Err(FrameError::TooLong(0xff_ffff))));
        let of_http = *b"\xc7ET / HT";
        assert!(matches!(Head::read(of_http), Err(FrameError::Version(_))));
        for kind in [SYN_STREAM, SYN_REPLY, RST_STREAM, PING, HEADERS] {
            let read = Control::read((kind, 0), &[0, 0], &mut Unpacker::default());
            assert!(matches!(read, Err(FrameError::Short(_))), "{kind}");
        }
    }

    #[test]
    fn noise_is_refused_and_takes_nobody_down() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..50_000 {
            let head = std::array::from_fn(|_| rng.u8(..));
            let _ = Head::read(head);
            let body: Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(..)).collect();
            let _ = Control::read((rng.u16(..12), rng.u8(..)), &body, &mut Unpacker::default());
        }
    }
}
