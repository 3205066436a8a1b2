//! Headers as SPDY/3.1 has them: names and values, packed with one dictionary for all of a connection.
//!
//! Guarantees:
//! - what a block comes to is bounded while it is unpacked, however little it was before
//!   (`a_block_that_unpacks_to_much_is_refused`);
//! - what Go packs is read, and Go reads what is packed here, block after block with one memory
//!   (`blocks_share_their_memory`, `a_block_of_a_go_client_is_read`);
//! - who has packed nothing holds no tables (`what_has_no_headers_takes_no_tables`).

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::dictionary::dictionary;

/// The most that the headers of one stream come to, with their lengths.
pub const HEADER_BYTES_MAX: usize = 16 << 10;
/// The most headers of one stream.
const HEADERS_MAX: u32 = 64;

/// Why headers cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeaders {
    /// They are not packed as they should be.
    #[error("the headers cannot be unpacked")]
    Packing,
    /// There are too many of them.
    #[error("the headers are longer than {HEADER_BYTES_MAX} bytes or more than {HEADERS_MAX}")]
    TooLong,
    /// Their lengths do not add up.
    #[error("the headers are malformed")]
    Malformed,
}

/// Names and values, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of a name, in whatever case that is written; empty when there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        // Values of one name are one text.
        found.map_or("", |(_, value)| value.split('\0').next().unwrap_or_default())
    }

    fn read(block: &[u8]) -> Result<Self, BadHeaders> {
        let mut rest = block;
        let count = number(&mut rest)?;
        if HEADERS_MAX < count {
            return Err(BadHeaders::TooLong);
        }
        let pairs = (0..count).map(|_| Ok((text(&mut rest)?, text(&mut rest)?)));
        let pairs = pairs.collect::<Result<_, BadHeaders>>()?;
        if rest.is_empty() { Ok(Self(pairs)) } else { Err(BadHeaders::Malformed) }
    }

    fn write(&self) -> Vec<u8> {
        let mut block = length(self.0.len()).to_vec();
        for text in
            self.0.iter().flat_map(|(name, value)| [name.to_ascii_lowercase(), value.clone()])
        {
            block.extend_from_slice(&length(text.len()));
            block.extend_from_slice(text.as_bytes());
        }
        block
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Headers {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

fn number(rest: &mut &[u8]) -> Result<u32, BadHeaders> {
    let (number, after) = rest.split_first_chunk::<4>().ok_or(BadHeaders::Malformed)?;
    *rest = after;
    Ok(u32::from_be_bytes(*number))
}

fn text(rest: &mut &[u8]) -> Result<String, BadHeaders> {
    let length = usize::try_from(number(rest)?).map_err(|_| BadHeaders::Malformed)?;
    let (text, after) = rest.split_at_checked(length).ok_or(BadHeaders::Malformed)?;
    *rest = after;
    String::from_utf8(text.to_vec()).map_err(|_| BadHeaders::Malformed)
}

/// Unpacks the blocks of one direction, in their order: each builds on those before it.
#[derive(Debug)]
pub struct Unpacker(Decompress);

impl Default for Unpacker {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Unpacker {
    /// The headers of the next block.
    ///
    /// # Errors
    /// When they are malformed or too much; nothing after them can be read then.
    pub fn headers(&mut self, mut packed: &[u8]) -> Result<Headers, BadHeaders> {
        // One more byte than may be tells what is too long.
        let mut block = vec![0; HEADER_BYTES_MAX + 1];
        let mut filled = 0;
        let mut asked = false;
        loop {
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let step = self.0.decompress(packed, &mut block[filled..], FlushDecompress::Sync);
            let moved = |before, now| usize::try_from(now - before).unwrap_or(usize::MAX);
            let taken = moved(before_in, self.0.total_in());
            let made = moved(before_out, self.0.total_out());
            packed = packed.get(taken..).ok_or(BadHeaders::Packing)?;
            filled += made;
            match step {
                Err(error) if error.needs_dictionary().is_some() && !asked => {
                    self.0.set_dictionary(&dictionary()).map_err(|_| BadHeaders::Packing)?;
                    asked = true;
                }
                Err(_) => return Err(BadHeaders::Packing),
                Ok(_) if HEADER_BYTES_MAX < filled => return Err(BadHeaders::TooLong),
                Ok(Status::StreamEnd) => break,
                Ok(_) if packed.is_empty() || taken + made == 0 => break,
                Ok(_) => {}
            }
        }
        if !packed.is_empty() {
            return Err(BadHeaders::Packing);
        }
        Headers::read(&block[..filled])
    }
}

/// Packs the blocks of one direction. Its tables are large and come with the first block: who only waits has none.
#[derive(Debug, Default)]
pub struct Packer(Option<Compress>);

fn compress() -> Compress {
    let mut compress = Compress::new(Compression::fast(), true);
    // Fails in a stream that has begun, and this one has not.
    let _ = compress.set_dictionary(&dictionary());
    compress
}

impl Packer {
    /// The next block.
    ///
    /// # Errors
    /// When the headers cannot be packed.
    pub fn block(&mut self, headers: &Headers) -> Result<Vec<u8>, BadHeaders> {
        let block = headers.write();
        if HEADER_BYTES_MAX < block.len() {
            return Err(BadHeaders::TooLong);
        }
        // What does not shrink grows by a few bytes for each block of the packing.
        let mut packed = Vec::with_capacity(block.len() + block.len() / 8 + 256);
        let compress = self.0.get_or_insert_with(compress);
        let before = compress.total_in();
        compress
            .compress_vec(&block, &mut packed, FlushCompress::Sync)
            .map_err(|_| BadHeaders::Packing)?;
        let all = compress.total_in() - before == block.len() as u64;
        if all && packed.len() < packed.capacity() { Ok(packed) } else { Err(BadHeaders::Packing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Control;

    #[test]
    fn the_dictionary_is_the_one_of_the_standard() {
        let dictionary = dictionary();
        let (a, b) = dictionary.iter().fold((1_u32, 0_u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65_521;
            (a, (b + a) % 65_521)
        });
        assert_eq!((dictionary.len(), (b << 16) | a), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn what_has_no_headers_takes_no_tables() {
        let mut packer = Packer::default();
        for control in [Control::Ping(1), Control::GoAway] {
            control.write(&mut packer).unwrap();
            assert!(packer.0.is_none(), "{control:?}");
        }
        let reply = Control::SynReply { stream: 1, fin: false, headers: Headers::default() };
        reply.write(&mut packer).unwrap();
        assert!(packer.0.is_some());
    }

    #[test]
    fn blocks_share_their_memory() {
        let (mut packer, mut unpacker) = (Packer::default(), Unpacker::default());
        let headers = Headers::from([("streamType", "error"), ("port", "8080")]);
        let mut lengths = Vec::new();
        for _ in 0..3 {
            let block = packer.block(&headers).unwrap();
            lengths.push(block.len());
            let read = unpacker.headers(&block).unwrap();
            assert_eq!((read.get("StreamType"), read.get("port")), ("error", "8080"));
            assert_eq!(read.get("absent"), "");
        }
        assert!(lengths[1] < lengths[0], "{lengths:?}");
        let none = packer.block(&Headers::default()).unwrap();
        assert_eq!(unpacker.headers(&none).unwrap(), Headers::default());
    }

    #[test]
    fn a_block_of_a_go_client_is_read() {
        // SYN_STREAM of moby/spdystream: streamtype data, port 80, requestid 0.
        let packed = [
            0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2, 0x02, 0x25, 0x3a, 0x70, 0x3a, 0x2b, 0x29, 0x4a,
            0x4d, 0xcc, 0x45, 0x2a, 0x4a, 0x12, 0x21, 0xa5, 0x72, 0x11, 0x28, 0x05, 0x33, 0x59,
            0x18, 0x30, 0x30, 0x30, 0x70, 0x16, 0x41, 0xe2, 0x30, 0x13, 0x94, 0xb6, 0x19, 0x0d,
            0x00, 0x00, 0x00, 0x00, 0xff, 0xff,
        ];
        let read = Unpacker::default().headers(&packed).unwrap();
        let found = ["streamType", "port", "requestID"].map(|name| read.get(name));
        assert_eq!(found, ["data", "80", "0"]);
    }

    #[test]
    fn a_block_that_unpacks_to_much_is_refused() {
        let bomb = vec![b'a'; 1 << 20];
        let mut compress = Compress::new(Compression::best(), true);
        let mut packed = Vec::with_capacity(64 << 10);
        compress.compress_vec(&bomb, &mut packed, FlushCompress::Sync).unwrap();
        assert!(packed.len() < 8 << 10);
        assert_eq!(Unpacker::default().headers(&packed), Err(BadHeaders::TooLong));
        let many = [&100_000_u32.to_be_bytes()[..], &[0; 64]].concat();
        assert_eq!(Headers::read(&many), Err(BadHeaders::TooLong));
    }

    #[test]
    fn noise_is_refused_and_takes_nobody_down() {
        let mut rng = fastrand::Rng::with_seed(7);
        let good = Packer::default().block(&Headers::from([("port", "80")])).unwrap();
        for _ in 0..20_000 {
            let noise: Vec<u8> = (0..rng.usize(..64)).map(|_| rng.u8(..)).collect();
            let _ = Headers::read(&noise);
            let _ = Unpacker::default().headers(&noise);
            let mut bent = good.clone();
            bent[rng.usize(..good.len())] = rng.u8(..);
            let _ = Unpacker::default().headers(&bent);
        }
    }
}
