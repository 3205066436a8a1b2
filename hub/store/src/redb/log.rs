//! Batches as redb transactions, and the way back after the disk failed.
//!
//! redb refuses everything after an error of its disk, so the database is opened again, not sooner than [`RetryDelay`]
//! says; whether the batch that failed is in it is read from the revision and the sum that every batch writes.
//!
//! Guarantees:
//! - a batch that was thought lost and is there is found, and what was lost stays lost
//!   (`what_a_failed_sync_wrote_after_all_is_found`, `what_a_failed_sync_lost_stays_lost`);
//! - another one that was given the same revision is not taken for it, and nothing is built upon that
//!   (`what_a_disk_brings_back_is_not_taken_for_another_batch_of_that_revision`);
//! - a disk that refuses is not read through for every write (`a_disk_that_refuses_is_not_read_anew_for_every_write`);
//! - one that can be read and takes no writes is enough to open (`a_store_opens_on_a_disk_that_takes_no_writes_and_heals`).

mod reseal;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use redb::{Database, Durability, StorageBackend};

use super::check::{self, Checked};
use super::compaction;
use super::disk::{Disk, Reads};
use super::encoding::{encode_key, encode_value, sum_in};
use super::format::{Meta, OBJECTS, STORE_FORMAT, builder};
use super::open_error::OpenError;
use super::progress::CountingDisk;
use super::retry::RetryDelay;
use super::spare_pages::SparePages;
use crate::committer::{Failure, Log};
use crate::store_state::StoreState;
use crate::{Event, Resealed, Revision, Sealer};

/// The database and what may have happened to it.
pub(super) struct RedbLog<D: Disk> {
    disk: D,
    sealer: Arc<dyn Sealer>,
    /// None after a failure, until it was opened again.
    database: Option<Database>,
    durable: Revision,
    incarnation: u64,
    /// Of the sums of all values that are durable.
    sum: u64,
    /// The batch that failed while it was made durable.
    doubtful: Option<UncertainBatch>,
    retry_delay: RetryDelay,
    key: Vec<u8>,
    value: Vec<u8>,
    /// The witness could not be written when it was tried last.
    unwitnessed: bool,
    spare: Arc<SparePages>,
}

/// A batch that may be on disk or not, and the numbers that it wrote along.
struct UncertainBatch {
    events: Vec<Event>,
    revision: Revision,
    sum: u64,
}

/// What was found on disk.
pub(super) struct Opened<D: Disk> {
    pub(super) log: RedbLog<D>,
    pub(super) incarnation: u64,
    pub(super) state: StoreState,
    pub(super) stale: bool,
    /// Why the disk took nothing while it was opened: what it holds can be read.
    pub(super) refused: Option<String>,
}

impl<D: Disk> RedbLog<D> {
    /// Opens the database and loads all of it; makes it when there never was one and it `may_make` one.
    pub(super) fn open(
        mut disk: D,
        may_make: bool,
        sealer: Arc<dyn Sealer>,
    ) -> Result<Opened<D>, OpenError> {
        let known = disk.acknowledged();
        let known = known.map_err(|source| OpenError::Witness { file: disk.name(), source })?;
        let backend = there_or_made(&mut disk, may_make && known.is_none())?;
        let (file, began) = (disk.name(), Instant::now());
        let bytes = backend.len().map_err(OpenError::Disk)?;
        tracing::info!(file, bytes, "reading the store; the hub answers when it is through");
        let Checked { meta, state, stale } =
            check::through(CountingDisk::over(backend, &file, bytes), &file, &*sealer)?;
        if let Some(known) = known.filter(|known| meta.revision < *known) {
            return Err(OpenError::Older { file, found: meta.revision, known });
        }
        if known.is_none() && meta.revision != 0 {
            tell_unwitnessed(&file, meta.revision);
        }
        // Every page has just come from the disk.
        let backend = there(&mut disk, Reads::Remembered)?;
        let (mut database, refused) = open_or_refused(backend)?;
        let stored = state.bytes().clusters().map(|(_, bytes)| bytes).sum();
        if compaction::is_due(bytes, stored) {
            database = database.and_then(|database| compaction::run(database, &file, bytes));
        }
        let spare = Arc::new(SparePages::of(disk.file()));
        let Meta { incarnation, revision, sum, .. } = meta;
        let (seconds, objects) = (began.elapsed().as_secs_f32(), state.len());
        tracing::info!(file, objects, revision, seconds, "the store is read");
        let mut log = Self {
            disk,
            sealer,
            database,
            durable: revision,
            incarnation,
            sum,
            doubtful: None,
            retry_delay: RetryDelay::default(),
            key: Vec::new(),
            value: Vec::new(),
            unwitnessed: false,
            spare,
        };
        if let Some(why) = &refused {
            tracing::warn!(file, error = why, "the store can be read and takes no writes");
            log.retry_delay.failed(log.disk.now(), why);
        }
        log.witness(true);
        Ok(Opened { log, incarnation, state, stale, refused })
    }

