//! What the hub opens: a log, a tunnel, a port of a pod or the figures, each answered before its bytes flow.
//!
//! Guarantees:
//! - streams of one kind or realm keep no other out (`streams_of_one_kind_keep_no_other_out`,
//!   `idle_connections_of_one_realm_keep_nobody_else_out`, `streams_to_one_realms_pods_keep_no_others_out`), nor do those to
//!   pods that the hub knows to have ended before it is known here
//!   (`a_place_that_the_hub_has_given_away_again_is_waited_for`);
//! - what broke off on one side breaks on the other, and only what ended in order ends in order, also when the session
//!   ends meanwhile (`what_broke_off_breaks_on_the_other_side_too`,
//!   `what_broke_off_on_another_node_breaks_here_and_what_ended_ends`).

use std::sync::Arc;
use std::time::Duration;

use freewheel_link::figures::Figures;
use freewheel_link::frame::{self, FrameReader};
use freewheel_link::limits;
use freewheel_link::message::{Answer, Open, RefusalV1};
use freewheel_link::stream_budget::{Budget, PodClient, StreamPermit, Use};
use freewheel_link::transport::{Priority, SendHalf, Stream};
use tokio::io::{AsyncWriteExt as _, copy};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::debug;

use super::opened::{Reader, refuse};
use super::{Duplex, Serve, exec};

/// The opener is the first thing on a stream; one that does not come is not waited for.
const OPENER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a place to a pod is waited for that the hub has given away again: no longer than it takes to see that who had it
/// has gone.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves one stream to its end.
pub(super) async fn serve_stream(stream: Stream, serve: Arc<dyn Serve>, budget: Arc<Budget>) {
    let mut send = stream.send;
    let mut recv = FrameReader::new(stream.recv);
    let opened =
        match timeout(OPENER_TIMEOUT, recv.next_within::<Open>(limits::OPENER_BYTES_MAX)).await {
            Ok(Ok(Some(open))) => open,
            Ok(Ok(None)) | Err(_) => return,
            Ok(Err(error)) => {
                debug!(%error, "a stream of the hub begins with something unknown");
                refuse(&mut send, RefusalV1::new("BadRequest", error.to_string())).await;
                return;
            }
        };
    let _place = match place(&budget, use_of(&opened, &*serve)).await {
        Ok(place) => place,
        Err(full) => {
            refuse(&mut send, full).await;
            return;
        }
    };
    match opened {
        Open::Logs(request) if request.is_bounded() => match serve.logs(request).await {
            Ok(log) => send_log(send, recv, log).await,
            Err(refusal) => refuse(&mut send, refusal).await,
        },
        Open::Tunnel(request) => connect(send, recv, serve.tunnel(request).await).await,
        Open::PortForward(request) if request.is_bounded() => {
            connect(send, recv, serve.port_forward(request).await).await;
        }
        Open::Exec(request) if request.is_bounded() => exec::run(send, recv, request, serve).await,
        Open::Figures => {
            // Of a full device that takes milliseconds, in which others are to be served.
            let figures = spawn_blocking(move || serve.figures()).await.unwrap_or_default();
            tell(send, figures).await;
        }
        Open::Logs(_)
        | Open::PortForward(_)
        | Open::Exec(_)
        | Open::Session
        | Open::Module(_)
        | Open::Renew(_) => {
            refuse(&mut send, RefusalV1::new("BadRequest", "a spoke does not serve that")).await;
        }
    }
}

/// A place for it. The hub counts those to pods, too, and some of them have ended there already.
async fn place(budget: &Arc<Budget>, of: Use) -> Result<StreamPermit, RefusalV1> {
    if !matches!(of, Use::PodStream(_)) {
        return budget.take(of);
    }
    // Who has waited in vain is told whose it is that is full.
    match timeout(PLACE_TIMEOUT, budget.wait(of.clone())).await {
        Ok(taken) => taken,
        Err(_) => budget.take(of),
    }
}

/// What a stream takes its place for. Who asks for it the hub has looked at.
fn use_of(opened: &Open, serve: &dyn Serve) -> Use {
    let to = |pod_uid: &str| PodClient { realm: serve.realm_of(pod_uid), principal: None };
    match opened {
        Open::Tunnel(request) => Use::Tunnel(request.realm.clone(), None),
        Open::Figures => Use::Figures,
        Open::PortForward(request) => Use::PodStream(to(&request.pod_uid)),
        Open::Exec(request) => Use::PodStream(to(&request.pod_uid)),
        Open::Logs(request) => Use::Logs(to(&request.pod_uid)),
        Open::Session | Open::Module(_) | Open::Renew(_) => Use::Logs(PodClient::default()),
    }
}

/// A log flows until its end or until nobody reads it any more.
async fn send_log(mut send: Box<dyn SendHalf>, mut recv: Reader, mut log: super::LogStream) {
    send.set_priority(Priority::Logs);
    if frame::write(&mut send, &Answer::Ready).await.is_err() {
        return;
    }
    let mut nothing = tokio::io::sink();
    let copied = tokio::select! {
        biased;
        copied = copy(&mut log, &mut send) => copied,
        // The reader's half ends when it goes away: there is nobody to tell.
        _ = copy(&mut recv, &mut nothing) => return,
    };
    match copied {
        Ok(_) => drop(send.shutdown().await),
        // Without its end the stream is reset, and the reader hears that something is missing.
        Err(error) => debug!(%error, "a log broke off"),
    }
}

/// Figures, as many as one telling may hold; what comes after them is left out.
async fn tell(mut send: Box<dyn SendHalf>, figures: Vec<Figures>) {
    send.set_priority(Priority::Logs);
    if frame::write(&mut send, &Answer::Ready).await.is_err() {
        return;
    }
    let mut left = limits::FIGURES_BYTES_MAX;
    for bytes in figures.iter().filter_map(|one| frame::encode(one).ok()) {
        let Some(rest) = left.checked_sub(bytes.len()) else { break };
        left = rest;
        if send.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = send.shutdown().await;
}

/// Carries a connection to a pod, if there is one.
async fn connect(
    mut send: Box<dyn SendHalf>,
    recv: Reader,
    pod: Result<Box<dyn Duplex>, RefusalV1>,
) {
    let pod = match pod {
        Ok(pod) => pod,
        Err(refusal) => return refuse(&mut send, refusal).await,
    };
    send.set_priority(Priority::Tunnels);
    if frame::write(&mut send, &Answer::Ready).await.is_err() {
        return;
    }
    // Either end may break off, or the session: the drop of both tells both sides.
    pod.carry(Stream { send, recv: Box::new(recv) }).await;
}
