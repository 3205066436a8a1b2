//! The end of a device: its hub has decommissioned it, and nothing of what it held is to be left on it.
//!
//! ```text
//! heard ─▶ DIR/decommissioned, durable ─▶ the agent and its pods end ─▶ all of DIR goes but the identity
//!       ─▶ receipt, signed with its key ─▶ the hub has it: noted ─▶ the identity goes ─▶ noted: done, for good
//! ```
//!
//! The file that begins this is the first thing that is written and the only one that stays: a start that finds it goes on
//! where it was, and one that finds it done says so and what to do. The key is kept until the hub has the receipt, but no
//! longer than [`RECEIPT_TIME_MAX`] at a time: a hub that is not there gets none. A receipt says that all of the agent's is
//! wiped, and what stays as it is not its own: where something of the agent's cannot go there is none, and each start tries
//! again. Files are removed, and their blocks are the card's: who has to fear for those destroys the card. What pods wrote
//! outside of DIR is not the agent's to remove, nor what another user has put into DIR, nor what is mounted there.
//!
//! Guarantees:
//! - what is wiped stays wiped: wherever it breaks off, the next start goes on, and no pod starts
//!   (`a_wipe_that_broke_off_goes_on_at_the_next_start`,
//!   `a_decommissioned_device_wipes_what_it_held_and_stays_off`);
//! - the hub is told in words what stays (`what_stays_is_kept_and_told`);
//! - who was not decommissioned keeps all, whatever its disk says (`a_file_that_cannot_be_looked_up_wipes_nothing`);
//! - the Secrets go before anybody waits for the hub (`all_but_the_identity_goes_before_the_hub_is_told`);
//! - who has a key has a receipt, with a certificate or without (`a_device_without_a_certificate_has_a_receipt`);
//! - a device that is done never begins again by itself (`who_is_done_says_so_and_what_to_do`).

mod sweep;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use freewheel_link::backoff::Backoff;
use freewheel_link::join::{self, JoinError, LEFT_BYTES_MAX};
use freewheel_link::message::bounded;
use freewheel_link::quic::{ClientTls, Dialer, Endpoint};
use freewheel_link::tls::{self, FloorClock};
use rustix::io::Errno;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::data::write_whole;
use crate::identity::{self, IdentityError};
use sweep::{IDENTITY, sweep};

/// How long a hub may take to have the receipt, from each start on.
const RECEIPT_TIME_MAX: Duration = Duration::from_secs(600);
/// The file that says all of this.
const FILE: &str = "decommissioned";
/// The same, until it is there to the end.
const HEARD: &str = "heard";
/// What of DIR stays: who has removed the lock could start a second agent.
const KEPT: [&str; 2] = ["lock", FILE];

/// What the hub may order of the whole agent.
#[derive(Clone, Default)]
pub(crate) struct Orders {
    stop: CancellationToken,
    given: Arc<OnceLock<String>>,
}

impl Orders {
    /// Orders that end what this token ends.
    pub(crate) fn ending(stop: CancellationToken) -> Self {
        Self { stop, given: Arc::default() }
    }

    /// The hub has decommissioned this device.
    pub(crate) fn decommission(&self, order: &str) {
        let _ = self.given.set(order.to_owned());
        self.stop.cancel();
    }

    /// The order by which it is decommissioned.
    pub(crate) fn given(&self) -> Option<&str> {
        self.given.get().map(String::as_str)
    }

    /// Ends the agent.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

/// Why a device does not start, or does not end as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecommissionError {
    #[error(
        "its hub has decommissioned this device (it was {cluster}), and all that it held in {dir} is wiped{left}; to use it \
         again as a new device, remove {dir}/decommissioned and run the line that `hub token create` prints there"
    )]
    Done { cluster: String, dir: PathBuf, left: String },
    #[error(
        "its hub has decommissioned this device (it was {cluster}), and {dir} is not wiped to the end: start `spoke run` there \
         to go on"
    )]
    Begun { cluster: String, dir: PathBuf },
    #[error(
        "its hub has decommissioned this device, and {dir} cannot be wiped; start it again to go on, or destroy the disk"
    )]
    Files {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Something may be left.
    Wiping,
    /// The hub has the receipt; the identity may be left.
    Told,
    /// Nothing is left.
    Done,
}

/// What DIR/decommissioned says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decommission {
    order: String,
    cluster: String,
    stage: Stage,
    /// What stays in DIR as it is not the agent's, in words.
    left: String,
}

