//! What a device has to show when it dials, with no hub.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use freewheel_link::quic::Socket;
use freewheel_link::report::ReportStamp;

use super::*;
use crate::identity::tests::{GOOD, OVER, certificate, joined};

impl OwnDial {
    /// As if a hub had proven a certificate of this life.
    pub(crate) fn prove(&self, life: (u64, u64)) {
        *self.proven.lock() = life;
    }
}

/// With a token at hand, for a hub that nobody can look up.
pub(crate) fn dial(data: &Path) -> OwnDial {
    let endpoint = Endpoint::spoke(Socket::Bind((Ipv4Addr::LOCALHOST, 0).into())).unwrap();
    let joining = Joining {
        hub: "nowhere".to_owned(),
        token: "abcdef.0123456789abcdef".parse().unwrap(),
        ca_hash: Digest::of(b""),
        name: ClusterName::try_from("pi-7").unwrap(),
        labels: Vec::new(),
    };
    let clock = Arc::new(FloorClock::new(0));
    OwnDial::new(data.to_owned(), endpoint, clock, Some(joining), Orders::default())
}

pub(crate) fn welcome(now: u64) -> WelcomeV1 {
    WelcomeV1 {
        protocol: 1,
        abilities: 0,
        incarnation: 9,
        epoch: 1,
        heartbeat_seconds: 10,
        now: now * 1000,
        durable_reports: ReportStamp::default(),
    }
}

/// What is written beside the dial is there within a bound.
pub(crate) async fn soon(there: impl Fn() -> bool) {
    let look = async {
        while !there() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), look).await.unwrap();
}

#[tokio::test]
async fn the_next_dial_shows_what_is_on_the_disk() {
    let data = tempfile::tempdir().unwrap();
    let first = joined(data.path(), GOOD);
    let dial = dial(data.path());
    assert_eq!(dial.identity().await.unwrap().certificate, first.certificate);
    let new = certificate(data.path(), GOOD);
    first.exchange(data.path(), new.clone()).unwrap();
    assert_eq!(dial.identity().await.unwrap().certificate, new);
}

#[tokio::test]
async fn a_card_that_stands_still_holds_up_the_dial_alone() {
    let data = tempfile::tempdir().unwrap();
    joined(data.path(), GOOD);
    let dial = dial(data.path());
    // Whoever opens it for reading waits until somebody opens it for writing.
    let card = data.path().join("identity/hub");
    std::fs::remove_file(&card).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&card).status().unwrap().success());
    let later = card.clone();
    let helper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(2));
        std::fs::write(later, "old").unwrap();
    });
    let began = std::time::Instant::now();
    let ticks = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        began.elapsed()
    };
    let (identity, ticked) = tokio::join!(dial.identity(), ticks);
    assert!(ticked < Duration::from_secs(1), "nobody else waits: {ticked:?}");
    assert_eq!(identity.unwrap().hub, "old");
    helper.join().unwrap();
}

/// A hub that signs what it is asked for, at the second time.
struct Signing {
    data: PathBuf,
    life: (u64, u64),
    is_up: AtomicBool,
    asked: Mutex<Vec<tokio::time::Instant>>,
}

