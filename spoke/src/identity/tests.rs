//! What stays on the disk, whatever becomes of the rest.

use super::*;

/// The life of a certificate that is good for long.
pub(crate) const GOOD: (u64, u64) = (1_000_000_000, 4_000_000_000);
/// And of one that is over.
pub(crate) const OVER: (u64, u64) = (1_000_000_000, 1_100_000_000);

/// A certificate of this life for the device's key.
pub(crate) fn certificate(data: &Path, (from, to): (u64, u64)) -> Vec<u8> {
    let key = own_key(&home(data)).unwrap();
    let at = |second| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(second);
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    (params.not_before, params.not_after) = (at(from), at(to));
    params.self_signed(&key).unwrap().der().to_vec()
}

/// A device that has joined a hub called `old`, which nobody can look up.
pub(crate) fn joined(data: &Path, life: (u64, u64)) -> Identity {
    let certificate = certificate(data, life);
    let given = Given { ca: certificate.clone(), certificate, ..given() };
    keep(&home(data), &given, "old").unwrap();
    load(data).unwrap().unwrap()
}

fn given() -> Given {
    Given {
        cluster: ClusterName::try_from("pi-7").unwrap(),
        certificate: vec![1],
        ca: ca(),
        fleet_root: [3; 32],
    }
}

fn ca() -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().der().to_vec()
}

#[test]
fn a_cut_ca_is_named_and_never_copied() {
    let data = tempfile::tempdir().unwrap();
    let dir = home(data.path());
    let key = joined(data.path(), GOOD).key;
    let whole = fs::read(dir.join("ca.der")).unwrap();
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(dir.join("ca.der"), &whole[..cut]).unwrap();
        assert!(load(data.path()).is_ok(), "its copy is good");
        fs::rename(dir.join("joined"), dir.join("aside")).unwrap();
        assert!(matches!(load(data.path()), Err(IdentityError::Damaged(_))), "{cut}");
        assert!(mend(data.path()).is_err(), "{cut}: what is damaged is no copy");
        assert!(!dir.join("joined").exists());
        fs::rename(dir.join("aside"), dir.join("joined")).unwrap();
    }
    mend(data.path()).unwrap();
    assert_eq!(fs::read(dir.join("ca.der")).unwrap(), whole);
    // Nor is the key lost with its file.
    fs::write(dir.join("key.der"), b"").unwrap();
    assert_eq!(own_key(&dir).unwrap().serialize_der(), key);
}

#[test]
fn an_identity_is_whole_or_not_there() {
    let data = tempfile::tempdir().unwrap();
    assert!(load(data.path()).unwrap().is_none());
    let dir = home(data.path());
    own_key(&dir).unwrap();
    assert!(load(data.path()).unwrap().is_none(), "a key alone is none");
    for missing in ["ca.der", "fleet-root", "cluster", "hub"] {
        // What cannot be written, as on a disk that is full by now.
        fs::create_dir(dir.join(missing)).unwrap();
        assert!(keep(&dir, &given(), "hub:6444").is_err());
        assert!(load(data.path()).unwrap().is_none(), "without {missing} there is none");
        fs::remove_dir(dir.join(missing)).unwrap();
    }
    keep(&dir, &given(), "hub:6444").unwrap();
    let mut held = load(data.path()).unwrap().unwrap();
    assert_eq!((held.cluster.as_str(), held.hub.as_str()), ("pi-7", "hub:6444"));
    held.move_hub(data.path(), "other:1");
    assert_eq!(load(data.path()).unwrap().unwrap().hub, "other:1");
    fs::remove_file(dir.join("fleet-root")).unwrap();
    fs::remove_file(dir.join("joined")).unwrap();
    assert!(matches!(load(data.path()), Err(IdentityError::Damaged(_))));
}

