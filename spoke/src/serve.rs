//! What the hub may open here (logs, tunnels and ports of pods, figures), and the way from here to pods on other spokes.
//!
//! Guarantees:
//! - a log is looked for where a slow card holds up no packets (`a_log_is_looked_for_beside_the_packets`);
//! - a pod on another node counts as full only when it says so itself (`a_pod_is_full_only_where_it_says_so_itself`);
//! - a start whose log the disk does not take says so, and has not the log of the one before it
//!   (`a_log_that_the_disk_does_not_take_is_not_the_one_before_it`).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use freewheel_link::figures::Figures;
use freewheel_link::message::{DatagramV1, ExecV1, LogsV1, PortForwardV1, RefusalV1, TunnelV1};
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::TOO_MANY_REASON;
use freewheel_spoke_agent::admission::is_path_segment;
use freewheel_spoke_agent::uplink::{Command, Duplex, FetchError, Handle, LogStream, Serve, Stdin};
use freewheel_spoke_agent::volumes::{attempt_of, log_aside, log_dir, pod_dir};
use freewheel_spoke_net::{Bottleneck, Fabric, NetError, Remote, Stream};
use freewheel_spoke_runtime::{LogOptions, Runtime};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;
use tracing::warn;

use crate::{exec, figures};

/// Nobody listens there.
const REFUSED: &str = "ConnectionRefused";
/// The pod has all the sockets that it may have.
const POD_FULL: &str = "PodFull";
/// How long it is looked for a log.
const LOOK_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections to other nodes that found no place on the link; told at 1, 2, 4 and so on.
static REFUSALS: AtomicU64 = AtomicU64::new(0);

/// What this spoke serves.
pub(crate) struct LinkServer {
    data: PathBuf,
    runtime: Arc<Runtime>,
    fabric: Arc<Fabric>,
    uplink: Handle,
    /// Held by who looks at the device.
    looks: Mutex<()>,
}

impl LinkServer {
    /// With its data in this directory.
    pub(crate) fn new(
        data: &Path,
        runtime: &Arc<Runtime>,
        fabric: &Arc<Fabric>,
        uplink: &Handle,
    ) -> Self {
        let (runtime, fabric, uplink) = (runtime.clone(), fabric.clone(), uplink.clone());
        Self { data: data.to_owned(), runtime, fabric, uplink, looks: Mutex::new(()) }
    }
}

#[async_trait]
impl Serve for LinkServer {
    async fn logs(&self, request: LogsV1) -> Result<LogStream, RefusalV1> {
        let options = log_options(&request);
        let data = self.data.clone();
        let newest = self.runtime.log_of(&request.pod_uid, &request.container);
        let look = self.runtime.read_in_turn(move || log_file(&data, &request, newest));
        // A place among those that ask for logs is not to be held for as long as a card stands still.
        let file = match tokio::time::timeout(LOOK_TIMEOUT, look).await {
            Ok(Ok(found)) => found?,
            Ok(Err(error)) => return Err(RefusalV1::new("InternalError", error.to_string())),
            Err(_) => {
                let text = "the node's disk gives no answer; other logs may wait for it, too";
                return Err(RefusalV1::new("Timeout", text));
            }
        };
        let pieces = self.runtime.logs(&file, options);
        Ok(Box::new(Pieces { pieces, left: Bytes::new() }))
    }

    async fn tunnel(&self, request: TunnelV1) -> Result<Box<dyn Duplex>, RefusalV1> {
        let TunnelV1 { realm, from, to } = request;
        let conn = self.fabric.dial_from_link(&realm, from, to).map_err(not_connected)?;
        Ok(Box::new(conn))
    }

    async fn port_forward(&self, request: PortForwardV1) -> Result<Box<dyn Duplex>, RefusalV1> {
        let PortForwardV1 { pod_uid, port } = request;
        let conn = self.fabric.forward_to_pod(&pod_uid, port).map_err(|error| match error {
            NetError::Unreachable => {
                RefusalV1::new("NotFound", format!("pod {pod_uid} is not on this node"))
            }
            error => {
                let refused = matches!(error, NetError::Refused | NetError::Full(_));
                let reason = if refused { REFUSED } else { "Unreachable" };
                let text = format!(
                    "failed to connect to localhost:{port} inside of the pod: dial tcp4 127.0.0.1:{port}: connect: {error}"
                );
                RefusalV1::new(reason, text)
            }
        })?;
        Ok(Box::new(conn))
    }

