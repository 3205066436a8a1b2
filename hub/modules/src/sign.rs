//! The fleet root (Ed25519, a PKCS#8 file with mode 0600) and this hub's signing key.
//!
//! Guarantees:
//! - the root's key is made once: every spoke pins it, so one that is lost or damaged is told and never made again
//!   (`a_root_is_made_once_and_never_again`);
//! - a hub that runs on signs with a key that is good for a while (`a_hub_that_runs_on_gets_a_new_key_in_time`);
//! - a spoke takes what the hub signed and nothing else (`a_spoke_takes_what_the_hub_signed_and_nothing_else`).

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use freewheel_link::artifact::{Envelope, PublicKey, SignerCert};
use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

/// How long a hub's signing key is valid: a spoke that was offline for a season still takes what the
/// hub made meanwhile, and a stolen key ends by itself.
const SIGNER_SECONDS: u64 = 90 * 24 * 60 * 60;

/// Why the fleet's root key is not there.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It is gone but the data is there.
    #[error(
        "{0} is missing, and every spoke takes modules only by that key: put it back from a copy of the data folder, \
         or move the whole folder away to begin an empty fleet, which every device has to join again"
    )]
    Lost(PathBuf),
    /// It holds something else.
    #[error(
        "{path} is damaged ({why}), and every spoke takes modules only by that key: put it back from a copy of the \
         data folder"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// It cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The key that every spoke of the fleet pins when it joins.
pub struct FleetRoot {
    key: Ed25519KeyPair,
}

impl FleetRoot {
    /// Reads the root's key, or makes it when there is none and it `may_make` one: on the first start.
    ///
    /// # Errors
    /// When the file is lost, or cannot be read or written, or holds no Ed25519 key.
    pub fn open(path: &Path, may_make: bool) -> Result<Self, RootError> {
        let failed = |source| RootError::File { path: path.to_path_buf(), source };
        match std::fs::read(path) {
            Ok(bytes) => {
                let damaged = |e: ring::error::KeyRejected| RootError::Damaged {
                    path: path.to_path_buf(),
                    why: format!("it is no Ed25519 key: {e}"),
                };
                Ok(Self { key: Ed25519KeyPair::from_pkcs8(&bytes).map_err(damaged)? })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_make => {
                let (bytes, key) = fresh().map_err(failed)?;
                crate::durable::replace_private(path, &bytes).map_err(failed)?;
                Ok(Self { key })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(RootError::Lost(path.to_path_buf()))
            }
            Err(error) => Err(failed(error)),
        }
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
        profile: Profile,
        build: u32,
        artifact: Digest,
        size: u64,
    ) -> Envelope {
        let message = Envelope::message(&component, profile, build, &artifact, size);
        let signature = self.key.sign(&message).as_ref().to_vec();
        Envelope { component, profile, build, artifact, size, signer: self.cert.clone(), signature }
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

#[cfg(test)]
mod tests {
    use super::*;
    use freewheel_link::artifact::Untrusted;

    #[test]
    fn a_hub_that_runs_on_gets_a_new_key_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let root = FleetRoot::open(&dir.path().join("root"), true).unwrap();
        let signer = Signer::new(&root, 1000).unwrap();
        assert!(!signer.is_ageing(1000) && !signer.is_ageing(1000 + SIGNER_SECONDS / 2));
        assert!(signer.is_ageing(1001 + SIGNER_SECONDS / 2), "long before a spoke would refuse it");
    }

    #[test]
    fn a_root_is_made_once_and_never_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fleet-root.key");
        let lost = FleetRoot::open(&path, false).err().unwrap();
        assert!(matches!(&lost, RootError::Lost(at) if *at == path), "{lost}");
        let root = FleetRoot::open(&path, true).unwrap().public();
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, flipped).unwrap();
            match FleetRoot::open(&path, true) {
                // Not every byte around a key has a meaning.
                Ok(same) => assert_eq!(same.public(), root, "bit {bit}"),
                Err(error) => assert!(error.to_string().contains("fleet-root.key is damaged")),
            }
        }
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(FleetRoot::open(&path, true), Err(RootError::Damaged { .. })));
    }

    #[test]
    fn a_spoke_takes_what_the_hub_signed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = FleetRoot::open(&dir.path().join("root"), true).unwrap();
        let again = FleetRoot::open(&dir.path().join("root"), true).unwrap();
        assert_eq!(root.public(), again.public());
        let bytes = b"native code";
        let component = Digest::of(b"component");
        let profile = Profile::candidates()[0];
        let other = Profile { revision: 0, ..profile };
        let envelope = Signer::new(&root, unix_now()).unwrap().sign(
            component,
            profile,
            1,
            Digest::of(bytes),
            bytes.len() as u64,
        );
        assert_eq!(envelope.verify(&root.public(), &component, profile, Some(0)), Ok(()));
        assert_eq!((envelope.artifact, envelope.size), (Digest::of(bytes), bytes.len() as u64));
        let stranger = FleetRoot::open(&dir.path().join("other"), true).unwrap();
        assert_eq!(
            envelope.verify(&stranger.public(), &component, profile, Some(0)),
            Err(Untrusted::Signer)
        );
        assert_eq!(
            envelope.verify(&root.public(), &component, profile, Some(u64::MAX)),
            Err(Untrusted::Expired(envelope.signer.not_after))
        );
        assert!(matches!(
            envelope.verify(&root.public(), &component, other, None),
            Err(Untrusted::Other { .. })
        ));
        let mut forged = envelope;
        forged.artifact = Digest::of(b"other code");
        assert_eq!(
            forged.verify(&root.public(), &component, profile, None),
            Err(Untrusted::Signature)
        );
    }
}
