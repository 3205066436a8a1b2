//! `kubectl port-forward`: connections of a client's machine to ports of a pod.
//!
//! ```text
//! SPDY       for each connection a stream of errors and one of data, paired by their request
//! channels   for each port that the query names one of data and one of errors, which begin with the port
//! ```
//!
//! Guarantees:
//! - a port that nobody listens on, and a device that is away, are told on the stream of errors, in the kubelet's words
//!   (`a_port_is_forwarded_over_spdy_and_its_failures_are_told`);
//! - over SPDY a pod's end is told from what it broke off, and what a client breaks off is no failure
//!   (`a_port_is_forwarded_over_spdy_and_its_failures_are_told`);
//! - what the hub ends is told in the same way (`a_session_that_its_hub_ends_is_told_why`);
//! - connections of a session, and what each of them holds, are bounded
//!   (`a_session_has_so_many_connections_and_no_more`), and what a session holds before it says anything is on its
//!   connection's account (`idle_sessions_hold_no_more_than_there_is`), as are streams that wait for their other one
//!   (`streams_that_wait_for_their_other_one_are_on_the_account`, `a_request_has_a_short_name`).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_spdy::{Accept, Headers, Stream, session};
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::PodClient;
use freewheel_link::transport;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::Response;
use serde_json::{Value, json};
use tokio::io::{
    AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream, copy, copy_bidirectional, split,
};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::channels::{self, Coding};
use super::handshake::{self, Becomes, Served};
use super::pod::{Located, client, locate};
use super::stream_end::{self, End};
use super::upgrade::Raw;
use super::websocket;
use crate::authn::User;
use crate::body::Body;
use crate::call::Call;
use crate::connect;
use crate::connection_slots::ConnectionSlot;
use crate::context::Hub;
use crate::memory_account::Held;
use crate::query::pairs;

const SERVED: Served = Served {
    spdy: &["portforward.k8s.io"],
    tunnels: true,
    channels: &["v4.channel.k8s.io", "v4.base64.channel.k8s.io"],
};
/// Connections of one session at a time, each of two streams; the link to the device has room for fewer.
const CONNECTIONS_MAX: usize = 32;
/// Ports that the query of one session names: each has two channels, whose number is a byte.
const PORTS_MAX: usize = 32;
/// How long the second stream of a connection may take, as the kubelet has it.
const PAIR_TIMEOUT: Duration = Duration::from_secs(30);
/// What one of both streams of a connection holds, with a buffer between it and the device.
const STREAM_BYTES: usize = 2 * session::PIPE_BYTES + (8 << 10);
/// The longest name of a request: clients number them.
const REQUEST_BYTES_MAX: usize = 64;

