//! `spoke doctor`: what is wrong, why, and what to do next. Changes nothing.
//!
//! The clock is judged first, before anything that is judged by it.
//!
//! Guarantees:
//! - whatever is wrong has a cause and a next step (`every_finding_names_cause_and_next_step`);
//! - a key that the hub still knows is never advised to be thrown away, unless two devices have it
//!   (`no_cause_advises_to_throw_away_what_the_hub_still_knows`, `a_damaged_certificate_costs_no_key`);
//! - in a data directory that is not there no ledger holds (`in_a_folder_that_is_not_there_nothing_holds`);
//! - the disk is called short from where on the agent evicts pods for it
//!   (`the_doctor_and_the_agent_call_the_same_disk_short`), and one of the modules' own, for which it evicts none, from
//!   where on it gives modules back (`a_disk_of_the_modules_own_that_is_short_is_named_and_evicts_nobody`);
//! - advice about clocks and certificates helps who follows it (`a_certificate_that_should_be_renewed_is_when_the_agent_looks`,
//!   `a_clock_that_a_wrong_hub_calls_slow_is_right_once_the_hub_is`,
//!   `a_time_that_was_told_wrongly_is_forgotten_between_two_lives`);
//! - what the hub said last, when it turned this device away, is told in its words
//!   (`a_copied_data_directory_is_noticed_and_the_two_do_not_fight`), and what it answered to who has not joined yet
//!   (`the_doctor_of_a_device_that_has_not_joined_tells_what_came_of_it`).

use std::error::Error;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use freewheel_link::digest::Digest;
use freewheel_link::message::Reason;
use freewheel_link::quic::{ClientTls, Dialer, Endpoint, Socket};
use freewheel_link::tls::{BUILT_UNIX_SECONDS, FloorClock};
use freewheel_link::transport::{Closed, DialError, Fault, Transport as _, Whose, code};
use freewheel_spoke_account::MemoryAccount;
use freewheel_spoke_agent::eviction::{self, Candidate, Observed, Shortage, Signal, Watch};
use freewheel_spoke_agent::ledger::{Found, Ledger};

use crate::data::{damaged_ledger, read_ledger};
use crate::decommission::Decommission;
use crate::device::Device;
use crate::dial::{RENEWAL_SHARES, is_due};
use crate::identity::{self, Identity};
use crate::{cli, mappings, open_files, unjoined};

/// The hub's clock may be ahead by this much without anything being wrong here.
const CLOCK_AHEAD_SECONDS_MAX: u64 = 3600;
/// How long the hub may take to say that it does not take the certificate.
const VERDICT_TIMEOUT: Duration = Duration::from_millis(700);
/// What helps where the clocks of hub and device differ, and nobody knows which is wrong.
const COMPARE: &str = "compare `date -u` here and on the hub, and set whichever is wrong, best by a time service; keep DIR/identity \
     (what a wrong hub told is forgotten when DIR/identity/told is deleted while `spoke run` is stopped)";

/// A node with less room for pods is not what its memory says: kubelet's default.
const FEW_PODS_BELOW: u32 = 110;

/// What a check found.
enum Finding {
    Good(String),
    /// (cause, next step)
    Bad(String, String),
}

use Finding::{Bad, Good};

