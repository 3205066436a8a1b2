//! Streams beside the session: modules and certificates to a spoke, logs and figures from one, commands and forwarded
//! ports in its pods, tunnels between two.
//!
//! Guarantees:
//! - a spoke gets a tunnel in the root and in its own cluster only, and from a pod's address only where that is leased
//!   to it (`a_tunnel_is_relayed_between_leased_addresses_only`);
//! - connections keep no stream of another kind out (`idle_connections_keep_logs_and_modules_in`), nor those of one
//!   spoke another's, in all (`greedy_spokes_leave_places_for_all_others`) and on the link of the one that it reaches
//!   (`one_spoke_leaves_places_on_anothers_link_for_all_others`); who gets no place is told why, in words that reach
//!   the user (`logs_come_through_and_refusals_keep_their_words`);
//! - who waits for a compiler takes no stream from who could be sent something
//!   (`modules_that_are_being_compiled_take_no_stream_from_one_that_is_ready`), and keeps its place no longer than it asks
//!   (`who_gives_a_module_up_leaves_its_place`);
//! - what is not read of connections between spokes is on an account
//!   (`connections_that_nobody_reads_are_broken_off_where_they_hold_too_much`);
//! - a transfer goes on where it was cut, unless it is of another artifact
//!   (`a_module_is_sent_from_where_it_was_cut_unless_it_is_another_one`);
//! - a spoke is not asked for what it cannot do (`a_spoke_is_not_asked_for_what_it_cannot_do`);
//! - a spoke that does not answer, or whose link has no stream left, keeps nobody waiting, and no place
//!   (`a_spoke_that_does_not_answer_keeps_nobody_waiting_and_no_place`);
//! - what broke off ends with a reset or an error
//!   (`a_connection_across_the_hub_that_breaks_off_is_reset_at_the_other_end`,
//!   `a_log_that_breaks_off_ends_with_an_error`, `an_artifact_that_lost_its_end_on_the_disk_is_no_whole_module`).

mod figures;
mod open;

