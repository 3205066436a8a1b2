//! Hears from the kernel that an interface, an address or a route of this machine has changed.
//!
//! Guarantees:
//! - a change is heard of at once where the kernel tells, and who waits is not woken for nothing
//!   (`what_the_kernel_says_is_heard_of_once`);
//! - elsewhere somebody looks every few seconds (`where_the_kernel_does_not_tell_somebody_looks`).

use std::io::ErrorKind;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::net::UnixDatagram;
use tracing::warn;

/// Between two looks where the kernel does not tell.
const POLL_EVERY: Duration = Duration::from_secs(5);
/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR and RTMGRP_IPV4_ROUTE.
const GROUPS: u32 = 0x1 | 0x10 | 0x40;
/// Messages taken at once: on a machine whose routes never rest this must come to an end.
const MESSAGES_AT_ONCE: usize = 256;

/// The interfaces of this machine.
pub(crate) struct Interfaces {
    /// The kernel's messages come as datagrams, so this takes them; it has no other use of them but that they came.
    notifications: Option<UnixDatagram>,
}

impl Interfaces {
    /// Listens from now on. Call within a tokio runtime.
    pub(crate) fn listen() -> Self {
        let notifications = subscribe().inspect_err(|error| {
            // Some sandboxes know no such sockets.
            warn!(%error, "the kernel tells of no new addresses: they are looked at every few seconds");
        });
        Self { notifications: notifications.ok() }
    }

    /// Waits until something has changed.
    pub(crate) async fn changed(&self) {
        let Some(notifications) = &self.notifications else {
            return tokio::time::sleep(POLL_EVERY).await;
        };
        loop {
            if notifications.readable().await.is_err() {
                return tokio::time::sleep(POLL_EVERY).await;
            }
            let mut heard = false;
            for _ in 0..MESSAGES_AT_ONCE {
                match notifications.try_recv(&mut [0; 512]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // An error says that more came than there was room for: that, too, is a change.
                    Ok(_) | Err(_) => heard = true,
                }
            }
            if heard {
                return;
            }
        }
    }
}

fn subscribe() -> std::io::Result<UnixDatagram> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    UnixDatagram::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_kernel_says_is_heard_of_once() {
        use futures::FutureExt as _;
        assert!(Interfaces::listen().notifications.is_some(), "an ordinary process may ask");
        let (kernel, ours) = UnixDatagram::pair().unwrap();
        let interfaces = Interfaces { notifications: Some(ours) };
        assert!(interfaces.changed().now_or_never().is_none(), "nothing has changed");
        kernel.send(b"one").await.unwrap();
        kernel.send(b"another").await.unwrap();
        interfaces.changed().await;
        assert!(interfaces.changed().now_or_never().is_none(), "both are told");
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_kernel_does_not_tell_somebody_looks() {
        let start = tokio::time::Instant::now();
        Interfaces { notifications: None }.changed().await;
        assert_eq!(start.elapsed().as_secs(), POLL_EVERY.as_secs());
    }
}
