//! Batches as redb transactions, and the way back after the disk failed.
//!
//! redb refuses everything after an error of its disk, so the database is opened again; whether the
//! batch that failed is in it is read from the revision that every batch writes.

use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::disk::Disk;
use super::encoding::{decode_key, decode_value, encode_key, encode_value};
use super::{FORMAT, OpenError};
use crate::committer::{Failure, Log};
use crate::state::State;
use crate::{Event, Revision};

/// Frozen: key bytes to value bytes.
const OBJECTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("objects");
/// Frozen: `format`, `incarnation` and `revision`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// redb's page cache. Reads are served from our own state; redb needs its inner pages only, and the
/// hub's memory is better spent elsewhere.
const CACHE_BYTES: usize = 32 << 20;

/// The database and what may have happened to it.
pub(super) struct RedbLog<D> {
    disk: D,
    /// None after a failure, until it was opened again.
    database: Option<Database>,
    durable: Revision,
    /// The batch that failed, and its last revision: it may be on disk or not.
    doubtful: Option<(Vec<Event>, Revision)>,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// What was found on disk.
pub(super) struct Opened<D> {
    pub(super) log: RedbLog<D>,
    pub(super) incarnation: u64,
    pub(super) state: State,
}

impl<D: Disk> RedbLog<D> {
    /// Opens or makes the database and loads all of it.
    pub(super) fn open(mut disk: D) -> Result<Opened<D>, OpenError> {
        let database = open_database(&mut disk)?;
        let incarnation = match read_meta(&database)? {
            Some(meta) if FORMAT < meta.format => {
                return Err(OpenError::Newer { found: meta.format, known: FORMAT });
            }
            Some(meta) => meta.incarnation,
            None => found_new(&database)?,
        };
        let state = load(&database)?;
        let log = Self {
            disk,
            database: Some(database),
            durable: state.revision,
            doubtful: None,
            key: Vec::new(),
            value: Vec::new(),
        };
        Ok(Opened { log, incarnation, state })
    }

    fn try_write(&mut self, events: &[Event], revision: Revision) -> Result<(), redb::Error> {
        let Some(database) = &self.database else { return Err(redb::Error::PreviousIo) };
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        {
            let mut objects = txn.open_table(OBJECTS)?;
            for event in events {
                let Some(key) = event.key() else { continue };
                encode_key(key, &mut self.key);
                match &event.now {
                    Some(now) => {
                        encode_value(now, &mut self.value)
                            .map_err(|e| redb::Error::Corrupted(e.to_string()))?;
                        objects.insert(self.key.as_slice(), self.value.as_slice())?;
                    }
                    None => drop(objects.remove(self.key.as_slice())?),
                }
            }
            txn.open_table(META)?.insert("revision", revision)?;
        }
        txn.commit()?;
        Ok(())
    }

    /// Opens the database again after a failure and finds out what became of the doubtful batch.
    fn heal(&mut self) -> Result<(), Failure> {
        let refused = |error: OpenError| Failure::Refused(error.chain());
        let database = open_database(&mut self.disk).map_err(refused)?;
        let meta = read_meta(&database).map_err(refused)?;
        let found = meta.map_or(0, |meta| meta.revision);
        let doubtful = self.doubtful.take();
        if found == self.durable {
            self.database = Some(database);
            return Ok(());
        }
        match doubtful {
            Some((events, revision)) if revision == found => {
                self.durable = found;
                self.database = Some(database);
                Err(Failure::Found(events))
            }
            other => {
                self.doubtful = other;
                let durable = self.durable;
                let text = format!("the disk came back at revision {found}, not {durable}");
                tracing::error!(error = text, "the store's disk lost data");
                Err(Failure::Refused(text))
            }
        }
    }
}

impl<D: Disk> Log for RedbLog<D> {
    fn write(&mut self, events: &[Event], revision: Revision) -> Result<(), Failure> {
        if self.database.is_none() {
            self.heal()?;
        }
        match self.try_write(events, revision) {
            Ok(()) => {
                self.durable = revision;
                Ok(())
            }
            Err(error) => {
                self.database = None;
                self.doubtful = Some((events.to_vec(), revision));
                Err(Failure::Refused(error.to_string()))
            }
        }
    }
}

struct Meta {
    format: u64,
    incarnation: u64,
    revision: Revision,
}

fn open_database(disk: &mut impl Disk) -> Result<Database, OpenError> {
    let backend = disk.open().map_err(OpenError::Disk)?;
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder.create_with_backend(backend).map_err(OpenError::from)
}

fn read_meta(database: &Database) -> Result<Option<Meta>, OpenError> {
    let txn = database.begin_read().map_err(OpenError::from)?;
    let table = match txn.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        other => other.map_err(OpenError::from)?,
    };
    let number = |name: &str| -> Result<Option<u64>, OpenError> {
        Ok(table.get(name).map_err(OpenError::from)?.map(|guard| guard.value()))
    };
    let Some(format) = number("format")? else { return Ok(None) };
    let incarnation = number("incarnation")?.ok_or(OpenError::Incomplete)?;
    let revision = number("revision")?.ok_or(OpenError::Incomplete)?;
    Ok(Some(Meta { format, incarnation, revision }))
}

/// Writes what a new database starts with; answers its incarnation.
fn found_new(database: &Database) -> Result<u64, OpenError> {
    let incarnation = crate::random_incarnation();
    let write = || -> Result<(), redb::Error> {
        let txn = database.begin_write()?;
        {
            let mut meta = txn.open_table(META)?;
            meta.insert("format", FORMAT)?;
            meta.insert("incarnation", incarnation)?;
            meta.insert("revision", 0)?;
            txn.open_table(OBJECTS)?;
        }
        txn.commit()?;
        Ok(())
    };
    write().map_err(OpenError::from)?;
    Ok(incarnation)
}

fn load(database: &Database) -> Result<State, OpenError> {
    let txn = database.begin_read().map_err(OpenError::from)?;
    let table = txn.open_table(OBJECTS).map_err(OpenError::from)?;
    let mut state = State::default();
    let mut last = None;
    for entry in table.iter().map_err(OpenError::from)? {
        let (key, value) = entry.map_err(OpenError::from)?;
        let key = decode_key(key.value(), last.as_ref())?;
        let stored = decode_value(key.clone(), value.value())?;
        last = Some(key);
        state.insert(Arc::new(stored));
    }
    state.revision = read_meta(database)?.map_or(0, |meta| meta.revision);
    Ok(state)
}
