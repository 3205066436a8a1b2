//! What there is no room in, and what its client is told.

use freewheel_hub_schema::error::{ApiError, Details};

/// What there is no room in.
pub(crate) enum Full {
    /// In what all connections may hold.
    All,
    /// In what this one may hold.
    Own,
    /// In what its requests may be asked with.
    Headings,
    /// In what comes of its bodies before they are read.
    Unread,
}

impl From<Full> for ApiError {
    fn from(full: Full) -> Self {
        let text = match full {
            Full::All => "the hub holds as much for its clients as it has memory for: ask again",
            Full::Own => {
                "this connection asks for more at a time than it reads: read the answers, or ask for less at once"
            }
            Full::Headings => {
                "too many requests with long headers or paths last on this connection: end some, or open another"
            }
            Full::Unread => {
                "too many requests with large bodies wait on this connection: ask again, or open another"
            }
        };
        let mut error = Self::new(429, "TooManyRequests", text.to_owned());
        let details = Details { retry_after_seconds: Some(5), ..Details::default() };
        error.details = Some(Box::new(details));
        error
    }
}
