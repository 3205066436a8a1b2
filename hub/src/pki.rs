//! Keys and certificates of a hub, under `DIR/pki`.
//!
//! ```text
//! ca.{crt,key}      made once; a hub never makes a CA over a store that has data
//! admin.{crt,key}   the first administrator (system:masters), renewed before it ends
//! fleet-root.key    signs the keys that sign compiled modules
//! serving           made at every start, in memory: addresses change, and nobody pins it; exchanged before it ends
//! ```
//!
//! Guarantees:
//! - nothing is signed by a clock that was never set, so that no CA ends before its fleet begins
//!   (`a_clock_that_was_never_set_makes_no_certificates_and_is_named`);
//! - no CA is made over a store with data, and a damaged one is told by name (`no_ca_is_made_over_a_store_with_data`,
//!   `a_damaged_ca_is_told_by_name_and_never_used`);
//! - private files are private (`a_second_start_finds_the_same_ca_and_private_files_are_private`).
//!
//! ECDSA P-256 throughout. Private files have mode 0600.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use freewheel_hub_gateway::life;
use freewheel_link::tls::{BUILT, Credentials};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

const CA_DAYS: i64 = 3650;
const ADMIN_DAYS: i64 = 365;
const SERVING_DAYS: i64 = 365;

/// Why the keys are not there.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate could not be made or read.
    #[error("cannot make or read the certificate of {what}")]
    Certificate {
        /// Whose.
        what: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A file of the CA is gone but the data is there.
    #[error(
        "{0} is missing though the hub holds data: put it back from a copy of the data folder (every spoke and kubeconfig \
         trusts that CA), or move the whole folder away to begin an empty fleet"
    )]
    CaLost(PathBuf),
    /// A file of the CA is not what was written.
    #[error(
        "{0} is damaged: put it back from a copy of the data folder (every spoke and kubeconfig trusts that CA), or move \
         the whole folder away to begin an empty fleet"
    )]
    CaDamaged(PathBuf),
    /// The clock was never set.
    #[error(
        "the clock shows {0}, which is before this software was made: set the clock (a time service such as chrony \
         does), then start the hub again; certificates made now would be of no use"
    )]
    Clock(String),
    /// The CA's time and the clock's do not meet.
    #[error(
        "the fleet's CA in {path} is valid from {from} to {to}, and the clock shows {now}: set the clock, or start \
         with an empty folder when it is right"
    )]
    CaTime {
        /// Which.
        path: PathBuf,
        /// Its first second.
        from: String,
        /// Its last second.
        to: String,
        /// The clock.
        now: String,
    },
    /// A PEM file holds something else.
    #[error("{0} does not hold what its name says")]
    Malformed(PathBuf),
}

/// The hub's keys.
pub struct Pki {
    /// The CA's certificate.
    pub ca_pem: String,
    /// The CA's key.
    pub ca_key_pem: String,
    /// The administrator's certificate.
    pub admin_pem: String,
    /// The administrator's key.
    pub admin_key_pem: String,
}

/// Files under `pki` that are made once: where one of them is, the store was made before.
const MADE_ONCE: [&str; 3] = ["ca.key", "ca.crt", "fleet-root.key"];

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
        check_clock(now())?;
        let pki = dir.join("pki");
        std::fs::create_dir_all(&pki)
            .map_err(|source| PkiError::File { path: pki.clone(), source })?;
        let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|source| PkiError::File { path: dir.to_path_buf(), source })?;
        let (cert, key) = (pki.join("ca.crt"), pki.join("ca.key"));
        if let Some(lost) = [&key, &cert].into_iter().find(|path| !path.exists()) {
            if store_has_data {
                return Err(PkiError::CaLost(lost.clone()));
            }
            let (cert_pem, key_pem) = make_ca()?;
            // The key first: a certificate without its key is taken for lost, a key alone is made again.
            write(&key, key_pem.as_bytes(), 0o600)?;
            write(&cert, cert_pem.as_bytes(), 0o644)?;
        }
        let (ca_pem, ca_key_pem) = (read(&cert)?, read(&key)?);
        if !is_signed_by(&ca_pem, &ca_pem) {
            return Err(PkiError::CaDamaged(cert));
        }
        if !is_of(&ca_pem, &ca_key_pem) {
            return Err(PkiError::CaDamaged(key));
        }
        check_ca(&cert, &ca_pem, now())?;
        let (admin_pem, admin_key_pem) = admin(&pki, &ca_pem, &ca_key_pem)?;
        Ok(Self { ca_pem, ca_key_pem, admin_pem, admin_key_pem })
    }

    /// Makes the administrator's certificate anew where its time has come; whether it was.
    ///
    /// # Errors
    /// When the CA cannot sign or the files cannot be written.
    pub fn renew_admin(&mut self, dir: &Path) -> Result<bool, PkiError> {
        let (pem, key_pem) = admin(&dir.join("pki"), &self.ca_pem, &self.ca_key_pem)?;
        let renewed = pem != self.admin_pem;
        (self.admin_pem, self.admin_key_pem) = (pem, key_pem);
        Ok(renewed)
    }

    /// A fresh serving certificate for these names and addresses.
    ///
    /// # Errors
    /// When the CA cannot sign.
    pub fn serving(&self, names: &[String], addresses: &[IpAddr]) -> Result<Credentials, PkiError> {
        let failed = |source| PkiError::Certificate { what: "the API", source };
        let mut params =
            leaf("freewheel-hub", &[], ExtendedKeyUsagePurpose::ServerAuth, SERVING_DAYS);
        for name in names {
            params
                .subject_alt_names
                .push(SanType::DnsName(name.as_str().try_into().map_err(failed)?));
        }
        params
            .subject_alt_names
            .extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let cert =
            params.signed_by(&key, &issuer(&self.ca_pem, &self.ca_key_pem)?).map_err(failed)?;
        let key_der = PrivateKeyDer::try_from(key.serialize_der());
        let key = key_der.map_err(|_| failed(rcgen::Error::CouldNotParseKeyPair))?;
        Ok(Credentials { chain: vec![cert.der().clone()], key })
    }
}

