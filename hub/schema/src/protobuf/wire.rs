//! Protobuf's wire format: tags, varints and lengths. A reader never looks past its slice.

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it does not begin with the Kubernetes protobuf prefix")]
    Magic,
    #[error("unexpected end of message")]
    End,
    #[error("a varint is longer than 64 bits")]
    Varint,
    #[error("field {0} has a wire type that its kind does not have")]
    WireType(u32),
    #[error("a text is not UTF-8")]
    Text,
    #[error("a field has a value that its kind cannot hold")]
    Value,
    #[error("it holds more values than are accepted")]
    TooMany,
    #[error("it is nested deeper than is accepted")]
    Deep,
}

/// How a value is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireType {
    Varint,
    Fixed64,
    Bytes,
    Fixed32,
}

/// Reads one message.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    number: u32,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, number: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field's number and wire type; `None` at the end.
    pub(super) fn tag(&mut self) -> Result<Option<(u32, WireType)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed::Value)?;
        self.number = number;
        let wire_type = match tag & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Bytes,
            5 => WireType::Fixed32,
            // Groups were never used by Kubernetes.
            _ => return Err(Malformed::WireType(number)),
        };
        if number == 0 { Err(Malformed::Value) } else { Ok(Some((number, wire_type))) }
    }

    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (first, rest) = self.rest.split_first().ok_or(Malformed::End)?;
            self.rest = rest;
            let bits = u64::from(first & 0x7f);
            if shift == 63 && 1 < bits {
                return Err(Malformed::Varint);
            }
            value |= bits << shift;
            if first & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Varint)
    }

    /// A varint of a field that must be one.
    pub(super) fn integer(&mut self, wire_type: WireType) -> Result<i64, Malformed> {
        self.expect(wire_type, WireType::Varint)?;
        // Negative numbers travel as their two's complement.
        Ok(self.varint()?.cast_signed())
    }

    pub(super) fn double(&mut self, wire_type: WireType) -> Result<f64, Malformed> {
        self.expect(wire_type, WireType::Fixed64)?;
        let bytes = self.take(8)?;
        let bytes = bytes.try_into().map_err(|_| Malformed::End)?;
        Ok(f64::from_le_bytes(bytes))
    }

    pub(super) fn bytes(&mut self, wire_type: WireType) -> Result<&'a [u8], Malformed> {
        self.expect(wire_type, WireType::Bytes)?;
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed::End)?;
        self.take(length)
    }

    pub(super) fn text(&mut self, wire_type: WireType) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes(wire_type)?).map_err(|_| Malformed::Text)
    }

    pub(super) fn skip(&mut self, wire_type: WireType) -> Result<(), Malformed> {
        match wire_type {
            WireType::Varint => self.varint().map(|_| ()),
            WireType::Fixed64 => self.take(8).map(|_| ()),
            WireType::Fixed32 => self.take(4).map(|_| ()),
            WireType::Bytes => self.bytes(wire_type).map(|_| ()),
        }
    }

    fn expect(&self, found: WireType, expected: WireType) -> Result<(), Malformed> {
        if found == expected { Ok(()) } else { Err(Malformed::WireType(self.number)) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::End)?;
        self.rest = rest;
        Ok(taken)
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while 0x80 <= value {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

fn low_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

pub(crate) fn put_integer(out: &mut Vec<u8>, number: u32, value: i64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value.cast_unsigned());
}

pub(super) fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