/// Prints every check; whether all are good. Where it cannot be looked whether the device is decommissioned, they say why.
pub(crate) fn run(options: &cli::Doctor) -> Result<bool, Box<dyn Error>> {
    if let Ok(Some(end)) = Decommission::found(&options.data) {
        println!("FAIL  {:<12} {}", "device", end.error(&options.data));
        return Ok(false);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let identity = identity::load(&options.data);
    let time = identity::clock(&options.data);
    let mut findings = vec![
        ("clock", clock(unix_now(), identity::hub_time(&options.data))),
        ("disk", disk(&options.data)),
        ("ledger", ledger(&options.data)),
        ("files", open_files(open_files::hard())),
        ("mappings", memory_mappings(mappings::allowed(Path::new("/")))),
    ];
    match identity {
        Ok(Some(identity)) => {
            findings.push(("identity", whole(&options.data)));
            findings.push(("certificate", certificate(&identity, &time)));
            findings.push(("dns", runtime.block_on(dns(&identity.hub))));
            findings.push(("udp", runtime.block_on(udp(&identity, &time))));
            if let Some((at, reason)) = identity::refusal(&options.data) {
                let ago = time.now().saturating_sub(at) / 60;
                findings.push(("hub", turned_away(&identity, &reason, ago)));
            }
        }
        Ok(None) => {
            let asked = identity::asked(&options.data);
            findings.push(("certificate", no_certificate(&options.data, asked.as_deref())));
            if let Some(hub) = asked {
                let ca_hash = identity::asked_ca_hash(&options.data);
                findings.push(("dns", runtime.block_on(dns(&hub))));
                findings.push(("udp", runtime.block_on(udp_of_a_stranger(&hub, ca_hash, &time))));
            }
        }
        Err(error) => findings.push((
            "certificate",
            Bad(crate::chain(&error), "follow the message, or join again".to_owned()),
        )),
    }
    let mut good = true;
    for (what, finding) in findings {
        match finding {
            Good(text) => println!("ok    {what:<12} {text}"),
            Bad(cause, step) => {
                good = false;
                println!("FAIL  {what:<12} {cause}\n      {:<12} next: {step}", "");
            }
        }
    }
    Ok(good)
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn no_certificate(data: &Path, asked: Option<&str>) -> Finding {
    let (cause, step) = match asked {
        Some(hub) => {
            unjoined::asked(hub, identity::answered(data).as_ref(), identity::was_in(data))
        }
        None => unjoined::never_asked(),
    };
    Bad(cause, step)
}

fn clock(now: u64, announced: u64) -> Finding {
    if now < BUILT_UNIX_SECONDS {
        return Bad("the clock was never set".to_owned(), COMPARE.to_owned());
    }
    if now + CLOCK_AHEAD_SECONDS_MAX < announced {
        let hours = (announced - now) / 3600;
        let cause = format!("the clock is {hours} hours behind what the hub's showed already");
        return Bad(cause, COMPARE.to_owned());
    }
    Good(format!("set (Unix time {now})"))
}

fn disk(data: &Path) -> Finding {
    if !data.is_dir() {
        return Bad(
            format!("there is no directory {}", data.display()),
            "give --data the directory that `spoke run` uses, or mount its disk".to_owned(),
        );
    }
    // A file of its own: the agent may be running.
    let probe = data.join(".doctor");
    if let Err(error) = std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe)) {
        let step = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room; the disk is full",
            ErrorKind::PermissionDenied => "run as the agent's user",
            ErrorKind::ReadOnlyFilesystem => {
                "it is mounted read-only: a kernel does that to a card with errors; see `dmesg`, and replace it"
            }
            _ => "see `dmesg`: the card may be worn out",
        };
        return Bad(format!("cannot write to {}: {error}", data.display()), step.to_owned());
    }
    room(&Device::probe().left(data, &MemoryAccount::node()))
}

/// Judged by the thresholds at which the agent evicts pods, unless it was given others.
fn room(left: &Observed) -> Finding {
    let short = Watch::new(eviction::defaults()).observe(left, Duration::ZERO).short;
    let apart = left.get(&Signal::Images) != left.get(&Signal::Disk);
    let of_pods = |short: &&Shortage| !(apart && short.signal == Signal::Images);
    let mut disks = short.iter().filter(|short| !short.signal.is_memory());
    if let Some(short) = disks.clone().find(of_pods).or_else(|| disks.next()) {
        let step = if of_pods(&short) {
            "make room: below that pods are evicted"
        } else {
            "make room on the disk of DIR/modules: below that no new pod is taken on"
        };
        return Bad(eviction::message(short, &Candidate::default()), step.to_owned());
    }
    let free = left.get(&Signal::Disk).map_or(0, |left| left.available);
    Good(format!("{} MiB free", free >> 20))
}

/// The ledger now, and one that was found damaged before.
fn ledger(data: &Path) -> Finding {
    let found = match read_ledger(data) {
        Ok(file) => Ledger::inspect(&file),
        Err(error) => {
            return Bad(
                format!("the ledger cannot be read: {error}"),
                "run as the agent's user; check for a worn-out card".to_owned(),
            );
        }
    };
    let step = "start the agent: it runs what is left and asks the hub for its plan".to_owned();
    match found.explain() {
        Some(cause) if found == Found::Newer => Bad(
            cause,
            "run the newer agent again, or start this one: it begins a new ledger".into(),
        ),
        Some(cause) if found.is_doubtful() => Bad(cause, step),
        _ if damaged_ledger(data).exists() => Bad(
            "the ledger was found damaged before; it holds now".to_owned(),
            format!(
                "if this comes again the card is worn out: replace it; else remove {}",
                damaged_ledger(data).display()
            ),
        ),
        Some(cause) => Good(format!("holds; {cause}")),
        None if found == Found::Nothing => Good("there is none yet".to_owned()),
        None => Good("holds".to_owned()),
    }
}

