//! The fleet root and this hub's signing key (Ed25519, PKCS#8 files with mode 0600).

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use freewheel_link::artifact::{Envelope, PublicKey, SignerCert};
use freewheel_link::digest::Digest;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

/// How long a hub's signing key is valid: a spoke that was offline for a season still takes what the
/// hub made meanwhile, and a stolen key ends by itself.
const SIGNER_SECONDS: u64 = 90 * 24 * 60 * 60;

/// The key that every spoke of the fleet pins when it joins.
pub struct FleetRoot {
    key: Ed25519KeyPair,
}

impl FleetRoot {
    /// Reads the root's key, or makes it on the first start.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds no Ed25519 key.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { key: key_at(path)? })
    }

    /// What a spoke pins.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        public(&self.key)
    }

    fn certify(&self, key: &Ed25519KeyPair, not_after: u64) -> SignerCert {
        let key = public(key);
        let signature = self.key.sign(&SignerCert::message(&key, not_after)).as_ref().to_vec();
        SignerCert { key, not_after, signature }
    }
}

/// A hub's own key with the root's word for it.
pub(crate) struct Signer {
    key: Ed25519KeyPair,
    cert: SignerCert,
}

impl Signer {
    /// A fresh key for this run of the hub: what is never stored cannot be stolen from the disk.
    pub(crate) fn new(root: &FleetRoot, now: u64) -> io::Result<Self> {
        let (_, key) = fresh()?;
        let cert = root.certify(&key, now + SIGNER_SECONDS);
        Ok(Self { key, cert })
    }

    /// Whether it is time for a new one: a hub runs for longer than a key is valid, and its clock may have
    /// been set since.
    pub(crate) fn is_ageing(&self, now: u64) -> bool {
        self.cert.not_after < now + SIGNER_SECONDS / 2
    }

    /// Signs what is known of an artifact.
    pub(crate) fn sign(
        &self,
        component: Digest,
        profile: &str,
        build: u32,
        artifact: Digest,
        size: u64,
    ) -> Envelope {
        let message = Envelope::message(&component, profile, build, &artifact, size);
        let signature = self.key.sign(&message).as_ref().to_vec();
        Envelope {
            component,
            profile: profile.to_owned(),
            build,
            artifact,
            size,
            signer: self.cert.clone(),
            signature,
        }
    }
}

/// Unix time in seconds.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn public(key: &Ed25519KeyPair) -> PublicKey {
    let mut out = [0; 32];
    // An Ed25519 public key has 32 bytes (RFC 8032).
    out.copy_from_slice(key.public_key().as_ref());
    out
}

fn fresh() -> io::Result<(Vec<u8>, Ed25519KeyPair)> {
    let failed = |_| io::Error::other("the system's randomness failed");
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(failed)?;
    let key =
        Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|e| io::Error::other(e.to_string()))?;
    Ok((pkcs8.as_ref().to_vec(), key))
}

fn key_at(path: &Path) -> io::Result<Ed25519KeyPair> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let bad = |e| io::Error::other(format!("{} is no Ed25519 key: {e}", path.display()));
            Ed25519KeyPair::from_pkcs8(&bytes).map_err(bad)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            use std::io::Write as _;
            let (bytes, key) = fresh()?;
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            crate::durable::sync_parent(path)?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freewheel_link::artifact::Untrusted;

    #[test]
    fn a_hub_that_runs_on_gets_a_new_key_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let root = FleetRoot::open(&dir.path().join("root")).unwrap();
        let signer = Signer::new(&root, 1000).unwrap();
        assert!(!signer.is_ageing(1000) && !signer.is_ageing(1000 + SIGNER_SECONDS / 2));
        assert!(signer.is_ageing(1001 + SIGNER_SECONDS / 2), "long before a spoke would refuse it");
    }

    #[test]
    fn a_spoke_takes_what_the_hub_signed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = FleetRoot::open(&dir.path().join("root")).unwrap();
        let again = FleetRoot::open(&dir.path().join("root")).unwrap();
        assert_eq!(root.public(), again.public());
        let bytes = b"native code";
        let component = Digest::of(b"component");
        let envelope = Signer::new(&root, unix_now()).unwrap().sign(
            component,
            "p",
            1,
            Digest::of(bytes),
            bytes.len() as u64,
        );
        assert_eq!(envelope.verify(&root.public(), &component, "p", Some(0)), Ok(()));
        assert_eq!(envelope.verify_bytes(bytes), Ok(()));
        assert_eq!(envelope.verify_bytes(b"native cod3"), Err(Untrusted::Bytes));
        let stranger = FleetRoot::open(&dir.path().join("other")).unwrap();
        assert_eq!(
            envelope.verify(&stranger.public(), &component, "p", Some(0)),
            Err(Untrusted::Signer)
        );
        assert_eq!(
            envelope.verify(&root.public(), &component, "p", Some(u64::MAX)),
            Err(Untrusted::Expired(envelope.signer.not_after))
        );
        assert!(matches!(
            envelope.verify(&root.public(), &component, "q", None),
            Err(Untrusted::Other { .. })
        ));
        let mut forged = envelope;
        forged.artifact = Digest::of(b"other code");
        assert_eq!(forged.verify(&root.public(), &component, "p", None), Err(Untrusted::Signature));
    }
}