impl RenewalSession for &Signing {
    async fn online(&self) {
        while !self.is_up.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn renew(&self, csr: Vec<u8>) -> Result<Vec<u8>, FetchError> {
        assert!(!csr.is_empty());
        let mut asked = self.asked.lock();
        asked.push(tokio::time::Instant::now());
        let first = asked.len() == 1;
        if first { Err(FetchError::Offline) } else { Ok(certificate(&self.data, self.life)) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_due_is_renewed_over_the_session() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let data = tempfile::tempdir().unwrap();
    joined(data.path(), GOOD);
    // A tenth of its life is left, and nine tenths of the next one's.
    let now = GOOD.1 - (GOOD.1 - GOOD.0) / 10;
    let life = (now - DAY.as_secs(), now + 9 * DAY.as_secs());
    let hub = Signing {
        data: data.path().to_owned(),
        life,
        is_up: AtomicBool::new(false),
        asked: Mutex::default(),
    };
    let (clock, stop) = (Arc::new(FloorClock::new(now)), CancellationToken::new());
    let rng = fastrand::Rng::with_seed(1);
    let keeps = keep_certificate(data.path().to_owned(), &hub, clock, rng, stop.clone());
    let held = || identity::load(data.path()).unwrap().unwrap().life();
    let looks = async {
        tokio::time::sleep(DAY).await;
        assert!(hub.asked.lock().is_empty(), "there is no session");
        hub.is_up.store(true, Ordering::Relaxed);
        let renewed = async {
            while held() != life {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(DAY, renewed).await.expect("it is renewed");
        let asked = hub.asked.lock().clone();
        assert!(
            matches!(&asked[..], [first, second] if
            RENEWAL_RETRY_AFTER <= *second - *first),
            "{asked:?}"
        );
        // By the same clock, which is the machine's and stands still here.
        tokio::time::sleep(DAY).await;
        assert_eq!(hub.asked.lock().len(), 2, "the new one is not due");
        stop.cancel();
    };
    tokio::join!(keeps, looks);
}

#[tokio::test]
async fn an_expired_certificate_is_renewed_before_a_token_is_used() {
    let data = tempfile::tempdir().unwrap();
    joined(data.path(), OVER);
    let dial = dial(data.path());
    // Nobody answers the renewal, which may pass: the token stays for later.
    assert!(matches!(dial.identity().await, Err(IdentityError::Dial(_))));
    assert!(dial.todo.lock().joining.is_some());
    assert_eq!(identity::asked(data.path()).as_deref(), Some("old"), "nobody tried to join");
}

#[tokio::test]
async fn a_token_is_for_a_device_that_had_no_other_way_in() {
    let data = tempfile::tempdir().unwrap();
    joined(data.path(), GOOD);
    let dial = dial(data.path());
    dial.turned_away(&Reason::Unknown);
    assert!(matches!(dial.identity().await, Err(IdentityError::Dial(_))), "it tries to join");
    assert_eq!(identity::asked(data.path()).as_deref(), Some("nowhere"));
    assert!(dial.todo.lock().joining.is_some(), "and again, as nobody was there");
    dial.welcomed(&welcome(2_000_000_000));
    dial.turned_away(&Reason::Unknown);
    assert!(dial.identity().await.is_ok(), "it was in: the token is no way around a removal");
}

#[tokio::test]
async fn a_refusal_is_kept_until_the_hub_lets_the_device_in_and_its_time_is_kept_then() {
    let data = tempfile::tempdir().unwrap();
    joined(data.path(), GOOD);
    let dial = dial(data.path());
    dial.turned_away(&Reason::NotAccepted);
    let held = || identity::refusal(data.path()).map(|(_, reason)| reason);
    soon(|| held() == Some(Reason::NotAccepted)).await;
    dial.prove(GOOD);
    dial.welcomed(&welcome(2_000_000_000));
    soon(|| identity::hub_time(data.path()) == 2_000_000_000).await;
    assert_eq!(held(), None);
}

#[tokio::test]
async fn a_hub_that_sets_its_clock_is_believed_at_once_and_after_a_start() {
    let data = tempfile::tempdir().unwrap();
    joined(data.path(), GOOD);
    let dial = dial(data.path());
    dial.prove(GOOD);
    dial.welcomed(&welcome(2_000_000_000));
    dial.hub_time_is(2_001_000_000_000);
    assert!(2_001_000_000 <= dial.clock.now());
    soon(|| identity::hub_time(data.path()) == 2_001_000_000).await;
}

#[test]
fn a_card_that_stands_still_holds_one_thread_of_the_dial() {
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(2)
        .enable_all()
        .build()
        .unwrap();
    control.block_on(async {
        let data = tempfile::tempdir().unwrap();
        joined(data.path(), GOOD);
        let dial = dial(data.path());
        // Whoever opens it for writing waits until somebody opens it for reading.
        let card = data.path().join("identity/refusal.new");
        assert!(std::process::Command::new("mkfifo").arg(&card).status().unwrap().success());
        for _ in 0..5 {
            dial.turned_away(&Reason::NotAccepted);
        }
        let look = tokio::task::spawn_blocking(|| "the hub's name");
        let looked = tokio::time::timeout(Duration::from_secs(20), look).await;
        // Only now: with threads that wait, a test that fails would never end.
        let _end = std::fs::File::options().read(true).write(true).open(&card).unwrap();
        std::fs::remove_file(&card).unwrap();
        assert_eq!(looked.unwrap().unwrap(), "the hub's name");
    });
    control.shutdown_background();
}

#[test]
fn a_clock_that_is_ahead_renews_once_a_day_and_no_more() {
    let (day, ahead) = (86_400, 300 * 86_400);
    let life = (0, 365 * day);
    assert!(is_due(life, ahead, 4.0), "by that clock a new one is due at once");
    assert!(is_recent(ahead, ahead + 10) && is_recent(ahead, ahead - 10));
    assert!(!is_recent(ahead, ahead + day) && !is_recent(ahead, 0));
}

#[test]
fn a_certificate_that_is_not_due_for_long_wakes_nobody() {
    let day = 86_400;
    assert_eq!(until_due((0, 365 * day), day, 4.0), CERTIFICATE_CHECK_MIN_AND_MAX.1);
    assert_eq!(until_due((1000, 2000), 1650, 4.0), Duration::from_secs(100));
    assert_eq!(until_due((1000, 2000), 1749, 4.0), CERTIFICATE_CHECK_MIN_AND_MAX.0);
    assert_eq!(until_due((1000, 2000), 3000, 4.0), CERTIFICATE_CHECK_MIN_AND_MAX.0);
}

#[test]
fn a_certificate_is_renewed_with_a_quarter_to_a_fifth_of_its_life_left() {
    let life = (1000, 2000);
    assert!(!is_due(life, 1749, 4.0));
    assert!(is_due(life, 1751, 4.0));
    assert!(!is_due(life, 1799, 5.0));
    assert!(is_due(life, 1801, 5.0));
    assert!(is_due(life, 3000, 5.0));
}

#[tokio::test]
async fn a_device_that_is_decommissioned_ends() {
    let data = tempfile::tempdir().unwrap();
    joined(data.path(), GOOD);
    let dial = dial(data.path());
    dial.turned_away(&Reason::Renamed("pi-1".to_owned()));
    assert!(dial.orders.given().is_none() && dial.todo.lock().renew, "it asks who it is now");
    dial.turned_away(&Reason::Decommissioned("n1".to_owned()));
    dial.orders.stop().cancelled().await;
    assert_eq!(dial.orders.given(), Some("n1"));
    let noted = Decommission::found(data.path()).unwrap();
    assert_eq!(noted, Some(Decommission::by("n1", None)), "it was on the disk before that");
    let said = JoinError::TurnedAway(Reason::Decommissioned("n2".to_owned()));
    let at_the_door = IdentityError::Renew(NoIdentity::Join(said));
    assert_eq!(at_the_door.turned_away(), Some(&Reason::Decommissioned("n2".to_owned())));
    assert!(!at_the_door.may_pass(), "no second try helps");
}