/// Judged by what the agent can raise its limit to, if it is started as this was.
fn open_files(hard: u64) -> Finding {
    let pods = open_files::pods(hard);
    if pods < FEW_PODS_BELOW {
        return Bad(
            format!("at most {hard} files may be open: enough for {pods} pods"),
            "raise the hard limit: LimitNOFILE= of systemd, ulimit -Hn of a shell".to_owned(),
        );
    }
    Good(format!("{hard} may be open, {pods} pods can have theirs"))
}

fn memory_mappings(all: u64) -> Finding {
    let pods = mappings::pods(all);
    if pods < FEW_PODS_BELOW {
        return Bad(
            format!("a process may have {all} mappings of memory: enough for {pods} pods"),
            "raise it: vm.max_map_count=65530 in /etc/sysctl.d/, then `sysctl --system`".to_owned(),
        );
    }
    Good(format!("{all} of memory, {pods} pods can have theirs"))
}

/// Whether the files of the identity are as they were written.
fn whole(data: &Path) -> Finding {
    let damaged = identity::damaged(data);
    if damaged.is_empty() {
        return Good("whole".to_owned());
    }
    Bad(
        format!("damaged: {}", damaged.join(", ")),
        "start `spoke run`: it writes them anew from their copy; if this comes again the card is worn out: replace it"
            .to_owned(),
    )
}

fn certificate(identity: &Identity, time: &Arc<FloorClock>) -> Finding {
    let now = time.now();
    match (identity.tls(time), identity.life()) {
        (Err(error), _) => Bad(
            crate::chain(&error),
            "remove DIR/identity/cert.der, and start `spoke run` with a new token: it joins again with the key that the \
             hub knows"
                .to_owned(),
        ),
        (Ok(_), (_, end)) if end < now => Bad(
            format!("expired {} days ago, if the clock is right", (now - end) / 86_400),
            "start `spoke run`: with its key it gets a new one by itself, as long as the hub accepts this device; \
             keep DIR/identity"
                .to_owned(),
        ),
        (Ok(_), (from, end)) => {
            let left = format!("{}, {} days left", identity.cluster, (end - now) / 86_400);
            // What is due at the latest.
            if !is_due((from, end), now, RENEWAL_SHARES.1) {
                return Good(left);
            }
            let step = "see that `spoke run` reaches the hub: it renews it by itself, with its key";
            Bad(format!("{left}: it should be renewed by now"), step.to_owned())
        }
    }
}

/// What the hub said last, and what helps.
fn turned_away(identity: &Identity, reason: &Reason, minutes: u64) -> Finding {
    let name = &identity.cluster;
    let step = match reason {
        Reason::NotAccepted => format!("on the hub: `hub accept {name}`"),
        Reason::Unknown | Reason::Replaced => {
            "on the hub: `hub token create`; start `spoke run` here with that token, or under another --name with \
             another --data"
                .to_owned()
        }
        Reason::Cloned => "find the copy of this device's data directory; on one of the two devices remove \
                           DIR/identity and join under a name of its own"
            .to_owned(),
        Reason::Expired => {
            format!("let `spoke run` go on: it asks for a new one with its key; if this stays, {COMPARE}")
        }
        Reason::Renamed(_) => {
            "let `spoke run` go on: it asks for a certificate of that name with its key".to_owned()
        }
        _ => "see the agent's log".to_owned(),
    };
    Bad(format!("turned this device away {minutes} minutes ago: {reason}"), step)
}

async fn dns(hub: &str) -> Finding {
    let lookup = tokio::time::timeout(Duration::from_secs(5), tokio::net::lookup_host(hub)).await;
    match lookup {
        Ok(Ok(mut found)) => match found.find(SocketAddr::is_ipv4) {
            Some(address) => Good(format!("{hub} is {}", address.ip())),
            None => Bad(
                format!("{hub} has no IPv4 address"),
                "give the hub an A record, or start `spoke run --hub IP:PORT`".to_owned(),
            ),
        },
        Ok(Err(error)) => Bad(
            format!("{hub} cannot be looked up: {error}"),
            "check /etc/resolv.conf, or `spoke run --hub IP:PORT`".to_owned(),
        ),
        Err(_) => Bad(
            format!("no answer about {hub} in 5 s"),
            "check the network and /etc/resolv.conf".to_owned(),
        ),
    }
}

