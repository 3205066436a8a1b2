//! In what sizes answers leave, and why they break off.

/// Answers leave in pieces of this size: what is sent must not hold all the rest.
pub(crate) const PIECE_BYTES: usize = 64 << 10;
/// An HTTP/2 answer up to this size goes out with its end. To tell the end apart costs a small one too much.
/// Longer ones are cut into frames, so that it is seen of which something is taken.
pub(crate) const ONE_FRAME_BYTES: usize = 16 << 10;

/// An answer up to this size is sent without room for it: that there is none has to be told.
pub(crate) const BRIEF_ANSWER_BYTES: usize = 4 << 10;

/// Why a response body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