impl Decommission {
    /// Who has heard the order in this moment.
    pub(crate) fn by(order: &str, cluster: Option<&str>) -> Self {
        let cluster = cluster.unwrap_or("a device that had not joined").to_owned();
        Self { order: order.to_owned(), cluster, stage: Stage::Wiping, left: String::new() }
    }

    /// What is said of a device that was decommissioned before this start. A file whose bytes are lost says as much as that
    /// there is one; one that cannot be looked up now says nothing, and a device that is sound must not end by that.
    pub(crate) fn found(dir: &Path) -> io::Result<Option<Self>> {
        let file = dir.join(FILE);
        match fs::read(&file) {
            Ok(bytes) => Ok(Some(Self::read(&String::from_utf8_lossy(&bytes)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let is_lost = Errno::from_io_error(&error) == Some(Errno::IO);
                let is_there = || fs::symlink_metadata(&file).is_ok_and(|found| found.is_file());
                if is_lost && is_there() { Ok(Some(Self::read(""))) } else { Err(error) }
            }
        }
    }

    fn read(text: &str) -> Self {
        let line = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(own, _)| *own == key).map(|(_, value)| value.to_owned())
        };
        let stage = match line("stage").as_deref() {
            Some("told") => Stage::Told,
            Some("done") => Stage::Done,
            _ => Stage::Wiping,
        };
        Self {
            order: line("order").unwrap_or_default(),
            cluster: line("cluster").unwrap_or_else(|| "unknown".to_owned()),
            stage,
            left: line("left").unwrap_or_default(),
        }
    }

    fn text(&self) -> String {
        let stage = match self.stage {
            Stage::Wiping => "wiping",
            Stage::Told => "told",
            Stage::Done => "done",
        };
        let Self { order, cluster, left, .. } = self;
        let left = if left.is_empty() { String::new() } else { format!("left {left}\n") };
        format!("order {order}\ncluster {cluster}\nstage {stage}\n{left}")
    }

    /// Writes it down: from then on no start begins anything else.
    pub(crate) fn keep(&self, dir: &Path) -> io::Result<()> {
        write_whole(&dir.join(FILE), self.text().as_bytes())
    }

    /// The same by who has just heard it, unless it is written down by then: on a card that stands still the wipe may come
    /// first.
    pub(crate) fn note(&self, dir: &Path) -> io::Result<()> {
        let (heard, file) = (dir.join(HEARD), dir.join(FILE));
        write_whole(&heard, self.text().as_bytes())?;
        if fs::symlink_metadata(&file).is_ok() {
            return fs::remove_file(&heard);
        }
        fs::rename(&heard, &file)?;
        // From here on no start begins anything else, also after a power cut.
        File::open(dir)?.sync_all()
    }

    /// Whether nothing is left to be done.
    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// What is said to who starts the agent, or looks at it.
    pub(crate) fn error(&self, dir: &Path) -> DecommissionError {
        let (cluster, dir) = (self.cluster.clone(), dir.to_owned());
        let left = match self.left.as_str() {
            "" => String::new(),
            left => format!(" (what is not its own stays: {left})"),
        };
        match self.stage {
            Stage::Done => DecommissionError::Done { cluster, dir, left },
            Stage::Wiping | Stage::Told => DecommissionError::Begun { cluster, dir },
        }
    }

    /// Does what is left to be done, once nobody uses DIR any more.
    pub(crate) async fn carry_out(
        self,
        dir: &Path,
        endpoint: &Endpoint,
        clock: &Arc<FloorClock>,
        stop: &CancellationToken,
    ) -> Result<(), DecommissionError> {
        let tell = async |this: &Self| this.tell(dir, endpoint, clock, stop).await;
        self.wipe(dir, stop, tell).await
    }

    async fn wipe(
        mut self,
        dir: &Path,
        stop: &CancellationToken,
        tell: impl AsyncFnOnce(&Self) -> bool,
    ) -> Result<(), DecommissionError> {
        // A disk that takes no write may still let files go, and take one then.
        let noted = self.keep(dir);
        self.clear(dir, &[IDENTITY]).await?;
        noted.or_else(|_| self.keep(dir)).map_err(|source| failed(dir, source))?;
        let (cluster, left) = (&self.cluster, &self.left);
        warn!(cluster, left, "this device is decommissioned: its data is wiped");
        if self.stage == Stage::Wiping && tell(&self).await {
            self.stage = Stage::Told;
            self.keep(dir).map_err(|source| failed(dir, source))?;
        }
        if self.stage == Stage::Wiping && stop.is_cancelled() {
            // The next start has another ten minutes for the receipt.
            return Ok(());
        }
        self.clear(dir, &[]).await?;
        self.stage = Stage::Done;
        self.keep(dir).map_err(|source| failed(dir, source))?;
        info!(
            cluster = self.cluster,
            "this device is decommissioned: its identity is wiped; it stays off"
        );
        Ok(())
    }

