//! Why there is no expression.

use crate::stack::NoRoom;

/// Why there is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Nobody could look at it now: it may be right, and is to be read another time.
    #[error("{0}")]
    NotNow(NoRoom),
    /// The text is none, in the words of kube-apiserver.
    #[error("{0}")]
    Wrong(String),
}

impl From<NoRoom> for Unread {
    fn from(why: NoRoom) -> Self {
        match why {
            NoRoom::NoThread => Self::NotNow(why),
            NoRoom::Panicked => Self::Wrong(why.to_string()),
        }
    }
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}
