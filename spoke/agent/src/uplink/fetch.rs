//! What the spoke opens: compiled modules, which go on where they were cut, and tunnels to other spokes.
//!
//! Guarantees:
//! - a transfer that was cut goes on where it was (`a_cut_transfer_goes_on_where_it_was_cut`), and a module that the hub has
//!   not compiled is asked for until it is there (`a_module_that_is_being_compiled_is_asked_for_again`);
//! - a hub that does not answer keeps no connection waiting, and no place
//!   (`a_hub_that_does_not_answer_keeps_no_connection_waiting_and_no_place`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_link::backoff::Backoff;
use freewheel_link::digest::Digest;
use freewheel_link::frame::{self, FrameError, FrameReader};
use freewheel_link::message::{
    Answer, COMPILING_REASON, ModuleHeaderV1, ModuleRequestV1, Open, RefusalV1, RenewV1, RenewedV1,
    TunnelV1,
};
use freewheel_link::profile::Profile;
use freewheel_link::stream_budget::{Asker, TOO_MANY_REASON, Use};
use freewheel_link::transport::{Closed, Priority, Stream, Transport};
use tokio::io::AsyncReadExt as _;
use tokio::time::{sleep, timeout};

use super::Handle;

/// The hub may have to compile first, in a child process with 30 s of CPU.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(120);
/// What else is asked for, the other spoke answers at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Without a byte for this long a transfer is taken up anew.
const TRANSFER_STALL_TIMEOUT: Duration = Duration::from_secs(45);
/// First and longest wait before a module is asked for again for whose compilation the hub lets no more streams wait: no
/// longer than it has waited by then, so that a small one comes soon.
const COMPILING_WAIT_FIRST_AND_MAX: (Duration, Duration) =
    (Duration::from_secs(2), Duration::from_secs(30));