/// The wall clock, in Unix seconds.
pub fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

fn stamp(second: i64) -> String {
    freewheel_hub_api::time::from_unix(second)
}

fn check_clock(now: i64) -> Result<(), PkiError> {
    if u64::try_from(now).unwrap_or_default() < BUILT {
        return Err(PkiError::Clock(stamp(now)));
    }
    Ok(())
}

fn check_ca(path: &Path, pem: &str, now: i64) -> Result<(), PkiError> {
    let ca = certificates(pem, path)?;
    let life = ca.first().and_then(|ca| life(ca));
    let (from, to) = life.ok_or_else(|| PkiError::Malformed(path.to_path_buf()))?;
    if now < from || to < now {
        let path = path.to_path_buf();
        return Err(PkiError::CaTime { path, from: stamp(from), to: stamp(to), now: stamp(now) });
    }
    Ok(())
}

/// Whether a certificate has to be made anew: less than a quarter of its life is left, or it begins in what the
/// clock now takes for the future.
pub fn is_due((from, to): (i64, i64), now: i64) -> bool {
    now < from || to - now < (to - from) / 4
}

fn issuer(ca_pem: &str, ca_key_pem: &str) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let failed = |source| PkiError::Certificate { what: "the CA", source };
    let key = KeyPair::from_pem(ca_key_pem).map_err(failed)?;
    Issuer::from_ca_cert_pem(ca_pem, key).map_err(failed)
}

fn make_ca() -> Result<(String, String), PkiError> {
    let failed = |source| PkiError::Certificate { what: "the CA", source };
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "freewheel-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    valid(&mut params, CA_DAYS);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let cert = params.self_signed(&key).map_err(failed)?;
    Ok((cert.pem(), key.serialize_pem()))
}

fn leaf(
    name: &str,
    groups: &[&str],
    usage: ExtendedKeyUsagePurpose,
    days: i64,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    for group in groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, days);
    params
}

/// From an hour ago: the other side's clock may be behind.
fn valid(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::HOUR;
    params.not_after = now + Duration::days(days);
}

fn admin(pki: &Path, ca_pem: &str, ca_key_pem: &str) -> Result<(String, String), PkiError> {
    let (cert, key) = (pki.join("admin.crt"), pki.join("admin.key"));
    let held = std::fs::read_to_string(&cert).ok();
    let held = held.and_then(|pem| certificates(&pem, &cert).ok()?.first().and_then(|c| life(c)));
    let fresh = held.is_some_and(|life| !is_due(life, now()));
    // One of a pair may be damaged, or of another pair when a hub was killed between the two.
    let fits = match (std::fs::read_to_string(&cert), std::fs::read_to_string(&key)) {
        (Ok(cert), Ok(key)) => is_signed_by(&cert, ca_pem) && is_of(&cert, &key),
        _ => false,
    };
    if !fresh || !fits {
        let failed = |source| PkiError::Certificate { what: "the administrator", source };
        let params = leaf(
            "kubernetes-admin",
            &["system:masters"],
            ExtendedKeyUsagePurpose::ClientAuth,
            ADMIN_DAYS,
        );
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let made = params.signed_by(&pair, &issuer(ca_pem, ca_key_pem)?).map_err(failed)?;
        write(&key, pair.serialize_pem().as_bytes(), 0o600)?;
        write(&cert, made.pem().as_bytes(), 0o644)?;
    }
    Ok((read(&cert)?, read(&key)?))
}

