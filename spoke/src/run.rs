//! `spoke run`: everything wired, until a signal.
//!
//! ```text
//! guests (their runtimes) ─▶ inputs ─▶ agent (own thread) ─▶ uplink ─▶ hub
//! decommissioned, now or before this start ─▶ all that ends ─▶ the data directory is wiped
//! ```
//!
//! Modules are fetched, checked and swept by a runtime of their own: what waits there for a card takes no thread of the
//! dial's or of the logs'.
//!
//! The agent has a thread of its own because it writes the ledger and volumes: a slow card must hold up
//! neither heartbeats nor guests.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::artifact::PublicKey;
use freewheel_link::backoff::Backoff;
use freewheel_link::message::Reason;
use freewheel_link::names::ClusterName;
use freewheel_link::profile::Profile;
use freewheel_link::quic::{Endpoint, Socket};
use freewheel_link::report::NodeStatusV1;
use freewheel_link::tls::FloorClock;
use freewheel_spoke_agent::agent::{Agent, Config};
use freewheel_spoke_agent::eviction::{self, Threshold};
use freewheel_spoke_agent::files::DiskFiles;
use freewheel_spoke_agent::ports::{Input, NodePortNews, Ports};
use freewheel_spoke_agent::uplink::{Handle, SpokeInfo};
use freewheel_spoke_modules::{Setup, Store};
use freewheel_spoke_net::{Fabric, connections_from_outside};
use freewheel_spoke_runtime::{FILE_TURNS, Runtime, RuntimeOptions, Runtimes, choose_profile};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::address::Address;
use crate::cli;
use crate::data::{Data, DataError, LedgerFile, MachineClock};
use crate::decommission::{Decommission, Orders};
use crate::device::{self, Device};
use crate::device_watch::{self, Probe};
use crate::dial::{OwnDial, keep_certificate};
use crate::heap;
use crate::identity::{self, Identity, IdentityError, Joining};
use crate::mappings;
use crate::open_files;
use crate::serve::{LinkRemote, LinkServer};

/// Inputs of the agent that wait; more make whoever sends them wait.
const INPUT_QUEUE_LENGTH: usize = 1024;
/// Threads of the runtime that carries everything but guests: packets, logs, node ports.
const CONTROL_THREADS: usize = 2;
/// Its threads for what waits, which come when they are needed: one for each that may be under way, so that nobody
/// waits for a card that stands still but who works with it. Beside what the runtime of the containers does with files
/// that is what a dial has to read and to write down, what keeps the certificate, and what the hub asks the device to
/// count, one at a time each; and the hub's name, which the dial looks up and who follows the node's address.
const FILE_THREADS: usize = FILE_TURNS + 4 + NAME_LOOKUPS;
const NAME_LOOKUPS: usize = 2;
/// Threads of the modules' own runtime for transfers, checks and sweeps, which may all wait for the card.
const MODULE_FILE_THREADS: usize = 6;

/// Runs until SIGTERM or SIGINT. Pods end with the process and come back at the next start.
pub(crate) fn run(options: cli::Run) -> Result<(), Box<dyn Error>> {
    open_files::raise();
    heap::maintain()?;
    let data = Data::open(&options.data)?;
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .max_blocking_threads(FILE_THREADS)
        .thread_name("control")
        .enable_all()
        .build()?;
    // Of their own, because what they do with files is without a number: many are swept, fetched and checked.
    let modules = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(MODULE_FILE_THREADS)
        .thread_name("modules")
        .enable_all()
        .build()?;
    let way = control.block_on(async { Way::open(&data) })?;
    let end = control.block_on(live_until_ordered(&data, options, &way, modules.handle()));
    modules.shutdown_background();
    let outcome = end.and_then(|end| control.block_on(finish(&data, &way, end)));
    control.shutdown_timeout(Duration::from_secs(2));
    outcome
}

/// What a device has from its start to its end, also where it does nothing but end.
struct Way {
    endpoint: Endpoint,
    clock: Arc<FloorClock>,
    /// A signal has come.
    stop: CancellationToken,
}

