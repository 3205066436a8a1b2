//! What all realms share: the way to other nodes, the DNS domain, and the tasks that carry bytes.

use std::future::{pending, poll_fn};
use std::io::ErrorKind;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use bytes::Bytes;
use freewheel_link::names::ClusterName;
use freewheel_spoke_account::Account;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::bridge::Bridge;
use crate::conn::Conn;
use crate::error::NetError;
use crate::waiting::Waiting;

/// A stream to another node.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// The way to pods on other nodes (the link). It gets every connection and every datagram to a pod address
/// that is not here.
pub trait Remote: Send + Sync {
    /// Opens a stream to a pod of this realm; the far side hands it to its own fabric.
    fn connect(
        &self,
        realm: &ClusterName,
        from: SocketAddr,
        to: SocketAddr,
    ) -> BoxFuture<'static, Result<Box<dyn Stream>, NetError>>;

    /// The link that is up: its number, which no later one has. `None`: it is known that there is none, and
    /// nothing waits for one.
    fn link(&self) -> Option<u64> {
        Some(0)
    }

    /// Resolves when the link that is up has gone down. Streams end then, whatever they wait for.
    fn outage(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    /// Sends a datagram of a pod, or of a client of this node's ports
    /// ([`DOOR`](freewheel_link::message::DOOR)), to a pod of this realm, or drops it. It must not wait.
    fn send_datagram(&self, _: &ClusterName, _: SocketAddrV4, _: SocketAddrV4, _: Bytes) {}
}

/// A stream over the link.
pub(crate) struct Far {
    pub(crate) stream: Box<dyn Stream>,
    /// Resolves when its link has gone down.
    pub(crate) outage: BoxFuture<'static, ()>,
}

/// What all realms of a node share.
pub(crate) struct Shared {
    remote: RwLock<Option<Arc<dyn Remote>>>,
    domain: RwLock<Arc<str>>,
    /// What the host holds for all guests together.
    pub(crate) account: Arc<Account>,
    /// The files and directories that all guests have open together: a count, not bytes.
    pub(crate) files: Arc<Account>,
    /// The mappings of memory that all guests have together: a count, not bytes.
    pub(crate) mappings: Arc<Account>,
    /// The connections from outside through all TCP doors: a count, not bytes.
    pub(crate) visits: Arc<Account>,
    /// What waits in connections through this node that have no end in one of its pods.
    pub(crate) transit: Arc<Waiting>,
    pub(crate) tasks: TaskTracker,
    pub(crate) runtime: Handle,
}

impl Shared {
    pub(crate) fn new(runtime: Handle) -> Arc<Self> {
        let account = Account::node();
        Arc::new(Self {
            remote: RwLock::default(),
            transit: Waiting::new(account.clone()),
            account,
            files: Account::node(),
            mappings: Account::node(),
            visits: Account::node(),
            domain: RwLock::new("cluster.local".into()),
            tasks: TaskTracker::new(),
            runtime,
        })
    }

    pub(crate) fn remote(&self) -> Option<Arc<dyn Remote>> {
        self.remote.read().clone()
    }

    pub(crate) fn set_remote(&self, remote: Arc<dyn Remote>) {
        *self.remote.write() = Some(remote);
    }

    pub(crate) fn domain(&self) -> Arc<str> {
        self.domain.read().clone()
    }

    pub(crate) fn set_domain(&self, domain: &str) {
        *self.domain.write() = domain.trim_matches('.').to_ascii_lowercase().into();
    }

    /// Resolves when the link that is up has gone down.
    pub(crate) fn outage(&self) -> BoxFuture<'static, ()> {
        self.remote().map_or_else(|| pending().boxed(), |remote| remote.outage())
    }

    /// Carries bytes between a connection's end and a stream in a task of its own: see [`carry`].
    pub(crate) fn bridge(
        &self,
        end: Conn,
        mut stream: impl Stream,
        outage: impl Future<Output = ()> + Send + 'static,
    ) {
        let bridge = async move {
            carry(end, &mut stream, outage).await;
        };
        self.tasks.spawn_on(bridge, &self.runtime);
    }
}

/// How the carrying of bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both sides have said all, or one of them does not listen any more.
    Whole,
    /// Something is missing.
    Broken,
}

/// Carries bytes between a connection's end and a stream until both directions have ended, or until `outage`: half
/// of a stream may be silent for ever when its link has gone.
pub(crate) async fn carry(
    end: Conn,
    stream: &mut impl Stream,
    outage: impl Future<Output = ()>,
) -> Ended {
    let end = end.into_tunnel();
    let mut bridge = Bridge::default();
    let copied = tokio::select! {
        biased;
        copied = poll_fn(|cx| bridge.poll(end.conn(), std::pin::Pin::new(stream), cx)) => copied,
        () = outage => Err(ErrorKind::ConnectionReset.into()),
    };
    match copied {
        Ok(()) => Ended::Whole,
        Err(error) => {
            // A broken stream must not look like a finished one to the pod.
            end.reset();
            match error.kind() {
                ErrorKind::BrokenPipe => Ended::Whole,
                _ => Ended::Broken,
            }
        }
    }
}
