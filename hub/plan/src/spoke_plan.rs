//! The plan of one spoke, kept up to date by what changes.
//!
//! ```text
//! pod changed ─▶ its record ─┬─▶ own records, each counted once
//!                            └─▶ the configuration that it names: read when the first pod names it, and when it
//!                                changes, out when the last one is gone
//! Services ──────────────────────▶ shared with others; which of them, follows from where it has pods
//! ```
//!
//! Guarantees:
//! - what it comes to is what the whole plan made anew would be (`what_is_kept_is_what_would_be_made_anew`);
//! - nothing that is written into a pod that runs takes it from its device (`a_pod_that_runs_stays_whatever_is_written_into_it`);
//! - what changes costs what it concerns: pods that come one after the other are translated once each
//!   (`pods_that_come_one_by_one_are_read_once_each`);
//! - a plan that does not fit is cut as the whole one is (`a_plan_that_does_not_fit_is_cut_until_it_fits_again`), of the
//!   records that there are (`what_does_not_fit_costs_no_translation_at_each_look`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_hub_api::images::Images;
use freewheel_hub_schema::object::Key;
use freewheel_link::digest::SetDigest;
use freewheel_link::limits;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Kind, PodV1, Record, RecordKey};
use freewheel_link::record_set::Members;

use crate::config::key as config_key;
use crate::fit::{self, Held, Member};
use crate::node::{NodeSettings, node_record, pod_cidr_record};
use crate::pod::{Stay, config_of, left_out, planned};
use crate::refused::Refused;
use crate::room::Room;
use crate::services::{Scope, ServiceSet};
use crate::source::Source;
use crate::spoke_set::{Own, SharedServices, SpokeMembers, SpokeSet};
use crate::tokens::TokensAsked;
use crate::versioned::VersionedSet;

/// What has changed of what a spoke's own records are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Nobody knows: all of it is looked at.
    pub everything: bool,
    /// What images stand for.
    pub images: bool,
    /// Pods that are bound to it, or were.
    pub pods: BTreeSet<Key>,
    /// ConfigMaps, Secrets and tokens, by the keys of their records.
    pub config: BTreeSet<RecordKey>,
}

/// A pod that is bound to the spoke.
#[derive(Debug, Default)]
struct Planned {
    /// None, where no record can be made of it.
    record: Option<RecordKey>,
    /// The configuration that it names.
    config: Box<[RecordKey]>,
    /// For how long it has been there, and the revision that created it.
    stay: Stay,
    created: u64,
}

/// What one spoke is to hold, and what it was made of.
#[derive(Debug)]
pub struct SpokePlan {
    spoke: ClusterName,
    settings: NodeSettings,
    pods: BTreeMap<Key, Planned>,
    /// Configuration, and how many pods name it.
    config: BTreeMap<RecordKey, usize>,
    /// The tokens that pods ask for, by their records.
    tokens: BTreeMap<RecordKey, TokensAsked>,
    /// Ranges of addresses in the root and in its own realm, with the revisions of their leases.
    ranges: [Vec<(String, u64)>; 2],
    own: VersionedSet,
    /// By what it is about: a pod by its name here, not by its UID.
    refused: BTreeMap<RecordKey, Refused>,
    /// What the spoke was told last, but for the Services that it shares with others.
    announced: VersionedSet,
    /// What it had when its session began, until it is told anything.
    had: Members,
    /// Counts what changes of pods beside their records.
    stays: u64,
    /// What the last plan was cut to that did not fit.
    cut: Option<Cut>,
    /// ConfigMaps and Secrets that are named now and were not, or the other way round.
    renamed: BTreeSet<RecordKey>,
}

/// What is left of a plan that does not fit, and of what it was made.
#[derive(Debug)]
struct Cut {
    of: CutOf,
    left: VersionedSet,
    refused: Vec<Refused>,
}