/// Largest piece handed to a [`Sink`].
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Why a stream to the hub could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No session with the hub.
    #[error("there is no session with the hub")]
    Offline,
    /// The connection ended.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The link has no place for it; nobody was asked.
    #[error("{0}")]
    NoPlace(RefusalV1),
    /// The hub refuses.
    #[error("{0}")]
    Refused(RefusalV1),
    /// The hub's answer makes no sense.
    #[error("the hub's answer cannot be read")]
    Frame(#[from] FrameError),
    /// The hub went silent, or sends something else than it said.
    #[error("the transfer broke off: {0}")]
    Broken(String),
    /// What was received cannot be kept.
    #[error("cannot keep what was received")]
    Sink(#[source] std::io::Error),
}

/// Where a module's compressed bytes go.
#[async_trait]
pub trait Sink: Send {
    /// What is there already: how many bytes, of which artifact.
    fn have(&self) -> Option<(u64, Digest)>;
    /// The transfer begins, or goes on, at `header.offset`. At 0 what was there before is of no use. It may wait until
    /// bytes may come.
    async fn begin(&mut self, header: &ModuleHeaderV1) -> std::io::Result<()>;
    /// The transfer was cut: nothing comes before the next [`Sink::begin`].
    fn cut(&mut self);
    /// The next bytes.
    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()>;
}

/// A transfer's answer, before its bytes.
pub struct Fetched {
    /// To verify by.
    pub header: ModuleHeaderV1,
    /// The compressed bytes from `header.offset`.
    pub bytes: Stream,
}

impl Handle {
    /// Asks for a module once.
    ///
    /// # Errors
    /// When there is no session, or the hub refuses.
    pub async fn module(&self, request: ModuleRequestV1) -> Result<Fetched, FetchError> {
        let offset = request.offset;
        let stream = self.open(&Open::Module(request), Use::Module, Priority::Modules).await?;
        let Stream { send, recv } = stream;
        let mut recv = FrameReader::new(recv);
        let header = match timeout(TRANSFER_STALL_TIMEOUT, recv.next::<ModuleHeaderV1>()).await {
            Ok(Ok(Some(header))) => header,
            Ok(Ok(None)) | Err(_) => return Err(FetchError::Broken("no header came".into())),
            Ok(Err(error)) => return Err(error.into()),
        };
        if header.offset != 0 && header.offset != offset || header.compressed < header.offset {
            return Err(FetchError::Broken("it does not go on where it was asked to".into()));
        }
        Ok(Fetched { header, bytes: Stream { send, recv: Box::new(recv) } })
    }

    /// Asks for a module until all of it is there: waits for sessions and goes on after cuts.
    ///
    /// # Errors
    /// When the hub refuses it, or the sink fails. A caller that no longer wants it drops the future.
    pub async fn fetch(
        &self,
        component: Digest,
        profile: Profile,
        sink: &mut dyn Sink,
        rng: &mut fastrand::Rng,
    ) -> Result<ModuleHeaderV1, FetchError> {
        let mut backoff = Backoff::uplink();
        let mut compiling =
            Backoff::new(COMPILING_WAIT_FIRST_AND_MAX.0, COMPILING_WAIT_FIRST_AND_MAX.1);
        loop {
            self.online().await;
            let have = sink.have();
            let request = ModuleRequestV1 {
                component,
                profile: profile.key(),
                offset: have.map_or(0, |(bytes, _)| bytes),
                resume: have.map(|(_, artifact)| artifact),
            };
            let attempt = match self.module(request).await {
                Ok(fetched) => pour(fetched, sink).await.inspect_err(|_| sink.cut()),
                Err(error) => Err(error),
            };
            match attempt {
                Ok(header) => return Ok(header),
                // So many wait for the hub's compilers that it has no stream for this one.
                Err(FetchError::Refused(refusal)) if refusal.reason == COMPILING_REASON => {
                    sleep(compiling.wait(None, rng)).await;
                }
                // There is no place now: that says nothing about the module.
                Err(FetchError::Refused(refusal)) if refusal.reason == TOO_MANY_REASON => {
                    sleep(backoff.wait(Some(Duration::ZERO), rng)).await;
                }
                Err(error @ (FetchError::Refused(_) | FetchError::Sink(_))) => return Err(error),
                Err(_) => sleep(backoff.wait(Some(Duration::ZERO), rng)).await,
            }
        }
    }

    /// A connection to a pod on another spoke, relayed by the hub.
    ///
    /// # Errors
    /// When there is no session, or nobody there takes it, or the link carries as many as it may.
    pub async fn tunnel(&self, request: TunnelV1) -> Result<Stream, FetchError> {
        // One guest must not use up the places of its neighbours.
        let asker = Asker::at(request.from.ip());
        let of = Use::Tunnel(request.realm.clone(), Some(asker));
        self.open(&Open::Tunnel(request), of, Priority::Tunnels).await
    }

    /// A new certificate for the key that the session was proven with.
    ///
    /// # Errors
    /// When there is no session, or the hub refuses.
    pub async fn renew(&self, csr: Vec<u8>) -> Result<Vec<u8>, FetchError> {
        let stream =
            self.open(&Open::Renew(RenewV1 { csr }), Use::Renewal, Priority::Session).await?;
        let mut recv = FrameReader::new(stream.recv);
        match timeout(TRANSFER_STALL_TIMEOUT, recv.next::<RenewedV1>()).await {
            Ok(Ok(Some(renewed))) => Ok(renewed.certificate),
            Ok(Ok(None)) | Err(_) => Err(FetchError::Broken("no certificate came".into())),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    /// Resolves while a session is up.
    pub async fn online(&self) {
        let mut link = self.shared.link.subscribe();
        // The sender lives as long as `self`.
        let _ = link.wait_for(Option::is_some).await;
    }

    async fn open(&self, open: &Open, of: Use, priority: Priority) -> Result<Stream, FetchError> {
        let link: Arc<dyn Transport> =
            self.shared.link.borrow().clone().ok_or(FetchError::Offline)?;
        let patience = if of == Use::Module { COMPILE_TIMEOUT } else { ANSWER_TIMEOUT };
        let place = self.shared.opened.take(of).map_err(FetchError::NoPlace)?;
        let asked = async {
            let Stream { mut send, recv } = link.open(priority).await?;
            frame::write(&mut send, open).await?;
            let mut recv = FrameReader::new(recv);
            match recv.next::<Answer>().await {
                Ok(Some(Answer::Ready)) => Ok(Stream { send, recv: Box::new(recv) }),
                Ok(Some(Answer::Refused(refusal))) => Err(FetchError::Refused(refusal)),
                Ok(None) => Err(FetchError::Broken("the stream ended".into())),
                Err(error) => Err(error.into()),
            }
        };
        match timeout(patience, asked).await {
            Ok(answered) => answered.map(|stream| place.hold(stream)),
            Err(_) => Err(FetchError::Broken("no answer came".into())),
        }
    }
}

async fn pour(fetched: Fetched, sink: &mut dyn Sink) -> Result<ModuleHeaderV1, FetchError> {
    let Fetched { header, mut bytes } = fetched;
    sink.begin(&header).await.map_err(FetchError::Sink)?;
    let mut left = header.compressed - header.offset;
    let mut piece = vec![0; PIECE_BYTES_MAX];
    while 0 < left {
        let most = piece.len().min(usize::try_from(left).unwrap_or(PIECE_BYTES_MAX));
        let read = match timeout(TRANSFER_STALL_TIMEOUT, bytes.read(&mut piece[..most])).await {
            Ok(Ok(read)) if 0 < read => read,
            Ok(Ok(_)) => return Err(FetchError::Broken("it ended early".into())),
            Ok(Err(error)) => return Err(FetchError::Broken(error.to_string())),
            Err(_) => return Err(FetchError::Broken("nothing came for too long".into())),
        };
        sink.write(&piece[..read]).await.map_err(FetchError::Sink)?;
        left -= read as u64;
    }
    Ok(header)
}
