//! The tables of a store's database, and the numbers that say what it is.

use redb::{Database, ReadableDatabase as _, TableDefinition, TableError};

use super::encoding::sum_of;
use super::open_error::OpenError;
use crate::Revision;

/// The format that this build writes, and the only one that it reads.
pub(super) const STORE_FORMAT: u64 = 3;

/// Frozen: key bytes to value bytes.
pub(super) const OBJECTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("objects");
/// Frozen: `format`, `incarnation`, `revision`, `sum` (of the sums of all values) and `check` (the sum of
/// the four).
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// redb's page cache. Reads are served from our own state; redb needs its inner pages only, and the
/// hub's memory is better spent elsewhere.
const CACHE_BYTES: usize = 8 << 20;

/// The store's own numbers.
pub(super) struct Meta {
    pub(super) format: u64,
    pub(super) incarnation: u64,
    pub(super) revision: Revision,
    /// Of the sums of all values.
    pub(super) sum: u64,
}

impl Meta {
    fn check(&self) -> u64 {
        sum_of(&[self.format, self.incarnation, self.revision, self.sum])
    }

    pub(super) fn write(&self, txn: &redb::WriteTransaction) -> Result<(), redb::Error> {
        let mut table = txn.open_table(META)?;
        let rows = [
            ("format", self.format),
            ("incarnation", self.incarnation),
            ("revision", self.revision),
            ("sum", self.sum),
            ("check", self.check()),
        ];
        for (name, value) in rows {
            table.insert(name, value)?;
        }
        Ok(())
    }

    /// `file` is what to call the database when it is damaged.
    pub(super) fn read(database: &Database, file: &str) -> Result<Self, OpenError> {
        let damaged = |why: &str| OpenError::Damaged { file: file.to_owned(), why: why.to_owned() };
        let txn = database.begin_read().map_err(OpenError::from)?;
        let table = match txn.open_table(META) {
            Err(TableError::TableDoesNotExist(_)) => return Err(damaged("it holds no store")),
            other => other.map_err(OpenError::from)?,
        };
        let number = |name: &str| -> Result<u64, OpenError> {
            let found = table.get(name).map_err(OpenError::from)?;
            found.map(|guard| guard.value()).ok_or_else(|| damaged("it lacks a number of its own"))
        };
        let format = number("format")?;
        if format != STORE_FORMAT {
            let file = file.to_owned();
            return Err(OpenError::OtherFormat { file, found: format, known: STORE_FORMAT });
        }
        let (incarnation, revision) = (number("incarnation")?, number("revision")?);
        let meta = Self { format, incarnation, revision, sum: number("sum")? };
        if number("check")? != meta.check() {
            return Err(damaged("its own numbers do not add up"));
        }
        Ok(meta)
    }
}

/// What a builder needs to know to open a database as this hub does.
pub(super) fn builder() -> redb::Builder {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}