use std::io::SeekFrom;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use freewheel_hub_api::streams::{ByteStream, ExecOptions, LogOptions, SpokeFigures, SpokeStreams};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::uid::Uid;
use freewheel_link::frame::{self, FrameReader};
use freewheel_link::limits::SPOKE_OPENER_BYTES_MAX;
use freewheel_link::message::{
    Answer, ExecV1, LogsV1, ModuleHeaderV1, ModuleRequestV1, Open, PortForwardV1, RefusalV1,
    TunnelV1, ability, is_pod_address,
};
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::{Asker, Budget, PodClient, Use};
use freewheel_link::transport::{Priority, Stream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tracing::debug;

use self::open::{able, api_error, open};
use crate::compile_waits::CompileWaits;
use crate::inner::Inner;
use crate::relays::RelayPermit;
use crate::spoke_identity::SpokeIdentity;
use crate::{compiling, renew, session_records};

/// The opener is the first thing on a stream.
const OPENER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves a stream that a spoke has opened.
pub(crate) async fn serve(
    inner: Arc<Inner>,
    identity: Arc<SpokeIdentity>,
    stream: Stream,
    budget: Arc<Budget>,
    waits: Arc<CompileWaits>,
) {
    let spoke = &identity.cluster;
    let mut send = stream.send;
    let mut recv = FrameReader::new(stream.recv);
    let refusal =
        match timeout(OPENER_TIMEOUT, recv.next_within::<Open>(SPOKE_OPENER_BYTES_MAX)).await {
            Ok(Ok(Some(Open::Module(request)))) if request.is_bounded() => {
                send.set_priority(Priority::Modules);
                let sending = module(&inner, &identity, &request, &waits, &mut send);
                match within(&budget, Use::Module, until_given_up(&mut recv, sending)).await {
                    Ok(()) => return,
                    Err(refusal) => refusal,
                }
            }
            Ok(Ok(Some(Open::Tunnel(request)))) => {
                send.set_priority(Priority::Tunnels);
                let place = budget.take(Use::Tunnel(request.realm.clone(), None));
                let opened = match &place {
                    Ok(_) => tunnel(&inner, spoke, &request).await,
                    Err(full) => Err(full.clone()),
                };
                match opened {
                    Ok(opened) => {
                        let near = Stream { send, recv: Box::new(recv) };
                        return carry(spoke, near, opened).await;
                    }
                    Err(refusal) => refusal,
                }
            }
            Ok(Ok(Some(Open::Renew(request)))) => {
                let renewed = renew::in_session(&inner, &identity, &request);
                match within(&budget, Use::Renewal, renewed).await {
                    Ok(renewed) => return renew::send(&mut send, &renewed).await,
                    Err(refusal) => refusal,
                }
            }
            Ok(Ok(None)) | Err(_) => return,
            Ok(Ok(Some(_))) => RefusalV1::new("BadRequest", "a hub does not serve that"),
            Ok(Err(error)) => RefusalV1::new("BadRequest", error.to_string()),
        };
    debug!(cluster = %spoke, error = %refusal, "a stream is refused");
    if frame::write(&mut send, &Answer::Refused(refusal)).await.is_ok() {
        let _ = send.shutdown().await;
    }
}

/// What is done for the other side as long as it has not broken off what it asked for: it keeps no place until a compiler
/// is through. That it has nothing more to say is no such sign.
async fn until_given_up(
    recv: &mut (impl AsyncRead + Unpin),
    sending: impl Future<Output = Result<(), RefusalV1>>,
) -> Result<(), RefusalV1> {
    let given_up = async {
        let mut ignored = [0; 64];
        loop {
            match recv.read(&mut ignored).await {
                Ok(0) => std::future::pending().await,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    };
    tokio::select! {
        biased;
        () = given_up => Ok(()),
        sent = sending => sent,
    }
}

async fn module(
    inner: &Inner,
    identity: &SpokeIdentity,
    request: &ModuleRequestV1,
    waits: &Arc<CompileWaits>,
    send: &mut Box<dyn freewheel_link::transport::SendHalf>,
) -> Result<(), RefusalV1> {
    let artifact = compiling::artifact(inner, identity, request, waits).await?;
    let internal = |error: &dyn std::fmt::Display| {
        RefusalV1::new("InternalError", format!("the hub cannot read the artifact: {error}"))
    };
    let mut file = tokio::fs::File::open(&artifact.path).await.map_err(|error| internal(&error))?;
    let fits =
        request.resume == Some(artifact.envelope.artifact) && request.offset <= artifact.compressed;
    let offset = if fits { request.offset } else { 0 };
    file.seek(SeekFrom::Start(offset)).await.map_err(|error| internal(&error))?;
    let header =
        ModuleHeaderV1 { envelope: artifact.envelope, compressed: artifact.compressed, offset };
    let sent = async {
        frame::write(send, &Answer::Ready).await?;
        frame::write(send, &header).await?;
        let rest = artifact.compressed - offset;
        let copied = tokio::io::copy(&mut file.take(rest), send).await;
        if copied.map_err(frame::FrameError::Io)? < rest {
            let cut = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(frame::FrameError::Io(cut));
        }
        send.shutdown().await.map_err(frame::FrameError::Io)
    };
    if let Err(error) = sent.await {
        debug!(%error, "a transfer was cut; the spoke goes on from there");
    }
    Ok(())
}

/// What takes a place on the link while it is under way.
async fn within<T>(
    budget: &Arc<Budget>,
    of: Use,
    work: impl Future<Output = Result<T, RefusalV1>>,
) -> Result<T, RefusalV1> {
    let _place = budget.take(of)?;
    work.await
}

/// Carries a connection between two spokes until it ends.
async fn carry(spoke: &ClusterName, mut near: Stream, (far, relay): (Stream, RelayPermit)) {
    // Either end may break off; with the other stream's drop the other end hears of it.
    if frame::write(&mut near, &Answer::Ready).await.is_ok()
        && let Err(error) = relay.carry(near, far).await
    {
        debug!(cluster = %spoke, %error, "a connection between spokes is broken off");
    }
}

/// Opens the far half of a tunnel.
async fn tunnel(
    inner: &Inner,
    spoke: &ClusterName,
    request: &TunnelV1,
) -> Result<(Stream, RelayPermit), RefusalV1> {
    // An IPv4 address in IPv6's clothes is the same address: whoever writes it so must not pass for a stranger.
    let [from, to] = [request.from, request.to]
        .map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()));
    let request = TunnelV1 { realm: request.realm.clone(), from, to };
    let snapshot = inner.objects.store().snapshot();
    let owner = |address| match address {
        IpAddr::V4(address) => session_records::owner_of(&*snapshot, &request.realm, address),
        IpAddr::V6(_) => None,
    };
    // A spoke speaks for its own pods, and for whoever came in through its NodePorts: never for pods
    // of another spoke, and never in another spoke's own cluster.
    let its_realm = request.realm.is_root() || request.realm == *spoke;
    let from_pod = matches!(from.ip(), IpAddr::V4(from) if is_pod_address(from));
    if !its_realm || (from_pod && owner(from.ip()).as_ref() != Some(spoke)) {
        let text =
            format!("{} in {} is not this spoke's to speak for", request.from, request.realm);
        return Err(RefusalV1::new("Forbidden", text));
    }
    let nobody = || RefusalV1::new("NotFound", format!("nobody serves {}", request.to));
    let target = owner(to.ip()).ok_or_else(nobody)?;
    let relay = inner.relays.take(spoke)?;
    let of = Use::Tunnel(request.realm.clone(), Some(Asker::Spoke(spoke.clone())));
    let open = Open::Tunnel(request.clone());
    Ok((self::open(&inner.links, &target, &open, of, Priority::Tunnels).await?, relay))
}

/// What the API server reaches spokes through.
pub(crate) struct ToSpokes(pub(crate) Weak<Inner>);

impl ToSpokes {
    fn running(&self) -> Result<Arc<Inner>, ApiError> {
        let stopped = || ApiError::new(503, "ServiceUnavailable", "the hub's link is not running");
        self.0.upgrade().ok_or_else(stopped)
    }
}

#[async_trait]
impl SpokeStreams for ToSpokes {
    async fn logs(
        &self,
        spoke: &ClusterName,
        pod_uid: &Uid,
        options: LogOptions,
        client: PodClient,
    ) -> Result<ByteStream, ApiError> {
        let inner = self.running()?;
        let logs = LogsV1 {
            pod_uid: pod_uid.to_string(),
            container: options.container,
            follow: options.follow,
            previous: options.previous,
            timestamps: options.timestamps,
            since_seconds: options.since_seconds.and_then(|s| u64::try_from(s).ok()),
            since: options.since_time.and_then(|nanos| u64::try_from(nanos / 1_000_000).ok()),
            tail_lines: options.tail_lines,
            limit_bytes: options.limit_bytes,
        };
        let of = Use::Logs(client);
        let stream = open(&inner.links, spoke, &Open::Logs(logs), of, Priority::Logs)
            .await
            .map_err(|refusal| api_error(&refusal))?;
        let next = |stream: Option<Stream>| async move {
            let mut stream = stream?;
            let mut piece = vec![0; 16 * 1024];
            match stream.read(&mut piece).await {
                Ok(0) => None,
                Ok(read) => {
                    piece.truncate(read);
                    Some((Ok(Bytes::from(piece)), Some(stream)))
                }
                // A log that broke off must not look like one that ended.
                Err(error) => {
                    let text = format!("the log broke off: {error}");
                    Some((Err(ApiError::new(503, "ServiceUnavailable", text)), None))
                }
            }
        };
        Ok(Box::pin(futures::stream::unfold(Some(stream), next)))
    }

    async fn port_forward(
        &self,
        spoke: &ClusterName,
        pod_uid: &Uid,
        port: u16,
        client: PodClient,
    ) -> Result<Stream, ApiError> {
        let inner = self.running()?;
        let ask = Open::PortForward(PortForwardV1 { pod_uid: pod_uid.to_string(), port });
        let of = Use::PodStream(client);
        let opened = open(&inner.links, spoke, &ask, of, Priority::Tunnels).await;
        opened.map_err(|refusal| api_error(&refusal))
    }

    async fn exec(
        &self,
        spoke: &ClusterName,
        pod_uid: &Uid,
        options: ExecOptions,
        client: PodClient,
    ) -> Result<Stream, ApiError> {
        let inner = self.running()?;
        let ExecOptions { container, command, stdin, tty } = options;
        let place: Arc<str> = format!("{pod_uid}/{container}").into();
        let ask = ExecV1 { pod_uid: pod_uid.to_string(), container, command, stdin, tty };
        if !ask.is_bounded() {
            return Err(ApiError::bad_request("the command is too long"));
        }
        let of = Use::Command(client, place);
        let opened = open(&inner.links, spoke, &Open::Exec(ask), of, Priority::Tunnels).await;
        opened.map_err(|refusal| api_error(&refusal))
    }

    fn reaches(&self, spoke: &ClusterName) -> Result<(), ApiError> {
        let able = able(&self.running()?.links, spoke, ability::PORT_FORWARD);
        able.map(drop).map_err(|refusal| api_error(&refusal))
    }

    async fn figures(&self, spoke: &ClusterName) -> Result<SpokeFigures, ApiError> {
        figures::fetch(&self.running()?, spoke).await
    }
}