#[test]
fn what_is_damaged_costs_the_key_only_where_it_is_the_key() {
    let data = tempfile::tempdir().unwrap();
    let dir = home(data.path());
    let key = joined(data.path(), GOOD).key;
    for part in ["ca.der", "fleet-root", "cluster", "hub"] {
        fs::remove_file(dir.join(part)).unwrap();
        fs::write(dir.join("joined"), b"rot").unwrap();
        let said = load(data.path()).err().unwrap().to_string();
        assert!(said.contains("remove cert.der there"), "{part}: {said}");
        // What it says is done.
        fs::remove_file(dir.join("cert.der")).unwrap();
        assert!(load(data.path()).unwrap().is_none(), "{part}: it joins again");
        assert_eq!(joined(data.path(), GOOD).key, key, "{part}");
    }
    fs::remove_file(dir.join("key.der")).unwrap();
    fs::remove_file(dir.join("joined")).unwrap();
    assert!(matches!(load(data.path()), Err(IdentityError::NoKey(_))));
    fs::write(dir.join("key.der"), b"rot").unwrap();
    assert!(matches!(own_key(&dir), Err(IdentityError::NoKey(_))));
}

#[test]
fn the_hubs_time_and_its_refusal_outlive_a_reboot() {
    let data = tempfile::tempdir().unwrap();
    fs::create_dir(home(data.path())).unwrap();
    note_time(data.path(), 2_000_000_000, 3600).unwrap();
    assert!(2_000_000_000 <= clock(data.path()).now(), "whatever the machine's clock says");
    note_time(data.path(), 2_000_000_010, 3600).unwrap();
    assert_eq!(hub_time(data.path()), 2_000_000_000, "flash is spared");
    note_time(data.path(), 1_900_000_000, 3600).unwrap();
    assert_eq!(hub_time(data.path()), 1_900_000_000, "the hub was ahead, and says so");
    forget_time(data.path()).unwrap();
    assert_eq!(hub_time(data.path()), 0);
    assert_eq!(refusal(data.path()), None);
    note_refusal(data.path(), 7, &Reason::Cloned).unwrap();
    note_refusal(data.path(), 8, &Reason::Cloned).unwrap();
    assert_eq!(refusal(data.path()), Some((7, Reason::Cloned)));
    forget_refusal(data.path()).unwrap();
    forget_refusal(data.path()).unwrap();
    assert_eq!(refusal(data.path()), None);
}

#[test]
fn the_last_answer_is_of_the_hub_that_is_asked() {
    let data = tempfile::tempdir().unwrap();
    let dir = home(data.path());
    fs::create_dir(&dir).unwrap();
    let joining = |hub: &str, ca: &[u8]| Joining {
        hub: hub.to_owned(),
        token: "abcdef.0123456789abcdef".parse().unwrap(),
        ca_hash: Digest::of(ca),
        name: ClusterName::try_from("pi-7").unwrap(),
        labels: Vec::new(),
    };
    let waits = JoinAnswer::Pending("hub accept pi-7".to_owned());
    for (hub, ca) in [("hub:1", b"one"), ("hub:2", b"one"), ("hub:2", b"two")] {
        note_asked(&dir, &joining(hub, ca)).unwrap();
        assert_eq!(answered(data.path()), None, "{hub}");
        answer::note(&dir, &waits).unwrap();
        note_asked(&dir, &joining(hub, ca)).unwrap();
        assert_eq!(answered(data.path()).as_ref(), Some(&waits), "{hub}");
        assert_eq!(asked(data.path()).as_deref(), Some(hub));
        assert_eq!(asked_ca_hash(data.path()), Some(Digest::of(ca)));
    }
}

#[test]
fn a_new_certificate_is_taken_for_the_same_key_only() {
    let data = tempfile::tempdir().unwrap();
    let dir = home(data.path());
    let key = own_key(&dir).unwrap();
    let certificate = |key: &rcgen::KeyPair| {
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.self_signed(key).unwrap().der().to_vec()
    };
    keep(&dir, &Given { certificate: certificate(&key), ..given() }, "hub:1").unwrap();
    let held = || load(data.path()).unwrap().unwrap();
    let other = certificate(&rcgen::KeyPair::generate().unwrap());
    assert!(held().exchange(data.path(), other).is_err());
    let new = certificate(&key);
    held().exchange(data.path(), new.clone()).unwrap();
    assert_eq!(held().certificate, new);
}