    /// Removes what the agent holds but for what is spared until the hub has the receipt, and sees what is left.
    async fn clear(&mut self, dir: &Path, spared: &[&str]) -> Result<(), DecommissionError> {
        let kept = [&KEPT[..], spared].concat();
        let foreign = sweep(dir, &kept).await.map_err(|source| failed(dir, source))?;
        self.left = bounded(foreign.to_string(), LEFT_BYTES_MAX);
        Ok(())
    }

    /// Whether the hub has the receipt.
    async fn tell(
        &self,
        dir: &Path,
        endpoint: &Endpoint,
        clock: &Arc<FloorClock>,
        stop: &CancellationToken,
    ) -> bool {
        let (mut backoff, mut rng) = (Backoff::uplink(), fastrand::Rng::new());
        let began = Instant::now();
        loop {
            let sent = tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                sent = receipt(dir, (&self.order, &self.left), endpoint, clock) => sent,
            };
            let error = match sent {
                Ok(()) => return true,
                Err(error) => error,
            };
            let passes = error.may_pass() && began.elapsed() < RECEIPT_TIME_MAX;
            let error = crate::chain(&error);
            warn!(error, again = passes, "the hub does not have the receipt of this device");
            if !passes {
                return false;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                () = sleep(backoff.wait(None, &mut rng)) => {}
            }
        }
    }
}

fn failed(dir: &Path, source: io::Error) -> DecommissionError {
    DecommissionError::Files { dir: dir.to_owned(), source }
}