    /// Notes what is durable beside it. That only helps to notice damage later, so nothing is refused when it
    /// cannot be done; it is said once.
    fn witness(&mut self, kept: bool) {
        let failed = self.disk.acknowledge(self.durable, kept).err();
        let begins = failed.is_some() && !self.unwitnessed;
        self.unwitnessed = failed.is_some();
        if let Some(error) = failed.filter(|_| begins) {
            let file = self.disk.name();
            tracing::warn!(
                file, %error,
                "cannot write \"acknowledged\" beside the store: until it can be written, an older copy of the store \
                 would pass for the newest"
            );
        }
    }

    /// What makes it durable is still to come; with the sum of all values after it.
    fn fill(
        &mut self,
        events: &[Event],
        revision: Revision,
    ) -> Result<(redb::WriteTransaction, u64), redb::Error> {
        let Some(database) = &self.database else { return Err(redb::Error::PreviousIo) };
        let mut txn = database.begin_write()?;
        // Its commit is the fsync that all writers of the batch are answered after.
        txn.set_durability(Durability::Immediate)?;
        let mut sum = self.sum;
        {
            let mut objects = txn.open_table(OBJECTS)?;
            for event in events {
                let Some(key) = event.key() else { continue };
                encode_key(key, &mut self.key);
                let before = match &event.now {
                    Some(now) => {
                        let added = encode_value(&self.key, now, &*self.sealer, &mut self.value)
                            .map_err(|e| redb::Error::Corrupted(e.to_string()))?;
                        sum = sum.wrapping_add(added);
                        self.spare.written(self.key.len() + self.value.len());
                        objects.insert(self.key.as_slice(), self.value.as_slice())?
                    }
                    None => objects.remove(self.key.as_slice())?,
                };
                let gone = before.and_then(|before| sum_in(before.value()));
                sum = sum.wrapping_sub(gone.unwrap_or_default());
            }
        }
        let incarnation = self.incarnation;
        Meta { format: STORE_FORMAT, incarnation, revision, sum }.write(&txn)?;
        Ok((txn, sum))
    }

    fn try_write(&mut self, events: &[Event], revision: Revision) -> Result<(), redb::Error> {
        let (txn, sum) = self.fill(events, revision)?;
        if let Err(error) = txn.commit() {
            self.doubtful = Some(UncertainBatch { events: events.to_vec(), revision, sum });
            return Err(error.into());
        }
        (self.durable, self.sum) = (revision, sum);
        Ok(())
    }

    /// Opens the database again after a failure and finds out what became of the doubtful batch.
    fn heal(&mut self) -> Result<(), Failure> {
        let refused = |error: OpenError| Failure::Refused(error.chain());
        let backend = there(&mut self.disk, Reads::FromDisk).map_err(refused)?;
        let database = open_on(backend).map_err(refused)?;
        let found = Meta::read(&database, &self.disk.name()).map_err(refused)?;
        let is = |revision, sum| (found.revision, found.sum) == (revision, sum);
        if is(self.durable, self.sum) {
            self.doubtful = None;
            self.database = Some(database);
            return Ok(());
        }
        match self.doubtful.take_if(|batch| is(batch.revision, batch.sum)) {
            Some(UncertainBatch { events, revision, sum }) => {
                (self.durable, self.sum) = (revision, sum);
                self.database = Some(database);
                // Of values that lie otherwise now nobody has to hear.
                if events.is_empty() { Ok(()) } else { Err(Failure::Found(events)) }
            }
            None => {
                let (found, durable) = (found.revision, self.durable);
                let text = format!(
                    "the disk came back with what was never acknowledged, at revision {found}; it was left at {durable}"
                );
                tracing::error!(error = text, "the store's disk lost data");
                Err(Failure::Refused(text))
            }
        }
    }
}

impl<D: Disk> RedbLog<D> {
    /// Room in the file itself.
    pub(super) fn spare(&self) -> Arc<SparePages> {
        self.spare.clone()
    }

    fn try_count_spare(&self) -> Result<(), redb::Error> {
        let Some(database) = &self.database else { return Err(redb::Error::PreviousIo) };
        let txn = database.begin_write()?;
        let stats = txn.stats()?;
        txn.abort()?;
        self.spare.counted(stats.allocated_pages().saturating_mul(stats.page_size() as u64));
        Ok(())
    }