/// All that decides what is left of a plan.
#[derive(Debug, PartialEq, Eq)]
struct CutOf {
    own: u64,
    shared: [(Scope, u64); 2],
    held: SetDigest,
    stays: u64,
}

impl SpokePlan {
    /// Before anything was looked at.
    #[must_use]
    pub fn new(spoke: &ClusterName, settings: NodeSettings) -> Self {
        let mut plan = Self {
            spoke: spoke.clone(),
            settings,
            pods: BTreeMap::new(),
            config: BTreeMap::new(),
            tokens: BTreeMap::new(),
            ranges: [Vec::new(), Vec::new()],
            own: VersionedSet::default(),
            refused: BTreeMap::new(),
            announced: VersionedSet::default(),
            had: Members::default(),
            stays: 0,
            cut: None,
            renamed: BTreeSet::new(),
        };
        let about =
            RecordKey { realm: ClusterName::root(), kind: Kind::NODE_V1, key: "node".to_owned() };
        plan.put(about, node_record(spoke, &plan.settings));
        plan
    }

    /// The same for a spoke that has this already, from a session before.
    #[must_use]
    pub fn after(self, held: &SpokeMembers) -> Self {
        Self { had: held.own(), ..self }
    }

    /// Takes in what has changed, as it is in `source`.
    pub fn update(&mut self, changes: &Changes, source: &dyn Source, images: &dyn Images) {
        let realms = [ClusterName::root(), self.spoke.clone()];
        let mut pods = changes.pods.clone();
        if changes.everything || changes.images {
            pods.extend(self.pods.keys().cloned());
        }
        if changes.everything {
            pods.extend(realms.iter().flat_map(|realm| source.bound(realm, self.spoke.as_str())));
        }
        let mut config = changes.config.clone();
        if changes.everything {
            config.extend(self.config.keys().cloned());
        }
        for key in &pods {
            config.extend(self.look_at_pod(key, source, images));
        }
        for key in config.iter().filter(|key| self.config.contains_key(key)) {
            if key.kind == Kind::POD_TOKENS_V1 {
                look_at_tokens(self.tokens.get(key), key, source, &mut self.own);
            } else {
                look_at_config(key, source, &mut self.own, &mut self.refused);
            }
        }
        for (realm, at) in realms.iter().zip(0..) {
            self.look_at_ranges(realm, at, source);
        }
    }

    /// Answers which configuration nobody has named before.
    fn look_at_pod(
        &mut self,
        key: &Key,
        source: &dyn Source,
        images: &dyn Images,
    ) -> Vec<RecordKey> {
        let before = self.pods.remove(key).unwrap_or_default();
        let about = RecordKey {
            realm: key.cluster.clone(),
            kind: Kind::POD_V1,
            key: format!("{}/{}", key.namespace, key.name),
        };
        self.refused.remove(&about);
        let found = source.pod(key, self.spoke.as_str());
        let left = found.as_ref().and_then(|found| left_out(&key.cluster, found));
        let created = found.as_ref().map_or(0, |found| found.created);
        let made = found.map(|found| planned(&key.cluster, &found, images));
        let mut now = Planned::default();
        let (there, mut others) = (made.is_some(), None);
        match made {
            Some(Ok((record, pod, stay))) => {
                let named = config_of(&pod).into_iter();
                let named =
                    named.map(|(kind, space, name)| config_key(&key.cluster, kind, &space, &name));
                let config = named.collect();
                now = Planned { record: Some(record.key.clone()), config, stay, created };
                others = self.ask(&key.cluster, &pod);
                self.own.put(Arc::new(record.into()));
                self.refused.extend(left.map(|left| (about, left)));
            }
            Some(Err(refused)) => drop(self.refused.insert(about, refused)),
            None => {}
        }
        if (&now.stay, now.created) != (&before.stay, before.created) {
            self.stays += 1;
        }
        // Another pod of that name has another key.
        if let Some(old) = before.record.filter(|old| now.record.as_ref() != Some(old)) {
            self.own.remove(&old);
        }
        let mut fresh = self.count_config(&now.config, &before.config);
        fresh.extend(others);
        if there {
            self.pods.insert(key.clone(), now);
        }
        fresh
    }