impl Way {
    fn open(data: &Data) -> Result<Self, Box<dyn Error>> {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let endpoint = Endpoint::spoke(Socket::Bind(any))?;
        Ok(Self { endpoint, clock: identity::clock(data.dir()), stop: on_signal()? })
    }
}

/// Runs as a spoke until a signal, or until the hub has decommissioned this device, which may have been before this start.
async fn live_until_ordered(
    data: &Data,
    options: cli::Run,
    way: &Way,
    for_modules: &tokio::runtime::Handle,
) -> Result<Option<Decommission>, Box<dyn Error>> {
    let dir = data.dir();
    let unusable = |source| DataError::Unusable { dir: dir.to_owned(), source };
    match Decommission::found(dir).map_err(unusable)? {
        Some(found) if found.is_done() => Err(found.error(dir).into()),
        Some(begun) => Ok(Some(begun)),
        None => {
            let orders = Orders::ending(way.stop.child_token());
            let outcome = live(data, options, way, for_modules, &orders).await;
            match orders.given() {
                // Whatever else went wrong: this is the end.
                Some(order) => Ok(Some(Decommission::by(order, identity::name(dir).as_deref()))),
                None => outcome.map(|()| None),
            }
        }
    }
}

async fn finish(
    data: &Data,
    Way { endpoint, clock, stop }: &Way,
    end: Option<Decommission>,
) -> Result<(), Box<dyn Error>> {
    if let Some(end) = end {
        end.carry_out(data.dir(), endpoint, clock, stop).await?;
    }
    endpoint.close(0, "the spoke stops");
    Ok(())
}

async fn live(
    data: &Data,
    options: cli::Run,
    Way { endpoint, clock, .. }: &Way,
    for_modules: &tokio::runtime::Handle,
    orders: &Orders,
) -> Result<(), Box<dyn Error>> {
    let stop = orders.stop().clone();
    let (identity, spare) = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        who = who(data, endpoint, clock, &options) => who.inspect_err(|error| heed(error, orders))?,
    };
    let (device, profile, addresses) = probed()?;
    let address = Address::follow(options.address, &identity.hub, data.dir());
    let labels = options.labels;
    let mut probe = Probe { device, address, profile: profile.key(), labels, clock: clock.clone() };
    let node = probe.node_status(data);
    info!(cluster = %identity.cluster, hub = identity.hub, address = %probe.address.now(), profile = probe.profile, "spoke");

    let control = tokio::runtime::Handle::current();
    let (inputs, queue) = mpsc::channel(INPUT_QUEUE_LENGTH);
    let fabric = pod_network(&control, &probe.device, deliver(inputs.clone()));
    let logs = device::for_logs(node.storage);
    let runtime =
        guests(profile, addresses, &probe.device, logs, &fabric, &control, inputs.clone())?;
    let uplink = Handle::new();
    fabric.set_remote(Arc::new(LinkRemote(uplink.clone())));
    let modules = module_store(data, profile, identity.fleet_root, &uplink, &inputs, for_modules);
    let thresholds = thresholds(options.eviction_hard, options.eviction_soft);
    let ports = ports(data, &runtime, &fabric, modules, &uplink);
    let mut agent = Agent::open(ports, config(data, node.clone(), thresholds.clone())?)?;
    agent.begin_with(&probe.device.left(data.dir(), fabric.account()));
    let me = me(&identity, &agent, node);
    let home = data.dir().to_owned();
    let dial = OwnDial::new(home.clone(), endpoint.clone(), clock.clone(), spare, orders.clone());
    let driver = uplink.driver(me, Arc::new(dial), fastrand::Rng::new());
    let renewals =
        keep_certificate(home, uplink.clone(), clock.clone(), fastrand::Rng::new(), stop.clone());
    let here = LinkServer::new(data.dir(), &runtime, &fabric, &uplink);

    let agent = on_own_thread(agent, queue, stop.clone())?;
    let session = tokio::spawn(driver.run(inputs.clone(), Arc::new(here), stop.clone()));
    let session = end_with(session, &stop);
    let watch =
        device_watch::watch(&mut probe, data, fabric.account(), &thresholds, &inputs, &stop);
    tokio::join!(watch, session, renewals);
    drop(inputs);
    // Its last writes reach the disk before the guests go.
    let _ = agent.await;
    runtime.end().await;
    if orders.given().is_none() {
        info!("stopped; pods come back at the next start");
    }
    Ok(())
}

