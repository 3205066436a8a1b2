//! Who is wanted, who is here, and one task per module on its way.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use freewheel_link::artifact::PublicKey;
use freewheel_link::digest::Digest;
use freewheel_spoke_agent::ports::{Input, Modules};
use freewheel_spoke_agent::uplink::FetchError;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::fetch::Fetch;
use crate::files::{Names, sweep};
use crate::part::Part;
use crate::unpack::{unpack, verify};
use crate::{ModuleError, SPARE};

/// Transfers at the same time: one that waits for the hub's compiler must not hold up a ready one.
const TRANSFERS: usize = 3;
/// First and longest wait before a module is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// 2026-01-01: a clock before that has never been set.
const CLOCK_IS_SET: u64 = 1_767_225_600;

/// What a store needs.
#[derive(Clone)]
pub struct Setup {
    /// `DATA/modules`; made when it is not there.
    pub dir: PathBuf,
    /// Engine profile of this device.
    pub profile: String,
    /// The fleet root that was pinned when the device joined.
    pub root: PublicKey,
    /// Where modules come from.
    pub fetch: Arc<dyn Fetch>,
    /// The agent's queue.
    pub inputs: mpsc::Sender<Input>,
    /// Where transfers run.
    pub runtime: tokio::runtime::Handle,
}

/// The modules of this device.
pub struct Store {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    setup: Setup,
    state: Mutex<State>,
    transfers: Semaphore,
}

#[derive(Default)]
struct State {
    ready: BTreeMap<Digest, PathBuf>,
    coming: BTreeMap<Digest, CancellationToken>,
    needed: BTreeSet<Digest>,
}

impl Store {
    /// Opens the directory; what lies there is verified when it is wanted.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(setup: Setup) -> io::Result<Self> {
        fs::create_dir_all(&setup.dir)?;
        for entry in fs::read_dir(&setup.dir)?.flatten() {
            // Halves of an earlier life: nobody knows any more what they belong to.
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "part" || e == "tmp" || e == "envelope-tmp") {
                let _ = fs::remove_file(path);
            }
        }
        let transfers = Semaphore::new(TRANSFERS);
        let shared = Shared { setup, state: Mutex::default(), transfers };
        Ok(Self { shared: Arc::new(shared), stop: CancellationToken::new() })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Modules for Store {
    fn want(&self, component: Digest) -> Option<PathBuf> {
        let mut state = self.shared.state.lock();
        state.needed.insert(component);
        if let Some(path) = state.ready.get(&component) {
            if path.exists() {
                return Some(path.clone());
            }
            state.ready.remove(&component);
        }
        if let Entry::Vacant(place) = state.coming.entry(component) {
            let stop = place.insert(self.stop.child_token()).clone();
            let shared = self.shared.clone();
            self.shared.setup.runtime.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = shared.bring(component) => {}
                }
            });
        }
        None
    }

    fn keep(&self, components: &[Digest]) {
        let mut state = self.shared.state.lock();
        let needed: BTreeSet<Digest> = components.iter().copied().collect();
        state.coming.retain(|component, stop| {
            let stays = needed.contains(component);
            if !stays {
                stop.cancel();
            }
            stays
        });
        let dropped = state.needed.difference(&needed).next().is_some();
        state.needed = needed;
        drop(state);
        if dropped {
            let shared = self.shared.clone();
            self.shared.setup.runtime.spawn_blocking(move || shared.sweep());
        }
    }
}

impl Shared {
    fn names(&self, component: &Digest) -> Names {
        Names::of(&self.setup.dir, component, &self.setup.profile)
    }

    fn sweep(&self) {
        // The lock is held so that nothing is wanted while it is being removed.
        let mut state = self.state.lock();
        let needed: Vec<PathBuf> =
            state.needed.iter().map(|component| self.names(component).artifact).collect();
        match sweep(&self.setup.dir, &needed, SPARE) {
            Ok(removed) => state.ready.retain(|_, path| !removed.contains(path)),
            Err(error) => warn!(%error, "old modules cannot be removed"),
        }
    }

    /// Until the module is here; every failure is told and tried again.
    async fn bring(self: Arc<Self>, component: Digest) {
        let mut wait = RETRY.0;
        loop {
            let outcome = self.once(component).await;
            let answer = match outcome {
                Ok(path) => {
                    let mut state = self.state.lock();
                    state.coming.remove(&component);
                    state.ready.insert(component, path.clone());
                    Ok(path)
                }
                Err(error) => {
                    warn!(module = %component, error = %error, "module cannot be had");
                    Err((error.reason(), error.to_string()))
                }
            };
            let done = answer.is_ok();
            if self.setup.inputs.send(Input::Module(component, answer)).await.is_err() || done {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    async fn once(&self, component: Digest) -> Result<PathBuf, ModuleError> {
        let names = self.names(&component);
        if self.on_disk(&names, component).await {
            return Ok(names.artifact);
        }
        // Closed never: the store keeps it.
        let _transfer = self.transfers.acquire().await;
        let mut part = Part {
            names: &names,
            root: &self.setup.root,
            component,
            profile: &self.setup.profile,
            now: unix_now(),
            file: None,
            written: 0,
            envelope: None,
            refused: None,
        };
        let fetched = self.setup.fetch.fetch(component, &self.setup.profile, &mut part).await;
        if let Some(file) = &mut part.file {
            tokio::io::AsyncWriteExt::flush(file).await.map_err(ModuleError::Disk)?;
        }
        if let Some(refused) = part.refused {
            return Err(refused);
        }
        let header = fetched.map_err(of_fetch)?;
        let unpacking = names.clone();
        blocking(move || unpack(&unpacking, &header.envelope)).await?;
        info!(module = %component, "module fetched and verified");
        Ok(names.artifact)
    }

    /// Whether it lies here already, unchanged. What does not hold is removed.
    async fn on_disk(&self, names: &Names, component: Digest) -> bool {
        if !names.artifact.exists() {
            return false;
        }
        let (checked, root, profile) = (names.clone(), self.setup.root, self.setup.profile.clone());
        let outcome = blocking(move || verify(&checked, &root, &component, &profile)).await;
        if let Err(error) = &outcome {
            warn!(module = %component, %error, "the module on disk is not used");
            names.remove();
        }
        outcome.is_ok()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ModuleError> + Send + 'static,
) -> Result<T, ModuleError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(ModuleError::Disk(io::Error::other(error))),
    }
}

fn of_fetch(error: FetchError) -> ModuleError {
    match error {
        FetchError::Refused(refusal) => {
            ModuleError::Refused { reason: refusal.reason, message: refusal.message }
        }
        FetchError::Sink(error) => ModuleError::Disk(error),
        other => ModuleError::Fetch(other.to_string()),
    }
}

fn unix_now() -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    (CLOCK_IS_SET <= now).then_some(now)
}