    async fn exec(
        &self,
        request: ExecV1,
        stdin: Option<Stdin>,
    ) -> Result<Box<dyn Command>, RefusalV1> {
        let ExecV1 { pod_uid, container, command, .. } = request;
        exec::start(&self.runtime, (&pod_uid, &container), command, stdin)
    }

    fn realm_of(&self, pod_uid: &str) -> Option<ClusterName> {
        self.fabric.pod(pod_uid).map(|pod| pod.realm().name().clone())
    }

    fn figures(&self) -> Vec<Figures> {
        // One that waits for a card that stands still outlives its session: the next adds no thread to it.
        let Some(_look) = self.looks.try_lock() else { return Vec::new() };
        figures::of(&self.data, (&self.runtime, &self.fabric), &self.uplink)
    }

    fn datagram(&self, datagram: DatagramV1) {
        let DatagramV1 { realm, from, to, payload } = datagram;
        // The pod network speaks IPv4.
        if let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) {
            self.fabric.accept_datagram(&realm, from, to, payload);
        }
    }
}

/// The log that is asked for: of the newest start, or of the one before. `newest`: of this life, if the container has
/// started in it. Blocking.
fn log_file(data: &Path, request: &LogsV1, newest: Option<PathBuf>) -> Result<PathBuf, RefusalV1> {
    let LogsV1 { pod_uid, container, previous, .. } = request;
    if !request.is_bounded() || !is_path_segment(pod_uid) || !is_path_segment(container) {
        return Err(RefusalV1::new("BadRequest", "no such pod or container"));
    }
    if !pod_dir(data, pod_uid).is_dir() {
        return Err(RefusalV1::new("NotFound", format!("pod {pod_uid} is not on this node")));
    }
    let dir = log_dir(data, pod_uid, container);
    let mut attempts: BTreeSet<u32> = std::fs::read_dir(&dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| attempt_of(entry.file_name().to_str()?))
        .collect();
    let started = newest.and_then(|log| attempt_of(log.file_name()?.to_str()?));
    // Its log may come a moment after the start; on a disk that takes none it never does.
    attempts.extend(started);
    let found = if *previous { attempts.iter().rev().nth(1) } else { attempts.last() };
    match found {
        Some(attempt) => {
            let log = dir.join(format!("{attempt}.log"));
            if Some(*attempt) == started && !log_aside(&log).exists() {
                make_log(&log).map_err(|error| {
                    let text = format!(
                        "the log of container {container:?} cannot be written on this node, and is lost: {error}"
                    );
                    RefusalV1::new("InternalError", text)
                })?;
            }
            Ok(log)
        }
        None if *previous => Err(RefusalV1::new(
            "BadRequest",
            format!("previous terminated container {container:?} not found"),
        )),
        None => Err(RefusalV1::new(
            "BadRequest",
            format!("container {container:?} is waiting to start: ContainerCreating"),
        )),
    }
}

fn make_log(log: &Path) -> io::Result<()> {
    if log.exists() {
        return Ok(());
    }
    log.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::OpenOptions::new().create(true).append(true).open(log).map(drop)
}

fn log_options(request: &LogsV1) -> LogOptions {
    let ago = request
        .since_seconds
        .and_then(|seconds| SystemTime::now().checked_sub(Duration::from_secs(seconds)));
    let at = request.since.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    LogOptions {
        follow: request.follow,
        tail_lines: request.tail_lines,
        since: ago.max(at),
        timestamps: request.timestamps,
        limit_bytes: request.limit_bytes,
    }
}

/// A log's pieces as bytes to read.
struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: Bytes,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            match self.pieces.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Some(Ok(bytes))) => self.left = bytes,
            }
        }
        let most = buf.remaining().min(self.left.len());
        buf.put_slice(&self.left.split_to(most));
        Poll::Ready(Ok(()))
    }
}

/// Why somebody on another node is not connected to a pod here.
fn not_connected(error: NetError) -> RefusalV1 {
    let reason = match error {
        NetError::Refused => REFUSED,
        NetError::Full(_) => POD_FULL,
        _ => "Unreachable",
    };
    RefusalV1::new(reason, error.to_string())
}