    /// A pod names this configuration, and no longer that. Answers what nobody has named before.
    fn count_config(&mut self, now: &[RecordKey], before: &[RecordKey]) -> Vec<RecordKey> {
        let mut fresh = Vec::new();
        for named in now {
            let count = self.config.entry(named.clone()).or_default();
            *count += 1;
            if *count == 1 {
                fresh.push(named.clone());
                self.renamed.insert(named.clone());
            }
        }
        for named in before {
            let Some(count) = self.config.get_mut(named) else { continue };
            *count -= 1;
            if *count == 0 {
                self.config.remove(named);
                self.renamed.insert(named.clone());
                self.tokens.remove(named);
                self.own.remove(named);
                self.refused.remove(named);
            }
        }
        fresh
    }

    /// Notes which tokens a pod asks for; answers where they are when it asks for others than before.
    fn ask(&mut self, realm: &ClusterName, pod: &PodV1) -> Option<RecordKey> {
        let key = config_key(realm, Kind::POD_TOKENS_V1, &pod.namespace, &pod.uid);
        let asked = TokensAsked::of(realm, pod);
        let before = match asked.clone() {
            Some(asked) => self.tokens.insert(key.clone(), asked),
            None => self.tokens.remove(&key),
        };
        (before != asked).then_some(key)
    }

    /// ConfigMaps and Secrets, by the keys of their records, that its pods have begun to name since this was last
    /// asked, and those that they name no more.
    pub fn take_renamed(&mut self) -> (Vec<RecordKey>, Vec<RecordKey>) {
        let renamed = std::mem::take(&mut self.renamed).into_iter();
        let config = renamed.filter(|key| key.kind != Kind::POD_TOKENS_V1);
        config.partition(|key| self.config.contains_key(key))
    }

    /// The records of tokens that its pods ask for.
    #[must_use]
    pub fn tokens(&self) -> &BTreeMap<RecordKey, TokensAsked> {
        &self.tokens
    }

    fn look_at_ranges(&mut self, realm: &ClusterName, at: usize, source: &dyn Source) {
        let new = source.pod_cidrs(realm, self.spoke.as_str());
        let Some(known) = self.ranges.get_mut(at).filter(|known| **known != new) else { return };
        let old = std::mem::replace(known, new.clone());
        let about = |base: &str| RecordKey {
            realm: realm.clone(),
            kind: Kind::POD_CIDR_V1,
            key: base.to_owned(),
        };
        for (base, revision) in &old {
            self.refused.remove(&about(base));
            if let Ok(record) = pod_cidr_record(realm, base, *revision)
                && !new.iter().any(|(name, _)| name == base)
            {
                self.own.remove(&record.key);
            }
        }
        for (base, revision) in new {
            self.put(about(&base), pod_cidr_record(realm, &base, revision));
        }
    }

    fn put(&mut self, about: RecordKey, made: Result<Record, Refused>) {
        put(&mut self.own, &mut self.refused, about, made);
    }

    /// What the spoke is to hold together with these Services, of the root and of its own cluster; and what had to be
    /// left out.
    #[must_use]
    pub fn set(&mut self, services: [Arc<ServiceSet>; 2]) -> (SpokeSet, Vec<Refused>) {
        let [root, realm] = services;
        let services = [(root, &ClusterName::root()), (realm, &self.spoke)]
            .map(|(services, realm)| SharedServices { services, scope: self.scope(realm) });
        let set = SpokeSet { own: Own::Kept(self.own.clone()), shared: services };
        let shared = set.shared.iter().flat_map(|one| one.services.refused(one.scope));
        let mut refused: Vec<Refused> = self.refused.values().chain(shared).cloned().collect();
        let set = if fits(&set) {
            self.cut = None;
            set
        } else {
            let (set, left_out) = self.cut(set);
            refused.extend(left_out);
            set
        };
        self.announced = set.own.set().clone();
        self.had = Members::default();
        (set, refused)
    }

