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
//! - a link that breaks off is no success (`a_link_that_breaks_off_is_no_success`);
//! - who goes away ends the command.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use freewheel_hub_api::streams::{ByteStream, ExecOptions, LogOptions};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_spdy::{Accept, Stream, session};
use freewheel_link::frame::{self, FrameReader};
use freewheel_link::message::{ExecInput, ExecOutput};
use freewheel_link::transport::{self, SendHalf};
use futures::StreamExt as _;
use http::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
    DuplexStream, split,
};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::channels::{self, Coding};
use super::handshake::{self, Becomes, Served};
use super::pod::{Located, locate};
use super::upgrade::Raw;
use super::websocket;
use crate::body::Body;
use crate::call::Call;
use crate::ending;
use crate::log;
use crate::query::{flag, pairs};

const SERVED: Served = Served {
    spdy: &["v4.channel.k8s.io"],
    tunnels: false,
    channels: &["v4.channel.k8s.io", "v5.channel.k8s.io", "v4.base64.channel.k8s.io"],
};
/// stdin, stdout, stderr, errors, resize.
const CHANNELS: u8 = 5;
/// How long a client of SPDY's may take to open its streams, as the kubelet has it.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// The most of the input that goes to the device at once.
const PIECE_BYTES: usize = 16 << 10;
/// What a session holds.
const SESSION_BYTES: usize = 10 * session::PIPE_BYTES;
/// The longest line that says a size.
const RESIZE_BYTES_MAX: u64 = 256;

