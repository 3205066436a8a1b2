//! Node ports from the node's own address into the pod network: NodePorts and hostPorts.
//!
//! ```text
//! wanted ──▶ binding ──▶ open ──▶ connections, each bridged to a pod
//!               │  ▲
//!               └──┘ somebody else has the port: tell, try again
//! ```
//!
//! Guarantees:
//! - a node port that stays wanted stays open when its Service changes, and connections live on after their node port
//!   has closed (`a_door_outlives_a_change_of_its_service_and_connections_outlive_their_door`);
//! - no more of them are open than the node has descriptors for; who gets none is told, and has one when another closes
//!   (`a_node_has_no_more_ports_open_than_it_has_descriptors_for`), and nobody has all of them
//!   (`a_service_leaves_node_ports_for_others`);
//! - who comes too late for a port is not told whose it is (`whose_port_it_is_nobody_else_is_told`);
//! - who hears of problems has heard last what holds (`the_last_that_is_told_is_what_holds`).

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use freewheel_link::plan::Protocol;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::node_port_listener::{
    BIND_RETRY_FIRST_AND_MAX, NodePort, NodePortListener, NodePortTarget,
};
use crate::node_port_places::NodePortPlaces;
use crate::shared::Shared;
use crate::{node_port_tcp, node_port_udp};

/// How often binding fails before it is called a problem: a node port that was just closed needs a moment.
const BIND_FAILURES_UNTOLD: u32 = 6;

/// A node port that cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortProblem {
    /// Which one.
    pub node_port: NodePort,
    /// `pod/<uid>` or `service/<realm>/<namespace>/<name>`.
    pub owner: String,
    /// Why; `None`: it is open now, or not wanted any more.
    pub error: Option<String>,
}

type Tell = Arc<dyn Fn(&PortProblem) + Send + Sync>;

/// Problems by port and owner.
type ByOwner = BTreeMap<(NodePort, String), PortProblem>;

/// What is told is told under the lock: the last that is told is what holds.
#[derive(Default)]
struct Problems(Mutex<(ByOwner, Option<Tell>)>);

#[derive(Default)]
struct NodePortsState {
    address: Option<IpAddr>,
    /// First come, first served: an owner's claim on a node port that another one has waits for it.
    claims: BTreeMap<NodePort, Vec<(String, NodePortTarget)>>,
    open: HashMap<NodePort, Arc<NodePortListener>>,
}

/// All node ports of a node.
pub(crate) struct NodePorts {
    state: Mutex<NodePortsState>,
    problems: Arc<Problems>,
    places: Arc<NodePortPlaces>,
    shared: Arc<Shared>,
}

impl NodePorts {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let places = NodePortPlaces::of(shared.listening.clone());
        Self { state: Mutex::default(), problems: Arc::default(), places, shared }
    }

    pub(crate) fn on_problem(&self, tell: Tell) {
        self.problems.0.lock().1 = Some(tell);
    }

    #[cfg(test)]
    pub(crate) fn problems(&self) -> Vec<PortProblem> {
        self.problems.0.lock().0.values().cloned().collect()
    }

    /// Replaces what one owner wants.
    pub(crate) fn set(&self, owner: &str, node_ports: &[(NodePort, NodePortTarget)]) {
        let mut state = self.state.lock();
        for (node_port, target) in node_ports {
            let claims = state.claims.entry(*node_port).or_default();
            match claims.iter_mut().find(|(holder, _)| holder == owner) {
                Some((_, held)) => *held = target.clone(),
                None => claims.push((owner.to_owned(), target.clone())),
            }
        }
        state.claims.retain(|node_port, claims| {
            let wanted = node_ports.iter().any(|(found, _)| found == node_port);
            claims.retain(|(holder, _)| wanted || holder != owner);
            !claims.is_empty()
        });
        self.reconcile(&mut state);
    }

    pub(crate) fn set_address(&self, address: IpAddr) {
        let mut state = self.state.lock();
        if state.address.replace(address) != Some(address) {
            for (_, way) in state.open.drain() {
                way.closed.cancel();
            }
        }
        self.reconcile(&mut state);
    }

    pub(crate) fn close_all(&self) {
        let mut state = self.state.lock();
        state.claims.clear();
        self.reconcile(&mut state);
    }

    fn reconcile(&self, state: &mut NodePortsState) {
        let NodePortsState { address, claims, open } = state;
        open.retain(|node_port, way| {
            let holder = claims.get(node_port).and_then(|claims| claims.first());
            match holder {
                Some((owner, target)) if *owner == way.owner => {
                    *way.target.write() = target.clone();
                }
                _ => way.closed.cancel(),
            }
            !way.closed.is_cancelled()
        });
        let claimed = |node_port: &NodePort, owner: &str| {
            claims
                .get(node_port)
                .is_some_and(|claims| claims.iter().any(|(holder, _)| holder == owner))
        };
        let known: Vec<_> = self.problems.0.lock().0.keys().cloned().collect();
        for (node_port, owner) in known.iter().filter(|(port, owner)| !claimed(port, owner)) {
            self.problems.report(*node_port, owner, None, None);
        }
        let Some(address) = *address else { return };
        for (node_port, claims) in claims {
            let Some((owner, target)) = claims.first() else { continue };
            for (late, _) in claims.iter().skip(1) {
                // Whose it is stays here: the late one may be another cluster's.
                let error = format!(
                    "port {} of the node is taken by another pod or Service",
                    node_port.port
                );
                self.problems.report(*node_port, late, Some(error), None);
            }
            let way = || {
                let way = Arc::new(NodePortListener {
                    node_port: *node_port,
                    target: RwLock::new(target.clone()),
                    shared: self.shared.clone(),
                    closed: CancellationToken::new(),
                    owner: owner.clone(),
                });
                let bind = SocketAddr::new(address, node_port.port);
                let keep =
                    keep_open((way.clone(), bind), self.places.clone(), self.problems.clone());
                self.shared.tasks.spawn_on(keep, &self.shared.runtime);
                way
            };
            open.entry(*node_port).or_insert_with(way);
        }
    }
}

