//! Reads a database through and through before anything is built upon it.
//!
//! redb verifies its pages only when it repairs, and takes a database that was closed well at its word. So
//! all of it is read once on a [`OverlayDisk`], where a repair or a panic on nonsense does no harm: redb's own check
//! of every page, then our sums of every value, of all of them together, and of the store's numbers.
//!
//! Guarantees:
//! - what comes out is what was written, or the file's name; nothing on disk is changed
//!   (`a_flipped_bit_of_a_closed_store_changes_nothing_or_is_told`,
//!   `a_flipped_bit_of_a_killed_store_changes_nothing_or_is_told`, `a_store_that_was_cut_or_emptied_is_told`).

use std::io::ErrorKind::{InvalidData, UnexpectedEof};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend};

use super::encoding::{Unreadable, decode_key, decode_value, is_current, sum_in};
use super::format::{Meta, OBJECTS, builder};
use super::open_error::OpenError;
use super::overlay::OverlayDisk;
use crate::store_state::StoreState;
use crate::{SealError, Sealer};

/// What a whole database holds.
pub(super) struct Checked {
    pub(super) meta: Meta,
    pub(super) state: StoreState,
    /// Some values lie otherwise than they would be written now.
    pub(super) stale: bool,
}

/// Reads all of it. `file` is what to call it.
pub(super) fn through(
    backend: impl StorageBackend,
    file: &str,
    sealer: &dyn Sealer,
) -> Result<Checked, OpenError> {
    // redb asserts what holds in every file that it wrote; damage may break it anywhere.
    let read = catch_unwind(AssertUnwindSafe(|| read(backend, file, sealer)));
    read.unwrap_or_else(|_| Err(damaged(file, "redb stumbles over it")))
        .map_err(|error| named(error, file))
}

fn read(
    backend: impl StorageBackend,
    file: &str,
    sealer: &dyn Sealer,
) -> Result<Checked, OpenError> {
    let trial = OverlayDisk::over(backend).map_err(OpenError::Disk)?;
    if trial.len().map_err(OpenError::Disk)? == 0 {
        return Err(damaged(file, "it is empty"));
    }
    let repaired = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&repaired);
    let mut builder = builder();
    builder.set_repair_callback(move |_| told.store(true, Ordering::Relaxed));
    let database = builder.create_with_backend(trial).map_err(OpenError::from)?;
    // Whoever panics over it leaves it behind: dropping it as well could panic once more, which no one can catch.
    let mut database = ManuallyDrop::new(database);
    let checked = read_all(&mut database, repaired.load(Ordering::Relaxed), (file, sealer));
    drop(ManuallyDrop::into_inner(database));
    checked
}

fn read_all(
    database: &mut Database,
    repaired: bool,
    (file, sealer): (&str, &dyn Sealer),
) -> Result<Checked, OpenError> {
    // A repair has verified every page already.
    if !repaired && !database.check_integrity().map_err(OpenError::from)? {
        return Err(damaged(file, "its pages do not fit together"));
    }
    let meta = Meta::read(database, file)?;
    let Loaded { mut state, sum, stale } = load(database, file, sealer)?;
    if sum != meta.sum {
        return Err(damaged(file, "values are missing, or are there that should not be"));
    }
    state.revision = meta.revision;
    Ok(Checked { meta, state, stale })
}

struct Loaded {
    state: StoreState,
    /// Of the sums of all values.
    sum: u64,
    stale: bool,
}

fn load(database: &Database, file: &str, sealer: &dyn Sealer) -> Result<Loaded, OpenError> {
    let unreadable = |error: Unreadable| match error {
        Unreadable::Sealed(why) => OpenError::Sealed { file: file.to_owned(), values: 1, why },
        Unreadable::Key(_) | Unreadable::Version(_) | Unreadable::Value | Unreadable::Sum(_) => {
            damaged(file, &error.to_string())
        }
    };
    let txn = database.begin_read().map_err(OpenError::from)?;
    let table = txn.open_table(OBJECTS).map_err(OpenError::from)?;
    let (mut state, mut sum, mut stale, mut last) = (StoreState::default(), 0_u64, false, None);
    let mut lost: Option<(usize, SealError)> = None;
    for entry in table.iter().map_err(OpenError::from)? {
        let (key_bytes, value) = entry.map_err(OpenError::from)?;
        let key = decode_key(key_bytes.value(), last.as_ref()).map_err(unreadable)?;
        let stored = decode_value(key.clone(), key_bytes.value(), value.value(), sealer);
        stale |= !is_current(key_bytes.value(), value.value(), sealer);
        match stored {
            Err(Unreadable::Sealed(why)) => lost.get_or_insert((0, why)).0 += 1,
            stored => drop(state.insert(Arc::new(stored.map_err(unreadable)?))),
        }
        sum = sum.wrapping_add(sum_in(value.value()).unwrap_or_default());
        last = Some(key);
    }
    if let Some((values, why)) = lost {
        return Err(OpenError::Sealed { file: file.to_owned(), values, why });
    }
    Ok(Loaded { state, sum, stale })
}

fn damaged(file: &str, why: &str) -> OpenError {
    OpenError::Damaged { file: file.to_owned(), why: why.to_owned() }
}

/// redb's word for damage, with the file's name.
fn named(error: OpenError, file: &str) -> OpenError {
    match error {
        OpenError::Database(error) if is_damage(&error) => damaged(file, &error.to_string()),
        other => other,
    }
}

/// Whether it is about what was read, not about reading.
pub(super) fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Io(error) => matches!(error.kind(), InvalidData | UnexpectedEof),
        redb::Error::DatabaseAlreadyOpen | redb::Error::PreviousIo => false,
        _ => true,
    }
}
