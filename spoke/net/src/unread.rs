//! What waits for one pod in windows of the link: a stream to another node that is not read keeps what the link grants
//! it, beside the pod's pipe.
//!
//! Guarantees:
//! - it is on the pod's account for as long as the pod does not read
//!   (`what_a_deaf_pod_leaves_in_the_link_is_on_its_account`, `a_pod_that_has_read_leaves_nothing_in_the_link`);
//! - in a pod with a limit of memory those that stay have no more than a quarter of that, or one window, however many
//!   come at once (`what_comes_at_once_takes_no_more_than_a_quarter`); the others go at their tasks' next turn, and are
//!   counted until then. The one goes that was counted first of those whose pipes had no room whenever they were looked at
//!   since: one of which little is read is looked at when half of it is read, or when its other direction has something
//!   (`whose_pipe_has_been_full_for_longest_goes_when_a_small_pod_has_too_many`);
//! - what waits in the kernel goes for no window (`what_waits_in_the_kernel_is_no_window`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use freewheel_spoke_account::MemoryAccount;
use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Part of a pod's limit of memory that may wait in windows.
const UNREAD_DIVISOR: usize = 4;

/// Windows that wait for one pod.
#[derive(Debug)]
pub(crate) struct Unread {
    account: Arc<MemoryAccount>,
    most: usize,
    all: Mutex<Windows>,
}

/// Those that stay.
#[derive(Debug, Default)]
struct Windows {
    /// The number of the next one.
    next: u64,
    /// Bytes of all.
    held: usize,
    all: BTreeMap<u64, Window>,
}

impl Windows {
    /// Lets the one go that was counted first. `None`: there is none.
    fn send_first_away(&mut self) -> Option<()> {
        let (_, longest) = self.all.pop_first()?;
        self.held -= longest.bytes;
        Some(())
    }
}

/// A window that waits.
#[derive(Debug)]
struct Window {
    bytes: usize,
    /// Who waits there goes when this is dropped.
    _stays: oneshot::Sender<()>,
}

/// A window that is counted, until this is dropped.
pub(crate) struct UnreadWindow {
    of: Arc<Unread>,
    number: u64,
    bytes: usize,
    goes: oneshot::Receiver<()>,
}

impl Unread {
    pub(crate) fn new(account: Arc<MemoryAccount>) -> Arc<Self> {
        let most = account.limit().map_or(usize::MAX, |limit| limit / UNREAD_DIVISOR);
        Arc::new(Self { account, most, all: Mutex::default() })
    }

    /// Counts one more window of so many bytes.
    pub(crate) fn count(self: &Arc<Self>, bytes: usize) -> UnreadWindow {
        let (_stays, goes) = oneshot::channel();
        let mut windows = self.all.lock();
        while self.most < windows.held + bytes && windows.send_first_away().is_some() {}
        let number = windows.next;
        windows.next += 1;
        windows.held += bytes;
        windows.all.insert(number, Window { bytes, _stays });
        self.account.count(bytes);
        UnreadWindow { of: self.clone(), number, bytes, goes }
    }

    /// It is gone, if it was not sent away before.
    fn forget(&self, number: u64) {
        let mut windows = self.all.lock();
        if let Some(window) = windows.all.remove(&number) {
            windows.held -= window.bytes;
        }
    }
}

impl UnreadWindow {
    /// Ready when its stream has to go.
    pub(crate) fn poll_goes(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.goes.poll_unpin(cx).map(drop)
    }
}

impl Drop for UnreadWindow {
    fn drop(&mut self) {
        self.of.forget(self.number);
        self.of.account.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use freewheel_spoke_account::Level;

    use super::*;

    /// Whether it has to go.
    fn goes(window: &mut UnreadWindow) -> Option<()> {
        std::future::poll_fn(|cx| window.poll_goes(cx)).now_or_never()
    }

    #[test]
    fn whose_pipe_has_been_full_for_longest_goes_when_a_small_pod_has_too_many() {
        let node = MemoryAccount::node();
        let pod = MemoryAccount::within(&node, Level::Pod, Some(1 << 20));
        let unread = Unread::new(pod.clone());
        let mut deaf = unread.count(128 << 10);
        let mut slow = unread.count(128 << 10);
        assert!(goes(&mut deaf).is_none(), "it may be read yet");
        let mut third = unread.count(128 << 10);
        assert!(
            goes(&mut deaf).is_some() && goes(&mut slow).is_none() && goes(&mut third).is_none()
        );
        assert_eq!(pod.used(), 3 << 17, "it is counted until it is gone");
        drop(deaf);
        assert!(goes(&mut slow).is_none(), "who goes takes nobody's place with it");
        drop((slow, third));
        let windows = unread.all.lock();
        assert_eq!((pod.used(), windows.held, windows.all.len()), (0, 0, 0));
        let all = Unread::new(node);
        let mut deaf: Vec<_> = (0..300).map(|_| all.count(128 << 10)).collect();
        assert!(goes(&mut deaf[0]).is_none(), "without a limit the node's account is the bound");
    }

    #[test]
    fn what_comes_at_once_takes_no_more_than_a_quarter() {
        let node = MemoryAccount::node();
        let pod = MemoryAccount::within(&node, Level::Pod, Some(16 << 20));
        let unread = Unread::new(pod.clone());
        let mut all: Vec<_> = (0..100).map(|_| unread.count(128 << 10)).collect();
        all.retain_mut(|window| goes(window).is_none());
        assert_eq!((pod.used(), all.len()), (4 << 20, 32));
    }
}
