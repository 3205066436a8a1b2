//! What hyper holds for a connection, as it is set and as it is made.

/// Most bytes that it reads into, and before it writes: so the largest head of a request.
pub(super) const BUFFER_BYTES_MAX: usize = 64 << 10;

/// What it reads into from the first byte on, whatever comes.
pub(super) const READ_BUFFER_BYTES_FIRST: usize = 8 << 10;

/// What it writes heads from, for as long as the connection is there. A larger head makes it larger: that counts with the
/// connection, or the connection ends with its answer.
pub(super) const WRITE_BUFFER_BYTES: usize = 8 << 10;
