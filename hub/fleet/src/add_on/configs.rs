//! Objects that an add-on is set up by, each with the digest of what it says, and how far a cluster is with them.
//!
//! Guarantees:
//! - who names an object of a kind names all of that kind (`who_names_a_kind_names_all_of_it`);
//! - a cluster is done when what is there is what is wanted, by every digest
//!   (`a_cluster_is_done_when_all_it_was_given_is_there`);
//! - what is kept of a reference is kept in its place (`references_keep_what_was_applied`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::rollout::{Progress, Stage};

/// Stands for no default in a version of the API.
const NO_DEFAULT: &str = "__reserved_no_default__";

/// Names an object that an add-on is set up by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Config {
    /// API group.
    pub group: String,
    /// Plural.
    pub resource: String,
    /// Empty for what lives in no namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// One with the digest of what it says; empty, when it is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Desired {
    /// Which.
    pub config: Config,
    /// The digest.
    pub hash: String,
}

/// What a cluster was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reference {
    /// What is wanted there.
    pub desired: Desired,
    /// What is there.
    pub applied: Option<Desired>,
}

/// All that an add-on is set up by somewhere, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configs(BTreeMap<(String, String), Vec<Desired>>);

impl Config {
    /// From `{group, resource, namespace, name}`. Nothing, when it names no object.
    #[must_use]
    pub fn read(value: &Value) -> Option<Self> {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let name = text("name");
        let is_named = !name.is_empty() && name != NO_DEFAULT;
        let (group, resource, namespace) = (text("group"), text("resource"), text("namespace"));
        is_named.then_some(Self { group, resource, namespace, name })
    }

    /// The default of a kind that an add-on supports: `{group, resource, defaultConfig}`.
    #[must_use]
    pub fn default_of(supported: &Value) -> Option<Self> {
        let mut flat = supported["defaultConfig"].clone();
        flat.as_object()?;
        flat["group"] = supported["group"].clone();
        flat["resource"] = supported["resource"].clone();
        Self::read(&flat)
    }

    /// Whether it is of this kind.
    #[must_use]
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource
    }

    fn kind(&self) -> (String, String) {
        (self.group.clone(), self.resource.clone())
    }

    /// As a work's annotation names it: `addontemplates.addon.open-cluster-management.io//web`.
    #[must_use]
    pub fn text(&self) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        let Self { group, resource, namespace, name } = self;
        format!("{resource}{dot}{group}/{namespace}/{name}")
    }
}

impl Desired {
    /// `desiredConfig`, `lastAppliedConfig` of a reference.
    fn read(reference: &Value, field: &str) -> Option<Self> {
        let mut flat = reference[field].clone();
        flat.as_object()?;
        let hash = flat["specHash"].as_str().unwrap_or_default().to_owned();
        flat["group"] = reference["group"].clone();
        flat["resource"] = reference["resource"].clone();
        Config::read(&flat).map(|config| Self { config, hash })
    }

    /// `{namespace, name, specHash}`
    #[must_use]
    pub fn to_status(&self) -> Value {
        let mut reference = json!({"name": self.config.name, "specHash": self.hash});
        if !self.config.namespace.is_empty() {
            reference["namespace"] = json!(self.config.namespace);
        }
        reference
    }

    /// A reference to it that says nothing else.
    #[must_use]
    pub fn reference(&self) -> Value {
        let Config { group, resource, .. } = &self.config;
        json!({"group": group, "resource": resource, "desiredConfig": self.to_status()})
    }
}

impl Reference {
    /// An item of `status.configReferences`.
    #[must_use]
    pub fn read(item: &Value) -> Option<Self> {
        let applied = Desired::read(item, "lastAppliedConfig");
        Some(Self { desired: Desired::read(item, "desiredConfig")?, applied })
    }

    /// All of `status.configReferences`.
    #[must_use]
    pub fn all(list: &Value) -> Vec<Self> {
        list.as_array().into_iter().flatten().filter_map(Self::read).collect()
    }
}

impl Configs {
    /// Of these, of which each is named once.
    #[must_use]
    pub fn of(all: impl IntoIterator<Item = Desired>) -> Self {
        let mut out = Self::default();
        for one in all {
            let of_kind = out.0.entry(one.config.kind()).or_default();
            if of_kind.iter().all(|it| it.config != one.config) {
                of_kind.push(one);
            }
        }
        out
    }

    /// With these in place of all that there were of their kinds.
    #[must_use]
    pub fn overridden_by(&self, by: impl IntoIterator<Item = Desired>) -> Self {
        let mut out = self.clone();
        out.0.extend(Self::of(by).0);
        out
    }

    /// All of them, by group and resource.
    pub fn iter(&self) -> impl Iterator<Item = &Desired> {
        self.0.values().flatten()
    }

    /// The one that names this object.
    #[must_use]
    pub fn find(&self, config: &Config) -> Option<&Desired> {
        self.iter().find(|it| it.config == *config)
    }

    /// Whether both are the same but for kinds of which somebody names his own.
    #[must_use]
    pub fn is_same_but_for(&self, other: &Self, own: &[Config]) -> bool {
        let own: BTreeSet<_> = own.iter().map(Config::kind).collect();
        let rest = |all: &Self| -> Vec<Desired> {
            all.iter().filter(|it| !own.contains(&it.config.kind())).cloned().collect()
        };
        rest(self) == rest(other)
    }

