//! What the transport keeps of requests' bodies that nobody has read yet: over HTTP/2 a window of so many bytes, which
//! all requests of a connection share.
//!
//! Guarantees:
//! - it is on its connection's account for as long as a body is there that may fill it, once for all of them
//!   (`bodies_that_wait_are_on_the_account_once`).

use std::sync::{Arc, Weak};

use freewheel_hub_schema::error::ApiError;
use http_body::Body;
use parking_lot::Mutex;

use crate::memory_account::{Held, MemoryAccount};
use crate::piece::BRIEF_ANSWER_BYTES;

/// The window of those whom we know, for one request and for a whole connection. Over a line of 100 ms it lets 2.5 MB
/// a second through.
pub(crate) const WINDOW_BYTES: u32 = 256 * 1024;

/// Of one connection.
#[derive(Default)]
pub(crate) struct UnreadWindow(Mutex<Weak<Mutex<Held>>>);

/// One body's part in it.
pub(crate) type InWindow = Arc<Mutex<Held>>;

impl UnreadWindow {
    /// A body comes, which may fill it; none that is brief, and none of which all is there.
    ///
    /// # Errors
    /// 429 when there is no room for that.
    pub(crate) fn hold<B: Body>(
        &self,
        account: &Arc<MemoryAccount>,
        body: &B,
    ) -> Result<Option<InWindow>, ApiError> {
        let window = WINDOW_BYTES as usize;
        let length = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = length.map_or(window, |bytes| bytes.min(window));
        if body.is_end_stream() || bytes <= BRIEF_ANSWER_BYTES {
            return Ok(None);
        }
        let mut held = self.0.lock();
        if let Some(all) = held.upgrade() {
            let mut all_held = all.lock();
            let more = window.min(all_held.bytes() + bytes);
            all_held.grow(more)?;
            drop(all_held);
            return Ok(Some(all));
        }
        let Some(first) = account.hold_now(bytes)? else { return Ok(None) };
        let first = Arc::new(Mutex::new(first));
        *held = Arc::downgrade(&first);
        Ok(Some(first))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;

    #[test]
    fn bodies_that_wait_are_on_the_account_once() {
        let (window, account) = (UnreadWindow::default(), MemoryAccount::new(Arc::default()));
        let comes = |bytes: usize| {
            let body = Full::new(Bytes::from(vec![7; bytes]));
            window.hold(&account, &body).unwrap()
        };
        assert!(comes(0).is_none() && comes(BRIEF_ANSWER_BYTES).is_none());
        let first = comes(100_000);
        assert_eq!(account.held(), 100_000);
        let second = comes(100_000);
        assert_eq!(account.held(), 200_000);
        let many: Vec<_> = (0..1_000).map(|_| comes(100_000)).collect();
        assert_eq!(account.held(), WINDOW_BYTES as usize);
        drop((first, many));
        assert_eq!(account.held(), WINDOW_BYTES as usize, "one may fill it yet");
        drop(second);
        assert_eq!(account.held(), 0);
        let all = account.hold_now(12 << 20).unwrap();
        let body = Full::new(Bytes::from(vec![7; 100_000]));
        assert_eq!(window.hold(&account, &body).err().unwrap().code, 429);
        drop(all);
    }
}
