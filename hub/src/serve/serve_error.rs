//! Why the hub does not run, in words for whoever starts it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use freewheel_hub_apiserver::TlsError;
use freewheel_hub_gateway::SetupError;
use freewheel_hub_modules::{OpenError, RootError};
use freewheel_hub_pki::PkiError;
use freewheel_hub_store::redb;

use super::files::FileError;

/// Why the hub does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder.
    #[error("cannot use the data folder {path}")]
    Data {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else has it.
    #[error("{0} is in use by another hub")]
    InUse(PathBuf),
    /// The store.
    #[error("cannot open the store in {path}")]
    Store {
        /// Its folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::OpenError>,
    },
    /// The fleet's root key.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Keys.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The gateway.
    #[error(transparent)]
    Gateway(#[from] SetupError),
    /// Modules.
    #[error(transparent)]
    Modules(#[from] OpenError),
    /// An address.
    #[error("cannot listen on {address} for {what}; choose another address with {flag} HOST:PORT")]
    Listen {
        /// For what.
        what: &'static str,
        /// How to choose another.
        flag: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that says who callers are, or what they may do.
    #[error(transparent)]
    File(#[from] FileError),
    /// The name to advertise.
    #[error("--advertise {0:?} is neither an address nor a DNS name: give HOST without a port")]
    Advertise(String),
    /// Who tokens are from.
    #[error(
        "--service-account-issuer {0:?} is no URL that paths can follow: give https://HOST[:PORT][/PATH]"
    )]
    Issuer(String),
    /// There is no room for what has to be there before anything is served.
    #[error(
        "the disk of {path} is full: free some of it, or begin in another folder with --data DIR"
    )]
    NoRoom {
        /// The data folder.
        path: PathBuf,
        /// What was to be written.
        #[source]
        source: Box<Self>,
    },
    /// A part ended by itself.
    #[error("the {0} of the hub ended by itself; a hub without it is none")]
    Lost(&'static str, #[source] Option<io::Error>),
    /// The listener or a signal.
    #[error("the hub cannot go on")]
    Run(#[from] io::Error),
}
