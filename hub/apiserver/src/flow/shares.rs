//! Who holds how much of something that clusters share, and in each of them its users.
//!
//! A share is not a number: nobody who holds something holds more than [`FREE_SHARE_FACTOR`] times what is free then. Who is
//! alone gets three quarters; the more there are, the less each of them takes, and there is always something for who
//! comes next. Nobody has to be counted, and nobody's share has to be taken away.
//!
//! A cluster says itself who its users are, and has as many as it likes, so first of all each cluster has a share, and
//! its users have theirs of that. In the root the hub's own people are told apart: each of them counts as a cluster does.
//! Which of both somebody is, who knows them says ([`Home`]), and not what they ask for: somebody of the root has one
//! share, in however many clusters they look.
//!
//! Guarantees:
//! - no cluster, and nobody in the root, holds more than three quarters, however many users it has
//!   (`no_cluster_takes_what_is_left_for_others`);
//! - no user of a cluster takes what is left for its others (`no_user_takes_their_cluster_s_share`);
//! - nobody has another share for each cluster that they ask for, or for each whom they run as
//!   (`a_share_is_that_of_who_answers_for_it`, `who_names_many_clusters_has_one_share_of_all`);
//! - who holds nothing gets whatever fits in what is free (`no_cluster_takes_what_is_left_for_others`).

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::Principal;

use crate::authn::{Home, User};
use crate::authz;

/// Who holds something holds at most so many times what is free.
pub(crate) const FREE_SHARE_FACTOR: usize = 3;

/// Who asks for a share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sharer<'a> {
    /// `None` for the root.
    cluster: Option<&'a str>,
    /// Empty for all users of the cluster together.
    user: &'a str,
}

/// Whose a share is: a cluster's, or a user's of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    /// Empty for the root.
    cluster: Arc<str>,
    /// Empty for all of them together.
    user: Arc<str>,
}

impl Name {
    /// Whether it is beneath no other.
    fn is_first(&self) -> bool {
        self.cluster.is_empty() || self.user.is_empty()
    }
}

/// Who holds a share.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    first: Name,
    /// In that; `None` where the first is all there is to tell.
    own: Option<Name>,
}

/// So much of something, and who holds how much of it.
#[derive(Debug)]
pub(crate) struct Shares {
    free: usize,
    held: BTreeMap<Name, usize>,
}

impl<'a> Sharer<'a> {
    /// A user of a cluster.
    pub(crate) fn of(cluster: &'a ClusterName, user: &'a str) -> Self {
        Self { cluster: (!cluster.is_root()).then_some(cluster.as_str()), user }
    }

    /// All that are of their cluster together, or of the root.
    pub(crate) const fn together(self) -> Self {
        Self { user: "", ..self }
    }

    /// Whether it is somebody of the root.
    pub(crate) const fn is_of_root(self) -> bool {
        self.cluster.is_none()
    }

    /// A user of the root.
    pub(crate) const fn in_root(user: &'a str) -> Self {
        Self { cluster: None, user }
    }

    /// The same on the links to devices.
    pub(crate) fn principal(self) -> Principal {
        let home = self.home();
        if home.is_root() {
            Principal::Root(self.user.into())
        } else {
            Principal::Cluster(home, self.user.into())
        }
    }

    /// The cluster that knows them, or the root.
    pub(crate) fn home(self) -> ClusterName {
        let named = self.cluster.and_then(|cluster| ClusterName::try_from(cluster).ok());
        named.unwrap_or_else(ClusterName::root)
    }

    /// What all ask for is nobody's.
    pub(crate) const fn everybody() -> Self {
        Self::in_root("")
    }
}

impl<'a> From<&'a User> for Sharer<'a> {
    fn from(user: &'a User) -> Self {
        match &user.home {
            Home::RunBy(caller) => Self::from(&**caller),
            Home::Cluster(cluster) => Self::of(cluster, &user.name),
            Home::Hub => Self { cluster: authz::home(user), user: &user.name },
        }
    }
}

impl From<Sharer<'_>> for Holder {
    fn from(Sharer { cluster, user }: Sharer<'_>) -> Self {
        let name =
            |user: &str| Name { cluster: cluster.unwrap_or_default().into(), user: user.into() };
        match cluster {
            Some(_) if !user.is_empty() => Self { first: name(""), own: Some(name(user)) },
            Some(_) | None => Self { first: name(user), own: None },
        }
    }
}

impl Holder {
    /// The user's name, empty for nobody in particular.
    pub(crate) fn user(&self) -> &Arc<str> {
        &self.own.as_ref().unwrap_or(&self.first).user
    }

    fn names(&self) -> impl Iterator<Item = &Name> {
        std::iter::once(&self.first).chain(&self.own)
    }
}

/// Whether one who holds so much may have so much more of what is free.
const fn may_have(held: usize, units: usize, free: usize) -> bool {
    match free.checked_sub(units) {
        None => false,
        Some(left) => held == 0 || held + units <= FREE_SHARE_FACTOR * left,
    }
}

impl Shares {
    /// So much, which nobody holds.
    pub(crate) const fn of(free: usize) -> Self {
        Self { free, held: BTreeMap::new() }
    }

