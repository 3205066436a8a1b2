//! How much a pod may ask for: a level as of a version, and what is beyond it.

use std::fmt;

/// How much a pod may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All.
    Privileged,
    /// What is not known to lead out of a container.
    Baseline,
    /// What is the best practice.
    Restricted,
}

impl Level {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Privileged, Self::Baseline, Self::Restricted]
            .into_iter()
            .find(|level| level.as_str() == text)
    }
}

/// As of which version of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// 1.x
    Minor(u64),
    /// Whichever this is.
    Latest,
}

impl Version {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let plain = minor.bytes().all(|byte| byte.is_ascii_digit());
        let leads = minor.len() == 1 || !minor.starts_with('0');
        minor.parse::<u64>().ok().filter(|_| plain && leads).map(Self::Minor)
    }

    /// Whether what came with 1.x is in it.
    pub(super) fn has(self, minor: u64) -> bool {
        Self::Minor(minor) <= self
    }
}

/// A level as of a version: `restricted:latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    /// The level.
    pub level: Level,
    pub(super) version: Version,
}

impl fmt::Display for Standard {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Minor(minor) => write!(to, "{}:v1.{minor}", self.level.as_str()),
            Version::Latest => write!(to, "{}:latest", self.level.as_str()),
        }
    }
}

impl Standard {
    pub(super) const NONE: Self = Self { level: Level::Privileged, version: Version::Latest };

    /// Whether a pod that keeps to `other` may not keep to this one.
    #[must_use]
    pub fn asks_more_than(self, other: Self) -> bool {
        self != other
            && self.level != Level::Privileged
            && (self.version != other.version || other.level < self.level)
    }
}

/// One thing that a pod asks for and may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

/// All that a pod asks for beyond a standard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violations(pub(super) Vec<Violation>);

impl Violations {
    /// Whether it keeps to the standard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Without what of the pod brings them about.
    #[must_use]
    pub fn reasons(&self) -> String {
        self.0.iter().map(|one| one.reason).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Violation { reason, detail }) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(to, "{comma}{reason} ({detail})")?;
        }
        Ok(())
    }
}
