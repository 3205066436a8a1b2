//! The hub's own keys and certificates, under `DIR/pki`.
//!
//! ```text
//! ca.{crt,key}      made once; a hub never makes a CA over a store that has data
//! admin.{crt,key}   the first administrator, renewed before it ends
//! admin.next        both in one file, until they are where they belong
//! fleet-root.key    signs the keys that sign compiled modules
//! sealing.keys      seal what the store holds of Secrets
//! serving           made at every start, in memory: addresses change, and nobody pins it; exchanged before it ends
//! ```
//!
//! Guarantees:
//! - no certificate is made by a clock that was never set, so that no CA ends before its fleet begins, nor by one that has
//!   lost its time since; what was made before stays (`a_clock_that_was_never_set_makes_no_certificates_and_is_named`);
//! - no CA is made over a store with data, and a damaged one is told by name (`no_ca_is_made_over_a_store_with_data`,
//!   `a_damaged_ca_is_told_by_name_and_never_used`);
//! - a disk that takes one file and not the next leaves an administrator
//!   (`an_administrator_is_whole_on_a_disk_that_fills_between_two_files`);
//! - private files are private (`a_second_start_finds_the_same_ca_and_private_files_are_private`).
//!
//! ECDSA P-256 throughout. Private files have mode 0600.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use freewheel_link::tls::Credentials;
use rcgen::KeyPair;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::authority::{Authority, AuthorityError};
use crate::certificate::Certificate;
use crate::file::{read, read_text, write};
use crate::pki_error::PkiError;
use crate::validity::{Validity, check_clock, now, stamp};

/// The hub's keys.
#[derive(Debug)]
pub struct Pki {
    /// The CA.
    pub authority: Arc<Authority>,
    /// The CA's certificate.
    pub ca_pem: String,
    /// The administrator's certificate.
    pub admin_pem: String,
    /// The administrator's key.
    pub admin_key_pem: String,
}

/// The administrator's pair while it is written.
const STAGED: &str = "admin.next";
/// Files under `pki` that are made once: where one of them is, the store was made before.
const MADE_ONCE: [&str; 4] = ["ca.key", "ca.crt", "fleet-root.key", "sealing.keys"];

impl Pki {
    /// Whether a hub has made keys in this folder.
    #[must_use]
    pub fn is_there(dir: &Path) -> bool {
        MADE_ONCE.iter().any(|name| dir.join("pki").join(name).exists())
    }

    /// Reads the keys, or makes them when the hub has no data yet.
    ///
    /// # Errors
    /// When files cannot be read or written, or the CA was lost.
    pub fn open(dir: &Path, store_has_data: bool) -> Result<Self, PkiError> {
        let now = now();
        check_clock(now).map_err(PkiError::Clock)?;
        let pki = dir.join("pki");
        std::fs::create_dir_all(&pki)
            .map_err(|source| PkiError::File { path: pki.clone(), source })?;
        // The folder's own name: were it lost with a power cut, a store that has data by then would have lost its CA.
        let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|source| PkiError::File { path: dir.to_path_buf(), source })?;
        let (cert, key) = (pki.join("ca.crt"), pki.join("ca.key"));
        if let Some(lost) = [&key, &cert].into_iter().find(|path| !path.exists()) {
            if store_has_data {
                return Err(PkiError::CaLost(lost.clone()));
            }
            let (cert_pem, key_pem) =
                Authority::make(now).map_err(|source| unmade("the CA", source))?;
            // The key first: a certificate without its key is taken for lost, a key alone is made again.
            write(&key, key_pem.as_bytes(), 0o600)?;
            write(&cert, cert_pem.as_bytes(), 0o644)?;
        }
        let (ca_pem, key_pem) = (read(&cert)?, read(&key)?);
        let Some(ca) = first(&ca_pem).filter(|ca| is_made_by(ca, ca)) else {
            return Err(PkiError::CaDamaged(cert));
        };
        let authority = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).ok();
        let authority = authority.and_then(|key| Authority::new(ca, key).ok());
        let authority = authority.ok_or(PkiError::CaDamaged(key))?;
        check_ca(&cert, authority.validity(), now)?;
        // One that is to be made anew is good for a while yet, and whoever has it can make room on the disk.
        let (admin_pem, admin_key_pem) = administrator(&pki, &authority, now)
            .or_else(|error| there(&pki, &authority, |life| life.holds(now)).ok_or(error))?;
        Ok(Self { authority: Arc::new(authority), ca_pem, admin_pem, admin_key_pem })
    }

    /// Makes the administrator's certificate anew where its time has come; whether it was.
    ///
    /// # Errors
    /// When the CA cannot sign or the files cannot be written.
    pub fn renew_admin(&mut self, dir: &Path, now: i64) -> Result<bool, PkiError> {
        let (pem, key_pem) = administrator(&dir.join("pki"), &self.authority, now)?;
        let renewed = pem != self.admin_pem;
        (self.admin_pem, self.admin_key_pem) = (pem, key_pem);
        Ok(renewed)
    }

    /// A fresh serving certificate for these names and addresses, and its life.
    ///
    /// # Errors
    /// When the CA cannot sign.
    pub fn serving(
        &self,
        names: &[String],
        addresses: &[IpAddr],
        now: i64,
    ) -> Result<(Credentials, Validity), PkiError> {
        let own = self.authority.api(names, addresses, now);
        let own = own.map_err(|source| unmade("the API", source))?;
        let life = own.chain.first().and_then(|own| Some(Certificate::read(own)?.validity()));
        Ok((own, life.unwrap_or_default()))
    }
}

