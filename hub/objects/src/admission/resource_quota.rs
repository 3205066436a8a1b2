//! ResourceQuota: how much of what a namespace may have.
//!
//! ```text
//! quotas.internal  <namespace>/<uid of the quota> <name>   what is used, in thousandths
//! quotas.internal  <namespace>/epoch                       goes up with every change of the namespace's quotas
//! ```
//!
//! What is made is counted where it is written, so that a crowd gets no more than there is. A controller tells the
//! counters what was there before the quota, and what goes or comes to its end; a name holds once it has said so in
//! the quota's status.
//!
//! Guarantees:
//! - no quota is exceeded, whoever comes at the same time (`a_crowd_gets_what_a_quota_has_left`);
//! - a kind is counted whatever it is called (`a_quota_counts_a_kind_that_is_only_called_as_events_are`);
//! - what was let in before there was a quota is not written behind its back
//!   (`a_quota_that_comes_between_is_looked_at`).

use std::collections::BTreeSet;

use async_trait::async_trait;
use freewheel_hub_api::kinds::pod_spec::requirements::Amounts;
use freewheel_hub_api::quota;
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::object::Resource;
use freewheel_hub_schema::quantity::Quantity;
use freewheel_hub_store::Expect;
use serde_json::Value;

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;
use crate::{Claims, ObjectRef, Verb};

pub(super) struct ResourceQuota;

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let kind = &review.target.kind;
        let is_whole = review.stores && review.subresource.is_none();
        let counts = kind.namespaced && is_whole && !kind.has(Trait::CountsInNoQuota);
        counts
            && match review.verb {
                Verb::Create => true,
                Verb::Update => kind.has(Trait::SetsQuota) || kind.has(Trait::GrowsInQuota),
                Verb::Delete | Verb::Connect => false,
            }
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        let epoch = quota::epoch(&review.target.cluster, &review.target.namespace);
        // It is read before the quotas are: one that comes between them is noticed.
        let now = review.state().counter(&epoch);
        let mut claims = Claims::default();
        if review.target.kind.has(Trait::SetsQuota) && changes(review, object) {
            claims.count_within(epoch, 1, now.saturating_add(1));
            let names = review.old.map(|old| hard(old, "spec")).unwrap_or_default();
            let kept = hard(object, "spec");
            let dropped = names.keys().filter(|name| !kept.contains_key(*name));
            give_back(&mut claims, review.target, object, dropped);
        } else {
            claims.expect(Expect::AtMost(epoch, now));
        }
        let asked = asked(review, object);
        if asked.values().all(Quantity::is_zero) {
            return Ok(claims);
        }
        for quota in review.in_its_namespace(&Resource::new("", "resourcequotas")) {
            if quota::matches(&quota, Some(&review.target.kind), object) {
                let share = Share { quota: &quota, asked: &asked };
                claims.join(share.claim(review, object)?);
            }
        }
        Ok(claims)
    }

    fn release(&self, target: &ObjectRef, gone: &Value) -> Claims {
        let mut claims = Claims::default();
        if target.kind.has(Trait::SetsQuota) {
            claims.count(quota::epoch(&target.cluster, &target.namespace), 1);
            give_back(&mut claims, target, gone, hard(gone, "spec").keys());
        } else if target.kind.has(Trait::HasContent) {
            claims.give_back(quota::epoch(&target.cluster, &target.name));
        }
        claims
    }
}

fn changes(review: &Review<'_>, new: &Value) -> bool {
    review.old.is_none_or(|old| old["spec"] != new["spec"])
}

fn hard(quota: &Value, half: &str) -> Amounts {
    let hard = quota[half]["hard"].as_object().into_iter().flatten();
    hard.filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.parse().ok()?))).collect()
}

fn give_back<'a>(
    claims: &mut Claims,
    target: &ObjectRef,
    quota: &Value,
    names: impl Iterator<Item = &'a String>,
) {
    let uid = quota["metadata"]["uid"].as_str().unwrap_or_default();
    for name in names {
        claims.give_back(quota::counter(&target.cluster, &target.namespace, uid, name));
    }
}

/// How much more is asked for.
fn asked(review: &Review<'_>, object: &Value) -> Amounts {
    let kind = &review.target.kind;
    let usage = |object: &Value| quota::usage(kind.storage(), Some(kind), object);
    let mut asked = usage(object);
    let had = review.old.map(usage).unwrap_or_default();
    for (name, amount) in &mut asked {
        let had = had.get(name).map_or(0, Quantity::milli_value);
        if had != 0 {
            let more = amount.milli_value().saturating_sub(had).max(0);
            *amount = Quantity::of_milli(more, amount.format());
        }
    }
    asked
}

/// What an object asks of one quota.
struct Share<'a> {
    quota: &'a Value,
    asked: &'a Amounts,
}

impl Share<'_> {
    fn claim(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        let meta = &self.quota["metadata"];
        let (called, uid) = (text(&meta["name"]), text(&meta["uid"]));
        let (cluster, namespace) = (&review.target.cluster, &review.target.namespace);
        let kind = &review.target.kind;
        let known = hard(self.quota, "status");
        let limited = hard(self.quota, "spec").into_iter();
        let limited: Amounts =
            limited.filter(|(name, _)| quota::is_about(name, kind.storage(), Some(kind))).collect();
        let held: BTreeSet<&str> =
            limited.keys().filter(|name| known.contains_key(*name)).map(String::as_str).collect();
        if let Some(unsaid) = kind.strategy.unsaid_for_quota(&held, object) {
            return Err(Refusal::forbidden(format!("failed quota: {called}: {unsaid}")));
        }
        let (mut claims, mut exceeded) = (Claims::default(), Vec::new());
        let state = review.state();
        for (name, most) in &limited {
            let Some(asked) = self.asked.get(name) else { continue };
            let counter = quota::counter(cluster, namespace, uid, name);
            let by = asked.milli_value();
            if !held.contains(name.as_str()) {
                claims.count(counter, by);
                continue;
            }
            let used = review.counter(&*state, &counter);
            if most.milli_value() < used.saturating_add(by) {
                exceeded.push((name, *asked, Quantity::of_milli(used, most.format()), *most));
            } else if by != 0 {
                let most = u64::try_from(most.milli_value()).unwrap_or_default();
                claims.count_within(counter, by, most);
            }
        }
        if exceeded.is_empty() {
            return Ok(claims);
        }
        let joined = |of: fn(&Exceeded<'_>) -> Quantity| {
            let each = exceeded.iter().map(|one| format!("{}={}", one.0, of(one)));
            each.collect::<Vec<_>>().join(",")
        };
        let [asked, used, most] = [joined(|one| one.1), joined(|one| one.2), joined(|one| one.3)];
        Err(Refusal::forbidden(format!(
            "exceeded quota: {called}, requested: {asked}, used: {used}, limited: {most}"
        )))
    }
}

/// A name; how much of it is asked for, used, and there.
type Exceeded<'a> = (&'a String, Quantity, Quantity, Quantity);

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
