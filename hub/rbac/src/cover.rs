//! Which rights others lack: nobody gives away what they do not have.

use std::collections::BTreeMap;

use crate::rule::{PolicyRule, has, has_or_all, is_path};

/// Parts that are compared for one writer. Groups, resources, verbs and names multiply: a rule of some kilobytes has
/// billions of them.
const PARTS_MAX: usize = 10_000;

/// What of `wanted` these rules do not allow, in the smallest parts. What no rule allows by itself and has too many parts
/// to compare is missing as a whole.
#[must_use]
pub fn missing<'a>(
    owned: impl IntoIterator<Item = &'a PolicyRule>,
    wanted: &[PolicyRule],
) -> Vec<PolicyRule> {
    let owned: Vec<&PolicyRule> = owned.into_iter().collect();
    let is_owned = |part: &PolicyRule| owned.iter().any(|rule| covers(rule, part));
    let mut left = PARTS_MAX;
    let mut missing = Vec::new();
    for rule in wanted.iter().filter(|rule| !is_owned(rule)) {
        match left.checked_sub(part_count(rule)) {
            Some(rest) => {
                left = rest;
                missing.extend(parts(rule).into_iter().filter(|part| !is_owned(part)));
            }
            None => missing.push(rule.clone()),
        }
    }
    missing
}

/// How many parts a rule has.
fn part_count(rule: &PolicyRule) -> usize {
    let of_objects = [&rule.api_groups, &rule.resources, &rule.verbs]
        .map(Vec::len)
        .into_iter()
        .fold(rule.resource_names.len().max(1), usize::saturating_mul);
    of_objects.saturating_add(rule.non_resource_urls.len().saturating_mul(rule.verbs.len()))
}

/// The same with the verbs of one resource together, for people.
#[must_use]
pub fn compact(rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut simple: BTreeMap<PolicyRule, Vec<String>> = BTreeMap::new();
    let mut all = Vec::new();
    for mut rule in rules {
        if rule.api_groups.len() != 1 || rule.resources.len() != 1 {
            all.push(rule);
            continue;
        }
        let verbs = std::mem::take(&mut rule.verbs);
        simple.entry(rule).or_default().extend(verbs);
    }
    all.extend(simple.into_iter().map(|(rule, verbs)| PolicyRule { verbs, ..rule }));
    all
}

/// The same as rules that have at most one verb, resource and name each.
fn parts(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |text: &String| vec![text.clone()];
    let mut parts = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let part = PolicyRule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..PolicyRule::default()
                };
                if rule.resource_names.is_empty() {
                    parts.push(part);
                    continue;
                }
                let named = |name| PolicyRule { resource_names: one(name), ..part.clone() };
                parts.extend(rule.resource_names.iter().map(named));
            }
        }
    }
    for url in &rule.non_resource_urls {
        let of_path = |verb| PolicyRule {
            verbs: one(verb),
            non_resource_urls: one(url),
            ..PolicyRule::default()
        };
        parts.extend(rule.verbs.iter().map(of_path));
    }
    parts
}

/// Whether a rule allows all of a part.
fn covers(rule: &PolicyRule, part: &PolicyRule) -> bool {
    let all = |list: &[String], of: &[String]| of.iter().all(|text| has_or_all(list, text));
    let resource = |resource: &String| {
        has_or_all(&rule.resources, resource)
            || resource
                .split_once('/')
                .is_some_and(|(_, sub)| has(&rule.resources, &format!("*/{sub}")))
    };
    let path = |path: &String| rule.non_resource_urls.iter().any(|own| is_path(own, path));
    let names = rule.resource_names.is_empty()
        || !part.resource_names.is_empty()
            && part.resource_names.iter().all(|name| has(&rule.resource_names, name));
    all(&rule.verbs, &part.verbs)
        && all(&rule.api_groups, &part.api_groups)
        && part.resources.iter().all(resource)
        && part.non_resource_urls.iter().all(path)
        && names
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules(value: Value) -> Vec<PolicyRule> {
        serde_json::from_value(value).unwrap()
    }

    fn lacks(owned: Value, wanted: Value) -> Vec<String> {
        let missing = compact(missing(&rules(owned), &rules(wanted)));
        missing.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_lacking_is_said_in_parts() {
        let pods =
            |verbs: &[&str]| json!([{"verbs": verbs, "apiGroups": [""], "resources": ["pods"]}]);
        assert!(lacks(pods(&["get", "list"]), pods(&["list"])).is_empty());
        assert!(lacks(pods(&["*"]), pods(&["list", "x"])).is_empty());
        assert_eq!(
            lacks(pods(&["get"]), pods(&["get", "list", "watch"])),
            [r#"{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}"#]
        );
        // Who may one thing gives away neither all things nor another one.
        assert_eq!(lacks(pods(&["get"]), pods(&["*"])).len(), 1);
        let named = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}]);
        assert!(lacks(pods(&["get"]), named.clone()).is_empty());
        assert_eq!(lacks(named.clone(), pods(&["get"])).len(), 1);
        let both = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a", "b"]}]);
        assert_eq!(
            lacks(named, both),
            [r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["b"], Verbs:["get"]}"#]
        );
    }

    #[test]
    fn a_rule_of_billions_of_parts_costs_no_more_than_a_long_one() {
        let texts = |of: &str| (0..2_000).map(|n| format!("{of}{n}")).collect::<Vec<_>>();
        let wide = json!([{"verbs": texts("v"), "apiGroups": texts("g"), "resources": texts("r"), "resourceNames": texts("n")}]);
        let few = json!([{"verbs": ["v1"], "apiGroups": ["*"], "resources": ["*"]}]);
        assert_eq!(missing(&rules(few), &rules(wide.clone())), rules(wide.clone()));
        let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
        assert!(missing(&rules(all), &rules(wide)).is_empty(), "one rule allows all of it");
    }

    #[test]
    fn subresources_and_paths_are_covered_by_stars() {
        let rule = |resource: &str| json!([{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]);
        assert!(lacks(rule("*/scale"), rule("pods/scale")).is_empty());
        assert!(lacks(rule("*"), rule("pods/scale")).is_empty());
        assert_eq!(lacks(rule("pods/scale"), rule("*/scale")).len(), 1);
        assert_eq!(lacks(rule("pods"), rule("pods/scale")).len(), 1);
        let path = |url: &str| json!([{"verbs": ["get"], "nonResourceURLs": [url]}]);
        assert!(lacks(path("/a/*"), path("/a/b")).is_empty());
        assert!(lacks(path("/a/*"), path("/a/*")).is_empty());
        assert_eq!(lacks(path("/a/b"), path("/a/*")).len(), 1);
        assert!(lacks(json!(PolicyRule::everything()), path("*")).is_empty());
    }
}
