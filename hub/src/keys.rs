//! `hub keys …`: the keys that the store's Secrets are sealed with, in the data folder.
//!
//! Guarantees:
//! - who rotates keys is told what is waited for, and does not wait for a hub that does nothing
//!   (`a_hub_that_answers_nobody_is_not_waited_for`), nor for what came to pass by somebody else's key
//!   (`who_is_overtaken_by_another_rotation_is_told_so`).

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use freewheel_hub_pki::{KeyId, PkiError, SealingFile, SealingKey};
use http::Method;

use crate::cli::{MergeOptions, RotateOptions};
use crate::client::Client;

/// How long the command waits for the hub. It goes on by itself.
const WAIT_MAX: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the hub is asked whether it lives, how long that may take, and for how long it may be silent.
const ASK_EVERY: Duration = Duration::from_secs(2);
const ANSWER_MAX: Duration = Duration::from_secs(3);
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Why keys are not rotated.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The folder.
    #[error("{0} is no data folder of a hub that was started: there is no pki/sealing.keys in it")]
    NoKeys(PathBuf),
    /// Somebody has put another file there.
    #[error(
        "{path} is another file than it was: the key {id} was added to it and is gone, and older ones are not. Put the newest \
         copy of it back, and ask /readyz of the hub what it lacks"
    )]
    TakenAway {
        /// The file.
        path: PathBuf,
        /// The key.
        id: KeyId,
    },
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
    let added = Added::to(&file.keys()?, id);
    let began = Instant::now();
    let mut hub = Presence::new(options.data.join("admin.kubeconfig"), SILENCE_MAX);
    let mut waits = false;
    while began.elapsed() < WAIT_MAX {
        if let Some(news) = added.news(&file)? {
            println!("{news}");
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
        if !waits {
            println!(
                "waiting until the hub that runs on {} has sealed everything with it (it goes on without this command)",
                options.data.display()
            );
            waits = true;
        }
        if hub.is_lost().await {
            println!(
                "the hub that runs on {} has answered nobody for {} s: see what holds it up. It, or the next one that \
                 starts there, seals everything with the key and drops the old ones",
                options.data.display(),
                SILENCE_MAX.as_secs()
            );
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    println!(
        "the hub has not sealed everything with it yet and goes on; the old keys stay until then. Its /readyz says whether \
         their file holds it up"
    );
    Ok(())
}

/// Whether the hub answers, as its own kubeconfig reaches it.
struct Presence {
    kubeconfig: PathBuf,
    silence_max: Duration,
    asked: Option<Instant>,
    heard: Instant,
}

impl Presence {
    fn new(kubeconfig: PathBuf, silence_max: Duration) -> Self {
        Self { kubeconfig, silence_max, asked: None, heard: Instant::now() }
    }

    /// Whether it has been silent for too long. Any answer is one, also that it is not ready.
    async fn is_lost(&mut self) -> bool {
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
            return false;
        }
        self.asked = Some(Instant::now());
        let ask = async {
            let client = Client::new(Some(&self.kubeconfig))?;
            client.send(Method::GET, "/livez", "application/json", Bytes::new()).await
        };
        if let Ok(Ok(_)) = tokio::time::timeout(ANSWER_MAX.min(self.silence_max), ask).await {
            self.heard = Instant::now();
        }
        self.silence_max <= self.heard.elapsed()
    }
}

/// Adds the keys of a copy of the file to those that are there.
pub async fn merge(options: MergeOptions) -> Result<(), KeysError> {
    let added = SealingFile::of(&options.data).merge(&options.file)?;
    for id in &added {
        println!("added the key {id}");
    }
    println!("{} of its keys were not there", added.len());
    Ok(())
}

/// A key that was added, and those that are older.
struct Added {
    id: KeyId,
    older: Vec<KeyId>,
}

/// What has become of it.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Older ones are there: something may be sealed with them.
    Waits,
    /// None that is older is left.
    Alone,
    /// Nor is it: one that was added later seals everything.
    Overtaken(KeyId),
    /// It is gone and older ones are not, or there is none at all: it is another file.
    TakenAway,
}

impl Added {
    fn to(keys: &[SealingKey], id: KeyId) -> Self {
        let older = keys.iter().map(SealingKey::id).skip_while(|key| *key != id).skip(1);
        Self { id, older: older.collect() }
    }

    /// What there is to say when the command is done.
    fn news(&self, file: &SealingFile) -> Result<Option<String>, KeysError> {
        match self.state(&file.keys()?) {
            State::Waits => Ok(None),
            State::Alone => {
                Ok(Some("everything is sealed with it, and the old keys are dropped".to_owned()))
            }
            State::Overtaken(by) => Ok(Some(format!(
                "keys that were made later, the newest of them {by}, have taken its place: everything is sealed with \
                 those, and the old keys are dropped"
            ))),
            State::TakenAway => {
                Err(KeysError::TakenAway { path: file.path().to_path_buf(), id: self.id })
            }
        }
    }

    fn state(&self, keys: &[SealingKey]) -> State {
        let is_old = |key: &SealingKey| self.older.contains(&key.id());
        let is_there = keys.iter().any(|key| key.id() == self.id);
        match (keys.first(), is_there, keys.iter().any(is_old)) {
            (Some(_), true, true) => State::Waits,
            (Some(_), true, false) => State::Alone,
            (Some(first), false, false) => State::Overtaken(first.id()),
            (None, ..) | (Some(_), false, true) => State::TakenAway,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubeconfig;

    #[test]
    fn who_is_overtaken_by_another_rotation_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = SealingFile::of(dir.path());
        let old = file.add().unwrap().id();
        let yesterday = file.keys().unwrap();
        let ids = [(); 3].map(|()| file.add().unwrap().id());
        let all = ids.map(|id| Added::to(&file.keys().unwrap(), id));
        for added in &all {
            assert_eq!(added.state(&file.keys().unwrap()), State::Waits);
        }
        // The hub had seen two of them when it began, and then sees the third.
        for (unused, states) in [
            (vec![old, ids[0]], [State::Overtaken(ids[2]), State::Alone, State::Waits]),
            (vec![ids[1]], [State::Overtaken(ids[2]), State::Overtaken(ids[2]), State::Alone]),
        ] {
            file.forget(&unused).unwrap();
            let keys = file.keys().unwrap();
            for (added, state) in all.iter().zip(states) {
                assert_eq!(added.state(&keys), state);
            }
        }
        assert_eq!(all[2].state(&yesterday), State::TakenAway);
        assert_eq!(all[2].state(&[]), State::TakenAway);
    }

    #[tokio::test]
    async fn a_hub_that_answers_nobody_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pki = freewheel_hub_pki::Pki::open(dir.path(), false).unwrap();
        // It takes connections, as a hub does that was stopped, and says nothing.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("https://{}", listener.local_addr().unwrap());
        let access = (&*pki.ca_pem, &*pki.admin_pem, &*pki.admin_key_pem);
        let path = dir.path().join("admin.kubeconfig");
        std::fs::write(&path, kubeconfig::write("freewheel", &server, access)).unwrap();
        let began = Instant::now();
        let mut hub = Presence::new(path, Duration::from_millis(300));
        while !hub.is_lost().await {
            assert!(began.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(Duration::from_millis(300) <= began.elapsed());
    }
}
