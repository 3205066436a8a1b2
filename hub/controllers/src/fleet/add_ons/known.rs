//! What is known of add-ons from the looks before, so that a change on one cluster costs that cluster and not a look at
//! all on which the add-on is.
//!
//! ```text
//! event ─▶ Touched ─take─▶ a look ─put─▶ Known, for the next one
//! ```
//!
//! It is a cache: of an add-on of which nothing is known, at the start and after a look that could not read what there is,
//! everything is looked at. Who reads takes what was touched before, so that nothing is missed that came meanwhile.
//!
//! Guarantees:
//! - what came while it was looked at is looked at next (`what_comes_meanwhile_is_looked_at_next`);
//! - who is not sure looks at everything (`who_knows_nothing_looks_at_everything`);
//! - an object that one cluster alone is set up by concerns that cluster (`what_one_cluster_names_concerns_that_cluster`);
//! - a cluster that comes concerns those that wait for it (`a_cluster_that_comes_concerns_those_that_wait_for_it`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use freewheel_hub_fleet::add_on::configs::{Config, Desired, Reference};
use freewheel_hub_fleet::rollout::Group;
use parking_lot::Mutex;

use super::progression::{Change, Instance};
use super::waits::Waits;

/// Texts that nobody has any more are kept up to so many beyond one per cluster.
const UNUSED_MAX: usize = 64;

/// What was touched of an add-on since it was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// All of it.
    pub everything: bool,
    /// Whom its placements choose.
    pub choice: bool,
    /// What it is on these clusters.
    pub clusters: BTreeSet<String>,
}

impl Touched {
    fn join(&mut self, other: Self) {
        self.everything |= other.everything;
        self.choice |= other.choice;
        self.clusters.extend(other.clusters);
    }
}

/// The add-on on one cluster.
pub(super) struct Member {
    /// What of it matters.
    pub instance: Instance,
    /// It is on its way out.
    pub deleting: bool,
    /// It goes with the add-on.
    pub is_owned: bool,
    /// What it was brought to since it was read.
    pub settled: Option<Change>,
}

/// One add-on.
#[derive(Default)]
pub(super) struct Known {
    /// Whom each placement chooses, by namespace and name.
    pub choices: BTreeMap<(String, String), Arc<[Group]>>,
    /// By cluster.
    pub members: BTreeMap<String, Member>,
    /// Where something could not be done.
    pub waits: Waits,
    /// Clusters by what their own are set up by.
    named: HashMap<Config, BTreeSet<String>>,
    own: HashSet<Arc<[Desired]>>,
    references: HashSet<Arc<[Reference]>>,
}

impl Known {
    /// What was read of it on a cluster; nothing, where it is not.
    pub fn put(&mut self, cluster: &str, member: Option<Member>) {
        if let Some(before) = self.members.remove(cluster) {
            for own in &*before.instance.own {
                if let Some(clusters) = self.named.get_mut(&own.config) {
                    clusters.remove(cluster);
                    if clusters.is_empty() {
                        self.named.remove(&own.config);
                    }
                }
            }
        }
        let Some(mut member) = member else { return };
        // Most are set up by the same.
        let most = self.members.len() + UNUSED_MAX;
        let instance = &mut member.instance;
        instance.own = shared(&mut self.own, &instance.own, most);
        instance.references = shared(&mut self.references, &instance.references, most);
        for own in &*instance.own {
            self.named.entry(own.config.clone()).or_default().insert(cluster.to_owned());
        }
        self.members.insert(cluster.to_owned(), member);
    }

    /// Clusters on which its own are set up by this.
    fn naming(&self, config: &Config) -> BTreeSet<String> {
        self.named.get(config).cloned().unwrap_or_default()
    }
}

fn shared<T: Eq + Hash>(all: &mut HashSet<Arc<[T]>>, one: &Arc<[T]>, most: usize) -> Arc<[T]> {
    if let Some(found) = all.get(&**one) {
        return found.clone();
    }
    if most < all.len() {
        all.retain(|it| 1 < Arc::strong_count(it));
    }
    all.insert(one.clone());
    one.clone()
}

/// An add-on that was looked at, or is at the moment.
#[derive(Default)]
struct Entry {
    touched: Touched,
    /// Nothing, while somebody looks, and after that has failed.
    known: Option<Known>,
}

/// All add-ons.
#[derive(Default)]
pub(super) struct KnownAddOns(Mutex<HashMap<String, Entry>>);

impl KnownAddOns {
    /// Something of an add-on is another now. One that nobody has looked at is looked at anyway.
    pub fn touch(&self, add_on: &str, touched: Touched) {
        if let Some(entry) = self.0.lock().get_mut(add_on) {
            entry.touched.join(touched);
        }
    }

    /// What is known, and what was touched since.
    pub fn take(&self, add_on: &str) -> (Known, Touched) {
        let mut all = self.0.lock();
        let entry = all.entry(add_on.to_owned()).or_default();
        let mut touched = std::mem::take(&mut entry.touched);
        touched.everything |= entry.known.is_none();
        (entry.known.take().unwrap_or_default(), touched)
    }