async fn udp(identity: &Identity, time: &Arc<FloorClock>) -> Finding {
    let Ok(tls) = identity.tls(time) else {
        return Bad("no usable certificate".to_owned(), "see above".to_owned());
    };
    let hub = &identity.hub;
    match shake(hub, tls).await {
        Ok(finding) => finding,
        Err(error) => Bad(crate::chain(&error), next_step(&error).to_owned()),
    }
}

fn next_step(error: &DialError) -> &'static str {
    match error {
        DialError::WrongHub { .. } => "another hub answers there: correct --hub, or join anew",
        DialError::Clock { .. } => COMPARE,
        DialError::Lookup { .. } => "see dns above",
        DialError::Connect { closed, .. } => match closed {
            Closed::Certificate { whose: Whose::Ours, fault: Fault::Time, .. } => {
                "start `spoke run`: it renews the certificate with its key; keep DIR/identity"
            }
            Closed::Certificate { whose: Whose::Ours, .. } => {
                "another hub answers there, or one that lost its CA: correct --hub, or bring pki/ca.key back on the hub"
            }
            _ => "look at the hub's log, and try again",
        },
        DialError::Credentials { .. } => "see certificate above",
    }
}

/// The hub that a device without a certificate asks. Where it was not told its CA, whoever is there answers.
async fn udp_of_a_stranger(hub: &str, ca_hash: Option<Digest>, time: &Arc<FloorClock>) -> Finding {
    let Ok(tls) = identity::stranger(ca_hash, time) else {
        return Bad("no TLS".to_owned(), "reinstall the spoke".to_owned());
    };
    let (error, step) = match shake(hub, tls).await {
        Ok(finding) => return finding,
        Err(DialError::WrongHub { .. }) if ca_hash.is_none() => {
            return Good(format!("{hub} answers"));
        }
        Err(error @ DialError::WrongHub { .. }) => {
            let step = "another hub answers there than --ca-hash says: give --hub, --token and --ca-hash as one \
                        `hub token create` prints them";
            (error, step)
        }
        Err(error @ DialError::Clock { .. }) => (error, COMPARE),
        Err(error) => (error, "check --hub: HOST:PORT of the hub's --link"),
    };
    Bad(crate::chain(&error), step.to_owned())
}

/// The handshake alone: nothing is said, so a running session is not disturbed.
async fn shake(hub: &str, tls: ClientTls) -> Result<Finding, DialError> {
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let endpoint = match Endpoint::spoke(Socket::Bind(any)) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            let step = "check the firewall".to_owned();
            return Ok(Bad(format!("no UDP socket: {error}"), step));
        }
    };
    match Dialer::new(endpoint, hub.to_owned(), tls).connect().await {
        Ok(link) => {
            // Whether the hub takes this side's certificate shows only after the handshake.
            let verdict = tokio::time::timeout(VERDICT_TIMEOUT, link.closed()).await;
            link.close(code::STOPPING, "doctor");
            match verdict {
                Ok(closed @ Closed::Certificate { .. }) => {
                    Err(DialError::Connect { host: hub.to_owned(), closed })
                }
                _ => Ok(Good(format!("{hub} answers"))),
            }
        }
        Err(DialError::Connect { closed: Closed::TimedOut, .. }) => Ok(silent(hub)),
        Err(error) => Err(error),
    }
}