/// What the agent decides about, and by which it acts.
fn ports(
    data: &Data,
    runtime: &Arc<Runtime>,
    fabric: &Arc<Fabric>,
    modules: Arc<Store>,
    uplink: &Handle,
) -> Ports {
    Ports {
        clock: Arc::new(MachineClock::new()),
        containers: runtime.clone(),
        network: fabric.clone(),
        modules,
        disk: Arc::new(LedgerFile::new(data.dir())),
        uplink: Arc::new(uplink.clone()),
    }
}

fn config(
    data: &Data,
    node: NodeStatusV1,
    thresholds: Vec<Threshold>,
) -> Result<Config, Box<dyn Error>> {
    let files = Arc::new(DiskFiles::new(data.dir())?);
    Ok(Config { data: data.dir().to_owned(), node, files, thresholds })
}

/// A device may hear where it joins that it is decommissioned.
fn heed(error: &IdentityError, orders: &Orders) {
    if let Some(Reason::Decommissioned(order)) = error.turned_away() {
        orders.decommission(order);
    }
}

fn me(identity: &Identity, agent: &Agent, node: NodeStatusV1) -> SpokeInfo {
    let (held, digest) = agent.held();
    let (cluster, boot_epoch) = (identity.cluster.clone(), agent.boot_epoch());
    SpokeInfo { cluster, boot_epoch, held, digest, node }
}

/// Where eviction begins: what was asked for, or the defaults, and the guests' own bound.
pub(crate) fn thresholds(hard: Vec<Threshold>, soft: Vec<Threshold>) -> Vec<Threshold> {
    let hard = if hard.is_empty() { eviction::defaults() } else { hard };
    hard.into_iter().chain(soft).chain([eviction::of_guests()]).collect()
}

/// The device, how guests are run on it, and how many addresses they may have.
fn probed() -> Result<(Device, Profile, u64), &'static str> {
    let mut device = Device::probe();
    let profile = choose_profile(device.pods).ok_or("this machine cannot run the Wasm engine")?;
    let addresses = freewheel_spoke_runtime::addresses();
    let mappings = mappings::for_guests(device.mappings);
    device.pods = device.pods.min(freewheel_spoke_runtime::pods(&profile, addresses, mappings));
    Ok((device, profile, addresses))
}

/// What runs containers, on runtimes of its own.
fn guests(
    profile: Profile,
    addresses: u64,
    device: &Device,
    logs: u64,
    fabric: &Arc<Fabric>,
    control: &tokio::runtime::Handle,
    inputs: mpsc::Sender<Input>,
) -> Result<Arc<Runtime>, Box<dyn Error>> {
    Ok(Runtime::new(RuntimeOptions {
        profile,
        memory: device.for_guests(),
        files: open_files::for_guests(device.files),
        mappings: mappings::for_guests(device.mappings),
        addresses,
        logs,
        fabric: fabric.clone(),
        control: control.clone(),
        runtimes: Runtimes::new(device.cores())?,
        on_file_thread: heap::keep_nothing,
        deliver: deliver(inputs),
    })?)
}

fn pod_network(
    control: &tokio::runtime::Handle,
    device: &Device,
    deliver: Arc<dyn Fn(Input) + Send + Sync>,
) -> Arc<Fabric> {
    let fabric = Fabric::new(control.clone());
    let clients = open_files::for_clients(device.files);
    fabric.visits().set_limit(clients.min(connections_from_outside(device.memory)));
    fabric.listening().set_limit(open_files::for_node_ports(device.files));
    fabric.on_port_problem(move |problem| {
        let (owner, error) = (problem.owner.clone(), problem.error.clone());
        if error.is_none() {
            info!(owner, "a port of the node has no problem any more");
        }
        let (port, protocol) = (problem.node_port.port, problem.node_port.protocol);
        deliver(Input::NodePort(NodePortNews { owner, port, protocol, error }));
    });
    fabric
}

