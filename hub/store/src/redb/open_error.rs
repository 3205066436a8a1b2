//! Why a store cannot be opened, in words for whoever runs the hub.

use crate::{Revision, SealError};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another build wrote it.
    #[error(
        "another build of the hub wrote {file} (format {found}, this one reads {known}), and it was left as it is: start \
         that build, or move the whole data folder away to begin an empty fleet, which every device has to join again"
    )]
    OtherFormat {
        /// The file.
        file: String,
        /// Format on disk.
        found: u64,
        /// The format of this build.
        known: u64,
    },
    /// The file cannot be opened.
    #[error("cannot open the store's file")]
    Disk(#[source] std::io::Error),
    /// It cannot be made.
    #[error("cannot make {file}")]
    Unmade {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// redb cannot do it.
    #[error("cannot read the store")]
    Database(#[source] Box<redb::Error>),
    /// It is not there, and was.
    #[error(
        "{0} is missing, and this hub had one: put the whole data folder back from a copy, or move the folder away to \
         begin an empty fleet, which every device has to join again"
    )]
    Missing(String),
    /// Bytes of it are not those that were written.
    #[error(
        "{file} is damaged ({why}) and was left as it is: put the whole data folder back from a copy, or move the folder \
         away to begin an empty fleet, which every device has to join again"
    )]
    Damaged {
        /// The file.
        file: String,
        /// What does not fit.
        why: String,
    },
    /// Values in it are sealed and cannot be opened.
    #[error(
        "{file} cannot be read and was left as it is, as {values} of its values cannot be opened: {why}"
    )]
    Sealed {
        /// The file.
        file: String,
        /// How many.
        values: usize,
        /// Why the first of them.
        why: SealError,
    },
    /// It is older than what was acknowledged.
    #[error(
        "{file} stands at revision {found}, but {known} was acknowledged: it is damaged, or an older copy. Put the whole \
         data folder back from a copy; if this older copy is what you want, remove the file \"acknowledged\" beside it"
    )]
    Older {
        /// The file.
        file: String,
        /// What it holds.
        found: Revision,
        /// What it held.
        known: Revision,
    },
    /// What was acknowledged cannot be read.
    #[error(
        "cannot read the file \"acknowledged\" beside {file}, by which an older copy would be noticed: put the whole data \
         folder back from a copy, or remove \"acknowledged\" if {file} is the newest there is"
    )]
    Witness {
        /// The store's file.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The writer's thread cannot be started.
    #[error("cannot start the store's writer")]
    Thread(#[source] std::io::Error),
}

impl OpenError {
    pub(super) fn from<E: Into<redb::Error>>(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }

    /// The whole chain of causes as one text.
    pub(super) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}
