//! Memory for large answers.
//!
//! A list of everything is encoded as a whole and held until its client has read it. A few clients that ask for
//! whole collections and read slowly would hold all the memory there is.
//!
//! Guarantees: all large answers under way together hold [`ROOM`] at most, and the largest alone passes; who finds
//! no room waits for a while and is then told to ask again, or in pieces.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freewheel_hub_api::error::{ApiError, Details};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// For all large answers together.
const ROOM: usize = 192 << 20;
/// Smaller answers are not counted: the places at the door bound them.
const LARGE: usize = 1 << 20;
/// Room is counted in pieces of this size.
const PIECE: usize = 64 << 10;
/// How long room is waited for: clients give up after half a minute.
const WAIT: Duration = Duration::from_secs(20);

/// The room.
pub(crate) struct Heavy {
    room: Arc<Semaphore>,
    pieces: usize,
}

/// Room for one answer; it lasts as long as this or the bytes that were put into it.
pub(crate) struct Room(Option<OwnedSemaphorePermit>);

/// Bytes and the room that they take.
struct Kept {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Default for Heavy {
    fn default() -> Self {
        Self::of(ROOM)
    }
}

impl Heavy {
    fn of(bytes: usize) -> Self {
        let pieces = bytes / PIECE;
        Self { room: Arc::new(Semaphore::new(pieces)), pieces }
    }

    /// Waits for room for an answer of about this many bytes.
    pub(crate) async fn room(&self, bytes: usize) -> Result<Room, ApiError> {
        if bytes < LARGE {
            return Ok(Room(None));
        }
        let pieces = bytes.div_ceil(PIECE).min(self.pieces);
        let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(pieces);
        match timeout(WAIT, room).await {
            Ok(Ok(permit)) => Ok(Room(Some(permit))),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(no_room()),
        }
    }
}

impl Room {
    /// The bytes, which keep the room until the last of them is sent.
    pub(crate) fn keep(self, bytes: Bytes) -> Bytes {
        match self.0 {
            Some(room) => Bytes::from_owner(Kept { bytes, _room: room }),
            None => bytes,
        }
    }
}

fn no_room() -> ApiError {
    let text = "as many large answers are on their way as the hub has memory for: ask again, or in pieces (limit=500)";
    let mut error = ApiError::new(429, "TooManyRequests", text.to_owned());
    error.details = Some(Box::new(Details { retry_after_seconds: Some(5), ..Details::default() }));
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_answers_that_nobody_reads_hold_no_more_than_the_room() {
        let heavy = Heavy::of(8 << 20);
        let answer = |room: Room| room.keep(vec![7; 3 << 20].into());
        let unread = [3 << 20, 4 << 20].map(|bytes| heavy.room(bytes));
        let unread: Vec<Bytes> = futures::future::join_all(unread)
            .await
            .into_iter()
            .map(|r| answer(r.unwrap()))
            .collect();
        let refused = heavy.room(2 << 20).await.err().unwrap();
        assert_eq!((refused.code, refused.reason), (429, "TooManyRequests"));
        assert!(refused.message.contains("limit=500"), "{refused}");
        assert!(heavy.room(LARGE - 1).await.is_ok(), "small answers need none");
        // Room comes back with the last slice that a connection holds.
        let last = unread[1].slice(..1);
        drop(unread);
        assert!(heavy.room(6 << 20).await.is_err());
        drop(last);
        let all = heavy.room(100 << 20).await.unwrap();
        assert!(heavy.room(LARGE).await.is_err(), "the largest passes, alone");
        drop(all);
        assert!(heavy.room(LARGE).await.is_ok());
    }
}
