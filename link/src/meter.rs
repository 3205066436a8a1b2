//! What a connection has carried, by what it was for.
//!
//! A stream begins in the class of the session, until it is known what it is for.
//!
//! Guarantees:
//! - what a stream took or gave is counted once, under the class that its stream had then
//!   (`what_is_carried_is_counted_by_what_it_was_for`).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::transport::Priority;

/// What bytes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Compiled modules.
    Modules,
    /// Logs.
    Logs,
    /// Connections between pods.
    Tunnels,
    /// Plans and reports, and the beginnings of all streams.
    Session,
    /// Heartbeats and pods' UDP.
    Datagrams,
}

/// Bytes of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Given to the other end.
    pub sent: u64,
    /// Come from it.
    pub received: u64,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
}

/// The counts of one connection.
#[derive(Debug, Default)]
pub(crate) struct Meter([Counts; 5]);

impl Meter {
    fn of(&self, class: Class) -> &Counts {
        let [modules, logs, tunnels, session, datagrams] = &self.0;
        match class {
            Class::Modules => modules,
            Class::Logs => logs,
            Class::Tunnels => tunnels,
            Class::Session => session,
            Class::Datagrams => datagrams,
        }
    }

    pub(crate) fn carried(&self, class: Class) -> Carried {
        let Counts { sent, received } = self.of(class);
        Carried { sent: sent.load(Ordering::Relaxed), received: received.load(Ordering::Relaxed) }
    }

    pub(crate) fn sent(&self, class: Class, bytes: usize) {
        self.of(class).sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, class: Class, bytes: usize) {
        self.of(class).received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// For a new stream.
    pub(crate) fn tag(self: &Arc<Self>) -> Arc<Tag> {
        Arc::new(Tag { meter: self.clone(), class: AtomicU8::new(Priority::Session as u8) })
    }
}

/// What one stream is for.
#[derive(Debug)]
pub(crate) struct Tag {
    meter: Arc<Meter>,
    class: AtomicU8,
}

impl Tag {
    pub(crate) fn set(&self, priority: Priority) {
        self.class.store(priority as u8, Ordering::Relaxed);
    }

    fn class(&self) -> Class {
        const MODULES: u8 = Priority::Modules as u8;
        const LOGS: u8 = Priority::Logs as u8;
        const TUNNELS: u8 = Priority::Tunnels as u8;
        match self.class.load(Ordering::Relaxed) {
            MODULES => Class::Modules,
            LOGS => Class::Logs,
            TUNNELS => Class::Tunnels,
            _ => Class::Session,
        }
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.meter.sent(self.class(), bytes);
    }
}

/// A receiving half that counts.
pub(crate) struct Metered<R> {
    pub(crate) recv: R,
    pub(crate) tag: Arc<Tag>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Metered<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.recv).poll_read(cx, buf));
        let count = buf.filled().len().saturating_sub(before);
        self.tag.meter.received(self.tag.class(), count);
        Poll::Ready(read)
    }
}
