//! What makes a compiled module trustworthy: a signed envelope, and the key chain behind it.
//!
//! ```text
//! fleet root (pinned by the spoke when it joins) ──signs──▶ signing key of a hub, short-lived
//!                                                              └──signs──▶ envelope of an artifact
//! ```
//!
//! A compiled module is native code. Ed25519 (RFC 8032) throughout.
//!
//! Guarantees:
//! - nothing passes [`Envelope::verify`] that no hub of the fleet has made for this component and this profile
//!   (`nothing_passes_but_what_a_hub_of_the_fleet_has_signed_for_this`).

use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::profile::Profile;

/// An Ed25519 public key.
pub type PublicKey = [u8; 32];

/// The fleet root's word for one hub's signing key. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerCert {
    /// The hub's signing key.
    pub key: PublicKey,
    /// Last second it is valid, Unix time.
    pub not_after: u64,
    /// By the fleet root, over [`SignerCert::message`].
    pub signature: Vec<u8>,
}

/// What is said about one artifact. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The component it was compiled from.
    pub component: Digest,
    /// Engine profile it was compiled for.
    pub profile: Profile,
    /// Build of the compiler, newer ones sort later.
    pub build: u32,
    /// Digest of the uncompressed artifact.
    pub artifact: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Who signs.
    pub signer: SignerCert,
    /// By `signer.key`, over [`Envelope::message`].
    pub signature: Vec<u8>,
}

/// Why an artifact is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// The signing key does not descend from the pinned root.
    #[error("the signing key is not certified by this fleet's root")]
    Signer,
    /// The signing key's time is over.
    #[error("the signing key expired at {0} (Unix time)")]
    Expired(u64),
    /// The envelope's signature does not fit.
    #[error("the signature does not fit the envelope")]
    Signature,
    /// It is for something else than was asked for.
    #[error("the artifact is for {found}, asked was {asked}")]
    Other {
        /// What the envelope says.
        found: String,
        /// What was wanted.
        asked: String,
    },
    /// The bytes are not those that were signed.
    #[error("the artifact's bytes do not fit its envelope")]
    Bytes,
}

impl SignerCert {
    /// The bytes that the root signs.
    #[must_use]
    pub fn message(key: &PublicKey, not_after: u64) -> Vec<u8> {
        let mut out = b"freewheel signer v1\0".to_vec();
        out.extend_from_slice(key);
        out.extend_from_slice(&not_after.to_le_bytes());
        out
    }
}

impl Envelope {
    /// The bytes that the hub signs: everything above the signer.
    #[must_use]
    pub fn message(
        component: &Digest,
        profile: Profile,
        build: u32,
        artifact: &Digest,
        size: u64,
    ) -> Vec<u8> {
        let profile = profile.key();
        let mut out = b"freewheel artifact v1\0".to_vec();
        out.extend_from_slice(&component.0);
        out.extend_from_slice(&(profile.len() as u64).to_le_bytes());
        out.extend_from_slice(profile.as_bytes());
        out.extend_from_slice(&build.to_le_bytes());
        out.extend_from_slice(&artifact.0);
        out.extend_from_slice(&size.to_le_bytes());
        out
    }

    /// Checks the chain from the pinned root to this envelope, and that it is what was asked for.
    /// `now` is Unix time; `None` where the device's clock is not to be trusted (before 2026, say).
    ///
    /// # Errors
    /// With the first link of the chain that does not hold.
    pub fn verify(
        &self,
        root: &PublicKey,
        component: &Digest,
        profile: Profile,
        now: Option<u64>,
    ) -> Result<(), Untrusted> {
        let signer = &self.signer;
        UnparsedPublicKey::new(&ED25519, root)
            .verify(&SignerCert::message(&signer.key, signer.not_after), &signer.signature)
            .map_err(|_| Untrusted::Signer)?;
        if now.is_some_and(|now| signer.not_after < now) {
            return Err(Untrusted::Expired(signer.not_after));
        }
        let message =
            Self::message(&self.component, self.profile, self.build, &self.artifact, self.size);
        UnparsedPublicKey::new(&ED25519, &signer.key)
            .verify(&message, &self.signature)
            .map_err(|_| Untrusted::Signature)?;
        if self.component != *component || self.profile != profile {
            return Err(Untrusted::Other {
                found: format!("{} on {}", self.component, self.profile),
                asked: format!("{component} on {profile}"),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;
    use crate::profile::{Arch, MemoryProfile};

    const PROFILE: Profile = Profile::current(Arch::X86_64, MemoryProfile::Guard4g);
    const OTHER: Profile = Profile::current(Arch::X86_64, MemoryProfile::Bounded);

    fn key(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn public(key: &Ed25519KeyPair) -> PublicKey {
        key.public_key().as_ref().try_into().unwrap()
    }

    #[test]
    fn nothing_passes_but_what_a_hub_of_the_fleet_has_signed_for_this() {
        let (root, hub) = (key(1), key(2));
        let (component, artifact) = (Digest::of(b"component"), Digest::of(b"artifact"));
        let signed = SignerCert::message(&public(&hub), 100);
        let signer = SignerCert {
            key: public(&hub),
            not_after: 100,
            signature: root.sign(&signed).as_ref().to_vec(),
        };
        let message = Envelope::message(&component, PROFILE, 1, &artifact, 8);
        let good = Envelope {
            component,
            profile: PROFILE,
            build: 1,
            artifact,
            size: 8,
            signer,
            signature: hub.sign(&message).as_ref().to_vec(),
        };
        let passes = |envelope: &Envelope, now| {
            envelope.verify(&public(&root), &component, PROFILE, now).is_ok()
        };
        assert!(passes(&good, Some(100)) && passes(&good, None));
        assert!(!passes(&good, Some(101)), "the signing key is over");
        assert!(good.verify(&public(&hub), &component, PROFILE, None).is_err(), "another fleet");
        assert!(
            good.verify(&public(&root), &artifact, PROFILE, None).is_err(),
            "another component"
        );
        assert!(good.verify(&public(&root), &component, OTHER, None).is_err(), "another profile");
        // Any bit of what was signed or of a signature.
        let bytes = postcard::to_stdvec(&good).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            if let Ok(envelope) = postcard::from_bytes::<Envelope>(&changed) {
                assert!(envelope == good || !passes(&envelope, Some(50)), "byte {at}");
            }
        }
    }
}