impl Problems {
    /// What one says that is closed by now is old.
    fn report(
        &self,
        node_port: NodePort,
        owner: &str,
        error: Option<String>,
        closed: Option<&CancellationToken>,
    ) {
        let problem = PortProblem { node_port, owner: owner.to_owned(), error };
        let key = (node_port, owner.to_owned());
        let (now, tell) = &mut *self.0.lock();
        if closed.is_some_and(CancellationToken::is_cancelled) {
            return;
        }
        let changed = if problem.error.is_some() {
            now.insert(key, problem.clone()).as_ref() != Some(&problem)
        } else {
            now.remove(&key).is_some()
        };
        if let (true, Some(tell)) = (changed, tell) {
            tell(&problem);
        }
    }
}

/// Carries traffic until the node port closes, if it can be opened.
async fn serve(
    way: &Arc<NodePortListener>,
    bind: SocketAddr,
    places: &Arc<NodePortPlaces>,
    opened: impl Fn(),
) -> io::Result<()> {
    let realm = way.target.read().realm.name().clone();
    let _place = places.take(&way.owner, &realm).map_err(io::Error::other)?;
    match way.node_port.protocol {
        Protocol::Tcp => {
            let listener = node_port_tcp::listen(bind).await?;
            opened();
            node_port_tcp::serve(way, &listener).await;
        }
        Protocol::Udp => {
            let socket = tokio::net::UdpSocket::bind(bind).await?;
            opened();
            node_port_udp::serve(way, socket).await;
        }
    }
    Ok(())
}

/// Binds as soon as the port is free, then carries traffic until the node port closes.
async fn keep_open(
    (way, bind): (Arc<NodePortListener>, SocketAddr),
    places: Arc<NodePortPlaces>,
    problems: Arc<Problems>,
) {
    let (mut wait, longest) = BIND_RETRY_FIRST_AND_MAX;
    let mut failures = 0;
    let report = |error| problems.report(way.node_port, &way.owner, error, Some(&way.closed));
    loop {
        let Err(error) = serve(&way, bind, &places, || report(None)).await else {
            info!(address = %bind, "port of the node closed");
            return;
        };
        failures += 1;
        if failures == BIND_FAILURES_UNTOLD {
            warn!(address = %bind, owner = way.owner, %error, "port of the node cannot be opened");
        }
        if BIND_FAILURES_UNTOLD <= failures {
            report(Some(format!("cannot listen on {bind}: {error}")));
        }
        tokio::select! {
            () = way.closed.cancelled() => return,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn the_last_that_is_told_is_what_holds() {
        let (problems, told) = (Problems::default(), Arc::new(Mutex::new(None)));
        let last = told.clone();
        let tell = move |problem: &PortProblem| {
            std::thread::yield_now();
            *last.lock() = problem.error.clone();
        };
        problems.0.lock().1 = Some(Arc::new(tell));
        let node_port = NodePort { protocol: Protocol::Tcp, port: 80 };
        for _ in 0..5000 {
            let both = Barrier::new(2);
            std::thread::scope(|scope| {
                for error in [None, Some("taken".to_owned())] {
                    let (both, problems) = (&both, &problems);
                    scope.spawn(move || {
                        both.wait();
                        problems.report(node_port, "pod/a", error, None);
                    });
                }
            });
            let now = problems.0.lock().0.pop_first().and_then(|(_, problem)| problem.error);
            assert_eq!(told.lock().take(), now);
        }
        let closed = CancellationToken::new();
        closed.cancel();
        problems.report(node_port, "pod/a", Some("taken".to_owned()), Some(&closed));
        assert!(problems.0.lock().0.is_empty() && told.lock().is_none(), "its address was another");
    }
}
