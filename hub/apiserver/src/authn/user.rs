//! A caller, as their authenticator knows them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::names::ClusterName;

use super::agent::Agent;

/// The group of all whom the hub knows.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of all others.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of all others.
pub const ANONYMOUS: &str = "system:anonymous";

/// Who answers for a caller: what all share is theirs to take, whatever the caller asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Home {
    /// The hub knows them: they are told apart by their names.
    #[default]
    Hub,
    /// A cluster knows them by something of its own, and says itself who they are.
    Cluster(ClusterName),
    /// Somebody runs as them.
    RunBy(Arc<User>),
}

/// A caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// By which they are known.
    pub name: String,
    /// Tells them from who had the name before; empty where nobody says so.
    pub uid: String,
    /// What they are members of: [`AUTHENTICATED`], and what was shown, or [`UNAUTHENTICATED`].
    pub groups: Vec<String>,
    /// What else their authenticator knows, by keys of its own.
    pub extra: BTreeMap<String, Vec<String>>,
    /// Who answers for them.
    pub home: Home,
    /// The last second in which they are known, since the Unix epoch; `None` for no end.
    pub until: Option<i64>,
    /// The agent of an add-on that they are, or that runs as them: they are known as long as that one is.
    pub agent: Option<Arc<Agent>>,
}

impl User {
    /// Nobody whom the hub knows.
    #[must_use]
    pub fn anonymous() -> Self {
        let groups = vec![UNAUTHENTICATED.to_owned()];
        Self { name: ANONYMOUS.to_owned(), groups, ..Self::default() }
    }

    /// Whether the hub does not know who that is.
    #[must_use]
    pub fn is_stranger(&self) -> bool {
        !self.is_in(AUTHENTICATED)
    }

    /// Whether nobody has shown who that is, as a request's caller is told by it and as a review may say it.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS || self.is_in(UNAUTHENTICATED)
    }

    /// Whether they are a member of this group.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// Whether what was shown has ended: whoever it was is a stranger again.
    #[must_use]
    pub fn has_ended(&self, now: i64) -> bool {
        self.until.is_some_and(|until| until < now)
    }

    /// After which time it will have ended.
    pub(crate) fn ends_in(&self, now: i64) -> Option<Duration> {
        let seconds = self.until?.saturating_add(1).saturating_sub(now);
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }
}