    /// Who has pods in a realm, whatever becomes of them, is told of all its Services.
    fn scope(&self, realm: &ClusterName) -> Scope {
        // There are two realms at most, and the pods of one stand together.
        let ends = [self.pods.first_key_value(), self.pods.last_key_value()];
        let some = ends.into_iter().flatten().any(|(key, _)| key.cluster == *realm);
        if some { Scope::All } else { Scope::NodePorts }
    }

    /// What is left of more than a spoke can hold, made anew when something has changed of what decides that.
    fn cut(&mut self, set: SpokeSet) -> (SpokeSet, Vec<Refused>) {
        let of = CutOf {
            own: self.own.version(),
            shared: set.shared.each_ref().map(|one| (one.scope, one.set().version())),
            held: self.announced.digest(),
            stays: self.stays,
        };
        let known = self.cut.take().filter(|cut| cut.of == of);
        let cut = known.unwrap_or_else(|| {
            let records = set.sealed().map(|record| (record.key.clone(), record.clone())).collect();
            let (room, members) = (limits::PLAN_BYTES_MAX, self.members());
            let (left, refused) = fit::fit(records, members, &self.spoke, self.held(), room);
            Cut { of, left: left.into_values().collect(), refused }
        });
        let shared =
            set.shared.map(|services| SharedServices { scope: Scope::Nothing, ..services });
        let set = SpokeSet { own: Own::Cut(cut.left.clone()), shared };
        let refused = cut.refused.clone();
        self.cut = Some(cut);
        (set, refused)
    }

    fn held(&self) -> Held<'_> {
        Held { announced: &self.announced, had: &self.had }
    }

    fn members(&self) -> Vec<Member> {
        let member = |(key, pod): (&Key, &Planned)| {
            let own = pod.record.clone()?;
            Some(Member {
                realm: key.cluster.clone(),
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                age: (pod.stay.since.clone(), pod.created),
                there: pod.stay.started || self.held().has(&own),
                own,
                config: pod.config.clone(),
            })
        };
        self.pods.iter().filter_map(member).collect()
    }
}

/// Whether a spoke can hold all of it, each realm's within its bounds.
fn fits(set: &SpokeSet) -> bool {
    let room = Room::new(limits::PLAN_BYTES_MAX);
    // Counting is work, and who has little has not too much of anything.
    set.weight() <= room.least() || room.holds(set.records())
}

fn put(
    own: &mut VersionedSet,
    refused: &mut BTreeMap<RecordKey, Refused>,
    about: RecordKey,
    made: Result<Record, Refused>,
) {
    match made {
        Ok(record) => {
            refused.remove(&about);
            own.put(Arc::new(record.into()));
        }
        Err(why) => drop(refused.insert(about, why)),
    }
}

/// What is not there yet is the spoke's to report: only it knows which container waits.
fn look_at_config(
    key: &RecordKey,
    source: &dyn Source,
    own: &mut VersionedSet,
    refused: &mut BTreeMap<RecordKey, Refused>,
) {
    match source.config_record(key) {
        Some(Ok(record)) => {
            refused.remove(key);
            own.put(record);
        }
        Some(Err(why)) => {
            own.remove(key);
            refused.insert(key.clone(), why);
        }
        None => {
            own.remove(key);
            refused.remove(key);
        }
    }
}

/// What is not signed yet, the spoke's pod waits for.
fn look_at_tokens(
    asked: Option<&TokensAsked>,
    key: &RecordKey,
    source: &dyn Source,
    own: &mut VersionedSet,
) {
    if let Some(record) = asked.and_then(|asked| source.tokens(asked)) {
        own.put(Arc::new(record.into()));
    } else {
        own.remove(key);
    }
}

#[cfg(test)]
#[path = "spoke_plan_tests.rs"]
mod tests;