/// What stands between a certificate and its signature: ecdsa-with-SHA256, and the tag of a bit string.
const ECDSA_FRAME: [u8; 13] =
    [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02, 0x03];

/// Whether a certificate is whole and has this CA's signature.
fn is_signed_by(cert_pem: &str, ca_pem: &str) -> bool {
    let [cert, ca] = [cert_pem, ca_pem].map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()));
    let (Ok(cert_der), Ok(ca)) = (cert, ca) else { return false };
    let parsed = x509_parser::parse_x509_certificate;
    let (Ok((rest, cert)), Ok((_, ca))) = (parsed(&cert_der), parsed(&ca)) else { return false };
    // The signature does not cover its own frame, and the parser takes one for another there.
    let signed = cert.tbs_certificate.as_ref();
    let frame = cert_der.split_at_checked(4 + signed.len()).map(|(_, frame)| frame);
    let framed = rest.is_empty()
        && cert.signature_value.unused_bits == 0
        && frame.is_some_and(|frame| frame.starts_with(&ECDSA_FRAME));
    framed && cert.verify_signature(Some(ca.public_key())).is_ok()
}

/// Whether a certificate is for this key.
fn is_of(cert_pem: &str, key_pem: &str) -> bool {
    let Ok(cert) = CertificateDer::from_pem_slice(cert_pem.as_bytes()) else { return false };
    match (x509_parser::parse_x509_certificate(&cert), KeyPair::from_pem(key_pem)) {
        (Ok((_, cert)), Ok(key)) => cert.public_key().raw == key.subject_public_key_info(),
        _ => false,
    }
}

/// The certificates in a PEM text.
///
/// # Errors
/// When there is none; `path` is named in the error.
pub fn certificates(pem: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(PkiError::Malformed(path.to_path_buf())),
    }
}

fn read(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path)
        .map_err(|source| PkiError::File { path: path.to_path_buf(), source })
}

/// Writes a file whole or not at all, with its mode from the first byte.
///
/// # Errors
/// When the disk refuses.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), PkiError> {
    let put = || -> io::Result<()> {
        let fresh = path.with_extension("new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |parent| std::fs::File::open(parent)?.sync_all())
    };
    put().map_err(|source| PkiError::File { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
        first.serving(&["localhost".into()], &["127.0.0.1".parse().unwrap()]).unwrap();
    }

    #[test]
    fn a_clock_that_was_never_set_makes_no_certificates_and_is_named() {
        assert!(check_clock(now()).is_ok());
        let said = check_clock(4).unwrap_err().to_string();
        assert!(said.contains("the clock shows 1970-01-01T00:00:04Z"), "{said}");
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), false).unwrap();
        let late = now() + 11 * 365 * 86_400;
        let said = check_ca(Path::new("pki/ca.crt"), &pki.ca_pem, late).unwrap_err().to_string();
        assert!(said.contains("the clock shows"), "{said}");
        assert!(check_ca(Path::new("x"), &pki.ca_pem, now()).is_ok());
    }

    #[test]
    fn the_administrator_is_renewed_by_what_the_certificate_says() {
        let dir = tempfile::tempdir().unwrap();
        let mut pki = Pki::open(dir.path(), false).unwrap();
        assert!(!pki.renew_admin(dir.path()).unwrap(), "it is new");
        assert!(!is_due((0, 400), 300) && is_due((0, 400), 301) && is_due((500, 900), 400));
        // As if its time had come: what is there cannot be read.
        std::fs::write(dir.path().join("pki/admin.crt"), "cut").unwrap();
        let before = pki.admin_pem.clone();
        assert!(pki.renew_admin(dir.path()).unwrap());
        assert_ne!(pki.admin_pem, before);
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
                        let (key, cert) = (&pki.ca_key_pem, &pki.ca_pem);
                        let public =
                            |pem: &str| KeyPair::from_pem(pem).unwrap().subject_public_key_info();
                        assert_eq!(public(key), public(&first.ca_key_pem));
                        let der = |pem: &str| certificates(pem, "".as_ref()).unwrap();
                        assert_eq!(der(cert), der(&first.ca_pem));
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
                assert!(is_of(&pki.admin_pem, &pki.admin_key_pem));
                assert!(is_signed_by(&pki.admin_pem, &pki.ca_pem));
            }
        }
    }
}