/// The identity: from the directory, or by joining. With it what to join again with, where the hub should let this
/// identity in no more.
async fn who(
    data: &Data,
    endpoint: &Endpoint,
    clock: &Arc<FloorClock>,
    options: &cli::Run,
) -> Result<(Identity, Option<Joining>), IdentityError> {
    if let Some(mut held) = identity::load(data.dir())? {
        mend(data.dir());
        let is_other = |asked: &ClusterName| {
            *asked != held.cluster && !identity::was_called(data.dir(), asked)
        };
        if let Some(asked) = options.name.clone().filter(is_other) {
            return Err(IdentityError::OtherName { held: held.cluster, asked });
        }
        if let Some(hub) = &options.hub {
            held.move_hub(data.dir(), hub);
        }
        let spare = spare(data, &held, options)?;
        return Ok((held, spare));
    }
    let (Some(hub), Some(token), Some(ca_hash), Some(name)) = (
        options.hub.clone(),
        options.join_token()?,
        options.ca_hash,
        options.name.clone().or_else(device::default_name),
    ) else {
        return Err(IdentityError::Unjoined(data.dir().to_owned()));
    };
    let joining = Joining { hub, token, ca_hash, name, labels: options.labels.clone() };
    let join = async || identity::enrol(data.dir(), endpoint, clock, &joining).await;
    Ok((until_joined(join).await?, None))
}

/// What is damaged of the identity is written anew, and said: the next thing to go may be what is kept once.
fn mend(data: &Path) {
    let damaged = identity::damaged(data);
    if damaged.is_empty() {
        return;
    }
    let files = damaged.join(", ");
    warn!(
        files,
        "files of the identity are damaged: their copy is in use; the card may be worn out"
    );
    if let Err(error) = identity::mend(data) {
        warn!(%error, "they stay damaged");
    }
}

/// Joins, however long that takes: a device may be there before its network is, or its hub. What waiting does not mend
/// ends it at once.
async fn until_joined<T>(
    mut join: impl AsyncFnMut() -> Result<T, IdentityError>,
) -> Result<T, IdentityError> {
    let (mut backoff, mut rng) = (Backoff::uplink(), fastrand::Rng::new());
    loop {
        let error = match join().await {
            Err(error) if error.may_pass_by_itself() => error,
            outcome => return outcome,
        };
        let wait = backoff.wait(None, &mut rng);
        let cause = crate::chain(&error);
        warn!(
            error = cause,
            seconds = wait.as_secs(),
            "this device has not joined yet; trying again"
        );
        tokio::time::sleep(wait).await;
    }
}

/// A token beside an identity is for the case that the hub lets that in no more.
fn spare(
    data: &Data,
    held: &Identity,
    options: &cli::Run,
) -> Result<Option<Joining>, IdentityError> {
    // The file may be gone by now: it was for joining.
    let Ok(Some(token)) = options.join_token() else { return Ok(None) };
    let own = held.ca_hash()?;
    if options.ca_hash.is_some_and(|given| given != own) {
        let dir = data.dir().join("identity");
        return Err(IdentityError::OtherFleet { held: own, dir });
    }
    info!(cluster = %held.cluster, "this device has joined; its token is kept for the case that the hub lets it in no more");
    Ok(Some(Joining {
        hub: held.hub.clone(),
        token,
        ca_hash: own,
        name: held.cluster.clone(),
        labels: options.labels.clone(),
    }))
}