    fn held(&self, name: &Name) -> usize {
        self.held.get(name).copied().unwrap_or_default()
    }

    /// How much whoever has this share holds, first of all of them and then themselves.
    pub(crate) fn held_by(&self, holder: &Holder) -> (usize, usize) {
        let first = self.held(&holder.first);
        (first, holder.own.as_ref().map_or(first, |own| self.held(own)))
    }

    /// How much whoever holds most has.
    pub(crate) fn most(&self) -> usize {
        let first = self.held.iter().filter(|(name, _)| name.is_first());
        first.map(|(_, held)| *held).max().unwrap_or_default()
    }

    /// Whether they may have so much more.
    pub(crate) fn fits(&self, holder: &Holder, units: usize) -> bool {
        let (of_all, own) = self.held_by(holder);
        // Of what is free, a cluster that holds something may have so much.
        let of_cluster =
            (FREE_SHARE_FACTOR * self.free).saturating_sub(of_all) / (FREE_SHARE_FACTOR + 1);
        may_have(of_all, units, self.free)
            && (holder.own.is_none() || of_all == 0 || may_have(own, units, of_cluster))
    }

    pub(crate) fn take(&mut self, holder: &Holder, units: usize) {
        self.free = self.free.saturating_sub(units);
        for name in holder.names() {
            *self.held.entry(name.clone()).or_default() += units;
        }
    }

    pub(crate) fn give_back(&mut self, holder: &Holder, units: usize) {
        self.free += units;
        for name in holder.names() {
            if let Some(held) = self.held.get_mut(name) {
                *held = held.saturating_sub(units);
                if *held == 0 {
                    self.held.remove(name);
                }
            }
        }
    }

    /// What nobody holds.
    #[cfg(test)]
    pub(crate) const fn free(&self) -> usize {
        self.free
    }

    /// Whether nobody holds anything.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one after the other for as long as they may have one more.
    fn take_all(shares: &mut Shares, cluster: &str, user: &str) -> usize {
        let cluster = ClusterName::try_from(cluster).unwrap();
        let holder = Holder::from(Sharer::of(&cluster, user));
        let mut taken = 0;
        while shares.fits(&holder, 1) {
            shares.take(&holder, 1);
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_share_is_that_of_who_answers_for_it() {
        let named = |name: &str, home| User { name: name.to_owned(), home, ..User::default() };
        let pi = || Home::Cluster(ClusterName::try_from("pi-7").unwrap());
        let confined = format!("{}pi-7:0123", authz::CONFINED);
        let site = User { groups: vec![confined], ..named("site", Home::Hub) };
        let run_by = |caller: &User| Home::RunBy(Arc::new(caller.clone()));
        let in_root = Home::Cluster(ClusterName::root());
        for (user, cluster, name) in [
            (named("ann", Home::Hub), None, "ann"),
            (named("robot", pi()), Some("pi-7"), "robot"),
            (named("robot", in_root), None, "robot"),
            (named("other", run_by(&site)), Some("pi-7"), "site"),
            (named("other", run_by(&named("ann", Home::Hub))), None, "ann"),
            (site, Some("pi-7"), "site"),
        ] {
            let sharer = Sharer::from(&user);
            assert_eq!((sharer.cluster, sharer.user), (cluster, name), "{user:?}");
            let principal = match cluster {
                Some(cluster) => {
                    Principal::Cluster(ClusterName::try_from(cluster).unwrap(), name.into())
                }
                None => Principal::Root(name.into()),
            };
            assert_eq!(sharer.principal(), principal, "{user:?}");
        }
    }

    #[test]
    fn no_cluster_takes_what_is_left_for_others() {
        let mut shares = Shares::of(1_024);
        let all = (0..50).map(|at| take_all(&mut shares, "pi-7", &format!("user-{at}")));
        assert_eq!(all.sum::<usize>(), 768);
        assert_eq!(take_all(&mut shares, "root", "ann"), 192, "of what is left");
        assert_eq!(take_all(&mut shares, "root", "user-0"), 48, "whatever the others are called");
        let cluster = ClusterName::try_from("pi-8").unwrap();
        let third = Holder::from(Sharer::of(&cluster, "carl"));
        assert!(shares.fits(&third, 16) && !shares.fits(&third, 17));
    }

    #[test]
    fn no_user_takes_their_cluster_s_share() {
        let mut shares = Shares::of(1_024);
        assert_eq!(take_all(&mut shares, "pi-7", "greedy"), 576);
        assert_eq!(take_all(&mut shares, "pi-7", "second"), 144);
        assert_eq!(take_all(&mut shares, "pi-7", "third"), 36);
        assert_eq!(shares.free(), 1_024 - 756);
        let cluster = ClusterName::try_from("pi-7").unwrap();
        let greedy = Holder::from(Sharer::of(&cluster, "greedy"));
        shares.give_back(&greedy, 576);
        assert_eq!(take_all(&mut shares, "pi-7", "greedy"), 441);
        for (user, units) in [("greedy", 441), ("second", 144), ("third", 36)] {
            shares.give_back(&Holder::from(Sharer::of(&cluster, user)), units);
        }
        assert!(shares.is_idle() && shares.free() == 1_024);
    }
}