fn silent(hub: &str) -> Finding {
    Bad(
        format!("{hub} does not answer over UDP"),
        "start the hub, check its --link address, and let UDP to that port out; where the hub has moved, start `spoke run` \
         with --hub NEW:PORT once, which is remembered"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use freewheel_spoke_agent::eviction::Left;

    use super::*;

    #[test]
    fn every_finding_names_cause_and_next_step() {
        assert!(
            matches!(clock(1000, 0), Bad(cause, step) if cause.contains("never set") && step.contains("time"))
        );
        assert!(matches!(clock(BUILT_UNIX_SECONDS, BUILT_UNIX_SECONDS), Good(_)));
        assert!(
            matches!(clock(BUILT_UNIX_SECONDS, BUILT_UNIX_SECONDS + 86_400 * 3), Bad(cause, _) if cause.contains("72 hours behind"))
        );
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(disk(dir.path()), Good(_)));
        assert!(
            matches!(memory_mappings(1024), Bad(cause, step) if cause.contains("81 pods") && step.contains("sysctl"))
        );
        assert!(matches!(memory_mappings(65_530), Good(_)));
        let alone = no_certificate(dir.path(), None);
        assert!(matches!(alone, Bad(_, step) if step.contains("hub token create")));
        assert!(matches!(silent("hub:6444"), Bad(_, step) if step.contains("--hub NEW:PORT")));
        let own = identity::tests::joined(dir.path(), identity::tests::GOOD);
        let renamed = turned_away(&own, &Reason::Renamed("pi-1".to_owned()), 3);
        assert!(matches!(renamed, Bad(_, step) if step.contains("`spoke run` go on")));
    }

    #[test]
    fn in_a_folder_that_is_not_there_nothing_holds() {
        let nowhere = Path::new("/nowhere");
        let Bad(cause, step) = disk(nowhere) else { panic!("it is not there") };
        assert_eq!(cause, "there is no directory /nowhere");
        assert!(step.contains("the directory that `spoke run` uses"), "{step}");
        assert!(matches!(ledger(nowhere), Good(text) if text == "there is none yet"));
    }

    #[test]
    fn the_doctor_and_the_agent_call_the_same_disk_short() {
        let capacity = 8 << 30;
        let plenty = Left { available: capacity, capacity };
        let (mut few, mut all) = (0, 0);
        for signal in [Signal::Disk, Signal::Inodes, Signal::Images] {
            for percent in 0..100 {
                let left = Left { available: capacity / 100 * percent, capacity };
                let mut seen = Observed::from([(Signal::Disk, plenty), (Signal::Memory, plenty)]);
                seen.insert(signal, left);
                let mut agent = Watch::new(crate::run::thresholds(vec![], vec![]));
                let short = !agent.observe(&seen, Duration::ZERO).short.is_empty();
                assert_eq!(matches!(room(&seen), Bad(..)), short, "{signal:?} {percent} %");
                (few, all) = (few + usize::from(short), all + 1);
            }
        }
        assert!(0 < few && few < all, "{few} of {all}");
    }

    #[test]
    fn a_disk_of_the_modules_own_that_is_short_is_named_and_evicts_nobody() {
        let plenty = Left { available: 8 << 30, capacity: 8 << 30 };
        let little = Left { available: 1, capacity: 1 << 30 };
        let mut seen = Observed::from([(Signal::Disk, plenty), (Signal::Memory, plenty)]);
        seen.insert(Signal::Images, little);
        let Bad(_, step) = room(&seen) else { panic!("it is short") };
        assert!(step.contains("DIR/modules") && step.contains("no new pod"), "{step}");
        for (signal, left) in [(Signal::Disk, little), (Signal::Inodes, little)] {
            let mut seen = seen.clone();
            seen.insert(signal, left);
            let Bad(_, step) = room(&seen) else { panic!("it is short") };
            assert!(step.contains("pods are evicted"), "{signal:?}: {step}");
        }
    }

    const DAY: u64 = 86_400;

    #[test]
    fn a_certificate_that_should_be_renewed_is_when_the_agent_looks() {
        let (data, now) = (tempfile::tempdir().unwrap(), unix_now());
        let clock = Arc::new(FloorClock::new(0));
        for (left, good) in [(300, true), (80, true), (70, false), (20, false)] {
            let life = (now - (365 - left) * DAY, now + left * DAY + 3600);
            let identity = identity::tests::joined(data.path(), life);
            let found = certificate(&identity, &clock);
            assert_eq!(matches!(found, Good(_)), good, "{left} days");
            if let Bad(cause, step) = found {
                assert!(cause.contains(&format!("{left} days left")), "{cause}");
                assert!(step.contains("`spoke run`"), "{step}");
                // Who follows it: the agent renews it at its next look, whatever its share is.
                assert!(is_due(life, now, RENEWAL_SHARES.0) && is_due(life, now, RENEWAL_SHARES.1));
            }
        }
    }

    #[tokio::test]
    async fn a_clock_that_a_wrong_hub_calls_slow_is_right_once_the_hub_is() {
        use freewheel_link::transport::Dial as _;
        let (data, now) = (tempfile::tempdir().unwrap(), unix_now());
        identity::tests::joined(data.path(), identity::tests::GOOD);
        let dial = crate::dial::tests::dial(data.path());
        let judged = || clock(now, identity::hub_time(data.path()));
        let told = async |time: u64| {
            dial.welcomed(&crate::dial::tests::welcome(time));
            crate::dial::tests::soon(|| identity::hub_time(data.path()) == time).await;
        };
        dial.prove(identity::tests::GOOD);
        told(now + 20 * DAY).await;
        assert!(
            matches!(judged(), Bad(_, step) if step.contains("on the hub")),
            "the hub's may be wrong"
        );
        told(now).await;
        assert!(matches!(judged(), Good(_)));
    }

    #[test]
    fn a_time_that_was_told_wrongly_is_forgotten_between_two_lives() {
        let data = tempfile::tempdir().unwrap();
        identity::tests::joined(data.path(), identity::tests::GOOD);
        let wrong = unix_now() + 1000 * DAY;
        identity::note_time(data.path(), wrong, 0).unwrap();
        let running = identity::clock(data.path());
        std::fs::remove_file(data.path().join("identity/told")).unwrap();
        assert!(wrong <= running.now(), "who runs knows it still");
        assert!(identity::clock(data.path()).now() < wrong);
        let step = next_step(&DialError::Clock { host: String::new(), detail: String::new() });
        assert!(step.contains("deleted while `spoke run` is stopped"), "{step}");
    }

    #[test]
    fn a_damaged_certificate_costs_no_key() {
        let data = tempfile::tempdir().unwrap();
        let clock = Arc::new(FloorClock::new(0));
        let found = |identity: &Identity| match certificate(identity, &clock) {
            Bad(_, step) => step,
            Good(text) => panic!("{text}"),
        };
        let over = found(&identity::tests::joined(data.path(), identity::tests::OVER));
        assert!(over.contains("keep DIR/identity"), "{over}");
        std::fs::write(data.path().join("identity/cert.der"), b"rot").unwrap();
        let rotten = found(&identity::load(data.path()).unwrap().unwrap());
        assert!(rotten.contains("remove DIR/identity/cert.der,"), "{rotten}");
        assert!(rotten.contains("the key that the hub knows"), "{rotten}");
    }

    #[test]
    fn a_damaged_identity_is_named_until_it_is_mended() {
        let data = tempfile::tempdir().unwrap();
        identity::tests::joined(data.path(), identity::tests::GOOD);
        assert!(matches!(whole(data.path()), Good(_)));
        std::fs::write(data.path().join("identity/fleet-root"), [4; 32]).unwrap();
        assert!(
            matches!(whole(data.path()), Bad(cause, step) if cause == "damaged: fleet-root" && step.contains("`spoke run`"))
        );
        identity::mend(data.path()).unwrap();
        assert!(matches!(whole(data.path()), Good(_)));
    }

    #[test]
    fn a_damaged_ledger_is_told_now_and_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(ledger(dir.path()), Good(_)));
        std::fs::write(dir.path().join("ledger"), b"no ledger").unwrap();
        assert!(matches!(ledger(dir.path()), Bad(cause, _) if cause.contains("no ledger")));
        let disk = std::sync::Arc::new(crate::data::LedgerFile::new(dir.path()));
        assert_eq!(Ledger::open(disk, "").unwrap().found(), Found::Foreign);
        assert!(matches!(ledger(dir.path()), Bad(_, step) if step.contains("ledger.damaged")));
        std::fs::remove_file(damaged_ledger(dir.path())).unwrap();
        assert!(matches!(ledger(dir.path()), Good(_)));
    }

    #[test]
    fn no_cause_advises_to_throw_away_what_the_hub_still_knows() {
        let host = || "hub".to_owned();
        let closed = |whose, fault| DialError::Connect {
            host: host(),
            closed: Closed::Certificate { whose, fault, detail: String::new() },
        };
        let steps = [
            next_step(&DialError::Clock { host: host(), detail: String::new() }),
            next_step(&closed(Whose::Ours, Fault::Time)),
            next_step(&DialError::Connect { host: host(), closed: Closed::TimedOut }),
        ];
        for step in steps {
            assert!(!step.contains("remove") && !step.contains("anew"), "{step}");
        }
        assert!(steps[0].contains("date -u"), "{}", steps[0]);
        assert_ne!(steps[0], steps[1]);
    }
}