/// The same for a pod here and a pod on another node.
fn not_reached(error: &FetchError, to: SocketAddr) -> NetError {
    let refusal = match error {
        FetchError::Refused(refusal) => refusal,
        FetchError::NoPlace(refusal) => return way_full(refusal, Bottleneck::Link),
        FetchError::Offline
        | FetchError::Closed(_)
        | FetchError::Frame(_)
        | FetchError::Broken(_)
        | FetchError::Sink(_) => return NetError::Unreachable,
    };
    match (refusal.reason.as_str(), to.ip()) {
        (POD_FULL, IpAddr::V4(pod)) => NetError::Full(pod),
        (REFUSED | POD_FULL, _) => NetError::Refused,
        (TOO_MANY_REASON, _) => way_full(refusal, Bottleneck::Beyond),
        _ => NetError::Unreachable,
    }
}

/// It is the link's places that are taken, or those that the hub has for this node: whoever leaves the pod makes none.
fn way_full(refusal: &RefusalV1, what: Bottleneck) -> NetError {
    let count = REFUSALS.fetch_add(1, Ordering::Relaxed) + 1;
    if count.is_power_of_two() {
        warn!(count, error = %refusal, "connections to other nodes are refused");
    }
    NetError::WayFull(what)
}

/// The link as the pod network's way to other nodes.
pub(crate) struct LinkRemote(pub(crate) Handle);

