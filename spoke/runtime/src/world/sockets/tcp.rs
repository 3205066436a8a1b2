//! `wasi:sockets/tcp`: one socket and the states that it goes through.

use std::net::SocketAddr;
use std::sync::Arc;

use freewheel_spoke_net::{Conn, Connecting, Listener, PIPE_BYTES_MAX, Pipe, Slot};
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::pipe::{ClosedInputStream, ClosedOutputStream};
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use super::streams::{Reader, Writer};
use super::tcp_create_socket;
use super::tcp_wit::{self as wit, ShutdownType};
use super::{
    ErrorCode, Family, IpAddressFamily, IpSocketAddress, NetView, Network, SocketResult, positive,
};

const DEFAULT_BACKLOG: usize = 128;

/// Linux's defaults: two hours, 75 seconds, in nanoseconds.
const KEEP_ALIVE: (u64, u64, u32) = (7_200_000_000_000, 75_000_000_000, 9);

enum TcpState {
    Fresh,
    Bound(SocketAddr),
    Connecting(Connecting),
    Connected {
        rx: Arc<Pipe>,
        tx: Arc<Pipe>,
        local: SocketAddr,
        peer: SocketAddr,
        _slot: Option<Slot>,
    },
    Listening(Arc<Listener>),
    /// The pod is being stopped and the guest was told so once. Servers that ignore errors of `accept`
    /// would spin if they were told again.
    Stopped(SocketAddr),
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Bind,
    Connect,
    Listen,
}

/// What a guest sets and reads back. In-memory connections neither die silently nor count hops.
struct Options {
    keep_alive: bool,
    keep_alive_times: (u64, u64, u32),
    hop_limit: u8,
    receive_buffer: u64,
    send_buffer: u64,
}

/// A TCP socket of a guest.
pub struct TcpSocket {
    family: Family,
    state: TcpState,
    step: Option<Step>,
    backlog: usize,
    options: Options,
}

impl TcpSocket {
    fn new(family: Family, state: TcpState) -> Self {
        let options = Options {
            keep_alive: false,
            keep_alive_times: KEEP_ALIVE,
            hop_limit: 64,
            receive_buffer: PIPE_BYTES_MAX as u64,
            send_buffer: PIPE_BYTES_MAX as u64,
        };
        Self { family, state, step: None, backlog: DEFAULT_BACKLOG, options }
    }

    fn begin(&self) -> SocketResult<()> {
        if self.step.is_some() { Err(ErrorCode::ConcurrencyConflict.into()) } else { Ok(()) }
    }

    fn finish(&mut self, step: Step) -> SocketResult<()> {
        if self.step != Some(step) {
            return Err(ErrorCode::NotInProgress.into());
        }
        self.step = None;
        Ok(())
    }
}

/// Breaks off what the guest has not ended: its sockets are about to go with everything else of it.
pub(in crate::world) fn break_off(table: &mut ResourceTable) {
    for entry in table.iter_mut() {
        if let Some(TcpSocket { state: TcpState::Connected { tx, .. }, .. }) = entry.downcast_mut()
        {
            tx.break_off();
        }
    }
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        if let TcpState::Connecting(Connecting::Now(Ok(conn))) = &self.state {
            conn.reset();
        }
    }
}

#[async_trait::async_trait]
impl Pollable for TcpSocket {
    async fn ready(&mut self) {
        match &mut self.state {
            TcpState::Listening(listener) => {
                let listener = listener.clone();
                std::future::poll_fn(|cx| listener.poll_ready(cx)).await;
            }
            TcpState::Connecting(Connecting::Later(dial)) => {
                let outcome = dial.await;
                self.state = TcpState::Connecting(Connecting::Now(outcome));
            }
            TcpState::Stopped(_) => std::future::pending().await,
            _ => {}
        }
    }
}

type Socket = Resource<TcpSocket>;
type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

fn streams(conn: Conn) -> (TcpState, DynInputStream, DynOutputStream) {
    let Conn { rx, tx, local, peer, slot } = conn;
    let (input, output) = (Box::new(Reader(rx.clone())), Box::new(Writer(tx.clone())));
    (TcpState::Connected { rx, tx, local, peer, _slot: slot }, input, output)
}

