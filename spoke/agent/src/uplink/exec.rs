//! A command in a container: the hub's stream on one side, whoever runs it on the other.
//!
//! Guarantees:
//! - a command is killed when the hub's stream ends, whatever it does then
//!   (`a_command_is_dropped_when_its_stream_ends`, `a_command_that_reads_nothing_is_dropped_when_its_stream_ends`);
//! - what a newer hub says to it beside what is known ends nothing (`what_a_newer_hub_says_to_a_command_is_skipped`);
//! - input waits for a command that reads slowly, and its output for a hub that does (`who_is_slow_is_waited_for`).

use std::future::poll_fn;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use freewheel_link::frame;
use freewheel_link::message::{Answer, ExecInput, ExecOutput, ExecV1};
use freewheel_link::stop_poll::StopPoll;
use freewheel_link::transport::{Priority, SendHalf};
use tokio::io::{AsyncRead, AsyncWriteExt as _, DuplexStream, duplex};
use tracing::debug;

use super::Serve;
use super::opened::{Reader, refuse};
use super::terminal::{Terminal, Typed};

/// Input that waits for a command.
const STDIN_BYTES: usize = 16 << 10;

/// What a command reads.
pub type Stdin = Box<dyn AsyncRead + Send + Sync + Unpin>;

/// A command that runs. It is killed when this is dropped.
#[async_trait]
pub trait Command: Send {
    /// What it says next, and how it ended at last. Cancel safe.
    async fn next(&mut self) -> ExecOutput;
}

/// Runs a command for the hub, to its end or the stream's.
pub(super) async fn run(
    mut send: Box<dyn SendHalf>,
    mut recv: Reader,
    request: ExecV1,
    serve: Arc<dyn Serve>,
) {
    let (pipe, stdin) = request.stdin.then(|| duplex(STDIN_BYTES)).unzip();
    let mut input = Input { pipe, ..Input::default() };
    let (mut terminal, mut looks) = (request.tty.then(Terminal::default), StopPoll::default());
    let stdin = stdin.map(|stdin: DuplexStream| -> Stdin { Box::new(stdin) });
    let mut command = match serve.exec(request, stdin).await {
        Ok(command) => command,
        Err(refusal) => return refuse(&mut send, refusal).await,
    };
    send.set_priority(Priority::Tunnels);
    if frame::write(&mut send, &Answer::Ready).await.is_err() {
        return;
    }
    loop {
        let output = tokio::select! {
            output = command.next() => match terminal {
                Some(_) => Terminal::shown(output),
                None => output,
            },
            // It may take its input only when its output is taken: neither waits for the other here.
            () = input.write(), if input.waits() => continue,
            // The stream is not read meanwhile.
            () = poll_fn(|cx| looks.poll(cx, |cx| send.is_stopped(cx))), if input.waits() => return,
            heard = recv.next::<ExecInput>(), if !input.waits() => match heard {
                Ok(Some(message)) => match input.take(message, &mut terminal) {
                    Some(output) => output,
                    None => continue,
                },
                Ok(None) => return,
                Err(error) if error.is_unknown() => {
                    debug!("a message of a newer hub to a command is skipped");
                    tokio::task::yield_now().await;
                    continue;
                }
                Err(error) => return debug!(%error, "a command's stream broke off"),
            },
        };
        let ended = matches!(output, ExecOutput::Ended(_));
        if frame::write(&mut send, &output).await.is_err() {
            return;
        }
        if ended {
            let _ = send.shutdown().await;
            return;
        }
    }
}

/// A command's input on its way.
#[derive(Default)]
struct Input {
    /// `None`: it has none, has ended, or is not read any more.
    pipe: Option<DuplexStream>,
    waiting: Bytes,
    ends: bool,
}

impl Input {
    fn waits(&self) -> bool {
        self.pipe.is_some() && (!self.waiting.is_empty() || self.ends)
    }

    /// Cancel safe.
    async fn write(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let broken = !self.waiting.is_empty() && pipe.write_buf(&mut self.waiting).await.is_err();
        if broken || (self.waiting.is_empty() && self.ends) {
            self.pipe = None;
        }
    }

