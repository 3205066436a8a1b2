//! `hub keys …`: the keys that the store's Secrets are sealed with, in the data folder.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use freewheel_hub_pki::{KeyId, PkiError, SealingFile, SealingKey};

use crate::cli::RotateOptions;

/// How long the command waits for the hub. It goes on by itself.
const WAIT_MAX: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why keys are not rotated.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The folder.
    #[error("{0} is no data folder of a hub that was started: there is no pki/sealing.keys in it")]
    NoKeys(PathBuf),
    /// The keys.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The lock.
    #[error("cannot see whether a hub runs on {path}")]
    Lock {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Adds a key, with which a hub that runs on this folder, or the next that starts there, seals everything anew; the old
/// ones are dropped then.
pub async fn rotate(options: RotateOptions) -> Result<(), KeysError> {
    let file = SealingFile::of(&options.data);
    if file.keys()?.is_empty() {
        return Err(KeysError::NoKeys(options.data));
    }
    let id = file.add()?.id();
    println!("made the key {id}");
    let began = Instant::now();
    while began.elapsed() < WAIT_MAX {
        if is_alone(&file, id)? {
            println!("everything is sealed with it, and the old keys are dropped");
            return Ok(());
        }
        // It may end at any time.
        if !is_served(&options.data)? {
            println!(
                "no hub runs on {}: the next one that starts there seals everything with it and drops the old keys",
                options.data.display()
            );
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    println!(
        "the hub has not sealed everything with it yet and goes on; the old keys stay until then"
    );
    Ok(())
}

/// Whether no key that is older than this one is left.
fn is_alone(file: &SealingFile, id: KeyId) -> Result<bool, PkiError> {
    Ok(file.keys()?.last().map(SealingKey::id) == Some(id))
}

fn is_served(data: &Path) -> Result<bool, KeysError> {
    let unknown = |source| KeysError::Lock { path: data.to_path_buf(), source };
    let lock = match File::open(data.join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(unknown)?,
    };
    match lock.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(unknown(source)),
    }
}