    /// What is known after a look, and what of that is still to be looked at.
    pub fn put(&self, add_on: &str, known: Known, left: Touched) {
        if let Some(entry) = self.0.lock().get_mut(add_on) {
            entry.known = Some(known);
            entry.touched.join(left);
        }
    }

    /// It is gone, or not looked after.
    pub fn forget(&self, add_on: &str) {
        self.0.lock().remove(add_on);
    }

    /// A cluster has come, or what it takes for add-ons; those that could not be brought there.
    pub fn touch_waiting(&self, cluster: &str) -> Vec<String> {
        let mut touched = Vec::new();
        for (add_on, entry) in self.0.lock().iter_mut() {
            if entry.known.as_ref().is_none_or(|known| known.waits.has(cluster)) {
                entry.touched.clusters.insert(cluster.to_owned());
                touched.push(add_on.clone());
            }
        }
        touched
    }

    /// An object is another now that add-ons may be set up by on clusters; which those are.
    pub fn touch_named(&self, config: &Config) -> Vec<String> {
        let mut touched = Vec::new();
        for (add_on, entry) in self.0.lock().iter_mut() {
            let clusters = match &entry.known {
                Some(known) => known.naming(config),
                None => {
                    entry.touched.everything = true;
                    touched.push(add_on.clone());
                    continue;
                }
            };
            if !clusters.is_empty() {
                entry.touched.clusters.extend(clusters);
                touched.push(add_on.clone());
            }
        }
        touched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str) -> Config {
        Config { resource: "c".into(), name: name.into(), ..Config::default() }
    }

    fn member(cluster: &str, own: &[&str]) -> Member {
        let own = own.iter().map(|name| Desired { config: config(name), hash: "1".into() });
        let instance = Instance {
            cluster: cluster.into(),
            own: own.collect(),
            references: Arc::default(),
            progress: (String::new(), None),
        };
        Member { instance, deleting: false, is_owned: true, settled: None }
    }

    fn clusters(all: &[&str]) -> Touched {
        let clusters = all.iter().map(|it| (*it).to_owned()).collect();
        Touched { clusters, ..Touched::default() }
    }

    #[test]
    fn who_knows_nothing_looks_at_everything() {
        let all = KnownAddOns::default();
        assert!(all.take("web").1.everything);
        // That look has failed: nothing was put.
        assert!(all.take("web").1.everything);
        all.put("web", Known::default(), Touched::default());
        assert_eq!(all.take("web").1, Touched::default());
        all.put("web", Known::default(), Touched::default());
        all.forget("web");
        assert!(all.take("web").1.everything);
    }

    #[test]
    fn what_comes_meanwhile_is_looked_at_next() {
        let all = KnownAddOns::default();
        let (known, _) = all.take("web");
        all.touch("web", clusters(&["pi-1"]));
        all.touch("other", clusters(&["pi-1"]));
        all.put("web", known, clusters(&["pi-2"]));
        let (_, touched) = all.take("web");
        assert_eq!(touched, clusters(&["pi-1", "pi-2"]));
    }

    #[test]
    fn what_one_cluster_names_concerns_that_cluster() {
        let all = KnownAddOns::default();
        let (mut known, _) = all.take("web");
        known.put("pi-1", Some(member("pi-1", &["a", "b"])));
        known.put("pi-2", Some(member("pi-2", &["b"])));
        known.put("pi-3", Some(member("pi-3", &[])));
        known.put("pi-1", Some(member("pi-1", &["a"])));
        all.put("web", known, Touched::default());
        assert_eq!(all.touch_named(&config("b")), ["web"]);
        let (known, touched) = all.take("web");
        assert_eq!(touched, clusters(&["pi-2"]));
        // While somebody looks, nobody knows whom it concerns.
        assert_eq!(all.touch_named(&config("a")), ["web"]);
        all.put("web", known, Touched::default());
        assert!(all.take("web").1.everything);
    }

    #[test]
    fn a_cluster_that_comes_concerns_those_that_wait_for_it() {
        let all = KnownAddOns::default();
        for add_on in ["web", "other"] {
            let (mut known, _) = all.take(add_on);
            if add_on == "web" {
                known.waits.put_off("pi-1", tokio::time::Instant::now());
            }
            all.put(add_on, known, Touched::default());
        }
        assert!(all.touch_waiting("pi-2").is_empty());
        assert_eq!(all.touch_waiting("pi-1"), ["web"]);
        let (known, touched) = all.take("web");
        assert_eq!(touched, clusters(&["pi-1"]));
        // While somebody looks, nobody knows who waits.
        assert_eq!(all.touch_waiting("pi-2"), ["web"]);
        all.put("web", known, Touched::default());
        assert_eq!(all.take("web").1, clusters(&["pi-2"]));
    }

    #[test]
    fn what_is_the_same_is_kept_once() {
        let mut known = Known::default();
        for cluster in ["pi-1", "pi-2"] {
            known.put(cluster, Some(member(cluster, &["a"])));
        }
        let own = |cluster: &str| known.members[cluster].instance.own.clone();
        assert!(Arc::ptr_eq(&own("pi-1"), &own("pi-2")));
    }
}
