//! What can go wrong in the pod network, in the words of sockets.

use std::net::Ipv4Addr;

/// Why a network operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// Somebody is at the address, but not on this port; or a Service has no ready endpoint.
    #[error("connection refused")]
    Refused,
    /// Nobody in this realm has the address.
    #[error("no route to host")]
    Unreachable,
    /// The port is taken in this pod.
    #[error("address in use")]
    InUse,
    /// The address is not one of the pod's.
    #[error("address not available")]
    NotBindable,
    /// The peer broke the connection.
    #[error("connection reset")]
    Reset,
    /// The address lies outside of the cluster, and no grant opens that way.
    #[error(
        "access denied: pods reach pods and Services; addresses outside of the cluster are closed"
    )]
    Denied,
    /// An argument makes no sense.
    #[error("invalid argument")]
    Invalid,
    /// Nobody in this realm has the name.
    #[error("name does not resolve")]
    NameUnknown,
    /// The pod has as many sockets as it may have.
    #[error("too many sockets in this pod")]
    TooMany,
    /// The pod at this address has all the sockets that it may have.
    #[error("connection refused")]
    Full(Ipv4Addr),
    /// The way to another node carries as many connections as it may.
    #[error("connection refused")]
    WayFull(Bottleneck),
    /// No answer in time.
    #[error("connection timed out")]
    Timeout,
}

/// What carries as many connections as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bottleneck {
    /// This node's own link.
    Link,
    /// The hub, or the link of the other node.
    Beyond,
}

impl From<NetError> for std::io::Error {
    fn from(error: NetError) -> Self {
        use std::io::ErrorKind;
        let kind = match error {
            NetError::Refused | NetError::Full(_) | NetError::WayFull(_) => {
                ErrorKind::ConnectionRefused
            }
            NetError::Unreachable => ErrorKind::HostUnreachable,
            NetError::InUse => ErrorKind::AddrInUse,
            NetError::NotBindable => ErrorKind::AddrNotAvailable,
            NetError::Reset => ErrorKind::ConnectionReset,
            NetError::Denied => ErrorKind::PermissionDenied,
            NetError::Invalid => ErrorKind::InvalidInput,
            NetError::NameUnknown => ErrorKind::NotFound,
            NetError::TooMany => ErrorKind::QuotaExceeded,
            NetError::Timeout => ErrorKind::TimedOut,
        };
        Self::new(kind, error)
    }
}
