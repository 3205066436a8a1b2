//! A WebSocket, and the bytes in it.
//!
//! Guarantees:
//! - what a client says at once is bounded, and so is what waits to be taken
//!   (`a_message_that_is_too_long_ends_the_session`).

use std::io;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

/// The most that is said at once; clients of Kubernetes say some tens of kilobytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A WebSocket over this, at the server's end.
pub(super) async fn over<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> WebSocketStream<T> {
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(256 << 10)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// The bytes of its binary messages, one after another.
pub(super) fn bytes<T>(socket: WebSocketStream<T>) -> impl AsyncRead + AsyncWrite + Send
where
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (sink, stream) = socket.split();
    let received = stream.map_err(io::Error::other).try_filter_map(|message| async move {
        match message {
            Message::Binary(bytes) => Ok(Some(bytes)),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(None),
            Message::Text(_) => {
                let text = "invalid message type received";
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
        }
    });
    let sink = sink
        .with(|bytes: Bytes| std::future::ready(Ok::<_, Error>(Message::Binary(bytes))))
        .sink_map_err(io::Error::other);
    tokio::io::join(StreamReader::new(Box::pin(received)), SinkWriter::new(CopyToBytes::new(sink)))
}
