//! Who is wanted, who is here, and one task per module on its way.
//!
//! Guarantees:
//! - what the plan needs is never removed, and nothing is before the plan has been heard in this life
//!   (`what_the_last_life_left_is_counted_once_the_plan_is_known`);
//! - of the rest, what was needed last stays, up to [`UNUSED_BYTES_KEPT`]
//!   (`a_module_that_was_needed_until_now_outlives_one_that_came_later`);
//! - a disk under pressure takes that too (`a_disk_under_pressure_gives_back_what_nobody_needs`,
//!   `a_full_disk_takes_the_modules_that_nobody_needs`);
//! - modules that the hub has not compiled yet hold up none that it has, however many they are
//!   (`modules_that_are_being_compiled_hold_up_none_that_is_ready`);
//! - of one module there is one transfer at a time, also when it was given up and is wanted again: the next begins when
//!   nothing of the one before it is at work any more (`what_is_still_being_unpacked_is_nobody_else_s`).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use freewheel_link::allocatable::storage_reserve;
use freewheel_link::artifact::{Envelope, PublicKey};
use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;
use freewheel_spoke_agent::ports::{Input, Modules};
use freewheel_spoke_agent::uplink::FetchError;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::download::Download;
use crate::fetch::Fetch;
use crate::files::{ModuleLock, Names, Retired, Scratch, beyond, idle, retire, tidy, touch};
use crate::unpack::{unpack, verify};
use crate::{ModuleError, UNUSED_BYTES_KEPT, partial_downloads};

/// Transfers whose bytes come at the same time: one is whole sooner when few others come with it. What the hub has not
/// begun to send is none of them, and how many are asked for at a time the link bounds.
pub(crate) const TRANSFERS_AT_ONCE: usize = 3;
/// Modules that are checked at the same time. After a start all of them are wanted at once, and the threads that read
/// them are those of the logs and of the dial to the hub, too: more than a card gives to one would be no faster.
const CHECKS_AT_ONCE: usize = 1;
/// First and longest wait before a module is tried again.
const RETRY_FIRST_AND_MAX: (Duration, Duration) =
    (Duration::from_secs(10), Duration::from_secs(300));
/// How often the disk is looked at: logs and volumes of pods fill it too.
const DISK_CHECK_EVERY: Duration = Duration::from_secs(60);
/// 2026-01-01: a clock before that has never been set.
const CLOCK_SET_SINCE_SECONDS: u64 = 1_767_225_600;

/// What a store needs.
#[derive(Clone)]
pub struct Setup {
    /// `DATA/modules`; made when it is not there.
    pub dir: PathBuf,
    /// Engine profile of this device.
    pub profile: Profile,
    /// The fleet root that was pinned when the device joined.
    pub root: PublicKey,
    /// Where modules come from.
    pub fetch: Arc<dyn Fetch>,
    /// The agent's queue.
    pub inputs: mpsc::Sender<Input>,
    /// Bytes of the disk that `dir` is on, and how many of them are free.
    pub disk: Arc<dyn Fn() -> (u64, u64) + Send + Sync>,
    /// Where transfers run.
    pub runtime: tokio::runtime::Handle,
}

/// The modules of this device.
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    stop: CancellationToken,
}

pub(crate) struct Shared {
    setup: Setup,
    state: Mutex<ModuleStates>,
    transfers: Arc<Semaphore>,
    pub(crate) checks: Semaphore,
    /// Counts transfers: each has files of its own.
    transfer: AtomicU64,
    /// Parts of those that run.
    running: Mutex<Vec<Weak<PathBuf>>>,
    turns: Mutex<BTreeMap<Digest, Weak<AsyncMutex<()>>>>,
}

#[derive(Default)]
struct ModuleStates {
    ready: BTreeMap<Digest, PathBuf>,
    coming: BTreeMap<Digest, CancellationToken>,
    needed: BTreeSet<Digest>,
    /// Whether the plan has said in this life what it needs.
    heard: bool,
}

