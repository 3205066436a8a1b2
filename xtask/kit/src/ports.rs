//! Ports of this machine that nobody has.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use crate::command::Stop;

/// One for TCP.
pub fn free_tcp() -> Result<u16, Stop> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr());
    port.map(|address| address.port()).map_err(|e| Stop(format!("no free port: {e}")))
}

/// One for UDP.
pub fn free_udp() -> Result<u16, Stop> {
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|s| s.local_addr());
    port.map(|address| address.port()).map_err(|e| Stop(format!("no free port: {e}")))
}