/// Answers a request for the connection to become a session.
pub(crate) async fn port_forward(call: &Call) -> Result<Response<Body>, ApiError> {
    // To read pods is not to reach into them.
    call.check_may("create", &call.subresource).await?;
    let asked = match named_ports(&call.raw_query)? {
        ports if ports.is_empty() => json!({}),
        ports => json!({"ports": ports}),
    };
    let asked = connect::admitted(call, "PodPortForwardOptions", asked).await?;
    let Located { spoke, uid, .. } = locate(call)?;
    if !call.slot.upgrade.is_offered() {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let (becomes, answer) = handshake::asked(&call.headers)?.agree(&SERVED)?;
    let (ports, bytes) = match becomes {
        // What its connections hold is all that there is.
        Becomes::Channels(_) => (ports(&asked)?, 0),
        Becomes::Spdy | Becomes::Tunnel => (Vec::new(), session::SESSION_BYTES),
    };
    call.hub.server.streams.reaches(&spoke)?;
    let held = call.slot.backlog.hold(bytes).await?;
    let forward = Arc::new(Forward {
        hub: call.hub.clone(),
        user: call.user.clone(),
        client: client(call),
        slot: call.slot.clone(),
        pod: format!("{}_{}", call.name, call.namespace),
        spoke,
        uid,
        end: stream_end::of_session(call),
    });
    call.slot.upgrade.promise(move |raw| async move {
        stream_end::run(forward.session(becomes, ports, raw), forward.end.clone()).await;
        drop(held);
    });
    Ok(answer)
}

/// The ports that a query names; over SPDY, each connection names its own.
fn named_ports(query: &str) -> Result<Vec<u16>, ApiError> {
    let mut ports = Vec::new();
    for (_, value) in pairs(query).filter(|(name, _)| name == "ports") {
        for text in value.split(',') {
            let port = text.parse::<u16>().map_err(|_| {
                ApiError::bad_request(format!("unable to parse {text:?} as a port"))
            })?;
            ports.push(port);
        }
    }
    Ok(ports)
}

/// The ports that PodPortForwardOptions name, of which there is at least one.
fn ports(options: &Value) -> Result<Vec<u16>, ApiError> {
    let named = options["ports"].as_array().into_iter().flatten();
    let port = |port: &Value| {
        let number = port.as_u64().and_then(|port| u16::try_from(port).ok());
        number
            .filter(|port| *port != 0)
            .ok_or_else(|| ApiError::bad_request(format!("port \"{port}\" must be > 0")))
    };
    let ports = named.map(port).collect::<Result<Vec<u16>, ApiError>>()?;
    match ports.len() {
        0 => Err(ApiError::bad_request("query parameter \"ports\" is required")),
        count if count <= PORTS_MAX => Ok(ports),
        count => {
            let text = format!("a session forwards at most {PORTS_MAX} ports, and not {count}");
            Err(ApiError::bad_request(text))
        }
    }
}

/// One session.
struct Forward {
    hub: Arc<Hub>,
    user: Arc<User>,
    client: PodClient,
    slot: Arc<ConnectionSlot>,
    /// As the kubelet names it.
    pod: String,
    spoke: ClusterName,
    uid: Uid,
    end: End,
}

impl Forward {
    async fn session(&self, becomes: Becomes, ports: Vec<u16>, raw: Raw) {
        let outcome = match becomes {
            Becomes::Spdy => {
                let accept = |accept| self.over_spdy(accept);
                session::serve(raw, 2 * CONNECTIONS_MAX, accept).await
            }
            Becomes::Tunnel => {
                let accept = |accept| self.over_spdy(accept);
                let bytes = websocket::bytes(websocket::over(raw).await);
                session::serve(bytes, 2 * CONNECTIONS_MAX, accept).await
            }
            Becomes::Channels(protocol) => {
                let socket = websocket::over(raw).await;
                let count = u8::try_from(2 * ports.len()).unwrap_or(u8::MAX);
                let handle = |channels| self.over_channels(ports, channels);
                channels::serve(socket, Coding::of(protocol), count, handle).await;
                Ok(())
            }
        };
        if let Err(error) = outcome {
            debug!(%error, "a session broke off");
        }
    }

    async fn over_spdy(&self, mut accept: Accept) {
        let mut pairs = Pairs::default();
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = running.next() => {}
                stream = accept.next() => {
                    let Some(stream) = stream else { return };
                    let held = self.slot.backlog.account.hold_now(STREAM_BYTES);
                    if let Some(pair) = pairs.add(stream, held).await {
                        running.push(self.carry(pair));
                    }
                }
                () = pairs.expire() => {}
                _ = self.end.clone() => break,
            }
        }
        while running.next().await.is_some() {}
    }

    /// One connection, from its streams to the pod's port and back.
    async fn carry(&self, Pair { port, mut data, mut errors, _held }: Pair) {
        let outcome = self.forward(port, &mut data).await;
        // What a client breaks off it knows.
        if let Err(error) = outcome
            && !data.is_reset()
        {
            let _ = errors.write_all(self.error_text(port, &error).as_bytes()).await;
        }
        let _ = errors.shutdown().await;
    }

    fn error_text(&self, port: u16, error: &str) -> String {
        format!("error forwarding port {port} to pod {}, uid {}: {error}", self.pod, self.uid)
    }

    /// Carries what a client says to a port, and back, until both have said their end.
    async fn forward<T>(&self, port: u16, client: &mut T) -> Result<(), String>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let message = |error: ApiError| error.message;
        let carried = async {
            let mut pod = self.connect(port).await.map_err(message)?;
            let carried = copy_bidirectional(client, &mut pod).await;
            carried.map(drop).map_err(|error| format!("the connection broke off: {error}"))
        };
        tokio::select! {
            biased;
            carried = carried => carried,
            why = self.end.clone() => Err(why.message),
        }
    }

    /// The same for a client that cannot say its end.
    async fn until_the_pod_ends(&self, port: u16, client: &mut DuplexStream) -> Result<(), String> {
        let message = |error: ApiError| error.message;
        let _held = self.slot.backlog.account.hold_now(2 * STREAM_BYTES).map_err(message)?;
        let (mut from_pod, mut to_pod) = split(self.connect(port).await.map_err(message)?);
        let (mut from_client, mut to_client) = split(client);
        let inward = async {
            copy(&mut from_client, &mut to_pod).await?;
            std::future::pending::<io::Result<u64>>().await
        };
        let carried = tokio::select! {
            carried = copy(&mut from_pod, &mut to_client) => carried,
            broken = inward => broken,
            why = self.end.clone() => return Err(why.message),
        };
        carried.map(drop).map_err(|error| format!("the connection broke off: {error}"))
    }

    async fn connect(&self, port: u16) -> Result<transport::Stream, ApiError> {
        if self.user.has_ended(self.hub.server.objects.clock().unix_seconds()) {
            return Err(crate::authn::unauthorized());
        }
        let streams = &self.hub.server.streams;
        streams.port_forward(&self.spoke, &self.uid, port, self.client.clone()).await
    }

    async fn over_channels(&self, ports: Vec<u16>, channels: Vec<DuplexStream>) {
        let mut channels = channels.into_iter();
        let mut running = FuturesUnordered::new();
        for port in ports {
            if let (Some(data), Some(errors)) = (channels.next(), channels.next()) {
                running.push(self.over_channel(port, data, errors));
            }
        }
        while running.next().await.is_some() {}
    }

    async fn over_channel(&self, port: u16, mut data: DuplexStream, mut errors: DuplexStream) {
        for channel in [&mut data, &mut errors] {
            if channel.write_all(&port.to_le_bytes()).await.is_err() {
                return;
            }
        }
        if let Err(error) = self.until_the_pod_ends(port, &mut data).await {
            let _ = errors.write_all(self.error_text(port, &error).as_bytes()).await;
        }
    }
}

