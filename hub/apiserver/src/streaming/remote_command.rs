//! `kubectl exec`: a command in a container, its input and output; and `kubectl attach`: what its program writes.
//!
//! ```text
//! SPDY       a stream of its own for each of stdin, stdout, stderr, errors and resize
//! channels   0 stdin, 1 stdout, 2 stderr, 3 errors, 4 resize; of v5, 255 ends the one that it names
//! ```
//!
//! Guarantees:
//! - the command is there before anything changes hands: who cannot have it is told by a Status
//!   (`a_command_that_cannot_run_is_a_status`);
//! - how it ended is told on the channel of errors, its code as the cause `ExitCode`
//!   (`a_command_has_its_input_and_output_and_its_code_is_told`);
//! - what the hub itself ends is no success either (`a_session_that_its_hub_ends_is_told_why`);
//! - who goes away ends the command (`a_client_that_goes_away_ends_its_command`);
//! - what the hub has taken of its output and its client does not take is on the connection's account
//!   (`output_that_its_client_does_not_take_is_on_the_account`).

use freewheel_hub_api::streams::LogOptions;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_spdy::session;
use http::Response;
use tracing::debug;

use super::channels::{self, Coding};
use super::command_streams::{Counted, INPUT_BYTES, Source, Streams};
use super::handshake::{self, Becomes, Served};
use super::log;
use super::pod::{Located, client, locate};
use super::stream_end::{self, End};
use super::upgrade::Raw;
use super::wants::{self, Wants};
use super::websocket;
use crate::body::Body;
use crate::call::Call;
use crate::connect;

const SERVED: Served = Served {
    spdy: &["v4.channel.k8s.io"],
    tunnels: false,
    channels: &["v4.channel.k8s.io", "v5.channel.k8s.io", "v4.base64.channel.k8s.io"],
};
/// stdin, stdout, stderr, errors, resize.
const CHANNEL_COUNT: u8 = 5;
/// What the streams of a session hold, and a piece of input on its way.
const PIPES_BYTES: usize = 10 * session::PIPE_BYTES + INPUT_BYTES;

/// Answers a request for a command.
pub(crate) async fn exec(call: &Call) -> Result<Response<Body>, ApiError> {
    call.check_may("create", &call.subresource).await?;
    let asked = wants::options(&call.raw_query);
    let asked = connect::admitted(call, "PodExecOptions", asked).await?;
    let Located { spoke, uid, object } = locate(call)?;
    let mut wants = Wants::of_exec(&asked)?;
    wants.options.container = log::container(&object, &call.name, &wants.options.container)?;
    let streams = &call.hub.server.streams;
    let command = streams.exec(&spoke, &uid, wants.options.clone(), client(call));
    promise(call, wants, async { command.await.map(Source::Command) }).await
}

/// Answers a request for what a container's program writes from here on: both of its outputs as they are in its log, and
/// so in one.
pub(crate) async fn attach(call: &Call) -> Result<Response<Body>, ApiError> {
    call.check_may("create", &call.subresource).await?;
    let asked = wants::options(&call.raw_query);
    let asked = connect::admitted(call, "PodAttachOptions", asked).await?;
    let Located { spoke, uid, object } = locate(call)?;
    let wants = Wants::of_attach(&asked)?;
    let container = log::container(&object, &call.name, &wants.options.container)?;
    let options =
        LogOptions { container, follow: true, tail_lines: Some(0), ..LogOptions::default() };
    log::check_started(&object, &call.name, &options)?;
    let output = call.hub.server.streams.logs(&spoke, &uid, options, client(call));
    promise(call, wants, async { output.await.map(Source::Log) }).await
}

/// The connection leads to this source when the answer is out.
async fn promise(
    call: &Call,
    wants: Wants,
    source: impl Future<Output = Result<Source, ApiError>>,
) -> Result<Response<Body>, ApiError> {
    if !call.slot.upgrade.is_offered() {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let (becomes, answer) = handshake::asked(&call.headers)?.agree(&SERVED)?;
    let besides = match becomes {
        Becomes::Channels(_) => 0,
        Becomes::Spdy | Becomes::Tunnel => session::SESSION_BYTES,
    };
    let held = call.slot.backlog.hold(PIPES_BYTES + besides).await?;
    let source = Counted { source: source.await?, account: call.slot.backlog.account.clone() };
    let end = stream_end::of_session(call);
    call.slot.upgrade.promise(move |raw| async move {
        let session = Box::pin(serve(becomes, wants, (source, end.clone()), raw));
        stream_end::run(session, end).await;
        drop(held);
    });
    Ok(answer)
}

async fn serve(becomes: Becomes, wants: Wants, (source, end): (Counted, End), raw: Raw) {
    match becomes {
        Becomes::Channels(protocol) => {
            let socket = websocket::over(raw).await;
            let handle = |channels| async move {
                if let Some(streams) = Streams::of_channels(&wants, channels).await {
                    streams.carry(source, end).await;
                }
            };
            channels::serve(socket, Coding::of(protocol), CHANNEL_COUNT, handle).await;
        }
        Becomes::Spdy | Becomes::Tunnel => {
            let handle = |accept| async move {
                if let Some(streams) = Streams::of_spdy(&wants, accept, end.clone()).await {
                    streams.carry(source, end).await;
                }
            };
            if let Err(error) = session::serve(raw, usize::from(CHANNEL_COUNT), handle).await {
                debug!(%error, "a session broke off");
            }
        }
    }
}
