//! A WebSocket with numbered channels: each message is of the channel that its first byte names.
//!
//! ```text
//! v4.channel.k8s.io           binary: number, bytes
//! v4.base64.channel.k8s.io    text: digit, base64 of the bytes
//! v5.channel.k8s.io           as v4; 255 and a number: the client has said the end of that channel
//! ```
//!
//! While a channel has no room nobody reads on, and a client's pings stand behind its data; kubectl takes who has not
//! answered one for 61 s for gone, also where it is the command that reads nothing (at kube-apiserver, too, whose reader
//! waits for the same). So it is told without being asked (RFC 6455, 5.5.3), and has its input wait as long as the command
//! likes if all of it is on its way: what is in the buffers of two kernels, some hundred kilobytes to some megabytes. Of
//! more it gives a write up after a minute, which nobody here can keep it from without taking all it has, cannot answer
//! our pings by then, and ends with an error.
//!
//! Guarantees:
//! - what waits in a channel is bounded, and who reads slowly stops its own connection
//!   (`who_reads_slowly_stops_its_own_connection`);
//! - a client that has gone is noticed also behind bytes for which a channel has no room
//!   (`who_has_gone_behind_what_nobody_reads_is_noticed`, `a_client_that_hears_nothing_is_pinged`), and one whose input waits
//!   hears that it is heard, whatever else it hears (`a_client_whose_input_waits_is_told_that_it_is_heard`);
//! - a message for no channel is skipped, and one that cannot be read ends the session
//!   (`messages_find_their_channels`).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::FuturesUnordered;
use futures::{Sink, SinkExt as _, StreamExt as _};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadHalf,
    WriteHalf, duplex, split,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// What waits in one direction of a channel.
pub(super) const PIPE_BYTES: usize = 32 << 10;
/// The most of a channel that goes out at once.
const PIECE_BYTES: usize = 16 << 10;
/// How often a client is pinged. Nobody reads on while a channel has no room, and the end of a connection comes behind all
/// its bytes: only what is written to who has gone tells of it.
const PING_EVERY: Duration = Duration::from_secs(10);
/// How long a client is read on that has been told farewell.
const FAREWELL_LINGER: Duration = Duration::from_secs(2);
/// Messages that wait to go out.
const QUEUED_MESSAGES_MAX: usize = 4;

/// How bytes are put into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Binary,
    Base64,
    /// Binary, with ends.
    BinaryWithEnds,
}

/// What is said in a message.
#[derive(Debug, PartialEq, Eq)]
enum ChannelMessage {
    Data(u8, Bytes),
    End(u8),
}

/// The number that ends another channel.
const CHANNEL_END: u8 = 255;

impl Coding {
    /// That of a protocol.
    pub(super) fn of(protocol: &str) -> Self {
        match protocol {
            "v4.base64.channel.k8s.io" => Self::Base64,
            "v5.channel.k8s.io" => Self::BinaryWithEnds,
            _ => Self::Binary,
        }
    }

    fn write(self, channel: u8, bytes: &[u8]) -> Message {
        match self {
            Self::Binary | Self::BinaryWithEnds => {
                let mut message = BytesMut::with_capacity(1 + bytes.len());
                message.put_u8(channel);
                message.put_slice(bytes);
                Message::Binary(message.freeze())
            }
            Self::Base64 => {
                let digit = char::from(b'0'.saturating_add(channel));
                Message::text(format!("{digit}{}", STANDARD.encode(bytes)))
            }
        }
    }

    /// What a message says, if anything.
    fn read(self, message: Message) -> Result<Option<ChannelMessage>, base64::DecodeError> {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {
                return Ok(None);
            }
        };
        let Some((channel, rest)) = bytes.split_first() else { return Ok(None) };
        Ok(Some(match self {
            Self::BinaryWithEnds if *channel == CHANNEL_END => {
                return Ok(rest.first().copied().map(ChannelMessage::End));
            }
            Self::Binary | Self::BinaryWithEnds => ChannelMessage::Data(*channel, bytes.slice(1..)),
            Self::Base64 => {
                ChannelMessage::Data(channel.wrapping_sub(b'0'), STANDARD.decode(rest)?.into())
            }
        }))
    }
}