impl Store {
    /// Opens the directory; what lies there is verified when it is wanted. One that cannot be made holds nothing, and
    /// what is brought says so.
    #[must_use]
    pub fn open(setup: Setup) -> Self {
        if let Err(error) = fs::create_dir_all(&setup.dir).and_then(|()| tidy(&setup.dir)) {
            warn!(%error, "the directory of the modules cannot be used; trying again with each module");
        }
        let shared = Shared {
            setup,
            state: Mutex::default(),
            transfers: Arc::new(Semaphore::new(TRANSFERS_AT_ONCE)),
            checks: Semaphore::new(CHECKS_AT_ONCE),
            transfer: AtomicU64::new(0),
            running: Mutex::default(),
            turns: Mutex::default(),
        };
        let (shared, stop) = (Arc::new(shared), CancellationToken::new());
        let watching = stop.clone().run_until_cancelled_owned(shared.clone().watch_disk());
        shared.setup.runtime.spawn(watching);
        Self { shared, stop }
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
            let turns = self.shared.turns_of(component);
            let stop = place.insert(self.stop.child_token()).clone();
            let shared = self.shared.clone();
            self.shared.setup.runtime.spawn(async move {
                let bring = async {
                    let turn = Arc::new(turns.lock_owned().await);
                    shared.bring(component, turn).await;
                };
                tokio::select! {
                    // Who was given up has nothing to say, also where it is through by now: it may be wanted again.
                    biased;
                    () = stop.cancelled() => {}
                    () = bring => {}
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
        let left: Vec<Digest> = state.needed.difference(&needed).copied().collect();
        // What the last life left behind has to be counted once.
        let first = !std::mem::replace(&mut state.heard, true);
        let sweeps = first || !left.is_empty();
        // Before anybody sweeps: they are the last that go.
        left.iter().for_each(|component| touch(&self.shared.names(component).artifact));
        state.needed = needed;
        drop(state);
        if sweeps {
            let shared = self.shared.clone();
            self.shared.setup.runtime.spawn_blocking(move || shared.sweep(shared.spare()));
        }
    }

    fn make_room(&self) {
        let shared = self.shared.clone();
        self.shared.setup.runtime.spawn_blocking(move || shared.sweep(0));
    }
}

impl Shared {
    fn names(&self, component: &Digest) -> Names {
        Names::of(&self.setup.dir, component, self.setup.profile)
    }

    /// What the tasks that bring this module wait for.
    pub(crate) fn turns_of(&self, component: Digest) -> Arc<AsyncMutex<()>> {
        let mut all = self.turns.lock();
        all.retain(|_, turns| 0 < turns.strong_count());
        let known = all.get(&component).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let turns = Arc::default();
            all.insert(component, Arc::downgrade(&turns));
            turns
        })
    }

    /// Files of a new transfer.
    fn scratch(&self, names: &Names, turn: &ModuleLock) -> Scratch {
        let transfer = self.transfer.fetch_add(1, Ordering::Relaxed);
        let mut scratch = Scratch::of(names, transfer);
        scratch.turn = Some(turn.clone());
        let mut running = self.running.lock();
        running.retain(|part| 0 < part.strong_count());
        running.push(scratch.alive());
        scratch
    }

    /// Parts of the transfers that run.
    fn running(&self) -> Vec<Arc<PathBuf>> {
        self.running.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Removes what no pod needs until the rest of it fits into `spare`; answers with the bytes. Blocking.
    pub(crate) fn sweep(&self, spare: u64) -> u64 {
        // The lock is held so that nothing is wanted while it loses its name, and not while its bytes go.
        let mut state = self.state.lock();
        if !state.heard {
            return 0;
        }
        let needed: Vec<PathBuf> =
            state.needed.iter().map(|component| self.names(component).artifact).collect();
        partial_downloads::keep_only(&self.setup.dir, &needed);
        let going = match idle(&self.setup.dir, &needed) {
            Ok(idle) => beyond(idle, spare),
            Err(error) => {
                warn!(%error, "old modules cannot be removed");
                return 0;
            }
        };
        state.ready.retain(|_, path| !going.iter().any(|one| one.artifact == *path));
        let retired: Vec<Retired> = going.iter().filter_map(retire).collect();
        drop(state);
        let bytes = retired.iter().map(|one| one.size).sum();
        if 0 < bytes {
            info!(modules = retired.len(), bytes, "modules that no pod needs are removed");
        }
        bytes
    }

    /// What idle modules may take now.
    fn spare(&self) -> u64 {
        let (size, free) = (self.setup.disk)();
        // The same bound as for the node's DiskPressure.
        if free < storage_reserve(size) { 0 } else { UNUSED_BYTES_KEPT }
    }

    async fn watch_disk(self: Arc<Self>) {
        loop {
            tokio::time::sleep(DISK_CHECK_EVERY).await;
            // What the plan wants no more has gone when it said so: only pressure comes by itself.
            if self.spare() == 0 {
                self.make_room().await;
            }
        }
    }

    /// For a module that finds the disk full: all that no pod needs goes. Whether that was anything.
    async fn make_room(self: &Arc<Self>) -> bool {
        let shared = self.clone();
        blocking(move || Ok(shared.sweep(0))).await.is_ok_and(|bytes| 0 < bytes)
    }

    /// Until the module is here; every failure is told and tried again.
    async fn bring(self: Arc<Self>, component: Digest, turn: ModuleLock) {
        let mut wait = RETRY_FIRST_AND_MAX.0;
        loop {
            let mut outcome = self.once(component, &turn).await;
            if outcome.as_ref().is_err_and(ModuleError::is_full) && self.make_room().await {
                outcome = self.once(component, &turn).await;
            }
            if let Err(error) = &outcome {
                let (shared, is_full, turn) = (self.clone(), error.is_full(), turn.clone());
                let bound = move || {
                    let _turn = turn;
                    if is_full {
                        partial_downloads::remove(&shared.names(&component));
                    }
                    partial_downloads::bound(&shared.setup.dir, &shared.running());
                    Ok(())
                };
                // It has no result and cannot fail.
                let _ = blocking(bound).await;
            }
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
            wait = (wait * 2).min(RETRY_FIRST_AND_MAX.1);
        }
    }

    async fn once(
        self: &Arc<Self>,
        component: Digest,
        turn: &ModuleLock,
    ) -> Result<PathBuf, ModuleError> {
        let names = self.names(&component);
        if self.on_disk(&names, component).await {
            return Ok(names.artifact);
        }
        let scratch = self.scratch(&names, turn);
        let own = names.clone();
        let (scratch, half) = blocking(move || {
            let half = partial_downloads::take_over(&own, &scratch);
            Ok((scratch, half))
        })
        .await?;
        let goes_on = half.is_some();
        if let Some((bytes, _)) = &half {
            info!(module = %component, bytes, "a transfer that broke off goes on");
        }
        let mut outcome = self.transfer(component, &names, scratch, half).await;
        if let Err(Failed { spent: true, error }) = &outcome
            && goes_on
        {
            warn!(module = %component, %error, "what was there of it is of no use; fetching it anew");
            let scratch = self.scratch(&names, turn);
            outcome = self.transfer(component, &names, scratch, None).await;
        }
        outcome.map(|()| names.artifact).map_err(|failed| failed.error)
    }

    async fn transfer(
        self: &Arc<Self>,
        component: Digest,
        names: &Names,
        mut scratch: Scratch,
        half: Option<(u64, Envelope)>,
    ) -> Result<(), Failed> {
        let (now, root, profile) = (unix_now(), &self.setup.root, self.setup.profile);
        let holds = |(_, envelope): &(u64, Envelope)| {
            envelope.verify(root, &component, profile, now).is_ok()
        };
        let (written, envelope) = half.filter(holds).unzip();
        let written = written.unwrap_or(0);
        let mut part = Download {
            scratch: &scratch,
            root,
            component,
            profile,
            now,
            file: None,
            written,
            envelope,
            transfers: self.transfers.clone(),
            permit: None,
            refused: None,
        };
        let fetched = self.setup.fetch.fetch(component, profile, &mut part).await;
        // Until it is unpacked, too.
        let _transfer = part.permit.take();
        if let Some(file) = &mut part.file {
            tokio::io::AsyncWriteExt::flush(file).await.map_err(ModuleError::Disk)?;
        }
        if let Some(error) = part.refused {
            scratch.spend();
            return Err(Failed { error, spent: true });
        }
        let header = fetched.map_err(of_fetch)?;
        // The files go along: whoever gives the module up meanwhile does not take them away half-way.
        let unpacking = names.clone();
        let unpacked = blocking(move || {
            let unpacked = unpack(&unpacking, &scratch, &header.envelope);
            // A disk that refuses says nothing about what came.
            if !matches!(unpacked, Err(ModuleError::Disk(_))) {
                scratch.spend();
            }
            unpacked
        });
        if let Err(error) = unpacked.await {
            let spent = !matches!(error, ModuleError::Disk(_));
            return Err(Failed { error, spent });
        }
        info!(module = %component, "module fetched and verified");
        Ok(())
    }

    /// Whether it lies here already, unchanged. What does not hold is removed.
    async fn on_disk(&self, names: &Names, component: Digest) -> bool {
        if !names.artifact.exists() {
            return false;
        }
        // Closed never: the store keeps it.
        let _check = self.checks.acquire().await;
        let (checked, root, profile) = (names.clone(), self.setup.root, self.setup.profile);
        let outcome = blocking(move || verify(&checked, &root, &component, profile)).await;
        if let Err(error) = &outcome {
            warn!(module = %component, %error, "the module on disk is not used");
            names.remove();
        }
        outcome.is_ok()
    }
}

/// Why a transfer failed, and whether its half went with it.
struct Failed {
    error: ModuleError,
    spent: bool,
}

impl From<ModuleError> for Failed {
    fn from(error: ModuleError) -> Self {
        Self { error, spent: false }
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
    (CLOCK_SET_SINCE_SECONDS <= now).then_some(now)
}
