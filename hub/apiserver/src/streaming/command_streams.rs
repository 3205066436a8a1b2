//! What a client of a command reads and writes, by whichever protocol, and what is at the other end of it.
//!
//! Guarantees:
//! - a link that breaks off is no success, nor what has to end (`a_link_that_breaks_off_is_no_success`,
//!   `a_session_that_its_hub_ends_is_told_why`);
//! - input and output wait for each other nowhere (`input_and_output_wait_for_each_other_nowhere`);
//! - what was taken of the output and waits for the client is on its connection's account, and nothing is taken while that
//!   is full (`output_that_its_client_does_not_take_is_on_the_account`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use freewheel_hub_api::streams::ByteStream;
use freewheel_hub_spdy::{Accept, Stream};
use freewheel_link::frame::{self, FrameReader};
use freewheel_link::message::{ExecInput, ExecOutput};
use freewheel_link::transport::{self, SendHalf};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
    DuplexStream, split,
};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::stream_end::End;
use super::wants::Wants;
use crate::memory_account::{Held, MemoryAccount};

/// How long a client of SPDY's may take to open its streams, as the kubelet has it.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// The most of the input that goes to the device at once.
const PIECE_BYTES: usize = 16 << 10;
/// What a piece of the input takes: as it is read, as a message, and as a frame.
pub(super) const INPUT_BYTES: usize = 3 * PIECE_BYTES;
/// The longest line that says a size.
const RESIZE_BYTES_MAX: u64 = 256;

/// What is at the other end.
pub(super) enum Source {
    Command(transport::Stream),
    Log(ByteStream),
}

/// The same, with the account of the connection that it is carried to.
pub(super) struct Counted {
    pub(super) source: Source,
    pub(super) account: Arc<MemoryAccount>,
}

type Input = Box<dyn AsyncRead + Send + Unpin>;
type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// The client's ends.
pub(super) struct Streams {
    stdin: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    errors: Output,
    resize: Option<Input>,
    /// Other sides of what comes in: a client takes their ends for the command's.
    ends: Vec<Output>,
}

