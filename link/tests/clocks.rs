//! What a handshake says when somebody's time, or somebody's authority, is not the other's.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::digest::Digest;
use freewheel_link::quic::{ClientTls, Dialer, Endpoint, HubTls, Socket, any_port};
use freewheel_link::tls::{
    self, BUILT_UNIX_SECONDS, Credentials, DefaultTimeProvider, DeviceClock, FloorClock, HUB_NAME,
    Serving, TimeProvider,
};
use freewheel_link::transport::{Closed, DialError, Fault, Transport as _, Whose};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

const YEAR: u64 = 365 * 24 * 3600;

/// A clock that stands still.
#[derive(Debug)]
struct Stopped {
    at: u64,
    set: bool,
}

impl TimeProvider for Stopped {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.at)))
    }
}

impl DeviceClock for Stopped {
    fn is_set(&self) -> bool {
        self.set
    }
}

struct Fleet {
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Fleet {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = params.self_signed(&key).unwrap().der().clone();
        Self { ca, issuer: Issuer::new(params, key) }
    }

    /// Valid between these Unix seconds.
    fn credentials(&self, name: &str, (from, to): (u64, u64)) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        let at = |second: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(second);
        (params.not_before, params.not_after) = (at(from), at(to));
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Credentials { chain: vec![certificate, self.ca.clone()], key }
    }

    fn hub(&self, life: (u64, u64)) -> (Endpoint, Arc<Serving>) {
        let own = Arc::new(Serving::new(self.credentials(HUB_NAME, life)).unwrap());
        let time = Arc::new(DefaultTimeProvider);
        let config = tls::hub_server(&self.ca, own.clone(), time).unwrap();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let tls = HubTls::new(config, b"secret").unwrap();
        (Endpoint::hub(Socket::Bind(at), tls).unwrap(), own)
    }

    /// What a device with this clock and this life of its certificate meets.
    async fn dial(
        &self,
        hub: &Endpoint,
        clock: Stopped,
        life: (u64, u64),
    ) -> Result<Closed, DialError> {
        let own = self.credentials("pi-7", life);
        let client = tls::session_client(&self.ca, own, Arc::new(clock)).unwrap();
        shake(hub, ClientTls::new(client).unwrap()).await
    }
}

/// How a connection ends that the hub closes in order once it has it.
async fn shake(hub: &Endpoint, tls: ClientTls) -> Result<Closed, DialError> {
    let spoke = Endpoint::spoke(any_port()).unwrap();
    let dialer = Dialer::new(spoke, hub.local_addr().unwrap().to_string(), tls);
    let take = async {
        if let Ok(quic) = hub.accept().await.unwrap().finish().await {
            quic.close(9, "taken");
            quic.closed().await;
        }
    };
    let dial = async { Ok(dialer.connect().await?.closed().await) };
    let (_, outcome) = tokio::join!(take, dial);
    outcome
}

fn now() -> u64 {
    UnixTime::now().as_secs()
}

fn taken(outcome: &Result<Closed, DialError>) -> bool {
    matches!(outcome, Ok(Closed::ByPeer { code: 9, .. }))
}