impl NetView<'_> {
    /// Gives a socket its connection. A guest that has no place for the streams breaks it off: dropped, they would end
    /// as if they were whole.
    fn connected(&mut self, socket: &Socket, conn: Conn) -> SocketResult<Streams> {
        let (input, output) = match self.places(socket) {
            Ok(places) => places,
            Err(error) => {
                conn.reset();
                return Err(error);
            }
        };
        let (connected, reader, writer) = streams(conn);
        *self.table.get_mut(&input)? = reader;
        *self.table.get_mut(&output)? = writer;
        self.table.get_mut(socket)?.state = connected;
        Ok((input, output))
    }

    /// Places for the streams of a socket, both or none.
    fn places(&mut self, socket: &Socket) -> SocketResult<Streams> {
        let input: DynInputStream = Box::new(ClosedInputStream);
        let input = self.table.push_child(input, socket)?;
        let output: DynOutputStream = Box::new(ClosedOutputStream);
        match self.table.push_child(output, socket) {
            Ok(output) => Ok((input, output)),
            Err(error) => {
                self.table.delete(input)?;
                Err(error.into())
            }
        }
    }
}

impl tcp_create_socket::Host for NetView<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Socket> {
        Ok(self.table.push(TcpSocket::new(family.into(), TcpState::Fresh))?)
    }
}

impl wit::Host for NetView<'_> {}

