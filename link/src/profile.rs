//! Which artifacts a spoke can load: what it reports, the hub compiles for, and an artifact is known by.
//!
//! On the wire, in names of files and for people it is one short text. A report and a request carry it as text alone: a
//! hub that does not know the profile of a newer spoke says so, instead of not understanding the message.
//!
//! Guarantees:
//! - a profile has one text, and a text is one profile's or nobody's (`a_key_reads_back_what_it_prints`,
//!   `other_spellings_are_no_profiles`);
//! - a profile of another engine is told apart (`keys_of_another_engine_are_readable_but_not_current`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Wasmtime's major version: artifacts of another one are refused by the loader; patch releases mix freely.
pub const WASMTIME_MAJOR: u16 = 48;

/// Counts changes of the engine's settings, and of what stands behind an artifact, that make older artifacts unloadable.
pub const FEATURES_REV: u16 = 4;

/// An engine profile, written `48-x86_64-guard4g-1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Profile {
    /// Wasmtime's major version.
    pub major: u16,
    /// What the code runs on.
    pub arch: Arch,
    /// How linear memories lie in the address space.
    pub memory: MemoryProfile,
    /// The revision of the engine's settings.
    pub revision: u16,
}

/// What compiled code runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
    /// Wasmtime's interpreter on a 32-bit machine: no native back end exists there.
    Pulley32,
}

/// How linear memories lie in the address space. It is part of the compiled code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemoryProfile {
    /// 4 GiB and guard pages for each: no bounds checks.
    Guard4g,
    /// 256 MiB for each and bounds checks, for the small address space of many Raspberry Pi kernels.
    Bounded,
}

/// Why a string is no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an engine profile such as 48-x86_64-guard4g-1")]
pub struct BadProfile(pub String);

impl Arch {
    /// The machine that this code runs on; `None` where there is neither a back end nor an interpreter.
    #[must_use]
    pub const fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else if cfg!(target_pointer_width = "32") {
            Some(Self::Pulley32)
        } else {
            None
        }
    }

    /// Target triple for the compiler. The C library does not matter: musl and glibc load the same artifact.
    #[must_use]
    pub const fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
            Self::Pulley32 => "pulley32",
        }
    }

    /// Whether an interpreter runs the code.
    #[must_use]
    pub const fn is_interpreted(self) -> bool {
        matches!(self, Self::Pulley32)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Pulley32 => "pulley32",
        }
    }
}

impl MemoryProfile {
    const fn name(self) -> &'static str {
        match self {
            Self::Guard4g => "guard4g",
            Self::Bounded => "bounded",
        }
    }
}

impl Profile {
    /// The profile of this build's engine for an architecture and a memory layout.
    #[must_use]
    pub const fn current(arch: Arch, memory: MemoryProfile) -> Self {
        Self { major: WASMTIME_MAJOR, arch, memory, revision: FEATURES_REV }
    }

    /// What this machine could run, best first; empty on a machine without a back end. The spoke probes its
    /// address space to choose one.
    #[must_use]
    pub fn candidates() -> Vec<Self> {
        match Arch::native() {
            None => Vec::new(),
            Some(arch @ Arch::Pulley32) => vec![Self::current(arch, MemoryProfile::Bounded)],
            Some(arch) => {
                vec![
                    Self::current(arch, MemoryProfile::Guard4g),
                    Self::current(arch, MemoryProfile::Bounded),
                ]
            }
        }
    }

    /// Whether this build's compiler makes artifacts for it: same engine, same settings.
    #[must_use]
    pub const fn is_current(&self) -> bool {
        self.major == WASMTIME_MAJOR && self.revision == FEATURES_REV
    }

    /// The key as it is reported, signed and stored.
    #[must_use]
    pub fn key(&self) -> String {
        self.to_string()
    }

    /// Reads a key.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(key: &str) -> Result<Self, BadProfile> {
        let bad = || BadProfile(key.chars().take(64).collect());
        let mut parts = key.split('-');
        let mut next = || parts.next().ok_or_else(bad);
        let major = next()?.parse().map_err(|_| bad())?;
        let arch = match next()? {
            "x86_64" => Arch::X86_64,
            "aarch64" => Arch::Aarch64,
            "pulley32" => Arch::Pulley32,
            _ => return Err(bad()),
        };
        let memory = match next()? {
            "guard4g" => MemoryProfile::Guard4g,
            "bounded" => MemoryProfile::Bounded,
            _ => return Err(bad()),
        };
        let revision = next()?.parse().map_err(|_| bad())?;
        let profile = Self { major, arch, memory, revision };
        // One spelling only: names of files are made of it.
        if profile.key() == key { Ok(profile) } else { Err(bad()) }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, arch, memory, revision } = self;
        write!(f, "{major}-{}-{}-{revision}", arch.name(), memory.name())
    }
}

impl From<Profile> for String {
    fn from(profile: Profile) -> Self {
        profile.key()
    }
}

impl TryFrom<String> for Profile {
    type Error = BadProfile;

    fn try_from(key: String) -> Result<Self, BadProfile> {
        Self::parse(&key)
    }
}

impl FromStr for Profile {
    type Err = BadProfile;

    fn from_str(key: &str) -> Result<Self, BadProfile> {
        Self::parse(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_what_it_prints() {
        for arch in [Arch::X86_64, Arch::Aarch64, Arch::Pulley32] {
            for memory in [MemoryProfile::Guard4g, MemoryProfile::Bounded] {
                let profile = Profile::current(arch, memory);
                assert_eq!(Profile::parse(&profile.key()), Ok(profile));
                let bytes = postcard::to_stdvec(&profile).unwrap();
                assert_eq!(bytes, postcard::to_stdvec(&profile.key()).unwrap());
                assert_eq!(postcard::from_bytes(&bytes), Ok(profile));
            }
        }
    }

    #[test]
    fn other_spellings_are_no_profiles() {
        for bad in [
            "",
            "48",
            "48-x86_64-guard4g",
            "048-x86_64-guard4g-1",
            "48-riscv64-bounded-1",
            "48-x86_64-guard4g-1-",
        ] {
            assert!(Profile::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_of_another_engine_are_readable_but_not_current() {
        let old = Profile::parse("47-x86_64-guard4g-1").unwrap();
        assert!(!old.is_current());
    }
}