#[tokio::test]
async fn a_device_whose_clock_was_never_set_takes_a_hub_that_is_younger_than_its_last_memory() {
    let fleet = Fleet::new();
    // The hub was started again today; the device last heard of it two years ago.
    let (hub, _) = fleet.hub((now() - 3600, now() + YEAR));
    let life = (now() - YEAR, now() + YEAR);
    let unset = Stopped { at: now() - 2 * YEAR, set: false };
    let outcome = fleet.dial(&hub, unset, life).await;
    assert!(taken(&outcome), "{outcome:?}");
    let client = tls::join_client(
        tls::key_hash(&fleet.ca).unwrap(),
        Arc::new(Stopped { at: now() - 2 * YEAR, set: false }),
    );
    let outcome = shake(&hub, ClientTls::new(client.unwrap()).unwrap()).await;
    assert!(taken(&outcome), "it can join as well: {outcome:?}");

    // Whoever has set the clock means it.
    let set = Stopped { at: now() - 2 * YEAR, set: true };
    match fleet.dial(&hub, set, life).await {
        Err(error @ DialError::Clock { .. }) => {
            assert!(error.to_string().contains("check the clock first"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // An unset clock opens nothing else: the hub still has to be of the fleet's CA.
    let stranger = Fleet::new();
    let unset = Stopped { at: now() - 2 * YEAR, set: false };
    match stranger.dial(&hub, unset, life).await {
        Err(DialError::WrongHub { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_fault_of_a_handshake_has_a_name_of_its_own() {
    let fleet = Fleet::new();
    let (hub, _) = fleet.hub((now() - 3600, now() + YEAR));
    let good = || Stopped { at: now(), set: true };
    let outcome = fleet.dial(&hub, good(), (now() - 2 * YEAR, now() - YEAR)).await;
    let expired =
        Closed::Certificate { whose: Whose::Ours, fault: Fault::Time, detail: String::new() };
    let Ok(Closed::Certificate { whose, fault, .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((whose, fault), (Whose::Ours, Fault::Time));
    assert!(expired.to_string().contains("expired"), "{expired}");
    let (old, _) = fleet.hub((now() - 2 * YEAR, now() - YEAR));
    let outcome = fleet.dial(&old, good(), (now() - 3600, now() + YEAR)).await;
    assert!(matches!(outcome, Err(DialError::Clock { .. })), "{outcome:?}");
    let pinned = tls::join_client(Digest::of(b"another CA"), Arc::new(good())).unwrap();
    let outcome = shake(&hub, ClientTls::new(pinned).unwrap()).await;
    assert!(matches!(outcome, Err(DialError::WrongHub { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_hubs_certificate_is_exchanged_while_it_serves() {
    let fleet = Fleet::new();
    let (hub, serving) = fleet.hub((now() - 2 * YEAR, now() - YEAR));
    let good = || Stopped { at: now(), set: true };
    let life = (now() - 3600, now() + YEAR);
    assert!(fleet.dial(&hub, good(), life).await.is_err());
    serving.exchange(fleet.credentials(HUB_NAME, life)).unwrap();
    let outcome = fleet.dial(&hub, good(), life).await;
    assert!(taken(&outcome), "{outcome:?}");
}

#[test]
fn a_floor_is_never_before_the_software() {
    assert!(BUILT_UNIX_SECONDS <= FloorClock::new(0).now());
    let clock = FloorClock::new(now() + YEAR);
    assert!(now() + YEAR <= clock.now());
    assert_eq!(clock.tell(0, (0, u64::MAX)), BUILT_UNIX_SECONDS);
    clock.tell(now() + 2 * YEAR, (0, u64::MAX));
    assert!(now() + 2 * YEAR <= clock.now());
    // A hub whose clock ran ahead for a while must not lock its devices out for ever.
    assert!(clock.forget(), "this machine's clock is set");
    assert!(clock.now() < now() + YEAR);
    assert!(!clock.forget(), "there is nothing left to forget");
}

#[test]
fn a_hub_is_believed_within_the_life_of_its_certificate() {
    // Of a device whose own clock shows less than any of this.
    let start = now() + 10 * YEAR;
    let life = (start, start + YEAR);
    let clock = FloorClock::new(start);
    assert_eq!(clock.tell(start + 1000, life), start + 1000);
    // A hub whose clock is two years ahead would lock it out of that very hub.
    let told = clock.tell(start + 2 * YEAR, life);
    assert!(start + YEAR / 2 < told && told < start + YEAR, "{told}");
    assert!(clock.now() < life.1 - 30 * 86_400, "there is time to come back in");
    // It comes back, and is believed again; but not before its certificate was made.
    assert_eq!(clock.tell(start + 2000, life), start + 2000);
    assert!(clock.now() < start + 2100);
    assert_eq!(clock.tell(start - YEAR, life), start);
}

#[tokio::test]
async fn a_clock_that_is_far_behind_what_a_hub_told_takes_a_younger_certificate() {
    let fleet = Fleet::new();
    // The hub's clock was put on by more than a year, and it made itself a new certificate since.
    let made = now() + 400 * 86_400;
    let (hub, _) = fleet.hub((made, made + YEAR));
    let dial = async |clock: FloorClock| {
        let own = fleet.credentials("pi-7", (now() - 3600, now() + YEAR));
        let client = tls::session_client(&fleet.ca, own, Arc::new(clock)).unwrap();
        shake(&hub, ClientTls::new(client).unwrap()).await
    };
    let outcome = dial(FloorClock::new(made - 86_400)).await;
    assert!(taken(&outcome), "{outcome:?}");
    // Nobody has told this one anything: its clock is as right as the hub's.
    let outcome = dial(FloorClock::new(now())).await;
    assert!(matches!(outcome, Err(DialError::Clock { .. })), "{outcome:?}");
}