impl Streams {
    /// Those of a WebSocket.
    pub(super) async fn of_channels(wants: &Wants, channels: Vec<DuplexStream>) -> Option<Self> {
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

    /// Those that a client opens; `None` when it does not open all of them in time, or `end` comes.
    pub(super) async fn of_spdy(wants: &Wants, mut accept: Accept, end: End) -> Option<Self> {
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
            let (stream, headers) = tokio::select! {
                next = timeout_at(until, accept.next()) => next.ok()??,
                why = end.clone() => {
                    tell(found[3].as_mut()?, &why.to_status()).await;
                    return None;
                }
            };
            let kind = headers.get("streamType");
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

    /// Carries input and output until there is no more, or `end` comes, and tells how it ended.
    pub(super) async fn carry(self, Counted { source, account }: Counted, end: End) {
        let Self { stdin, mut stdout, mut stderr, mut errors, resize, mut ends } = self;
        let outputs = (&mut stdout, &mut stderr);
        let carried = async {
            match source {
                Source::Command(command) => {
                    forward_command(command, (stdin, resize), outputs, &account).await
                }
                Source::Log(log) => {
                    forward_log(log, outputs.0.as_mut().or(outputs.1.as_mut()), &account).await
                }
            }
        };
        let status = tokio::select! {
            biased;
            status = carried => status,
            why = end => Some(why.to_status()),
        };
        let Some(status) = status else { return };
        for stream in [&mut stdout, &mut stderr].into_iter().flatten() {
            let _ = stream.shutdown().await;
        }
        tell(&mut errors, &status).await;
        for end in &mut ends {
            let _ = end.shutdown().await;
        }
    }
}

async fn tell(errors: &mut (impl AsyncWrite + Unpin), status: &Value) {
    let _ = errors.write_all(status.to_string().as_bytes()).await;
    let _ = errors.shutdown().await;
}

/// Until the command has ended; how. `None`: the client takes no more.
async fn forward_command(
    command: transport::Stream,
    (stdin, resize): (Option<Input>, Option<Input>),
    outputs: (&mut Option<Output>, &mut Option<Output>),
    account: &Arc<MemoryAccount>,
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
        status = forward_output(&mut output, outputs, account) => status,
        status = input => status,
    }
}

/// Until the program has ended.
async fn forward_log(
    mut log: ByteStream,
    output: Option<&mut Output>,
    account: &Arc<MemoryAccount>,
) -> Option<Value> {
    let output = output?;
    loop {
        account.clone().room().await;
        let Some(chunk) = log.next().await else { break };
        match chunk {
            Ok(bytes) => {
                let _held = account.piece(bytes.len());
                output.write_all(&bytes).await.ok()?;
            }
            Err(error) => return Some(internal(&error.message)),
        }
    }
    Some(ended_with(0, ""))
}

/// The same of its messages.
async fn forward_output<R: AsyncRead + Unpin>(
    output: &mut FrameReader<R>,
    (stdout, stderr): (&mut Option<Output>, &mut Option<Output>),
    account: &Arc<MemoryAccount>,
) -> Option<Value> {
    let mut held = account.piece(0);
    loop {
        account.clone().room().await;
        let message = output.next_counted::<ExecOutput>(|bytes| held.grow_to(bytes)).await;
        let (stream, bytes) = match message {
            Ok(Some(ExecOutput::Stdout(bytes))) => (&mut *stdout, bytes),
            Ok(Some(ExecOutput::Stderr(bytes))) => (&mut *stderr, bytes),
            Ok(Some(ExecOutput::Ended(ended))) => {
                return Some(ended_with(ended.code, &ended.message));
            }
            Ok(None) => return Some(internal("the device broke off")),
            Err(error) if error.is_unknown() => {
                debug!("a message of a newer spoke about a command is skipped");
                tokio::task::yield_now().await;
                continue;
            }
            Err(error) => return Some(internal(&error.to_string())),
        };
        resize_to(&mut held, output.held() + bytes.len());
        if let Some(stream) = stream
            && stream.write_all(&bytes).await.is_err()
        {
            return None;
        }
        drop(bytes);
        resize_to(&mut held, output.held());
    }
}

/// It is there already, or not any more.
fn resize_to(held: &mut Held, bytes: usize) {
    held.grow_to(bytes);
    held.shrink(bytes);
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
    use freewheel_link::memory_transport;
    use freewheel_link::message::ExecEndedV1;
    use freewheel_link::transport::{Priority, Transport as _};
    use tokio::io::duplex;
    use tokio::time::timeout;

    use super::*;
    use crate::memory_account::CONNECTION_BYTES_MAX;

    #[tokio::test(start_paused = true)]
    async fn input_and_output_wait_for_each_other_nowhere() {
        let bound = Duration::from_secs(60);
        let piece = || ExecOutput::Stdout(Bytes::from(vec![b'o'; 10_000]));
        let (hub, device) = memory_transport::pair();
        let near = hub.open(Priority::Tunnels).await.unwrap();
        // The command reads nothing of an endless input, and says more than waits anywhere.
        let transport::Stream { mut send, recv: _unread } = device.accept().await.unwrap();
        let saying = async {
            for _ in 0..40 {
                frame::write(&mut send, &piece()).await.unwrap();
            }
            let ended = ExecEndedV1 { code: 0, message: String::new() };
            frame::write(&mut send, &ExecOutput::Ended(ended)).await.unwrap();
        };
        let input: Input = Box::new(tokio::io::repeat(b'i'));
        let (mut stdout, mut stderr): (Option<Output>, _) =
            (Some(Box::new(tokio::io::sink())), None);
        let (account, outputs) = (MemoryAccount::new(Arc::default()), (&mut stdout, &mut stderr));
        let forwarding = forward_command(near, (Some(input), None), outputs, &account);
        let both = async { tokio::join!(forwarding, saying).0 };
        let status = timeout(bound, both).await.expect("output does not wait for input");
        assert_eq!(status.unwrap()["status"], "Success");

        // The client reads nothing of an endless output, and says more than waits anywhere.
        let near = hub.open(Priority::Tunnels).await.unwrap();
        let transport::Stream { mut send, recv } = device.accept().await.unwrap();
        let saying = async { while frame::write(&mut send, &piece()).await.is_ok() {} };
        let hearing = async {
            let mut input = FrameReader::new(recv);
            let mut heard = 0;
            while let Some(ExecInput::Stdin(bytes)) = input.next().await.unwrap() {
                heard += bytes.len();
            }
            heard
        };
        let input: Input = Box::new(io::Cursor::new(vec![b'i'; 400_000]));
        let (output, _unread) = duplex(100);
        let (mut stdout, mut stderr): (Option<Output>, _) = (Some(Box::new(output)), None);
        let outputs = (&mut stdout, &mut stderr);
        tokio::select! {
            _ = forward_command(near, (Some(input), None), outputs, &account) => {
                panic!("the command goes on");
            }
            () = saying => panic!("its output waits for the client"),
            heard = timeout(bound, hearing) => {
                assert_eq!(heard.expect("input does not wait for output"), 400_000);
            }
        }
    }

    #[tokio::test]
    async fn what_a_newer_spoke_says_of_a_command_is_skipped() {
        let (hub, device) = memory_transport::pair();
        let near = hub.open(Priority::Tunnels).await.unwrap();
        let transport::Stream { mut send, recv: _unread } = device.accept().await.unwrap();
        send.write_all(&[2, 99, 1]).await.unwrap();
        let ended = ExecEndedV1 { code: 0, message: String::new() };
        frame::write(&mut send, &ExecOutput::Ended(ended)).await.unwrap();
        let account = MemoryAccount::new(Arc::default());
        let status = forward_command(near, (None, None), (&mut None, &mut None), &account).await;
        assert_eq!(status.unwrap()["status"], "Success");
    }

    #[tokio::test(start_paused = true)]
    async fn output_that_its_client_does_not_take_is_on_the_account() {
        const SAID_BYTES: usize = 1_000_000;
        let account = MemoryAccount::new(Arc::default());
        let (hub, device) = memory_transport::pair();
        let near = hub.open(Priority::Tunnels).await.unwrap();
        let transport::Stream { mut send, recv: _unread } = device.accept().await.unwrap();
        let saying = async {
            let piece = ExecOutput::Stdout(Bytes::from(vec![b'o'; SAID_BYTES]));
            while frame::write(&mut send, &piece).await.is_ok() {}
        };
        let (output, mut client) = duplex(100);
        let (mut stdout, mut stderr): (Option<Output>, _) = (Some(Box::new(output)), None);
        let full = account.piece(CONNECTION_BYTES_MAX);
        let held = || account.held() - CONNECTION_BYTES_MAX;
        let reads = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(held(), 0, "nothing is taken while there is no room");
            drop(full);
            while account.held() < SAID_BYTES {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let held = account.held();
            assert!((SAID_BYTES..3 * SAID_BYTES).contains(&held), "{held}");
            let mut taken = vec![0; SAID_BYTES];
            client.read_exact(&mut taken).await.unwrap();
        };
        let outputs = (&mut stdout, &mut stderr);
        tokio::select! {
            _ = forward_command(near, (None, None), outputs, &account) => panic!("it goes on"),
            () = saying => panic!("its output waits for the client"),
            read = timeout(Duration::from_secs(60), reads) => read.expect("it is counted, and goes on"),
        }
        assert_eq!(account.held(), 0, "and comes back");
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
