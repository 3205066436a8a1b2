//! How much is told.

use serde::{Deserialize, Serialize};

/// How much is told of a request. Each says what those before it say, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Nothing.
    None,
    /// Who, what, when, and how it ended.
    Metadata,
    /// And the request's object.
    Request,
    /// And the answer's.
    RequestResponse,
}