    /// How far a cluster is that has these references, and says this reason of its progress since then.
    #[must_use]
    pub fn progress(
        &self,
        references: &[Reference],
        reason: &str,
        since: Option<Timestamp>,
    ) -> Progress {
        let to_apply = Progress { stage: Stage::ToApply, since: None };
        if references.len() != self.iter().count() {
            return to_apply;
        }
        for reference in references {
            if self.find(&reference.desired.config) != Some(&reference.desired) {
                return to_apply;
            }
            if reference.applied.as_ref() != Some(&reference.desired) {
                return match reason {
                    "Failed" => Progress { stage: Stage::Failed, since },
                    "Progressing" => Progress { stage: Stage::Progressing, since },
                    _ => Progress { stage: Stage::Progressing, since: None },
                };
            }
        }
        let since = since.filter(|_| reason == "Completed");
        Progress { stage: Stage::Succeeded, since }
    }

    /// `status.configReferences` that these come to, from those that are there.
    #[must_use]
    pub fn references(&self, there: &Value) -> Vec<Value> {
        let there = || there.as_array().into_iter().flatten();
        let named = |item: &Value| Reference::read(item).map(|it| it.desired.config);
        let mut out = Vec::new();
        for of_kind in self.0.values() {
            let of = |item: &&Value| {
                named(item).is_some_and(|config| of_kind.iter().any(|it| it.config == config))
            };
            let kept: Vec<&Value> = there().filter(of).collect();
            let is_new =
                |one: &&Desired| kept.iter().all(|item| named(item).as_ref() != Some(&one.config));
            let new = of_kind.iter().filter(is_new);
            let new: Vec<Value> = new.map(|one| one.reference()).collect();
            for item in kept.into_iter().chain(&new) {
                let wanted = named(item).and_then(|config| self.find(&config).cloned());
                out.extend(wanted.map(|wanted| with_desired(item, &wanted)));
            }
        }
        out
    }
}

/// A reference of a cluster that wants this.
fn with_desired(item: &Value, wanted: &Desired) -> Value {
    let mut item = item.clone();
    item["desiredConfig"] = wanted.to_status();
    // As the older form has it, once more.
    item["name"] = json!(wanted.config.name);
    if !wanted.config.namespace.is_empty() {
        item["namespace"] = json!(wanted.config.namespace);
    }
    if item["lastObservedGeneration"].is_null() {
        item["lastObservedGeneration"] = json!(0);
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(resource: &str, name: &str, hash: &str) -> Desired {
        let config = Config { resource: resource.into(), name: name.into(), ..Config::default() };
        Desired { config, hash: hash.into() }
    }

    #[test]
    fn who_names_a_kind_names_all_of_it() {
        let defaults = Configs::of([one("a", "1", "x"), one("a", "2", "x"), one("b", "1", "y")]);
        let own = defaults.overridden_by([one("a", "3", "z"), one("a", "3", "z")]);
        let names: Vec<_> = own.iter().map(|it| (&*it.config.resource, &*it.config.name)).collect();
        assert_eq!(names, [("a", "3"), ("b", "1")]);
        assert!(own.is_same_but_for(&defaults, &[one("a", "3", "").config]));
        assert!(!own.is_same_but_for(&defaults, &[]));
        let other = Configs::of([one("a", "3", "z"), one("b", "1", "new")]);
        assert!(!own.is_same_but_for(&other, &[one("a", "3", "").config]));
        assert_eq!(one("a", "n", "").config.text(), "a//n");
        assert_eq!(Config::default_of(&json!({"group": "g", "resource": "r"})), None);
        let supported = json!({"group": "g", "resource": "r", "defaultConfig": {"namespace": "s", "name": "n"}});
        assert_eq!(Config::default_of(&supported).unwrap().text(), "r.g/s/n");
    }

    #[test]
    fn a_cluster_is_done_when_all_it_was_given_is_there() {
        let wanted = Configs::of([one("a", "1", "x")]);
        let with = |hash: &str, applied: Option<&str>| Reference {
            desired: one("a", "1", hash),
            applied: applied.map(|hash| one("a", "1", hash)),
        };
        let stage = |references: &[Reference], reason: &str| {
            wanted.progress(references, reason, Some(Timestamp::UNIX_EPOCH)).stage
        };
        assert_eq!(stage(&[], "Completed"), Stage::ToApply);
        assert_eq!(stage(&[with("old", Some("old"))], "Completed"), Stage::ToApply);
        assert_eq!(stage(&[with("x", Some("old"))], "Completed"), Stage::Progressing);
        assert_eq!(stage(&[with("x", None)], "Failed"), Stage::Failed);
        assert_eq!(stage(&[with("x", Some("x"))], "Completed"), Stage::Succeeded);
        let none = Configs::default().progress(&[], "", None);
        assert_eq!(none.stage, Stage::Succeeded, "there is nothing to be set up by");
    }

    #[test]
    fn references_keep_what_was_applied() {
        let there = json!([
            {"group": "", "resource": "b", "desiredConfig": {"name": "gone", "specHash": "1"}},
            {"group": "", "resource": "a", "name": "1", "lastObservedGeneration": 3,
                "desiredConfig": {"name": "1", "specHash": "old"}, "lastAppliedConfig": {"name": "1", "specHash": "old"}}]);
        let wanted = Configs::of([one("a", "2", "n"), one("a", "1", "x")]);
        assert_eq!(
            wanted.references(&there),
            [
                json!({"group": "", "resource": "a", "name": "1", "lastObservedGeneration": 3,
                    "desiredConfig": {"name": "1", "specHash": "x"}, "lastAppliedConfig": {"name": "1", "specHash": "old"}}),
                json!({"group": "", "resource": "a", "name": "2", "lastObservedGeneration": 0,
                    "desiredConfig": {"name": "2", "specHash": "n"}}),
            ]
        );
    }
}
