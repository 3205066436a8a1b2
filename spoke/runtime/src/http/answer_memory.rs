//! What the host holds of an answer until its client has it, on the container's memory.
//!
//! ```text
//! guest ─▶ two pieces of the body wait ─▶ hyper: head, and what it could not write ─▶ the pipe, which counts by itself
//!           └─ until hyper has the last ─┘   └── until the last has gone out ──┘
//! ```
//!
//! Guarantees:
//! - an answer counts until all of it has gone out, whether or not its guest has long gone on
//!   (`what_clients_do_not_read_of_finished_answers_is_on_the_memory`, `what_hyper_could_not_write_counts_until_it_has`);
//! - one for which there is no room is none, and its client is told to come again
//!   (`what_clients_do_not_read_of_finished_answers_is_on_the_memory`);
//! - a usual head costs no client its connection, and what hyper keeps of it counts with that
//!   (`a_head_is_large_by_its_bytes_or_by_its_fields`, `what_hyper_keeps_of_an_answer_counts_with_its_connection`).

use freewheel_spoke_account::Full;
use http::HeaderMap;

use super::hyper_buffers::{BUFFER_BYTES_MAX, WRITE_BUFFER_BYTES};
use crate::memory::Share;
use crate::world;

/// Pieces of a body that wait for hyper.
const WAITING_BYTES: usize = 2 * world::BODY_PIECE_BYTES;

/// What an answer holds beside its head while its body comes; with its trailers, which are the last of it.
pub(super) const BODY_BYTES: usize = world::SENT_BODY_BYTES + world::WRITTEN_BODY_BYTES;
const _: () = assert!(WAITING_BYTES < world::SENT_BODY_BYTES, "its trailers are the rest");
const _: () =
    assert!(BUFFER_BYTES_MAX <= world::BODY_PIECE_BYTES, "hyper takes no more before it writes");

/// What a field costs on its way beside its bytes and its places: what stands between it and the next.
const BETWEEN_BYTES: usize = 4;

/// Bytes of a head beside its fields: its first line, and what hyper adds.
const FIRST_LINES_BYTES: usize = 256;

/// Most of a head that hyper may keep for as long as its connection is there: its text, and the places of its fields, which
/// are as many as are left of those that are gone.
const KEPT_TEXT_BYTES_MAX: usize = 8 << 10;
const KEPT_PLACES_MAX: usize = 96;

/// What that is beside what counts for every connection.
pub(super) const KEPT_BYTES_MAX: usize =
    2 * KEPT_TEXT_BYTES_MAX + KEPT_PLACES_MAX * world::FIELD_BYTES - WRITE_BUFFER_BYTES;

/// The memory of one answer.
pub(super) struct AnswerMemory {
    share: Share,
    /// Bytes of its head's text.
    text: usize,
    /// Places of its fields.
    places: usize,
}

impl AnswerMemory {
    /// Of an answer whose body is to come.
    pub(super) fn new(head: &HeaderMap, mut share: Share) -> Result<Self, Full> {
        let fields = head.iter();
        let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + BETWEEN_BYTES);
        let text = FIRST_LINES_BYTES + fields.sum::<usize>();
        let places = head.len().max(head.capacity());
        // hyper's text of it has room for twice as much.
        share.set(2 * (text + places * world::FIELD_BYTES) + BODY_BYTES)?;
        Ok(Self { share, text, places })
    }

    /// Whether hyper would keep more of its head than a connection may.
    pub(super) const fn has_large_head(&self) -> bool {
        KEPT_TEXT_BYTES_MAX < self.text || KEPT_PLACES_MAX < self.places
    }

    /// What hyper keeps of its head, beside what counts for every connection.
    pub(super) const fn kept(&self) -> usize {
        if self.has_large_head() {
            // Its connection ends with it.
            return 0;
        }
        (2 * self.text + self.places * world::FIELD_BYTES).saturating_sub(WRITE_BUFFER_BYTES)
    }

    /// hyper has all of it: nothing of the body waits before it.
    pub(super) fn body_has_come(mut self) -> Self {
        let _ = self.share.set(self.share.bytes() - WAITING_BYTES);
        self
    }
}

#[cfg(test)]
mod tests {
    use freewheel_spoke_account::MemoryAccount;
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::memory::ContainerMemory;

    fn head(fields: usize, bytes: usize) -> HeaderMap {
        let field = |number| {
            let name = HeaderName::from_bytes(format!("x-{number}").as_bytes()).unwrap();
            (name, HeaderValue::from_bytes(&vec![b'y'; bytes]).unwrap())
        };
        (0..fields).map(field).collect()
    }

    #[test]
    fn what_hyper_could_not_write_counts_until_it_has() {
        let memory = ContainerMemory::new(Some(1 << 20), &MemoryAccount::node());
        let answer = AnswerMemory::new(&head(10, 100), memory.share()).unwrap();
        let used = memory.used();
        assert!((BODY_BYTES + 1000..BODY_BYTES + (8 << 10)).contains(&used), "{used}");
        let answer = answer.body_has_come();
        assert_eq!(memory.used(), used - WAITING_BYTES);
        drop(answer);
        assert_eq!(memory.used(), 0);
        let _others = memory.account().take((1 << 20) - BODY_BYTES).unwrap();
        assert!(AnswerMemory::new(&head(1, 1), memory.share()).is_err());
    }

    #[test]
    fn a_head_is_large_by_its_bytes_or_by_its_fields() {
        let memory = ContainerMemory::new(None, &MemoryAccount::node());
        let is_large =
            |head: HeaderMap| AnswerMemory::new(&head, memory.share()).unwrap().has_large_head();
        assert!(!is_large(head(0, 0)) && !is_large(head(25, 200)));
        assert!(is_large(head(1, 8 << 10)) && is_large(head(100, 1)));
        let mut few = head(49, 1);
        for number in 17..49 {
            few.remove(format!("x-{number}"));
        }
        assert!(!is_large(few), "as many places as may be left of those that are gone");
        let mut emptied = head(100, 1);
        emptied.clear();
        assert!(is_large(emptied), "its places stay");
    }
}