/// Serves so many channels until the client goes or `handle` is done with them; what was written by then goes out.
pub(super) async fn serve<T, F>(
    socket: WebSocketStream<T>,
    coding: Coding,
    count: u8,
    handle: impl FnOnce(Vec<DuplexStream>) -> F,
) where
    T: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    let (mut sink, mut stream) = socket.split();
    let (out, mut queue) = mpsc::channel::<Message>(QUEUED_MESSAGES_MAX);
    let (mut near, mut inward) = (Vec::new(), Vec::new());
    let mut pumps = FuturesUnordered::new();
    for channel in 0..count {
        let (own, far) = duplex(PIPE_BYTES);
        let (outward, pipe) = split(far);
        near.push(own);
        inward.push(Some(pipe));
        pumps.push(pump(coding, channel, outward, out.clone()));
    }
    drop(out);
    // Input waits for room.
    let waits = AtomicBool::new(false);
    let reading = async {
        while let Some(Ok(message)) = stream.next().await {
            match coding.read(message) {
                Ok(Some(ChannelMessage::Data(channel, bytes))) => {
                    waits.store(true, Relaxed);
                    deliver(&mut inward, channel, &bytes).await;
                    waits.store(false, Relaxed);
                }
                Ok(Some(ChannelMessage::End(channel))) => end(&mut inward, channel).await,
                Ok(None) => {}
                Err(_) => return,
            }
        }
    };
    let pumping = async { while pumps.next().await.is_some() {} };
    let work = async {
        // Whoever pumps goes on until what was written is out.
        tokio::join!(handle(near), pumping);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = write(&mut sink, &mut queue, &waits) => {}
        () = reading => {}
        () = work => {}
    }
}

/// Until all that is written to channels is out, and the farewell.
async fn write<S: Sink<Message> + Unpin>(
    sink: &mut S,
    queue: &mut mpsc::Receiver<Message>,
    waits: &AtomicBool,
) {
    let mut beats = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let sent = tokio::select! {
            biased;
            _ = beats.tick() => beat(sink, waits.load(Relaxed)).await,
            message = queue.recv() => match message {
                Some(message) => sink.send(message).await,
                // It ends with the last pump.
                None => break,
            },
        };
        if sent.is_err() {
            return;
        }
    }
    let end = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = sink.send(Message::Close(Some(end))).await;
    // What is closed over bytes that nobody has read takes back what is on its way.
    tokio::time::sleep(FAREWELL_LINGER).await;
}

/// Pings a client; one whose own pings nobody hears now is answered unasked.
async fn beat<S: Sink<Message> + Unpin>(sink: &mut S, waits: bool) -> Result<(), S::Error> {
    if waits {
        sink.send(Message::Pong(Bytes::new())).await?;
    }
    sink.send(Message::Ping(Bytes::new())).await
}

async fn deliver(inward: &mut [Option<WriteHalf<DuplexStream>>], channel: u8, bytes: &[u8]) {
    let Some(pipe) = inward.get_mut(usize::from(channel)) else { return };
    if let Some(open) = pipe
        && open.write_all(bytes).await.is_err()
    {
        // Nobody reads it any more.
        *pipe = None;
    }
}

async fn end(inward: &mut [Option<WriteHalf<DuplexStream>>], channel: u8) {
    let pipe = inward.get_mut(usize::from(channel)).and_then(Option::take);
    if let Some(mut pipe) = pipe {
        let _ = pipe.shutdown().await;
    }
}

