//! A client that writes frames by hand.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::header_block::Headers;

/// The client's end.
struct Client {
    io: DuplexStream,
    packer: Packer,
    unpacker: Unpacker,
}

#[derive(Debug, PartialEq, Eq)]
enum Got {
    Control(Control),
    Data { stream: u32, fin: bool, bytes: Vec<u8> },
}

impl Client {
    async fn control(&mut self, control: Control) {
        let frame = control.write(&mut self.packer).unwrap();
        self.io.write_all(&frame).await.unwrap();
    }

    async fn open(&mut self, stream: u32) {
        let headers = Headers::from([("port", "80")]);
        self.control(Control::SynStream { stream, fin: false, headers }).await;
    }

    async fn data(&mut self, stream: u32, fin: bool, bytes: &[u8]) {
        self.io.write_all(&data_head(stream, fin, bytes.len())).await.unwrap();
        self.io.write_all(bytes).await.unwrap();
    }

    async fn next(&mut self) -> Option<Got> {
        let mut head = [0; HEAD_BYTES];
        let read = timeout(Duration::from_secs(5), self.io.read_exact(&mut head)).await.unwrap();
        read.ok()?;
        Some(match Head::read(head).unwrap() {
            Head::Data { stream, fin, length } => {
                let mut bytes = vec![0; length];
                self.io.read_exact(&mut bytes).await.unwrap();
                Got::Data { stream, fin, bytes }
            }
            Head::Control { kind, flags, length } => {
                let mut body = vec![0; length];
                self.io.read_exact(&mut body).await.unwrap();
                Got::Control(Control::read((kind, flags), &body, &mut self.unpacker).unwrap())
            }
        })
    }
}

fn reply(stream: u32) -> Option<Got> {
    let headers = Headers::default();
    Some(Got::Control(Control::SynReply { stream, fin: false, headers }))
}

fn reset(stream: u32, status: Status) -> Option<Got> {
    Some(Got::Control(Control::RstStream { stream, status: status as u32 }))
}

/// A session of two streams whose handler does this with each.
fn session<F, G>(handle: F) -> (Client, tokio::task::JoinHandle<io::Result<()>>)
where
    F: Fn(Stream) -> G + Send + 'static,
    G: Future<Output = ()> + Send + 'static,
{
    let (near, far) = duplex(64 << 10);
    let serving = serve(far, 2, async move |mut accept: Accept| {
        while let Some((stream, _)) = accept.next().await {
            tokio::spawn(handle(stream));
        }
    });
    let client = Client { io: near, packer: Packer::default(), unpacker: Unpacker::default() };
    (client, tokio::spawn(serving))
}

async fn echo(mut stream: Stream) {
    stream.accept().await.unwrap();
    let mut bytes = [0; 1000];
    while let Ok(read) = stream.read(&mut bytes).await {
        if read == 0 {
            stream.shutdown().await.unwrap();
            return;
        }
        stream.write_all(&bytes[..read]).await.unwrap();
    }
}

#[tokio::test]
async fn ends_are_told_from_what_broke_off() {
    let (mut client, served) = session(echo);
    client.open(1).await;
    assert_eq!(client.next().await, reply(1));
    client.data(1, false, b"hello").await;
    let data = Got::Data { stream: 1, fin: false, bytes: b"hello".to_vec() };
    assert_eq!(client.next().await, Some(data));
    client.data(1, true, b"").await;
    let end = Got::Data { stream: 1, fin: true, bytes: Vec::new() };
    assert_eq!(client.next().await, Some(end));
    // The handler goes without a word.
    client.open(3).await;
    assert_eq!(client.next().await, reply(3));
    client.control(Control::RstStream { stream: 3, status: Status::Cancel as u32 }).await;
    client.control(Control::Ping(5)).await;
    assert_eq!(client.next().await, Some(Got::Control(Control::Ping(5))));
    client.control(Control::GoAway).await;
    assert!(served.await.unwrap().is_ok());
}

#[tokio::test]
async fn what_a_handler_drops_is_reset() {
    let (mut client, _served) = session(|stream| async move {
        if stream.id() == 1 {
            stream.accept().await.unwrap();
        }
    });
    client.open(1).await;
    assert_eq!(client.next().await, reply(1));
    assert_eq!(client.next().await, reset(1, Status::Cancel));
    client.open(3).await;
    assert_eq!(client.next().await, reset(3, Status::Cancel));
}

