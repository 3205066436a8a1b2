//! Why an order has no figures.

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The order.
    #[error("the order is not understood: {0}")]
    Order(#[from] serde_json::Error),
    /// A file or a socket.
    #[error("{what}: {source}")]
    Io {
        /// Doing what.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Keys.
    #[error("cannot make certificates: {0}")]
    Keys(#[from] rcgen::Error),
    /// TLS.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// HTTP.
    #[error("HTTP: {0}")]
    Hyper(#[from] hyper::Error),
    /// A request that cannot be written.
    #[error("no request: {0}")]
    Http(#[from] http::Error),
    /// The server answered something else.
    #[error("{what} was answered with {status}: {body}")]
    Answer {
        /// The request.
        what: String,
        /// The status.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// Waited long enough.
    #[error("waited too long until {0}")]
    Late(String),
}

impl LoadError {
    /// For `map_err` around files and sockets.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