/// Sends what is written to a channel.
async fn pump(
    coding: Coding,
    channel: u8,
    mut pipe: ReadHalf<DuplexStream>,
    out: mpsc::Sender<Message>,
) {
    let mut piece = BytesMut::with_capacity(PIECE_BYTES);
    loop {
        piece.clear();
        piece.reserve(PIECE_BYTES);
        match pipe.read_buf(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(_) if out.send(coding.write(channel, &piece)).await.is_err() => return,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{sleep, timeout};
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::streaming::websocket;

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_stops_its_own_connection() {
        let (near, far) = duplex(1000);
        let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let written = Arc::new(AtomicUsize::new(0));
        let counted = written.clone();
        // Nobody reads the first channel here, and the client reads nothing of the second.
        let handle = |mut channels: Vec<DuplexStream>| async move {
            while channels[1].write_all(&[0; 1000]).await.is_ok() {
                counted.fetch_add(1000, Relaxed);
            }
        };
        let mut sent = 0;
        let all = async {
            loop {
                client.send(Message::binary(vec![0; 1000])).await.unwrap();
                sent += 1000;
            }
        };
        tokio::select! {
            () = serve(websocket::over(far).await, Coding::Binary, 2, handle) => panic!("it goes on"),
            stopped = timeout(Duration::from_secs(60), all) => assert!(stopped.is_err()),
        }
        assert!((PIPE_BYTES - 1000..PIPE_BYTES + 4000).contains(&sent), "{sent}");
        let written = written.load(Relaxed);
        assert!(
            (PIPE_BYTES..PIPE_BYTES + (QUEUED_MESSAGES_MAX + 3) * PIECE_BYTES).contains(&written),
            "{written}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_hears_nothing_is_pinged() {
        let (near, far) = duplex(1000);
        let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let deaf = async |_channels: Vec<DuplexStream>| std::future::pending().await;
        let served = serve(websocket::over(far).await, Coding::Binary, 1, deaf);
        let hear = async {
            for _ in 0..2 {
                let heard = timeout(PING_EVERY * 2, client.next()).await.unwrap().unwrap();
                assert_eq!(heard.unwrap(), Message::Ping(Bytes::new()));
            }
        };
        tokio::select! {
            () = served => panic!("it goes on"),
            () = hear => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_whose_input_waits_is_told_that_it_is_heard() {
        let (near, far) = duplex(1000);
        let client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let (mut says, mut hears) = client.split();
        // It reads nothing, and goes on talking.
        let busy = async |mut channels: Vec<DuplexStream>| {
            while channels[1].write_all(b".").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let served = serve(websocket::over(far).await, Coding::Binary, 2, busy);
        let say = async { while says.send(Message::binary(vec![0; 1000])).await.is_ok() {} };
        let hear = async {
            let (mut last, mut pongs) = (Instant::now(), 0);
            while pongs < 7 {
                if hears.next().await.unwrap().unwrap() == Message::Pong(Bytes::new()) {
                    (last, pongs) = (Instant::now(), pongs + 1);
                }
                assert!(last.elapsed() < Duration::from_secs(61), "kubectl takes it for gone");
            }
        };
        tokio::select! {
            () = served => panic!("it goes on"),
            () = say => panic!("it is heard"),
            () = hear => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_gone_behind_what_nobody_reads_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let deaf = async |_channels: Vec<DuplexStream>| std::future::pending::<()>().await;
        let served = tokio::spawn(serve(websocket::over(far).await, Coding::Binary, 1, deaf));
        let fill = async {
            loop {
                client.send(Message::binary(vec![0; PIECE_BYTES])).await.unwrap();
            }
        };
        let filled: Result<(), _> = timeout(PING_EVERY / 2, fill).await;
        assert!(filled.is_err(), "there is room for no more");
        drop(client);
        timeout(PING_EVERY * 3, served).await.expect("it is noticed").unwrap();
    }

    #[test]
    fn messages_find_their_channels() {
        for coding in [Coding::Binary, Coding::Base64] {
            let message = coding.write(2, b"hello");
            let read = coding.read(message).unwrap();
            assert_eq!(read, Some(ChannelMessage::Data(2, Bytes::from_static(b"hello"))));
            assert_eq!(coding.read(Message::Binary(Bytes::new())).unwrap(), None);
        }
        assert_eq!(Coding::Base64.write(1, b"a"), Message::text("1YQ=="));
        assert!(Coding::Base64.read(Message::text("0!")).is_err());
        let end = Coding::BinaryWithEnds.read(Message::binary(vec![CHANNEL_END, 0])).unwrap();
        assert_eq!(end, Some(ChannelMessage::End(0)));
        assert_eq!(Coding::of("v4.base64.channel.k8s.io"), Coding::Base64);
    }
}