/// Answers a request for a command.
pub(crate) async fn exec(call: &Call) -> Result<Response<Body>, ApiError> {
    call.check_may("create", &call.subresource).await?;
    let Located { spoke, uid, object } = locate(call)?;
    let mut wants = Wants::read(&call.raw_query)?;
    wants.options.container = log::container(&object, &call.name, &wants.options.container)?;
    if !call.slot.upgrade.is_offered() {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let (becomes, answer) = handshake::asked(&call.headers)?.agree(&SERVED)?;
    let held = call.slot.backlog.hold(SESSION_BYTES).await?;
    let (streams, user) = (&call.hub.server.streams, &call.user.name);
    let command = streams.exec(&spoke, &uid, wants.options.clone(), user).await?;
    let end = ending::of(call);
    call.slot.upgrade.promise(move |raw| async move {
        tokio::select! {
            biased;
            why = end => debug!(error = %why.message, "a session is ended"),
            () = serve(becomes, wants, Source::Command(command), raw) => {}
        }
        drop(held);
    });
    Ok(answer)
}

/// Answers a request for what a container's program writes from here on: both of its outputs as they are in its log, and
/// so in one.
pub(crate) async fn attach(call: &Call) -> Result<Response<Body>, ApiError> {
    call.check_may("create", &call.subresource).await?;
    let Located { spoke, uid, object } = locate(call)?;
    let wants = Wants::of_attach(&call.raw_query)?;
    let container = log::container(&object, &call.name, &wants.options.container)?;
    let options =
        LogOptions { container, follow: true, tail_lines: Some(0), ..LogOptions::default() };
    log::check_started(&object, &call.name, &options)?;
    if !call.slot.upgrade.is_offered() {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let (becomes, answer) = handshake::asked(&call.headers)?.agree(&SERVED)?;
    let held = call.slot.backlog.hold(SESSION_BYTES).await?;
    let output = call.hub.server.streams.logs(&spoke, &uid, options).await?;
    let end = ending::of(call);
    call.slot.upgrade.promise(move |raw| async move {
        tokio::select! {
            biased;
            why = end => debug!(error = %why.message, "a session is ended"),
            () = serve(becomes, wants, Source::Log(output), raw) => {}
        }
        drop(held);
    });
    Ok(answer)
}

/// What is at the other end.
enum Source {
    Command(transport::Stream),
    Log(ByteStream),
}

/// What a client wants of a command.
#[derive(Clone, Debug)]
struct Wants {
    options: ExecOptions,
    stdout: bool,
    stderr: bool,
}

impl Wants {
    /// Of a command.
    fn read(query: &str) -> Result<Self, ApiError> {
        let wants = Self::read_any(query)?;
        if wants.options.command.is_empty() {
            return Err(ApiError::bad_request("you must specify at least one command"));
        }
        Ok(wants)
    }

    /// Of a program that runs.
    fn of_attach(query: &str) -> Result<Self, ApiError> {
        let wants = Self::read_any(query)?;
        if wants.options.stdin || wants.options.tty {
            let text = "a container's program has neither standard input nor a terminal here: attach without -i and -t";
            return Err(ApiError::bad_request(text));
        }
        Ok(wants)
    }

    fn read_any(query: &str) -> Result<Self, ApiError> {
        let mut wants = Self { options: ExecOptions::default(), stdout: true, stderr: true };
        for (name, value) in pairs(query) {
            match &*name {
                "container" => wants.options.container = value.into_owned(),
                "command" => wants.options.command.push(value.into_owned()),
                "stdin" => wants.options.stdin = flag(&value),
                "stdout" => wants.stdout = flag(&value),
                "stderr" => wants.stderr = flag(&value),
                "tty" => wants.options.tty = flag(&value),
                _ => {}
            }
        }
        // A terminal has one output.
        wants.stderr &= !wants.options.tty;
        if !wants.options.stdin && !wants.stdout && !wants.stderr {
            let text = "you must specify at least 1 of stdin, stdout, stderr";
            return Err(ApiError::bad_request(text));
        }
        Ok(wants)
    }
}

async fn serve(becomes: Becomes, wants: Wants, source: Source, raw: Raw) {
    match becomes {
        Becomes::Channels(protocol) => {
            let socket = websocket::over(raw).await;
            let handle = |channels| async move {
                if let Some(streams) = Streams::of_channels(&wants, channels).await {
                    streams.carry(source).await;
                }
            };
            channels::serve(socket, Coding::of(protocol), CHANNELS, handle).await;
        }
        Becomes::Spdy | Becomes::Tunnel => {
            let handle = |accept| async move {
                if let Some(streams) = Streams::of_spdy(&wants, accept).await {
                    streams.carry(source).await;
                }
            };
            if let Err(error) = session::serve(raw, usize::from(CHANNELS), handle).await {
                debug!(%error, "a session broke off");
            }
        }
    }
}

type Input = Box<dyn AsyncRead + Send + Unpin>;
type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// The client's ends.
struct Streams {
    stdin: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    errors: Output,
    resize: Option<Input>,
    /// Other sides of what comes in: a client takes their ends for the command's.
    ends: Vec<Output>,
}

impl Streams {
    async fn of_channels(wants: &Wants, channels: Vec<DuplexStream>) -> Option<Self> {
        let Ok([stdin, stdout, stderr, errors, resize]) = <[_; 5]>::try_from(channels) else {
            return None;
        };
        Some(Self {
            stdin: wants.options.stdin.then_some(Box::new(stdin)),
            stdout: if wants.stdout { Some(Box::new(stdout)) } else { None },
            stderr: if wants.stderr { Some(Box::new(stderr)) } else { None },
            errors: Box::new(errors),
            resize: if wants.options.tty { Some(Box::new(resize)) } else { None },
            ends: Vec::new(),
        })
    }

    /// Those that a client opens; `None` when it does not open all of them in time.
    async fn of_spdy(wants: &Wants, mut accept: Accept) -> Option<Self> {
        let until = Instant::now() + STREAMS_TIMEOUT;
        let kinds = [
            ("stdin", wants.options.stdin),
            ("stdout", wants.stdout),
            ("stderr", wants.stderr),
            ("error", true),
            ("resize", wants.options.tty),
        ];
        let mut found: [Option<Stream>; 5] = Default::default();
        while kinds.iter().zip(&found).any(|((_, wanted), found)| *wanted && found.is_none()) {
            let stream = timeout_at(until, accept.next()).await.ok()??;
            let kind = stream.headers().get("streamType");
            let place = kinds.iter().position(|(name, wanted)| *wanted && *name == kind);
            // Another one is refused with its drop.
            if let Some(place) = place.filter(|place| found[*place].is_none()) {
                stream.accept().await.ok()?;
                found[place] = Some(stream);
            }
        }
        let [stdin, stdout, stderr, errors, resize] = found;
        let mut ends: Vec<Output> = Vec::new();
        let mut input = |stream: Stream| -> Input {
            let (input, end) = split(stream);
            ends.push(Box::new(end));
            Box::new(input)
        };
        let (stdin, resize) = (stdin.map(&mut input), resize.map(&mut input));
        let output = |stream: Stream| -> Output { Box::new(stream) };
        Some(Self {
            stdin,
            stdout: stdout.map(output),
            stderr: stderr.map(output),
            errors: output(errors?),
            resize,
            ends,
        })
    }

    /// Carries input and output until there is no more, and tells how it ended.
    async fn carry(self, source: Source) {
        let Self { stdin, mut stdout, mut stderr, mut errors, resize, mut ends } = self;
        let outputs = (&mut stdout, &mut stderr);
        let status = match source {
            Source::Command(command) => forward_command(command, (stdin, resize), outputs).await,
            Source::Log(log) => forward_log(log, outputs.0.as_mut().or(outputs.1.as_mut())).await,
        };
        let Some(status) = status else { return };
        for stream in [&mut stdout, &mut stderr].into_iter().flatten() {
            let _ = stream.shutdown().await;
        }
        let _ = errors.write_all(status.to_string().as_bytes()).await;
        let _ = errors.shutdown().await;
        for end in &mut ends {
            let _ = end.shutdown().await;
        }
    }
}

/// Until the command has ended; how. `None`: the client takes no more.
async fn forward_command(
    command: transport::Stream,
    (stdin, resize): (Option<Input>, Option<Input>),
    (stdout, stderr): (&mut Option<Output>, &mut Option<Output>),
) -> Option<Value> {
    let transport::Stream { mut send, recv } = command;
    let mut output = FrameReader::new(recv);
    let input = async {
        if let Err(error) = forward_input(stdin, resize, &mut send).await {
            debug!(%error, "the input of a command broke off");
        }
        std::future::pending::<Option<Value>>().await
    };
    tokio::select! {
        status = forward_output(&mut output, stdout, stderr) => status,
        status = input => status,
    }
}

/// Until the program has ended.
async fn forward_log(mut log: ByteStream, output: Option<&mut Output>) -> Option<Value> {
    let output = output?;
    while let Some(chunk) = log.next().await {
        match chunk {
            Ok(bytes) => output.write_all(&bytes).await.ok()?,
            Err(error) => return Some(internal(&error.message)),
        }
    }
    Some(ended_with(0, ""))
}

/// The same of its messages.
async fn forward_output<R: AsyncRead + Unpin>(
    output: &mut FrameReader<R>,
    stdout: &mut Option<Output>,
    stderr: &mut Option<Output>,
) -> Option<Value> {
    loop {
        let (stream, bytes) = match output.next::<ExecOutput>().await {
            Ok(Some(ExecOutput::Stdout(bytes))) => (&mut *stdout, bytes),
            Ok(Some(ExecOutput::Stderr(bytes))) => (&mut *stderr, bytes),
            Ok(Some(ExecOutput::Ended(ended))) => {
                return Some(ended_with(ended.code, &ended.message));
            }
            Ok(None) => return Some(internal("the device broke off")),
            Err(error) => return Some(internal(&error.to_string())),
        };
        if let Some(stream) = stream
            && stream.write_all(&bytes).await.is_err()
        {
            return None;
        }
    }
}

async fn forward_input(
    mut stdin: Option<Input>,
    resize: Option<Input>,
    send: &mut Box<dyn SendHalf>,
) -> io::Result<()> {
    let mut sizes = resize.map(Sizes::new);
    let mut piece = BytesMut::new();
    while stdin.is_some() || sizes.is_some() {
        piece.clear();
        piece.reserve(PIECE_BYTES);
        let message = tokio::select! {
            read = next_piece(&mut stdin, &mut piece) => match read? {
                0 => {
                    stdin = None;
                    ExecInput::End
                }
                _ => ExecInput::Stdin(Bytes::copy_from_slice(&piece)),
            },
            size = next_size(&mut sizes) => match size {
                Some((columns, rows)) => ExecInput::Resize { columns, rows },
                None => {
                    sizes = None;
                    continue;
                }
            },
        };
        frame::write(send, &message).await.map_err(io::Error::other)?;
    }
    Ok(())
}

async fn next_piece(stdin: &mut Option<Input>, piece: &mut BytesMut) -> io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.read_buf(piece).await,
        None => std::future::pending().await,
    }
}