#[tokio::test]
async fn a_stream_beyond_the_bound_is_refused() {
    let (mut client, _served) = session(echo);
    for stream in [1, 3] {
        client.open(stream).await;
        assert_eq!(client.next().await, reply(stream));
    }
    client.open(5).await;
    assert_eq!(client.next().await, reset(5, Status::RefusedStream));
    for number in [5, 6] {
        client.open(number).await;
        assert_eq!(client.next().await, reset(number, Status::ProtocolError));
    }
    // With an end of one there is room again.
    client.data(1, true, b"").await;
    assert!(matches!(client.next().await, Some(Got::Data { stream: 1, fin: true, .. })));
    client.open(7).await;
    assert_eq!(client.next().await, reply(7));
}

#[tokio::test]
async fn what_was_written_goes_out_before_the_farewell() {
    let (near, far) = duplex(1000);
    let serving = serve(far, 2, async |mut accept: Accept| {
        let (mut stream, _) = accept.next().await.unwrap();
        stream.accept().await.unwrap();
        stream.write_all(&[7; 30_000]).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let served = tokio::spawn(serving);
    let mut client = Client { io: near, packer: Packer::default(), unpacker: Unpacker::default() };
    client.open(1).await;
    assert_eq!(client.next().await, reply(1));
    let mut got = 0;
    loop {
        match client.next().await.unwrap() {
            Got::Data { fin: false, bytes, .. } => got += bytes.len(),
            Got::Data { fin: true, .. } => break,
            Got::Control(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(got, 30_000);
    assert_eq!(client.next().await, Some(Got::Control(Control::GoAway)));
    assert_eq!(client.next().await, None);
    assert!(served.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_slow_reader_holds_little() {
    let (mut client, _served) = session(|stream| async move {
        stream.accept().await.unwrap();
        std::future::pending::<()>().await;
        drop(stream);
    });
    client.open(1).await;
    assert_eq!(client.next().await, reply(1));
    let mut sent = 0;
    let all = async {
        loop {
            client.data(1, false, &[0; 1000]).await;
            sent += 1000;
        }
    };
    assert!(timeout(Duration::from_millis(200), all).await.is_err());
    assert!(sent <= PIPE_BYTES + PIECE_BYTES + (64 << 10), "{sent}");
}

#[tokio::test]
async fn noise_ends_a_session() {
    let mut rng = fastrand::Rng::with_seed(3);
    for round in 0..500 {
        let (mut client, served) = session(echo);
        if round % 2 == 0 {
            client.open(1).await;
        }
        let noise: Vec<u8> = (0..rng.usize(1..400)).map(|_| rng.u8(..)).collect();
        let _ = client.io.write_all(&noise).await;
        drop(client);
        let served = timeout(Duration::from_secs(5), served).await;
        assert!(served.is_ok(), "round {round}");
        // Whatever became of it, it did not panic.
        let _ = served.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hears_nothing_is_pinged() {
    let (mut client, served) = session(echo);
    client.open(1).await;
    assert_eq!(client.next().await, reply(1));
    for id in [2, 4] {
        tokio::time::sleep(PING_AFTER).await;
        assert_eq!(client.next().await, Some(Got::Control(Control::Ping(id))));
        client.control(Control::Ping(id)).await;
    }
    client.control(Control::GoAway).await;
    assert!(served.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_has_gone_behind_what_nobody_reads_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let deaf = async |mut accept: Accept| {
        let _open = accept.next().await;
        std::future::pending::<()>().await;
    };
    let served = tokio::spawn(serve(server, 1, deaf));
    let headers = Headers::from([("port", "80")]);
    let open = Control::SynStream { stream: 1, fin: false, headers };
    client.write_all(&open.write(&mut Packer::default()).unwrap()).await.unwrap();
    let piece = vec![0; PIECE_BYTES];
    let fill = async {
        loop {
            client.write_all(&data_head(1, false, piece.len())).await.unwrap();
            client.write_all(&piece).await.unwrap();
        }
    };
    assert!(timeout(PING_AFTER / 2, fill).await.is_err(), "there is room for no more");
    drop(client);
    let end = timeout(PING_AFTER * 3, served).await;
    assert!(end.expect("it is noticed").unwrap().is_err());
}