/// Tells the hub once that all is wiped, and what stays.
async fn receipt(
    dir: &Path,
    (order, left): (&str, &str),
    endpoint: &Endpoint,
    clock: &Arc<FloorClock>,
) -> Result<(), IdentityError> {
    let own = identity::witness(dir)?.ok_or_else(|| IdentityError::Unjoined(dir.to_owned()))?;
    let receipt = own.receipt(order, left)?;
    let client = ClientTls::new(tls::join_client(own.ca_hash, clock.clone())?)?;
    let link = Dialer::new(endpoint.clone(), own.hub.clone(), client).connect().await;
    let link = link.map_err(IdentityError::Dial)?;
    let refused = |error: JoinError| IdentityError::Join(error.into());
    join::wiped(&link, receipt).await.map_err(refused)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use freewheel_link::digest::Digest;
    use freewheel_link::quic::Socket;

    use super::*;
    use crate::identity::tests::{GOOD, joined};

    pub(super) fn names(dir: &Path) -> Vec<String> {
        let mut all: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    }

    fn found(dir: &Path) -> Decommission {
        Decommission::found(dir).unwrap().unwrap()
    }

    /// A device that holds something, of a hub that nobody can look up.
    pub(super) fn device(dir: &Path) {
        joined(dir, GOOD);
        fs::create_dir_all(dir.join("pods/u1/volumes/secret")).unwrap();
        fs::write(dir.join("pods/u1/volumes/secret/password"), "hunter2").unwrap();
        fs::create_dir_all(dir.join("modules")).unwrap();
        for file in ["ledger", "ledger.damaged", "lock"] {
            fs::write(dir.join(file), "x").unwrap();
        }
    }

    async fn carry_out(this: Decommission, dir: &Path, stop: &CancellationToken) {
        let endpoint = Endpoint::spoke(Socket::Bind((Ipv4Addr::LOCALHOST, 0).into())).unwrap();
        let clock = Arc::new(FloorClock::new(0));
        this.carry_out(dir, &endpoint, &clock, stop).await.unwrap();
    }

    #[tokio::test]
    async fn all_but_the_identity_goes_before_the_hub_is_told() {
        let data = tempfile::tempdir().unwrap();
        device(data.path());
        let (stop, mut asked) = (CancellationToken::new(), Vec::new());
        let tell = async |_: &Decommission| {
            asked = names(data.path());
            stop.cancel();
            false
        };
        Decommission::by("n1", Some("pi-7")).wipe(data.path(), &stop, tell).await.unwrap();
        assert_eq!(asked, ["decommissioned", "identity", "lock"], "when the hub was asked");
        assert_eq!(names(data.path()), ["decommissioned", "identity", "lock"]);
        let found = found(data.path());
        assert_eq!((&*found.order, found.is_done()), ("n1", false), "it goes on at the next start");
    }

    #[tokio::test]
    async fn a_wipe_that_broke_off_goes_on_at_the_next_start() {
        let data = tempfile::tempdir().unwrap();
        device(data.path());
        let dir = data.path();
        let stop = CancellationToken::new();
        // It was killed as soon as the order was on the disk.
        Decommission::by("n1", Some("pi-7")).keep(dir).unwrap();
        stop.cancel();
        carry_out(found(dir), dir, &stop).await;
        assert_eq!(names(dir), ["decommissioned", "identity", "lock"]);
        // And again when the hub had just got the receipt.
        let told = Decommission { stage: Stage::Told, ..found(dir) };
        told.keep(dir).unwrap();
        carry_out(found(dir), dir, &CancellationToken::new()).await;
        assert_eq!(names(dir), ["decommissioned", "lock"]);
        assert!(found(dir).is_done());
    }

    #[tokio::test]
    async fn who_is_done_says_so_and_what_to_do() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(Decommission::found(data.path()).unwrap(), None);
        let done = Decommission { stage: Stage::Done, ..Decommission::by("n1", Some("pi-7")) };
        done.keep(data.path()).unwrap();
        assert_eq!(found(data.path()), done);
        let said = done.error(data.path()).to_string();
        assert!(said.contains("pi-7") && said.contains("decommissioned and run"), "{said}");
        // A file that says nothing still says that.
        for bytes in [&b""[..], &[0xff; 9]] {
            fs::write(data.path().join(FILE), bytes).unwrap();
            let found = found(data.path());
            assert!(!found.is_done());
            let said = found.error(data.path()).to_string();
            assert!(said.contains("start `spoke run` there to go on"), "{said}");
        }
    }

    #[test]
    fn what_stays_is_kept_and_told() {
        let data = tempfile::tempdir().unwrap();
        let left = r#"something is mounted on "/data/nas\n""#.to_owned();
        let done = Decommission { stage: Stage::Done, left, ..Decommission::by("n1", None) };
        done.keep(data.path()).unwrap();
        assert_eq!(found(data.path()), done);
        let said = done.error(data.path()).to_string();
        assert!(said.contains("stays: something is mounted on \"/data/nas"), "{said}");
    }

    #[test]
    fn a_file_that_cannot_be_looked_up_wipes_nothing() {
        let data = tempfile::tempdir().unwrap();
        // As where there are no descriptors any more, or the directory is another user's.
        std::os::unix::fs::symlink(FILE, data.path().join(FILE)).unwrap();
        assert!(Decommission::found(data.path()).is_err());
        let file = data.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Decommission::found(&file).is_err(), "it is no directory");
    }

    #[test]
    fn what_was_heard_takes_the_place_of_nothing() {
        let data = tempfile::tempdir().unwrap();
        let heard = Decommission::by("n1", Some("pi-7"));
        heard.note(data.path()).unwrap();
        assert_eq!(found(data.path()), heard);
        let done = Decommission { stage: Stage::Done, ..heard.clone() };
        done.keep(data.path()).unwrap();
        heard.note(data.path()).unwrap();
        assert_eq!((found(data.path()), names(data.path()).len()), (done, 1));
    }

    #[tokio::test]
    async fn a_device_without_a_certificate_has_a_receipt() {
        let data = tempfile::tempdir().unwrap();
        joined(data.path(), GOOD);
        let identity = data.path().join("identity");
        fs::remove_file(identity.join("cert.der")).unwrap();
        let endpoint = Endpoint::spoke(Socket::Bind((Ipv4Addr::LOCALHOST, 0).into())).unwrap();
        let clock = Arc::new(FloorClock::new(0));
        let told = async || receipt(data.path(), ("n1", ""), &endpoint, &clock).await;
        assert!(told().await.is_err_and(|error| error.may_pass()), "it looks for its hub");
        // One that was not let in yet has not even the hub's CA.
        for file in ["ca.der", "joined"] {
            fs::remove_file(identity.join(file)).unwrap();
        }
        assert!(told().await.is_err_and(|error| !error.may_pass()));
        fs::write(identity.join("ca-hash"), Digest::of(b"its CA").to_string()).unwrap();
        assert!(told().await.is_err_and(|error| error.may_pass()), "it looks for its hub");
    }

    #[test]
    fn an_order_ends_the_agent_and_the_first_one_counts() {
        let orders = Orders::default();
        assert_eq!(orders.given(), None);
        orders.decommission("n1");
        orders.decommission("n2");
        assert!(orders.stop().is_cancelled());
        assert_eq!(orders.given(), Some("n1"));
    }
}
