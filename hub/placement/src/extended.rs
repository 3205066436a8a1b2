//! What only some devices have, by name: extended resources (`nvidia.com/gpu`) and huge pages.

use std::collections::BTreeMap;

use freewheel_hub_schema::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::resources::{Amount, of_phases};

/// What every device has is counted in [`crate::resources::Resources`].
const EVERYWHERE: [&str; 4] = ["cpu", "ephemeral-storage", "memory", "pods"];

/// Amounts by name; what is not named is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extended(BTreeMap<String, i64>);

impl Extended {
    /// From `requests` or `allocatable`.
    #[must_use]
    pub fn from_map(map: &BTreeMap<String, Text>) -> Self {
        let own = map.iter().filter(|(name, _)| !EVERYWHERE.contains(&name.as_str()));
        let read = own.filter_map(|(name, amount)| {
            Some((name.clone(), amount.0.parse::<Quantity>().ok()?.value()))
        });
        Self(read.filter(|(_, amount)| *amount != 0).collect())
    }

    /// What a pod asks for.
    #[must_use]
    pub fn of_pod(spec: &PodSpec) -> Self {
        of_phases(spec, of_container)
    }

    /// Takes away.
    pub fn take(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            if let Some(own) = self.0.get_mut(name) {
                *own = own.saturating_sub(*amount);
            }
        }
        self.0.retain(|_, amount| *amount != 0);
    }

    /// Names of what is not left for this, where of `all` so much is `used`.
    pub fn lacking<'a>(&'a self, used: &'a Self, all: &'a Self) -> impl Iterator<Item = &'a str> {
        let count = |of: &Self, name: &str| of.0.get(name).copied().unwrap_or_default();
        let short = move |(name, asked): &(&String, &i64)| {
            **asked > count(all, name).saturating_sub(count(used, name))
        };
        self.0.iter().filter(short).map(|(name, _)| name.as_str())
    }
}

impl Amount for Extended {
    fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let own = self.0.entry(name.clone()).or_default();
            *own = own.saturating_add(*amount);
        }
    }

    fn raise_to(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let own = self.0.entry(name.clone()).or_default();
            *own = (*own).max(*amount);
        }
    }
}

/// Limits of what cannot be promised twice are requests.
fn of_container(container: &Container) -> Extended {
    let resources = container.resources.as_ref();
    let read =
        |map: Option<&BTreeMap<String, Text>>| map.map(Extended::from_map).unwrap_or_default();
    let mut asked = read(resources.and_then(|r| r.limits.as_ref()));
    asked.0.extend(read(resources.and_then(|r| r.requests.as_ref())).0);
    asked
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_asks_for_its_peak_of_what_is_rare() {
        let asks = |amount: &str| json!({"name": "c", "resources": {"limits": {"a.b/gpu": amount, "cpu": "1"}}});
        let spec = json!({"containers": [asks("1"), asks("2")], "initContainers": [asks("5")]});
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(Extended::of_pod(&spec).0, BTreeMap::from([("a.b/gpu".to_owned(), 5)]));
    }

    #[test]
    fn what_is_not_there_is_lacking() {
        let of = |amount: i64| Extended(BTreeMap::from([("a.b/gpu".to_owned(), amount)]));
        let none = Extended::default();
        assert_eq!(of(1).lacking(&none, &none).collect::<Vec<_>>(), ["a.b/gpu"]);
        assert_eq!(of(1).lacking(&of(1), &of(2)).count(), 0);
        assert_eq!(of(2).lacking(&of(1), &of(2)).count(), 1);
        let mut used = of(1);
        used.add(&of(2));
        used.take(&of(3));
        assert!(used.0.is_empty());
    }
}