#[tokio::test]
async fn who_hears_nothing_from_the_hub_is_told_what_to_look_at() {
    let hub = "127.0.0.1:6444".to_owned();
    let silence = DialError::Connect { host: hub.clone(), closed: Closed::TimedOut };
    let said = no_link(silence, &hub, Path::new("/data")).await.to_string();
    for part in ["over UDP from 127.0.0.1:6444:", "firewall", "spoke doctor --data /data"] {
        assert!(said.contains(part), "{said}");
    }
    let named = DialError::Connect { host: "localhost:1".into(), closed: Closed::TimedOut };
    let said = no_link(named, "localhost:1", Path::new("/data")).await.to_string();
    assert!(said.contains("localhost:1 (127.0.0.1:1)") || said.contains("localhost:1 ([::1]:1)"));
    let refused = DialError::Connect { host: hub.clone(), closed: Closed::Here };
    assert!(matches!(no_link(refused, &hub, Path::new("/")).await, IdentityError::Dial(_)));
}

#[test]
fn the_key_is_made_once_and_is_its_owners() {
    use std::os::unix::fs::PermissionsExt as _;
    let data = tempfile::tempdir().unwrap();
    let first = own_key(data.path()).unwrap().serialize_der();
    assert_eq!(own_key(data.path()).unwrap().serialize_der(), first);
    let mode = fs::metadata(data.path().join("key.der")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_signing_request_names_the_clusters_agent() {
    let key = rcgen::KeyPair::generate().unwrap();
    let der = signing_request(&ClusterName::try_from("pi-7").unwrap(), &key).unwrap();
    let text = String::from_utf8_lossy(&der);
    assert!(text.contains("system:open-cluster-management:pi-7:agent"));
}

#[test]
fn one_damaged_file_costs_nothing_and_is_named() {
    let data = tempfile::tempdir().unwrap();
    let dir = home(data.path());
    let before = joined(data.path(), GOOD);
    assert!(damaged(data.path()).is_empty());
    for part in ["cluster", "ca.der", "fleet-root", "key.der", "joined"] {
        let whole = fs::read(dir.join(part)).unwrap();
        let flipped = whole.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 1)).collect();
        for rot in [flipped, Vec::new()] {
            fs::write(dir.join(part), &rot).unwrap();
            assert_eq!(damaged(data.path()), [part]);
            let held = load(data.path()).unwrap().unwrap();
            assert_eq!(held.cluster, before.cluster, "{part}");
            assert_eq!((&held.ca, &held.key), (&before.ca, &before.key), "{part}");
            assert_eq!(held.fleet_root, before.fleet_root, "{part}");
            mend(data.path()).unwrap();
            assert!(damaged(data.path()).is_empty());
            assert_eq!(fs::read(dir.join(part)).unwrap(), whole);
        }
    }
}

#[test]
fn a_board_that_takes_anothers_place_has_its_name_and_its_own_key() {
    let data = tempfile::tempdir().unwrap();
    let dir = home(data.path());
    let first = joined(data.path(), GOOD);
    let (key, new) = (first.key.clone(), certificate(data.path(), GOOD));
    let name = |text: &str| ClusterName::try_from(text).unwrap();
    let place = || Given { cluster: name("attic"), certificate: new.clone(), ..given() };
    // It breaks off before the certificate is there: the old one still shows whom the hub has given it to.
    fs::rename(dir.join("cert.der"), dir.join("kept")).unwrap();
    fs::create_dir(dir.join("cert.der")).unwrap();
    assert!(first.rename(data.path(), place()).is_err());
    fs::remove_dir(dir.join("cert.der")).unwrap();
    fs::rename(dir.join("kept"), dir.join("cert.der")).unwrap();
    let half = load(data.path()).unwrap().unwrap();
    assert_ne!(half.certificate, new);
    let whole = half.rename(data.path(), place()).unwrap();
    assert_eq!((whole.cluster.as_str(), &whole.key, &whole.certificate), ("attic", &key, &new));
    let held = load(data.path()).unwrap().unwrap();
    assert_eq!((held.cluster.as_str(), held.key, held.certificate), ("attic", key, new));
    assert!(damaged(data.path()).is_empty());
    assert!(was_called(data.path(), &name("pi-7")) && !was_called(data.path(), &name("pi-8")));
}
