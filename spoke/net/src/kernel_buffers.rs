//! What the kernel may hold of a connection from outside. It is on no account, and where the device has a memory limit of
//! its own the kernel takes it from there: left to itself it gives a slow client 4 MiB.
//!
//! ```text
//!                  asked for   the kernel counts it twice   beside that
//! to the client    32 KiB      64 KiB                       64 KiB: a packet of which it has begun is taken whole
//! to the pod       32 KiB      64 KiB                       -
//! one connection                                            192 KiB
//! all of them      a sixteenth of the device's memory: 341 of 1 GiB, and 16 of each node port, whatever others have
//! ```
//!
//! 32 KiB in each round are 30 MB a second where one takes a millisecond, and half a megabyte where it takes 60.
//!
//! Guarantees:
//! - a client that takes nothing has the kernel hold no more (`the_kernel_holds_little_for_a_client_that_takes_nothing`);
//! - every connection is bounded so from its first moment (`connections_have_the_buffers_of_their_listener`);
//! - there are as many as a sixteenth of the memory has room for (`connections_are_as_many_as_the_kernel_has_room_for`).

use std::io;

use socket2::SockRef;
use tokio::net::TcpListener;

/// What is asked for in each direction.
const ASKED_BYTES: usize = 32 << 10;

/// What the kernel makes of that: it counts what describes packets as well.
const BUFFER_BYTES: usize = 2 * ASKED_BYTES;

/// The largest packet. The kernel looks at its bound before it begins with one.
const PACKET_BYTES_MAX: usize = 64 << 10;

/// What it may hold to be sent.
pub(crate) const SENT_BYTES_MAX: usize = BUFFER_BYTES + PACKET_BYTES_MAX;

/// What it may hold of one connection.
const CONNECTION_BYTES_MAX: usize = SENT_BYTES_MAX + BUFFER_BYTES;

/// What part of a device's memory is for all of them: half of what its guests leave.
const MEMORY_DIVISOR: u64 = 16;

/// Connections from outside that a device of so much memory has room for, in bytes.
#[must_use]
pub const fn connections_from_outside(memory: u64) -> u64 {
    memory / MEMORY_DIVISOR / CONNECTION_BYTES_MAX as u64
}

/// Bounds what the kernel holds of the connections that come here: Linux hands it on to them.
pub(crate) fn bound(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_send_buffer_size(ASKED_BYTES)?;
    socket.set_recv_buffer_size(ASKED_BYTES)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn connections_have_the_buffers_of_their_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        bound(&listener).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&stream);
        let sizes = (socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap());
        assert_eq!(sizes, (BUFFER_BYTES, BUFFER_BYTES));
        drop(client);
    }

    #[test]
    fn connections_are_as_many_as_the_kernel_has_room_for() {
        for (memory, expected) in [(700 << 20, 233), (1 << 30, 341), (16 << 30, 5461)] {
            let connections = connections_from_outside(memory);
            assert_eq!(connections, expected);
            assert!(connections * CONNECTION_BYTES_MAX as u64 <= memory / 16);
        }
    }
}
