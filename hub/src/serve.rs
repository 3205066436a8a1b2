//! `hub serve`: everything meets here.
//!
//! ```text
//! lock ─▶ store ─▶ keys ─▶ modules ─▶ gateway (UDP) ─▶ API (TCP) ─▶ controllers ─▶ kubeconfig ─▶ until SIGTERM or Ctrl-C
//! ```
//!
//! Guarantees:
//! - a disk that can be read and takes no writes is enough for a hub that had begun: it serves what it holds, says what it
//!   lacks, and goes on when there is room (`a_hub_that_starts_on_a_full_disk_serves_reads_and_heals`).

mod admission_webhooks;
mod announce;
mod caller_rights;
mod certificates;
mod cluster_quota;
mod data_dir;
mod definition_quota;
mod device_access;
mod disk;
mod disk_reserve;
mod files;
mod full_disk;
mod heap;
mod http_v2;
mod login;
mod login_expiry;
mod module_kinds;
mod names;
mod open_files;
mod pods_measured;
mod process;
mod sealing;
mod serve_error;
mod signer;
mod spare_room;
mod store_metrics;
mod tasks;
mod wall_clock;
mod webhook;

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::images::Images;
use freewheel_hub_apiserver::{Access, Check, Limits, Server, ServiceDialer, Tls, Usage};
use freewheel_hub_audit::Audit;
use freewheel_hub_controllers::fleet::RolloutPlans;
use freewheel_hub_controllers::index::Indexes;
use freewheel_hub_controllers::{definitions, module_users};
use freewheel_hub_gateway::host_memory::host_memory;
use freewheel_hub_gateway::{Gateway, Identity};
use freewheel_hub_metrics::Metrics;
use freewheel_hub_modules::{Modules, compile};
use freewheel_hub_objects::Objects;
use freewheel_hub_pki::{Pki, Validity};
use freewheel_link::artifact::PublicKey;
use freewheel_link::quic::{Endpoint, Socket};
use freewheel_link::tls::DefaultTimeProvider;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::certificates::Certificates;
use crate::cli::ServeOptions;
use admission_webhooks::AdmissionWebhooks;
use caller_rights::CallersRights;
use cluster_quota::ClusterQuota;
use data_dir::DataDir;
use definition_quota::DefinitionQuota;
use disk::{Disk, WatchedStore};
use disk_reserve::DiskReserve;
pub use login::secret as registry_login;
use module_kinds::Handlers;
use names::Names;
use pods_measured::PodsMeasured;
use sealing::Rotation;
use serve_error::ServeError;
use signer::{Signer, TokenSigner};
use tasks::{HealthSigns, Tasks, together};

/// How long connections may take to finish after the signal to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// How long all of the hub may take to stop. Connections, spokes and controllers need less; whoever hangs
/// is left behind, for nothing that was acknowledged depends on it.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or Ctrl-C, and its control loops on these threads of their own.
///
/// # Errors
/// When something it needs is not there.
pub async fn run(options: ServeOptions, background: Handle) -> Result<(), ServeError> {
    // A bound on the size of files is one more way of a full disk: an error of that write, not the end of the process,
    // which it is when nobody listens. Who has listened once does so for good.
    let _file_size = signal(SignalKind::from_raw(libc::SIGXFSZ))?;
    let data = options.data.clone();
    let unusable = |source| ServeError::Data { path: data.clone(), source };
    let on_disk = |error| full_disk::explained(error, &data);
    std::fs::create_dir_all(&data).map_err(unusable).map_err(on_disk)?;
    let _lock = lock(&data).map_err(on_disk)?;
    let names = Names::new(&options)?;
    let disk = Disk::new(&data);
    let compiler = compile::this_program().map_err(unusable)?;
    let (opening, encryption) = (data.clone(), files::encryption(&options)?);
    let opened =
        tokio::task::spawn_blocking(move || DataDir::in_folder(&opening, compiler, encryption));
    let opened = opened.await;
    let DataDir { store, sealing, pki, fleet_root, modules } =
        opened.map_err(|e| ServeError::Run(io::Error::other(e)))?.map_err(on_disk)?;
    modules.known_as(names.registries(options.listen.port()));
    let rotation = Rotation { sealing: sealing.clone(), store: store.clone() };
    disk.spare.is_of(&store);
    disk.begins(&store);
    let watched = WatchedStore { store, disk: disk.clone(), sealing: Some(sealing) };
    let issuer = names::issuer(options.service_account_issuer.as_deref(), &names.api)?;
    let webhooks = Arc::new(AdmissionWebhooks::default());
    let files = files::read(&options, issuer, webhooks.clone())?;
    let (access, store) = Access::over(Arc::new(watched), files);
    let reserve = Arc::new(DiskReserve::of(disk.clone()));
    let quota = Arc::new(ClusterQuota::of(options.cluster_quota_bytes));
    let objects = access.guard(Objects::new(store)).admitting(reserve).admitting(quota);
    let definition_quota = DefinitionQuota::of(host_memory(), objects.store().clone());
    let objects = objects.admitting(Arc::new(definition_quota));
    definitions::serve_established(&objects);
    let (objects, indexes) = with_plans(objects, &access, &modules)?;
    let audit = files::audit(&options.audit)?;
    let hub = Hub {
        objects,
        indexes,
        access,
        webhooks,
        audit,
        disk,
        pki,
        modules,
        fleet_root,
        names,
        background,
    };
    hub.serve(&options, rotation).await
}

