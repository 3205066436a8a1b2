//! What all realms share: the way to other nodes, the DNS domain, and the tasks that carry bytes.

use std::sync::Arc;

use freewheel_link::limits::STREAM_WINDOW_BYTES;
use freewheel_spoke_account::MemoryAccount;
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::bridge::{Stream, carry};
use crate::conn::Conn;
use crate::gates::Counters;
use crate::link_places::LinkPlaces;
use crate::receive_memory::ReceiveMemory;
use crate::remote::Remote;
use crate::route::Link;

/// What all realms of a node share.
pub(crate) struct Shared {
    remote: RwLock<Option<Arc<dyn Remote>>>,
    domain: RwLock<Arc<str>>,
    /// What the host holds for all guests together.
    pub(crate) account: Arc<MemoryAccount>,
    /// The files and directories that all guests have open together: a count, not bytes.
    pub(crate) files: Arc<MemoryAccount>,
    /// The mappings of memory that all guests have together: a count, not bytes.
    pub(crate) mappings: Arc<MemoryAccount>,
    /// The node ports that are open: a count, not bytes.
    pub(crate) listening: Arc<MemoryAccount>,
    /// The connections from outside through all TCP node ports: a count, not bytes.
    pub(crate) visits: Arc<MemoryAccount>,
    /// The connections to pods on other nodes.
    pub(crate) link_places: Arc<LinkPlaces>,
    /// What goes through the gates.
    pub(crate) gates: Arc<Counters>,
    /// What waits in connections through this node that have no end in one of its pods.
    pub(crate) transit: Arc<ReceiveMemory>,
    pub(crate) tasks: TaskTracker,
    pub(crate) runtime: Handle,
}

impl Shared {
    pub(crate) fn new(runtime: Handle) -> Arc<Self> {
        let account = MemoryAccount::node();
        Arc::new(Self {
            remote: RwLock::default(),
            transit: ReceiveMemory::new(account.clone()),
            account,
            files: MemoryAccount::node(),
            mappings: MemoryAccount::node(),
            listening: MemoryAccount::node(),
            visits: MemoryAccount::node(),
            link_places: LinkPlaces::new(),
            gates: Arc::default(),
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

    /// How the way to other nodes is, as far as it is known.
    pub(crate) fn link(&self) -> Link {
        match self.remote() {
            None => Link::Missing,
            Some(remote) => remote.link().map_or(Link::Down, Link::Up),
        }
    }

    pub(crate) fn domain(&self) -> Arc<str> {
        self.domain.read().clone()
    }

    pub(crate) fn set_domain(&self, domain: &str) {
        *self.domain.write() = domain.trim_matches('.').to_ascii_lowercase().into();
    }

    /// Resolves when the link that is up has gone down.
    #[cfg(test)]
    pub(crate) fn outage(&self) -> futures::future::BoxFuture<'static, ()> {
        let never = || Box::pin(std::future::pending()) as futures::future::BoxFuture<'static, ()>;
        self.remote().map_or_else(never, |remote| remote.outage())
    }

    /// Carries bytes between a connection's end and a stream of the link in a task of its own: see [`carry`].
    pub(crate) fn bridge(
        &self,
        end: Conn,
        mut stream: impl Stream,
        outage: impl Future<Output = ()> + Send + 'static,
    ) {
        let bridge = async move {
            carry(&end.into_tunnel(), &mut stream, STREAM_WINDOW_BYTES, outage).await;
        };
        self.tasks.spawn_on(bridge, &self.runtime);
    }
}