    /// Opens a database that has failed, when it is time to try.
    fn ready(&mut self) -> Result<(), Failure> {
        if self.database.is_some() {
            return Ok(());
        }
        if let Some(why) = self.retry_delay.waits(self.disk.now()) {
            return Err(Failure::Refused(why.to_owned()));
        }
        let healed = self.heal();
        if let Err(Failure::Refused(why)) = &healed {
            self.retry_delay.failed(self.disk.now(), why);
        }
        healed
    }

    /// What becomes of a write that failed.
    fn failed(&mut self, error: &redb::Error) -> Failure {
        self.database = None;
        let why = error.to_string();
        self.retry_delay.failed(self.disk.now(), &why);
        Failure::Refused(why)
    }
}

impl<D: Disk> Log for RedbLog<D> {
    fn write(&mut self, events: &[Event], revision: Revision) -> Result<(), Failure> {
        self.ready()?;
        self.try_write(events, revision).map_err(|error| self.failed(&error))?;
        self.witness(false);
        Ok(())
    }

    fn reseal(&mut self, from: &[u8]) -> Result<Resealed, Failure> {
        self.ready()?;
        self.try_reseal(from).map_err(|error| self.failed(&error))
    }

    fn count_spare(&mut self) -> Result<(), Failure> {
        self.ready()?;
        self.try_count_spare().map_err(|error| self.failed(&error))
    }

    fn doubtful(&self) -> &[Event] {
        self.doubtful.as_ref().map_or(&[], |batch| &batch.events)
    }
}

impl<D: Disk> Drop for RedbLog<D> {
    fn drop(&mut self) {
        self.witness(true);
    }
}

/// The store's file, made when there is none and there may be a new one.
fn there_or_made<D: Disk>(disk: &mut D, may_make: bool) -> Result<D::Backend, OpenError> {
    if let Some(backend) = disk.open(Reads::FromDisk).map_err(OpenError::Disk)? {
        return Ok(backend);
    }
    let file = disk.name();
    if !may_make {
        return Err(OpenError::Missing(file));
    }
    let mut fill = |backend| found_new(&open_on(backend)?);
    disk.make(&mut fill).map_err(|error| unmade(error, file))?;
    there(disk, Reads::FromDisk)
}

fn open_on(backend: impl StorageBackend) -> Result<Database, OpenError> {
    let (mut builder, begun) = (builder(), AtomicBool::new(false));
    // Nothing is lost: redb takes what was durable last, and its pages are read for that once more.
    builder.set_repair_callback(move |_| {
        if !begun.swap(true, Ordering::Relaxed) {
            tracing::info!("the store was not closed well; redb puts its pages in order");
        }
    });
    builder.create_with_backend(backend).map_err(OpenError::from)
}

/// A database that was read through a moment ago, or why the disk does not take what redb writes to open it, as on a full
/// one: it is opened when something is to be written.
fn open_or_refused(
    backend: impl StorageBackend,
) -> Result<(Option<Database>, Option<String>), OpenError> {
    match open_on(backend) {
        Ok(database) => Ok((Some(database), None)),
        Err(OpenError::Database(error)) if is_refusal(&error) => {
            Ok((None, Some(error.to_string())))
        }
        Err(error) => Err(error),
    }
}

/// Whether the disk refused, and does not return other bytes than it was given.
fn is_refusal(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo) && !check::is_damage(error)
}

/// Why there is no store where none was.
fn unmade(error: OpenError, file: String) -> OpenError {
    match error {
        OpenError::Disk(source) => OpenError::Unmade { file, source },
        OpenError::Database(error) => match *error {
            redb::Error::Io(source) => OpenError::Unmade { file, source },
            other => OpenError::Database(Box::new(other)),
        },
        other => other,
    }
}

/// An older copy would pass for the newest.
fn tell_unwitnessed(file: &str, revision: Revision) {
    tracing::warn!(
        file,
        revision,
        "\"acknowledged\" is missing beside the store, or damaged: were this an older copy of it, nobody would \
         notice. It is taken for the newest, and \"acknowledged\" is written anew"
    );
}

/// What was there a moment ago.
fn there<D: Disk>(disk: &mut D, reads: Reads) -> Result<D::Backend, OpenError> {
    let found = disk.open(reads).map_err(OpenError::Disk)?;
    found.ok_or_else(|| OpenError::Missing(disk.name()))
}

/// Writes what a new database starts with.
fn found_new(database: &Database) -> Result<(), OpenError> {
    let write = || -> Result<(), redb::Error> {
        let txn = database.begin_write()?;
        txn.open_table(OBJECTS)?;
        let incarnation = crate::random_incarnation();
        Meta { format: STORE_FORMAT, incarnation, revision: 0, sum: 0 }.write(&txn)?;
        txn.commit()?;
        Ok(())
    };
    write().map_err(OpenError::from)
}