/// The same pipeline, in which a dry run is told what would be done, and what both that and the controllers find objects
/// by.
fn with_plans(
    objects: Objects,
    access: &Access,
    modules: &Modules,
) -> Result<(Objects, Indexes), ServeError> {
    let broken = |error| ServeError::Run(io::Error::other(error));
    let indexes = Indexes::new(objects.store(), objects.kinds()).map_err(broken)?;
    let rights = Arc::new(CallersRights(access.rights(objects.store())));
    let lookup = Arc::new(Handlers(modules.clone()));
    let plans = RolloutPlans::new(&objects, &indexes, rights, lookup).map_err(broken)?;
    Ok((objects.admitting(Arc::new(plans)), indexes))
}

fn listening(
    what: &'static str,
    flag: &'static str,
    address: SocketAddr,
) -> impl FnOnce(io::Error) -> ServeError {
    move |source| ServeError::Listen { what, flag, address, source }
}

/// Two hubs on one folder would ruin it; the lock goes with the process, however it ends.
fn lock(data: &Path) -> Result<File, ServeError> {
    let path = data.join("lock");
    let file = File::create(&path).map_err(|source| ServeError::Data { path, source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(ServeError::InUse(data.to_path_buf())),
        Err(std::fs::TryLockError::Error(source)) => {
            Err(ServeError::Data { path: data.to_path_buf(), source })
        }
    }
}

/// Everything that is open before anything is served.
struct Hub {
    objects: Objects,
    indexes: Indexes,
    access: Access,
    webhooks: Arc<AdmissionWebhooks>,
    audit: Option<Arc<Audit>>,
    disk: Arc<Disk>,
    pki: Pki,
    modules: Modules,
    fleet_root: PublicKey,
    names: Names,
    /// The threads of control loops.
    background: Handle,
}

impl Hub {
    async fn serve(self, options: &ServeOptions, rotation: Rotation) -> Result<(), ServeError> {
        let mut signals = Signals::new()?;
        let stop = CancellationToken::new();
        let (mut parts, signs) = (Tasks::default(), HealthSigns::default());
        let api = TcpListener::bind(options.listen).await;
        let api = api.map_err(listening("the Kubernetes API", "--listen", options.listen))?;
        let gateway = self.gateway();
        let clock = Arc::new(DefaultTimeProvider);
        let endpoint = Endpoint::hub(Socket::Bind(options.link), gateway.tls(clock)?)
            .map_err(listening("the link to the spokes (UDP)", "--link", options.link))?;
        let (tls, served) = self.tls()?;
        let metrics = self.metrics(&gateway, options);
        let usage = Usage::new(gateway.streams(), self.objects.clock().clone());
        let server = Server {
            objects: self.objects.clone(),
            access: self.access.clone(),
            audit: self.audit.clone(),
            streams: gateway.streams(),
            usage: usage.clone(),
            extra: Some(http_v2::handler(self.modules.clone(), self.objects.clone())),
            checks: self.checks(&signs, &rotation, &stop),
            metrics: metrics.clone(),
        };
        let certificates = Certificates {
            data: options.data.clone(),
            tls: tls.clone(),
            gateway: gateway.clone(),
            served,
            clock: self.objects.clock().clone(),
            announced: signs.bootstrap.clone(),
            is_kubeconfig_written: false,
        };
        let serving = freewheel_hub_apiserver::serve(api, tls, limits(), server, stop.clone());
        parts.start("API server", serving);
        let controllers = self.controllers(options, (metrics, usage), &stop).await?;
        parts.start_checked("controllers", &signs.controllers, together(controllers, stop.clone()));
        let ended = stop.clone();
        parts.start_checked("gateway", &signs.gateway, async move {
            gateway.serve(endpoint, ended).await;
            Ok(())
        });
        self.upkeep(&mut parts, rotation, &stop);
        let (objects, written) = (self.objects.clone(), signs.bootstrap.clone());
        let announced = announce::keep(objects, self.names.clone(), written, stop.clone());
        parts.start("announcement", announced);
        parts.start("certificates", certificates.keep(self.pki, self.names, stop.clone()));
        until_end(parts, &mut signals, &stop).await
    }

    /// What is looked after as long as the hub runs.
    fn upkeep(&self, parts: &mut Tasks, rotation: Rotation, stop: &CancellationToken) {
        let (modules, ended) = (self.modules.clone(), stop.clone());
        parts.start("module registry", async move {
            modules.run_maintenance(ended).await;
            Ok(())
        });
        let store = self.objects.store();
        parts.start("store", self.disk.clone().watch(store.clone(), stop.clone()));
        parts.start("sealing of the store", rotation.run(stop.clone()));
        parts.start("memory", heap::run_maintenance(store.clone(), stop.clone()));
        let clock = self.objects.clock().clone();
        parts.start("clock", wall_clock::watch(clock, stop.clone()));
    }

    /// TLS of the API, with a new certificate, and that one's life.
    fn tls(&self) -> Result<(Tls, Validity), ServeError> {
        let now = self.objects.clock().unix_seconds();
        let (own, served) = self.pki.serving(&self.names.dns, &self.names.addresses, now)?;
        let ca = self.pki.authority.ca().clone();
        Ok((Tls::new(own.chain, own.key, &[ca])?, served))
    }

    fn checks(&self, signs: &HealthSigns, keys: &Rotation, stop: &CancellationToken) -> Vec<Check> {
        let mut checks = signs.checks(stop);
        let (store, room, keys) = (self.disk.clone(), self.disk.clone(), keys.sealing.clone());
        checks.push(Check::of_readiness("store", move || store.takes_writes()));
        checks.push(Check::of_readiness("disk-space", move || room.has_room()));
        checks.push(Check::of_readiness("sealing-keys", move || keys.reload()));
        checks
    }

    async fn controllers(
        &self,
        options: &ServeOptions,
        (metrics, usage): (Metrics, Usage),
        stop: &CancellationToken,
    ) -> Result<JoinSet<()>, ServeError> {
        self.modules.ask_who_runs(Arc::new(module_users::RunningPods::new(self.objects.clone())));
        let config = freewheel_hub_controllers::Config {
            advertise: self.advertised(options).await,
            api_url: self.names.api.clone(),
            images: Arc::new(self.modules.clone()),
            ca_pem: self.pki.ca_pem.clone(),
            handlers: Arc::new(Handlers(self.modules.clone())),
            authority: Arc::new(Signer(self.pki.authority.clone())),
            tokens: Arc::new(TokenSigner(self.access.issuer(&self.objects))),
            rights: Arc::new(CallersRights(self.access.rights(self.objects.store()))),
            usage: Arc::new(PodsMeasured { usage, store: self.objects.store().clone() }),
            seed: fastrand::u64(..),
            metrics,
        };
        // What they compute holds up nobody who asks.
        let _threads = self.background.enter();
        freewheel_hub_controllers::start_over(&self.objects, &self.indexes, &config, stop)
            .map_err(|e| ServeError::Run(io::Error::other(e)))
    }

    fn gateway(&self) -> Gateway {
        let images: Arc<dyn Images> = Arc::new(self.modules.clone());
        let authority = self.pki.authority.clone();
        let identity = Identity { authority, fleet_root: self.fleet_root };
        // One hub per store: its name tells its own sessions from those of another in the same fleet.
        let gateway = Gateway::new(self.objects.clone(), images, identity, "hub");
        gateway.tell_api(&self.names.api);
        gateway.sign_pod_tokens_with(Arc::new(TokenSigner(self.access.issuer(&self.objects))));
        let dialer = ServiceDialer::new(self.objects.store().clone(), gateway.streams());
        self.webhooks.reach_services(dialer);
        gateway
    }

    fn metrics(&self, gateway: &Gateway, options: &ServeOptions) -> Metrics {
        let metrics = Metrics::default();
        gateway.show(&metrics);
        store_metrics::show(&metrics, &self.objects, &self.disk.commits, &options.data);
        store_metrics::show_clusters(&metrics, &self.objects, options.cluster_quota_bytes);
        process::show(&metrics);
        metrics
    }

    /// Behind Service `default/kubernetes` stands an address: of a name, the first it resolves to.
    async fn advertised(&self, options: &ServeOptions) -> SocketAddr {
        let port = options.listen.port();
        let found = tokio::net::lookup_host((self.names.advertise.as_str(), port)).await;
        let first = found.ok().and_then(|mut all| all.find(SocketAddr::is_ipv4));
        let listen = options.listen.ip();
        let here = if listen.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { listen };
        first.unwrap_or_else(|| SocketAddr::new(here, port))
    }
}

/// What the API's listener takes on.
fn limits() -> Limits {
    Limits { drain: DRAIN_TIMEOUT, ..Limits::default() }.within(open_files::raise())
}

/// Until a signal comes or a part is lost; then the others are stopped.
async fn until_end(
    mut parts: Tasks,
    signals: &mut Signals,
    stop: &CancellationToken,
) -> Result<(), ServeError> {
    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        lost = parts.first() => Err(lost),
    };
    info!("hub is stopping");
    stop.cancel();
    parting(parts, signals).await;
    outcome
}

/// Until all parts have stopped, or nobody waits for them any more.
async fn parting(mut parts: Tasks, signals: &mut Signals) {
    tokio::select! {
        whole = parts.rest(SHUTDOWN_TIMEOUT) => if !whole {
            warn!("a part of the hub has not stopped in time and is left behind");
        },
        () = signals.next() => warn!("told to stop twice: the hub stops at once"),
    }
}

/// What tells the hub to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next SIGTERM or Ctrl-C.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