fn unmade(what: &'static str, source: AuthorityError) -> PkiError {
    PkiError::Certificate { what, source }
}

fn check_ca(path: &Path, life: Validity, now: i64) -> Result<(), PkiError> {
    if life.holds(now) {
        return Ok(());
    }
    let (from, to) = (stamp(life.from), stamp(life.to));
    Err(PkiError::CaTime { path: path.to_path_buf(), from, to, now: stamp(now) })
}

fn administrator(
    pki: &Path,
    authority: &Authority,
    now: i64,
) -> Result<(String, String), PkiError> {
    let good = |pair: &(String, String)| is_pair(pair, authority, |life| !life.is_due(now));
    if let Some(pair) = kept(pki).filter(good) {
        return Ok(pair);
    }
    let (pem, key_pem) = match staged(pki).filter(good) {
        Some(pair) => pair,
        None => {
            let made = authority.administrator(now);
            let (pem, key_pem) = made.map_err(|source| unmade("the administrator", source))?;
            // Of two files a disk that fills takes one, which is no pair, nor is it one with what was there.
            write(&pki.join(STAGED), format!("{key_pem}{pem}").as_bytes(), 0o600)?;
            (pem, key_pem)
        }
    };
    // What is not taken now is tried at the next look; until then it is where it is.
    let _ = unstage(pki, &pem, &key_pem);
    Ok((pem, key_pem))
}

fn unstage(pki: &Path, pem: &str, key_pem: &str) -> Result<(), PkiError> {
    write(&pki.join("admin.key"), key_pem.as_bytes(), 0o600)?;
    write(&pki.join("admin.crt"), pem.as_bytes(), 0o644)?;
    let path = pki.join(STAGED);
    std::fs::remove_file(&path).map_err(|source| PkiError::File { path, source })
}

/// The administrator's certificate and key, when they are a pair with such a life.
fn there(
    pki: &Path,
    authority: &Authority,
    lives: impl Fn(Validity) -> bool,
) -> Option<(String, String)> {
    let mut pairs = [kept(pki), staged(pki)].into_iter().flatten();
    pairs.find(|pair| is_pair(pair, authority, &lives))
}

/// What is in the two files. One of them may be damaged, or of another pair when a hub was killed between the two.
fn kept(pki: &Path) -> Option<(String, String)> {
    let pem = read_text(&pki.join("admin.crt")).ok()?;
    Some((pem, read_text(&pki.join("admin.key")).ok()?))
}

/// What is in the one file from which they are written.
fn staged(pki: &Path) -> Option<(String, String)> {
    let text = read_text(&pki.join(STAGED)).ok()?;
    let (key_pem, pem) = text.split_at(text.find("-----BEGIN CERTIFICATE-----")?);
    Some((pem.to_owned(), key_pem.to_owned()))
}