    /// Takes a message; what the one who types is to be told of it.
    fn take(&mut self, message: ExecInput, terminal: &mut Option<Terminal>) -> Option<ExecOutput> {
        match (message, terminal) {
            (ExecInput::Resize { .. }, _) => None,
            (ExecInput::End, _) => {
                self.ends = true;
                None
            }
            (ExecInput::Stdin(bytes), None) => {
                self.waiting = bytes;
                None
            }
            (ExecInput::Stdin(keys), Some(terminal)) => {
                let Typed { input, echo, ends, interrupts } = terminal.type_keys(&keys);
                if interrupts {
                    return Some(Terminal::interrupted());
                }
                (self.waiting, self.ends) = (input.into(), ends);
                (!echo.is_empty()).then(|| ExecOutput::Stdout(echo.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;
    use freewheel_link::frame::FrameReader;
    use freewheel_link::memory_transport;
    use freewheel_link::message::{ExecEndedV1, LogsV1, RefusalV1, TunnelV1};
    use freewheel_link::transport::{Stream, Transport as _};
    use tokio::io::AsyncReadExt as _;
    use tokio::time::timeout;

    use super::*;
    use crate::uplink::{Duplex, LogStream};

    /// Runs commands that say what they hear.
    #[derive(Default)]
    struct Echoes {
        gone: Arc<AtomicBool>,
        deaf: bool,
    }

    struct EchoCommand {
        stdin: Option<Stdin>,
        gone: Arc<AtomicBool>,
        deaf: bool,
    }

    impl Drop for EchoCommand {
        fn drop(&mut self) {
            self.gone.store(true, Ordering::SeqCst);
        }
    }

    #[async_trait]
    impl Command for EchoCommand {
        async fn next(&mut self) -> ExecOutput {
            let stdin = self.stdin.as_mut().filter(|_| !self.deaf);
            let Some(stdin) = stdin else { return std::future::pending().await };
            let mut bytes = vec![0; 100];
            match stdin.read(&mut bytes).await.unwrap() {
                0 => ExecOutput::Ended(ExecEndedV1 { code: 0, message: String::new() }),
                read => ExecOutput::Stdout(Bytes::copy_from_slice(&bytes[..read])),
            }
        }
    }

    #[async_trait]
    impl Serve for Echoes {
        async fn logs(&self, _: LogsV1) -> Result<LogStream, RefusalV1> {
            Err(RefusalV1::new("NotFound", "no logs"))
        }

        async fn tunnel(&self, _: TunnelV1) -> Result<Box<dyn Duplex>, RefusalV1> {
            Err(RefusalV1::new("NotFound", "no tunnels"))
        }

        async fn exec(
            &self,
            _: ExecV1,
            stdin: Option<Stdin>,
        ) -> Result<Box<dyn Command>, RefusalV1> {
            Ok(Box::new(EchoCommand { stdin, gone: self.gone.clone(), deaf: self.deaf }))
        }
    }

    /// The hub's end of a command.
    async fn started(serve: &Arc<Echoes>, stdin: bool) -> (Box<dyn SendHalf>, Reader) {
        let (hub, device) = memory_transport::pair();
        let near = hub.open(Priority::Tunnels).await.unwrap();
        let Stream { send, recv } = device.accept().await.unwrap();
        let request = ExecV1 {
            pod_uid: "u".to_owned(),
            container: "c".to_owned(),
            command: vec!["cat".to_owned()],
            stdin,
            tty: false,
        };
        let serve = serve.clone();
        tokio::spawn(async move {
            run(send, FrameReader::new(recv), request, serve).await;
            drop((hub, device));
        });
        let mut recv = FrameReader::new(near.recv);
        assert_eq!(recv.next::<Answer>().await.unwrap(), Some(Answer::Ready));
        (near.send, recv)
    }

    #[tokio::test]
    async fn a_command_has_all_of_its_input_and_says_all_of_its_output() {
        let (mut send, mut recv) = started(&Arc::default(), true).await;
        // More than waits anywhere, and nothing of it is read before all of it was sent.
        let all = 40;
        let sending = tokio::spawn(async move {
            for _ in 0..all {
                let piece = ExecInput::Stdin(Bytes::from(vec![b'x'; 10_000]));
                frame::write(&mut send, &piece).await.unwrap();
            }
            frame::write(&mut send, &ExecInput::End).await.unwrap();
            send
        });
        let mut said = 0;
        loop {
            match recv.next::<ExecOutput>().await.unwrap().unwrap() {
                ExecOutput::Stdout(bytes) => said += bytes.len(),
                ExecOutput::Ended(ended) => break assert_eq!(ended.code, 0),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(said, all * 10_000);
        drop(sending.await.unwrap());
    }

    #[tokio::test]
    async fn what_a_newer_hub_says_to_a_command_is_skipped() {
        let (mut send, mut recv) = started(&Arc::default(), true).await;
        send.write_all(&[2, 99, 1]).await.unwrap();
        let known = ExecInput::Stdin(Bytes::from_static(b"known"));
        frame::write(&mut send, &known).await.unwrap();
        let said = timeout(Duration::from_secs(5), recv.next::<ExecOutput>()).await.unwrap();
        assert_eq!(said.unwrap(), Some(ExecOutput::Stdout(Bytes::from_static(b"known"))));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_is_waited_for() {
        let (mut send, mut recv) = started(&Arc::default(), true).await;
        let bound = Duration::from_secs(60);
        // The hub reads nothing, so the command says nothing more, and so reads nothing more.
        let mut sent = 0;
        let all = async {
            loop {
                let piece = ExecInput::Stdin(Bytes::from(vec![b'x'; 10_000]));
                frame::write(&mut send, &piece).await.unwrap();
                sent += 10_000;
            }
        };
        assert!(timeout(bound, all).await.is_err(), "somebody takes all of it");
        assert!(sent < 250_000, "{sent}");
        // Nothing of it is lost.
        let mut said = 0;
        while said < sent {
            match timeout(bound, recv.next::<ExecOutput>()).await.unwrap().unwrap() {
                Some(ExecOutput::Stdout(bytes)) => said += bytes.len(),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_command_is_dropped_when_its_stream_ends() {
        let serve = Arc::new(Echoes::default());
        let (send, recv) = started(&serve, false).await;
        assert!(!serve.gone.load(Ordering::SeqCst));
        drop((send, recv));
        let gone = async {
            while !serve.gone.load(Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), gone).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_reads_nothing_is_dropped_when_its_stream_ends() {
        let serve = Arc::new(Echoes { deaf: true, ..Echoes::default() });
        let (mut send, recv) = started(&serve, true).await;
        // More than waits for it: the stream is read no further.
        let piece = ExecInput::Stdin(Bytes::from(vec![b'x'; 2 * STDIN_BYTES]));
        frame::write(&mut send, &piece).await.unwrap();
        drop((send, recv));
        let gone = async {
            while !serve.gone.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_secs(60), gone).await.unwrap();
    }
}