async fn next_size(sizes: &mut Option<Sizes>) -> Option<(u16, u16)> {
    match sizes {
        Some(sizes) => sizes.next().await,
        None => std::future::pending().await,
    }
}

/// Sizes of a client's terminal, a line of JSON each.
struct Sizes {
    lines: BufReader<Input>,
    line: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

impl Sizes {
    fn new(input: Input) -> Self {
        Self { lines: BufReader::with_capacity(512, input), line: Vec::new() }
    }

    /// The next one; `None` after the last. Cancel safe: what was read of a line is kept.
    async fn next(&mut self) -> Option<(u16, u16)> {
        loop {
            let left = RESIZE_BYTES_MAX.saturating_sub(self.line.len() as u64);
            let read = (&mut self.lines).take(left).read_until(b'\n', &mut self.line).await;
            if read.ok()? == 0 {
                return None;
            }
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                if let Ok(Size { width, height }) = serde_json::from_slice(&line) {
                    return Some((width, height));
                }
            }
        }
    }
}

fn ended_with(code: i32, message: &str) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    let why = if message.is_empty() { String::new() } else { format!(": {message}") };
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}{why}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn internal(why: &str) -> Value {
    let text = format!("error executing command in container: {why}");
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {text}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": text}]},
        "code": 500,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_of_a_command_is_read() {
        let wants = Wants::read("command=ls&command=-l&container=c&stdin=true&tty=1").unwrap();
        assert_eq!(wants.options.command, ["ls", "-l"]);
        assert!(wants.options.stdin && wants.options.tty && wants.stdout && !wants.stderr);
        for (query, text) in
            [("stdin=1", "at least one command"), ("command=x&stdout=0&stderr=0", "at least 1 of")]
        {
            let error = Wants::read(query).unwrap_err();
            assert!(error.code == 400 && error.message.contains(text), "{error:?}");
        }
        assert_eq!(Wants::of_attach("stdin=true&stdout=true").unwrap_err().code, 400);
        assert!(Wants::of_attach("stdout=true&stderr=true").unwrap().stdout);
    }

    #[tokio::test]
    async fn sizes_are_read_line_by_line() {
        let text = b"{\"Width\":80,\"Height\":24}\nnoise\n{\"Width\":100,\"Height\":30}\n";
        let mut sizes = Sizes::new(Box::new(&text[..]));
        assert_eq!(sizes.next().await, Some((80, 24)));
        assert_eq!(sizes.next().await, Some((100, 30)));
        assert_eq!(sizes.next().await, None);
        let long = vec![b'x'; 1000];
        assert_eq!(Sizes::new(Box::new(std::io::Cursor::new(long))).next().await, None);
    }
}