impl Remote for LinkRemote {
    fn connect(
        &self,
        realm: &ClusterName,
        from: SocketAddr,
        to: SocketAddr,
    ) -> BoxFuture<'static, Result<Box<dyn Stream>, NetError>> {
        let (uplink, realm) = (self.0.clone(), realm.clone());
        Box::pin(async move {
            match uplink.tunnel(TunnelV1 { realm, from, to }).await {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn Stream>),
                Err(error) => Err(not_reached(&error, to)),
            }
        })
    }

    fn link(&self) -> Option<u64> {
        self.0.session()
    }

    fn outage(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.0.outage())
    }

    fn send_datagram(
        &self,
        realm: &ClusterName,
        from: SocketAddrV4,
        to: SocketAddrV4,
        payload: Bytes,
    ) {
        let (from, to) = (from.into(), to.into());
        self.0.send_datagram(DatagramV1 { realm: realm.clone(), from, to, payload });
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::pin::pin;

    use freewheel_spoke_runtime::{RuntimeOptions, Runtimes, addresses, choose_profile};

    use super::*;

    /// What the hub may open of a device with this data.
    fn server(data: &Path) -> LinkServer {
        let control = tokio::runtime::Handle::current();
        let fabric = Fabric::new(control.clone());
        let options = RuntimeOptions {
            profile: choose_profile(10).unwrap(),
            memory: 1 << 30,
            files: 100,
            mappings: 1000,
            addresses: addresses(),
            logs: 1 << 20,
            fabric: fabric.clone(),
            control,
            runtimes: Runtimes::new(1).unwrap(),
            on_file_thread: || {},
            deliver: Arc::new(|_| {}),
        };
        LinkServer::new(data, &Runtime::new(options).unwrap(), &fabric, &Handle::new())
    }

    #[test]
    fn a_pod_is_full_only_where_it_says_so_itself() {
        let (pod, to) = (Ipv4Addr::new(10, 64, 7, 7), "10.64.7.7:80".parse().unwrap());
        let refused = |refusal| not_reached(&FetchError::Refused(refusal), to);
        assert_eq!(refused(not_connected(NetError::Full(pod))), NetError::Full(pod));
        assert_eq!(refused(not_connected(NetError::Refused)), NetError::Refused);
        assert_eq!(refused(not_connected(NetError::Timeout)), NetError::Unreachable);
        // The asker's share of the link, or the device's at the hub.
        let enough = || RefusalV1::new(TOO_MANY_REASON, "enough");
        let here = not_reached(&FetchError::NoPlace(enough()), to);
        assert_eq!(here, NetError::WayFull(Bottleneck::Link));
        assert_eq!(refused(enough()), NetError::WayFull(Bottleneck::Beyond));
    }

    #[tokio::test]
    async fn figures_that_wait_for_the_disk_keep_no_second_thread() {
        let data = tempfile::tempdir().unwrap();
        let here = server(data.path());
        assert!(!here.figures().is_empty());
        let waits = here.looks.lock();
        assert!(here.figures().is_empty());
        drop(waits);
        assert!(!here.figures().is_empty());
    }

    #[tokio::test]
    async fn a_log_is_looked_for_beside_the_packets() {
        let data = tempfile::tempdir().unwrap();
        let logs = data.path().join("pods/u1/logs/web");
        std::fs::create_dir_all(&logs).unwrap();
        std::fs::write(logs.join("0.log"), "").unwrap();
        let here = server(data.path());
        let request =
            LogsV1 { pod_uid: "u1".to_owned(), container: "web".to_owned(), ..LogsV1::default() };
        // Somebody else's turn at the disk lasts.
        let (end, until) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let runtime = here.runtime.clone();
        let look = async move {
            let work = move || {
                let _ = begin.send(());
                let _ended = until.recv();
            };
            runtime.read_in_turn(work).await
        };
        let looks = tokio::spawn(look);
        begun.await.unwrap();
        let mut asked = pin!(here.logs(request));
        let waits = futures::poll!(&mut asked).is_pending();
        drop(end);
        assert!(waits, "the disk was asked at once");
        assert!(asked.await.is_ok());
        looks.await.unwrap().unwrap();
    }

    fn ask(data: &Path, uid: &str, container: &str, previous: bool) -> Result<PathBuf, String> {
        let request = LogsV1 {
            pod_uid: uid.to_owned(),
            container: container.to_owned(),
            previous,
            ..LogsV1::default()
        };
        log_file(data, &request, None).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn a_log_that_the_disk_does_not_take_is_not_the_one_before_it() {
        let data = tempfile::tempdir().unwrap();
        let logs = data.path().join("pods/u1/logs/web");
        std::fs::create_dir_all(&logs).unwrap();
        std::fs::write(logs.join("3.log"), "of the life before").unwrap();
        let request = LogsV1 { pod_uid: "u1".into(), container: "web".into(), ..LogsV1::default() };
        let ask = |previous: bool, newest: &Path| {
            let request = LogsV1 { previous, ..request.clone() };
            log_file(data.path(), &request, Some(newest.to_owned()))
        };
        let newest = logs.join("4.log");
        // As a disk does that takes no writes: it is there as soon as it does.
        std::os::unix::fs::symlink("/proc/none", &newest).unwrap();
        let refused = ask(false, &newest).unwrap_err();
        assert!(refused.to_string().contains("cannot be written on this node"), "{refused}");
        assert_eq!(ask(true, &newest), Ok(logs.join("3.log")));
        std::fs::remove_file(&newest).unwrap();
        assert_eq!(ask(false, &newest), Ok(newest.clone()));
        assert_eq!(ask(true, &newest), Ok(logs.join("3.log")));
    }

    #[test]
    fn the_newest_log_is_read_or_the_one_before() {
        let data = tempfile::tempdir().unwrap();
        let logs = data.path().join("pods/u1/logs/web");
        std::fs::create_dir_all(&logs).unwrap();
        assert_eq!(ask(data.path(), "u1", "web", false), Err("BadRequest".to_owned()));
        for attempt in ["9", "10"] {
            std::fs::write(logs.join(format!("{attempt}.log")), "").unwrap();
        }
        assert_eq!(ask(data.path(), "u1", "web", false), Ok(logs.join("10.log")));
        assert_eq!(ask(data.path(), "u1", "web", true), Ok(logs.join("9.log")));
        std::fs::rename(logs.join("10.log"), logs.join("10.log.1")).unwrap();
        assert_eq!(ask(data.path(), "u1", "web", false), Ok(logs.join("10.log")));
        std::fs::write(logs.join("10.log"), "").unwrap();
        assert_eq!(ask(data.path(), "u1", "web", true), Ok(logs.join("9.log")));
        assert_eq!(ask(data.path(), "u2", "web", false), Err("NotFound".to_owned()));
        for (uid, container) in [("..", "web"), ("u1", "../x"), ("u1", "a/b")] {
            assert_eq!(ask(data.path(), uid, container, false), Err("BadRequest".to_owned()));
        }
    }
}