/// Both streams of one connection.
struct Pair {
    port: u16,
    data: Stream,
    errors: Stream,
    _held: [Option<Held>; 2],
}

/// Streams that wait for their other one, by their request; as many as a session may have.
#[derive(Default)]
struct Pairs(BTreeMap<String, Waiting>);

struct Waiting {
    stream: Stream,
    is_data: bool,
    until: Instant,
    held: Option<Held>,
}

impl Pairs {
    /// Takes a stream and what it holds, unless it says nothing that is known or there is no room for it: that one is
    /// refused with its drop.
    async fn add(
        &mut self,
        (stream, headers): (Stream, Headers),
        held: Result<Option<Held>, ApiError>,
    ) -> Option<Pair> {
        let port = headers.get("port").parse::<u16>().ok().filter(|port| *port != 0)?;
        let is_data = match headers.get("streamType") {
            "data" => true,
            "error" => false,
            _ => return None,
        };
        let request = match headers.get("requestID") {
            // Clients of old times open both right after another, errors first.
            "" => stream.id().saturating_sub(if is_data { 2 } else { 0 }).to_string(),
            named if named.len() <= REQUEST_BYTES_MAX => named.to_owned(),
            _ => return None,
        };
        drop(headers);
        stream.accept().await.ok()?;
        let until = Instant::now() + PAIR_TIMEOUT;
        let held = match held {
            Ok(held) => held,
            Err(error) => {
                Waiting { stream, is_data, until, held: None }.fail(&error.message).await;
                return None;
            }
        };
        let Some(mut first) = self.0.remove(&request) else {
            self.0.insert(request, Waiting { stream, is_data, until, held });
            return None;
        };
        if first.is_data == is_data {
            let kind = if is_data { "data" } else { "error" };
            let text = format!(
                "error processing stream for request {request}: {kind} stream already assigned"
            );
            first.fail(&text).await;
            return None;
        }
        let (data, errors) = if is_data { (stream, first.stream) } else { (first.stream, stream) };
        Some(Pair { port, data, errors, _held: [held, first.held] })
    }

    /// Sends away whoever has waited for too long, when that is; never ready while nobody waits.
    async fn expire(&mut self) {
        let Some(until) = self.0.values().map(|waiting| waiting.until).min() else {
            return std::future::pending().await;
        };
        sleep_until(until).await;
        let late = |waiting: &Waiting| waiting.until <= Instant::now();
        let gone: Vec<_> =
            self.0.iter().filter(|(_, waiting)| late(waiting)).map(|(id, _)| id.clone()).collect();
        for request in gone {
            if let Some(mut waiting) = self.0.remove(&request) {
                let text = format!("(request={request}) timed out waiting for streams");
                waiting.fail(&text).await;
            }
        }
    }
}

impl Waiting {
    async fn fail(&mut self, text: &str) {
        if !self.is_data {
            let _ = self.stream.write_all(text.as_bytes()).await;
            let _ = self.stream.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_a_query_are_numbers_in_one_or_many() {
        let of = |query: &str| ports(&json!({"ports": named_ports(query)?}));
        assert_eq!(of("ports=80,81&ports=82").unwrap(), [80, 81, 82]);
        for (query, text) in [
            ("", "\"ports\" is required"),
            ("ports=", "unable to parse"),
            ("ports=0", "must be > 0"),
            ("ports=70000", "unable to parse"),
            (&format!("ports={}", vec!["1"; 33].join(",")), "at most 32 ports"),
        ] {
            let error = of(query).unwrap_err();
            assert!(error.code == 400 && error.message.contains(text), "{query}: {error:?}");
        }
    }
}