impl wit::HostTcpSocket for NetView<'_> {
    fn start_bind(
        &mut self,
        this: Socket,
        _network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        let address = socket.family.take(address)?;
        socket.begin()?;
        if !matches!(socket.state, TcpState::Fresh) {
            return Err(ErrorCode::InvalidState.into());
        }
        socket.state = TcpState::Bound(self.pod.reserve(address)?);
        socket.step = Some(Step::Bind);
        Ok(())
    }

    fn finish_bind(&mut self, this: Socket) -> SocketResult<()> {
        self.table.get_mut(&this)?.finish(Step::Bind)
    }

    fn start_connect(
        &mut self,
        this: Socket,
        _network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        let address = socket.family.take(address)?;
        socket.begin()?;
        let local = match &socket.state {
            TcpState::Fresh => None,
            TcpState::Bound(local) => Some(*local),
            _ => return Err(ErrorCode::InvalidState.into()),
        };
        socket.state = TcpState::Connecting(self.pod.connect(local, address));
        socket.step = Some(Step::Connect);
        Ok(())
    }

    fn finish_connect(&mut self, this: Socket) -> SocketResult<Streams> {
        let socket = self.table.get_mut(&this)?;
        if matches!(socket.state, TcpState::Connecting(Connecting::Later(_))) {
            return Err(ErrorCode::WouldBlock.into());
        }
        socket.finish(Step::Connect)?;
        let state = std::mem::replace(&mut socket.state, TcpState::Closed);
        let TcpState::Connecting(Connecting::Now(outcome)) = state else {
            return Err(ErrorCode::InvalidState.into());
        };
        self.connected(&this, outcome?)
    }

    fn start_listen(&mut self, this: Socket) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        socket.begin()?;
        let TcpState::Bound(address) = socket.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        let listener = self.pod.listen(address, socket.backlog)?;
        self.shutdown.listens(&listener);
        socket.state = TcpState::Listening(listener);
        socket.step = Some(Step::Listen);
        Ok(())
    }

    fn finish_listen(&mut self, this: Socket) -> SocketResult<()> {
        self.table.get_mut(&this)?.finish(Step::Listen)
    }

    fn accept(
        &mut self,
        this: Socket,
    ) -> SocketResult<(Socket, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let socket = self.table.get_mut(&this)?;
        let family = socket.family;
        let listener = match &socket.state {
            TcpState::Listening(listener) => listener.clone(),
            TcpState::Stopped(_) => return Err(ErrorCode::WouldBlock.into()),
            _ => return Err(ErrorCode::InvalidState.into()),
        };
        let conn = match listener.try_accept() {
            Ok(Some(conn)) => conn,
            Ok(None) => return Err(ErrorCode::WouldBlock.into()),
            Err(freewheel_spoke_net::Closed) => {
                socket.state = TcpState::Stopped(listener.address());
                return Err(ErrorCode::ConnectionAborted.into());
            }
        };
        let accepted = match self.table.push(TcpSocket::new(family, TcpState::Closed)) {
            Ok(accepted) => accepted,
            Err(error) => {
                conn.reset();
                return Err(error.into());
            }
        };
        match self.connected(&accepted, conn) {
            Ok((input, output)) => Ok((accepted, input, output)),
            Err(error) => {
                self.table.delete(accepted)?;
                Err(error)
            }
        }
    }

    fn local_address(&mut self, this: Socket) -> SocketResult<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        match &socket.state {
            TcpState::Bound(address) | TcpState::Stopped(address) => {
                Ok(socket.family.show(*address))
            }
            TcpState::Listening(listener) => Ok(socket.family.show(listener.address())),
            TcpState::Connected { local, .. } => Ok(socket.family.show(*local)),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(&mut self, this: Socket) -> SocketResult<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        match &socket.state {
            TcpState::Connected { peer, .. } => Ok(socket.family.show(*peer)),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn is_listening(&mut self, this: Socket) -> wasmtime::Result<bool> {
        Ok(matches!(self.table.get(&this)?.state, TcpState::Listening(_) | TcpState::Stopped(_)))
    }

    fn address_family(&mut self, this: Socket) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family.into())
    }

    fn set_listen_backlog_size(&mut self, this: Socket, value: u64) -> SocketResult<()> {
        positive(value)?;
        let socket = self.table.get_mut(&this)?;
        socket.backlog = usize::try_from(value).unwrap_or(usize::MAX);
        if let TcpState::Listening(listener) = &socket.state {
            listener.set_backlog(socket.backlog);
        }
        Ok(())
    }

    fn keep_alive_enabled(&mut self, this: Socket) -> SocketResult<bool> {
        Ok(self.table.get(&this)?.options.keep_alive)
    }

    fn set_keep_alive_enabled(&mut self, this: Socket, value: bool) -> SocketResult<()> {
        self.table.get_mut(&this)?.options.keep_alive = value;
        Ok(())
    }

    fn keep_alive_idle_time(&mut self, this: Socket) -> SocketResult<u64> {
        Ok(self.table.get(&this)?.options.keep_alive_times.0)
    }

    fn set_keep_alive_idle_time(&mut self, this: Socket, value: u64) -> SocketResult<()> {
        positive(value)?;
        self.table.get_mut(&this)?.options.keep_alive_times.0 = value;
        Ok(())
    }

    fn keep_alive_interval(&mut self, this: Socket) -> SocketResult<u64> {
        Ok(self.table.get(&this)?.options.keep_alive_times.1)
    }

    fn set_keep_alive_interval(&mut self, this: Socket, value: u64) -> SocketResult<()> {
        positive(value)?;
        self.table.get_mut(&this)?.options.keep_alive_times.1 = value;
        Ok(())
    }

    fn keep_alive_count(&mut self, this: Socket) -> SocketResult<u32> {
        Ok(self.table.get(&this)?.options.keep_alive_times.2)
    }

    fn set_keep_alive_count(&mut self, this: Socket, value: u32) -> SocketResult<()> {
        positive(value.into())?;
        self.table.get_mut(&this)?.options.keep_alive_times.2 = value;
        Ok(())
    }

    fn hop_limit(&mut self, this: Socket) -> SocketResult<u8> {
        Ok(self.table.get(&this)?.options.hop_limit)
    }

    fn set_hop_limit(&mut self, this: Socket, value: u8) -> SocketResult<()> {
        positive(value.into())?;
        self.table.get_mut(&this)?.options.hop_limit = value;
        Ok(())
    }

    fn receive_buffer_size(&mut self, this: Socket) -> SocketResult<u64> {
        Ok(self.table.get(&this)?.options.receive_buffer)
    }

    fn set_receive_buffer_size(&mut self, this: Socket, value: u64) -> SocketResult<()> {
        positive(value)?;
        self.table.get_mut(&this)?.options.receive_buffer = value;
        Ok(())
    }

    fn send_buffer_size(&mut self, this: Socket) -> SocketResult<u64> {
        Ok(self.table.get(&this)?.options.send_buffer)
    }

    fn set_send_buffer_size(&mut self, this: Socket, value: u64) -> SocketResult<()> {
        positive(value)?;
        self.table.get_mut(&this)?.options.send_buffer = value;
        Ok(())
    }

    fn subscribe(&mut self, this: Socket) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn shutdown(&mut self, this: Socket, how: ShutdownType) -> SocketResult<()> {
        let TcpState::Connected { rx, tx, .. } = &self.table.get(&this)?.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        if matches!(how, ShutdownType::Receive | ShutdownType::Both) {
            rx.close_read();
        }
        if matches!(how, ShutdownType::Send | ShutdownType::Both) {
            tx.close_write();
        }
        Ok(())
    }

    fn drop(&mut self, this: Socket) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
