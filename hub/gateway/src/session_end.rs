//! How a session ends.

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_store::CommitError;
use freewheel_link::frame::FrameError;
use freewheel_link::message::Reason;
use freewheel_link::transport::{Closed, Transport, code};
use tokio::time::timeout;

/// How long the other side may take to hear of it.
pub(crate) const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error(transparent)]
    Closed(#[from] Closed),
    #[error("the spoke's message cannot be read")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Left(Reason),
    #[error("the store cannot write")]
    Store(#[from] CommitError),
    #[error("this device opens one session after another: come back later")]
    Often,
    #[error("its pods were called not ready while it was silent: it has to say again how they are")]
    Unsaid,
}

impl End {
    /// What the connection is closed with.
    pub(crate) const fn code(&self) -> u32 {
        match self {
            Self::Frame(_) | Self::Left(Reason::Violation(_) | Reason::Protocol(_)) => {
                code::VIOLATION
            }
            Self::Left(Reason::Superseded) => code::SUPERSEDED,
            Self::Left(
                Reason::NotAccepted
                | Reason::Unknown
                | Reason::NotYou(_)
                | Reason::Replaced
                | Reason::Cloned
                | Reason::Expired
                | Reason::Decommissioned(_)
                | Reason::Renamed(_),
            ) => code::REFUSED,
            Self::Often => code::BUSY,
            Self::Closed(_)
            | Self::Store(_)
            | Self::Unsaid
            | Self::Left(Reason::Stopping | Reason::Silent) => code::STOPPING,
        }
    }
}

/// The connection's end, of which a broken stream was the first sign.
pub(crate) async fn over(link: &Arc<dyn Transport>) -> Closed {
    let broken = || Closed::Failed("the session's stream broke off".into());
    timeout(GOODBYE_TIMEOUT, link.closed()).await.unwrap_or_else(|_| broken())
}