fn module_store(
    data: &Data,
    profile: Profile,
    root: PublicKey,
    uplink: &Handle,
    inputs: &mpsc::Sender<Input>,
    runtime: &tokio::runtime::Handle,
) -> Arc<Store> {
    let dir = data.dir().to_owned();
    let setup = Setup {
        dir: dir.join(device::MODULES),
        disk: Arc::new(move || device::disk(&dir)),
        profile,
        root,
        fetch: Arc::new(uplink.clone()),
        inputs: inputs.clone(),
        runtime: runtime.clone(),
    };
    Arc::new(Store::open(setup))
}

/// A way into the agent's queue that never blocks and keeps the order. What waits is bounded by the
/// containers: each start says two things, and each of its probes one at a time; and by the ports of the node, each of
/// which is tried every few seconds.
fn deliver(inputs: mpsc::Sender<Input>) -> Arc<dyn Fn(Input) + Send + Sync> {
    let (sender, mut waiting) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(input) = waiting.recv().await {
            if inputs.send(input).await.is_err() {
                return;
            }
        }
    });
    Arc::new(move |input| {
        // Without an agent there is nobody to tell.
        let _ = sender.send(input);
    })
}

fn on_own_thread(
    agent: Agent,
    queue: mpsc::Receiver<Input>,
    stop: CancellationToken,
) -> std::io::Result<tokio::sync::oneshot::Receiver<()>> {
    let (done, wait) = tokio::sync::oneshot::channel();
    let own = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("agent".to_owned()).spawn(move || {
        own.block_on(agent.run(queue, stop.clone()));
        // An agent that ended by itself takes the process with it: a supervisor starts it anew.
        if !stop.is_cancelled() {
            error!("the agent ended");
            stop.cancel();
        }
        let _ = done.send(());
    })?;
    Ok(wait)
}

/// A link that ended by itself would leave the device silent for ever: a supervisor starts it anew.
async fn end_with(session: tokio::task::JoinHandle<()>, stop: &CancellationToken) {
    let _ = session.await;
    if !stop.is_cancelled() {
        error!("the link to the hub ended");
        stop.cancel();
    }
}

fn on_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        info!("stopping");
        token.cancel();
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use freewheel_link::join::{JoinError, JoinRefusal, RefusedV1};
    use freewheel_link::transport::DialError;
    use freewheel_spoke_agent::uplink::join::NoIdentity;

    use super::*;

    fn silent() -> IdentityError {
        IdentityError::Silent { hub: "hub:6444".to_owned(), data: "d".to_owned() }
    }

    fn refused(cause: JoinRefusal) -> IdentityError {
        let message = "no".to_owned();
        IdentityError::Join(NoIdentity::Join(JoinError::Refused(RefusedV1 { cause, message })))
    }

    /// How often it is tried until it is given up, when `first` comes once and then success.
    async fn tries(first: fn() -> IdentityError) -> (u32, bool) {
        let mut tries = 0;
        let joined = until_joined(async || {
            tries += 1;
            if tries == 1 { Err(first()) } else { Ok(()) }
        });
        let joined = joined.await.is_ok();
        (tries, joined)
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_join_waits_for_what_may_pass_and_for_nothing_else() {
        assert_eq!(tries(silent).await, (2, true));
        assert_eq!(tries(|| refused(JoinRefusal::Busy)).await, (2, true));
        let gone = || IdentityError::Join(NoIdentity::Join(JoinError::Silent));
        assert_eq!(tries(gone).await, (2, true));
        assert_eq!(tries(|| refused(JoinRefusal::Token)).await, (1, false));
        let wrong = || {
            let (host, detail) = (String::new(), String::new());
            IdentityError::Dial(DialError::WrongHub { host, detail })
        };
        assert_eq!(tries(wrong).await, (1, false));
        assert_eq!(tries(|| IdentityError::Unjoined("d".into())).await, (1, false));
        let mut left = 40;
        let started = tokio::time::Instant::now();
        let outcome = until_joined(async || {
            left -= 1;
            if left == 0 { Ok(()) } else { Err(silent()) }
        });
        assert!(outcome.await.is_ok(), "a hub that comes up late");
        assert!(started.elapsed() < Duration::from_secs(40 * 61));
    }
}