fn is_pair(
    (pem, key_pem): &(String, String),
    authority: &Authority,
    lives: impl Fn(Validity) -> bool,
) -> bool {
    let Some(der) = first(pem) else { return false };
    let pair = Certificate::read(&der).zip(KeyPair::from_pem(key_pem).ok());
    pair.is_some_and(|(cert, key)| {
        lives(cert.validity()) && cert.is_of(&key) && is_made_by(&der, authority.ca())
    })
}

fn first(pem: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}

/// Whether a certificate is whole, and as this CA of the hub's own has signed it.
fn is_made_by(der: &CertificateDer<'_>, ca: &CertificateDer<'_>) -> bool {
    Certificate::read(der)
        .zip(Certificate::read(ca))
        .is_some_and(|(cert, ca)| cert.is_signed_by(&ca) && cert.is_unchanged())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::PublicKeyData as _;

    use super::*;

    #[test]
    fn a_second_start_finds_the_same_ca_and_private_files_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::open(dir.path(), false).unwrap();
        let second = Pki::open(dir.path(), true).unwrap();
        assert_eq!(first.ca_pem, second.ca_pem);
        assert_eq!(first.admin_pem, second.admin_pem);
        for name in ["ca.key", "admin.key"] {
            let mode =
                std::fs::metadata(dir.path().join("pki").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        first.serving(&["localhost".into()], &["127.0.0.1".parse().unwrap()], now()).unwrap();
    }

    #[test]
    fn a_clock_that_was_never_set_makes_no_certificates_and_is_named() {
        assert!(check_clock(now()).is_ok());
        let said = PkiError::Clock(check_clock(4).unwrap_err()).to_string();
        assert!(said.contains("the clock shows 1970-01-01T00:00:04Z"), "{said}");
        assert!(said.ends_with("then start the hub again"), "{said}");
        let dir = tempfile::tempdir().unwrap();
        let mut pki = Pki::open(dir.path(), false).unwrap();
        // The hub runs, and its clock is lost.
        let before = kept(&dir.path().join("pki"));
        let unmade = [
            pki.serving(&["localhost".into()], &[], 4).err(),
            pki.renew_admin(dir.path(), 4).err(),
        ];
        for error in unmade {
            let Some(PkiError::Certificate { source, .. }) = error else { panic!("{error:?}") };
            assert!(matches!(source, AuthorityError::Clock(_)), "{source}");
        }
        assert!(matches!(pki.authority.link(4), Err(AuthorityError::Clock(_))));
        assert!(matches!(Authority::make(4), Err(AuthorityError::Clock(_))));
        assert_eq!(kept(&dir.path().join("pki")), before);
        let life = pki.authority.validity();
        let late = now() + 11 * 365 * 86_400;
        let said = check_ca(Path::new("pki/ca.crt"), life, late).unwrap_err().to_string();
        assert!(said.contains("the clock shows"), "{said}");
        assert!(check_ca(Path::new("x"), life, now()).is_ok());
    }

    #[test]
    fn the_administrator_is_renewed_by_what_the_certificate_says() {
        let dir = tempfile::tempdir().unwrap();
        let mut pki = Pki::open(dir.path(), false).unwrap();
        let mut renewed = |days: i64| {
            let before = pki.admin_pem.clone();
            let renewed = pki.renew_admin(dir.path(), now() + days * 86_400).unwrap();
            assert_eq!(pki.admin_pem != before, renewed, "{days}");
            renewed
        };
        assert!(!renewed(0) && !renewed(270), "it is good for a year");
        assert!(renewed(280) && !renewed(281), "a quarter before its end it is made anew, once");
        // What is there cannot be read.
        std::fs::write(dir.path().join("pki/admin.crt"), "cut").unwrap();
        assert!(renewed(281));
    }

    #[test]
    fn an_administrator_of_whom_no_new_certificate_can_be_written_keeps_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), false).unwrap();
        // A folder in its place: the disk does not take it.
        let blocks = dir.path().join("pki/admin.new");
        std::fs::create_dir(&blocks).unwrap();
        let places = (dir.path().join("pki"), pki.authority.clone());
        let due = now() + 280 * 86_400;
        administrator(&places.0, &places.1, due).unwrap_err();
        let kept = there(&places.0, &places.1, |life| life.holds(due)).unwrap();
        assert_eq!(kept, (pki.admin_pem, pki.admin_key_pem));
        assert_eq!(there(&places.0, &places.1, |life| life.holds(due + 200 * 86_400)), None);
        std::fs::remove_dir(&blocks).unwrap();
        assert!(administrator(&places.0, &places.1, due).is_ok());
    }

    #[test]
    fn an_administrator_is_whole_on_a_disk_that_fills_between_two_files() {
        let dir = tempfile::tempdir().unwrap();
        let old = Pki::open(dir.path(), false).unwrap();
        let (pki, due) = (dir.path().join("pki"), now() + 280 * 86_400);
        // The key is taken, and nothing behind it.
        let cert = pki.join("admin.crt");
        std::fs::remove_file(&cert).unwrap();
        std::fs::create_dir(&cert).unwrap();
        let new = administrator(&pki, &old.authority, due).unwrap();
        assert_ne!(new.0, old.admin_pem);
        // The hub is killed there, and starts.
        assert_eq!(administrator(&pki, &old.authority, due).unwrap(), new);
        assert_eq!(there(&pki, &old.authority, |life| life.holds(due)).unwrap(), new);
        std::fs::remove_dir(&cert).unwrap();
        assert_eq!(administrator(&pki, &old.authority, due).unwrap(), new);
        assert_eq!(kept(&pki).unwrap(), new);
        assert!(!pki.join(STAGED).exists());
    }

    #[test]
    fn no_ca_is_made_over_a_store_with_data() {
        let dir = tempfile::tempdir().unwrap();
        Pki::open(dir.path(), false).unwrap();
        std::fs::remove_file(dir.path().join("pki/ca.key")).unwrap();
        assert!(matches!(Pki::open(dir.path(), true), Err(PkiError::CaLost(_))));
        assert!(Pki::is_there(dir.path()));
    }

    /// Every way in which the bytes of a file can be others: a flipped bit, a cut.
    fn damages(whole: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        let flipped = (0..whole.len()).map(|at| {
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1 << (at % 8);
            flipped
        });
        flipped.chain((0..whole.len()).step_by(7).map(|length| whole[..length].to_vec()))
    }

    #[test]
    fn a_damaged_ca_is_told_by_name_and_never_used() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::open(dir.path(), false).unwrap();
        for name in ["ca.crt", "ca.key"] {
            let path = dir.path().join("pki").join(name);
            let whole = std::fs::read(&path).unwrap();
            for damaged in damages(&whole) {
                std::fs::write(&path, &damaged).unwrap();
                match Pki::open(dir.path(), true) {
                    // PEM lets some bytes be this or that.
                    Ok(pki) => {
                        assert_eq!(pki.authority.ca(), first.authority.ca());
                        let public =
                            |pki: &Pki| pki.authority.issuer.key().subject_public_key_info();
                        assert_eq!(public(&pki), public(&first));
                    }
                    Err(error) => {
                        let text = error.to_string();
                        assert!(text.contains(name), "{text}");
                    }
                }
            }
            std::fs::write(&path, whole).unwrap();
        }
        assert_eq!(Pki::open(dir.path(), true).unwrap().ca_pem, first.ca_pem);
    }

    #[test]
    fn a_damaged_administrator_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        Pki::open(dir.path(), false).unwrap();
        for name in ["admin.crt", "admin.key"] {
            let path = dir.path().join("pki").join(name);
            for damaged in damages(&std::fs::read(&path).unwrap()).step_by(9) {
                std::fs::write(&path, &damaged).unwrap();
                let pki = Pki::open(dir.path(), true).unwrap();
                let kept = there(&dir.path().join("pki"), &pki.authority, |life| life.holds(now()));
                assert_eq!(kept, Some((pki.admin_pem, pki.admin_key_pem)));
            }
        }
    }
}
