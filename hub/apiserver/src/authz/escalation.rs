//! Nobody gives away what they do not have: who writes a role has all that it gives, or the verb `escalate`; who writes a
//! binding has all that its role gives, or the verb `bind`. An AddOnTemplate that gives agents rights at the hub is as good
//! as the bindings that the manager of add-ons makes of it.
//!
//! Guarantees:
//! - so it is by whatever door the role comes, patches and roles that are made of others included
//!   (`nobody_gives_away_what_they_do_not_have`), and templates (`who_writes_a_template_has_what_its_agents_get`).

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_objects::{Actor, Claims, Person, Plugin, Refusal, Review};
use freewheel_hub_pki::MASTERS;
use freewheel_hub_rbac::{GROUP, Index, PolicyRule, RoleRef, Who, compact, missing};
use serde_json::{Value, json};

use super::Authorizers;
use super::attributes::{Attributes, Resource, What};
use super::authorizer::{Authorizer as _, Decision};
use crate::authn::User;
use crate::tenant::Tenant;

/// Lines of what somebody lacks: who is told more does not read it.
const LACKING_MAX: usize = 100;

/// Rights of agents that one write of a template may add: each is asked about.
const ADDED_MAX: usize = 64;
const ADD_ON_GROUP: &str = "addon.open-cluster-management.io";
const TEMPLATES: &str = "addontemplates";

/// Refuses roles, bindings and templates that give more than their writer has.
pub(crate) struct RoleEscalation {
    pub(crate) authorizers: Arc<Authorizers>,
    pub(crate) rights: Arc<Index>,
}

#[async_trait]
impl Plugin for RoleEscalation {
    fn name(&self) -> &'static str {
        "RoleEscalation"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let Actor::Person(person) = review.actor else { return false };
        (review.target.kind.group() == GROUP || is_template(review))
            && review.asks_for_it()
            && !person.groups.iter().any(|group| group == MASTERS)
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        let Actor::Person(person) = review.actor else { return Ok(Claims::default()) };
        if review.old.is_some_and(|old| only_lets_go(object, old)) {
            return Ok(Claims::default());
        }
        if is_template(review) {
            self.check_template(review, person, object).await?;
            return Ok(Claims::default());
        }
        match object.get("roleRef") {
            Some(role) => {
                self.check_binding(review, person, (role, &review.target.namespace)).await?;
            }
            None => self.check_role(review, person, object).await?,
        }
        Ok(Claims::default())
    }
}

impl RoleEscalation {
    async fn check_role(
        &self,
        review: &Review<'_>,
        person: &Person,
        role: &Value,
    ) -> Result<(), Refusal> {
        let target = review.target;
        // As with every create, what is to be made has no name yet.
        let name = if review.creates() { "" } else { &target.name };
        let what = Resource {
            group: GROUP,
            plural: target.kind.plural(),
            namespace: &target.namespace,
            name,
            ..Resource::default()
        };
        if self.may(review, person, ("escalate", what)).await {
            return Ok(());
        }
        let rules = role.get("rules").cloned().unwrap_or_default();
        let rules: Vec<PolicyRule> = serde_json::from_value(rules).unwrap_or_default();
        let namespace = &review.target.namespace;
        self.check_has(review, person, (&rules, namespace))?;
        let gathers = |role: &Value| {
            let selectors = role.pointer("/aggregationRule/clusterRoleSelectors");
            selectors.and_then(Value::as_array).is_some_and(|list| !list.is_empty())
        };
        if gathers(role) || review.old.is_some_and(gathers) {
            let all = self.check_has(review, person, (&PolicyRule::everything(), namespace));
            all.map_err(|_| {
                Refusal::forbidden("must have cluster-admin privileges to use the aggregationRule")
            })?;
        }
        Ok(())
    }

    async fn check_binding(
        &self,
        review: &Review<'_>,
        person: &Person,
        (role, namespace): (&Value, &str),
    ) -> Result<(), Refusal> {
        let text = |key: &str| role[key].as_str().unwrap_or_default();
        let name = text("name");
        // What is none, validation has refused.
        let role = match text("kind") {
            "Role" => RoleRef::Role(name.to_owned()),
            _ => RoleRef::ClusterRole(name.to_owned()),
        };
        let what = Resource {
            group: GROUP,
            plural: role.plural(),
            namespace,
            name,
            ..Resource::default()
        };
        if self.may(review, person, ("bind", what)).await {
            return Ok(());
        }
        let rights = self.rights.of(&review.target.cluster).unwrap_or_default();
        let rules = rights.rules_of(&role, namespace).map_err(|_| Refusal::NotFound {
            group: GROUP.to_owned(),
            plural: role.plural().to_owned(),
            name: name.to_owned(),
        })?;
        self.check_has(review, person, (rules, namespace))
    }

    /// Whether the writer of a template has all that it gives agents which it did not before.
    async fn check_template(
        &self,
        review: &Review<'_>,
        person: &Person,
        template: &Value,
    ) -> Result<(), Refusal> {
        let before = review.old.map(given_to_agents).unwrap_or_default();
        let added = given_to_agents(template);
        let added: Vec<_> = added.difference(&before).collect();
        if ADDED_MAX < added.len() {
            let many = format!("it adds more than {ADDED_MAX} hubPermissions at once");
            return Err(Refusal::forbidden(many));
        }
        for (namespace, kind, name) in added {
            let role = json!({"kind": kind, "name": name});
            self.check_binding(review, person, (&role, namespace)).await?;
        }
        Ok(())
    }

    async fn may(
        &self,
        review: &Review<'_>,
        person: &Person,
        (verb, what): (&str, Resource<'_>),
    ) -> bool {
        let name = review.target.cluster.as_str();
        let Ok(tenant) = Tenant::find(&*review.state(), Some(name)) else { return false };
        let user = user_of(person);
        let (cluster, what) = (tenant.cluster(), What::Resource(what));
        let asked = Attributes { user: &user, verb, cluster, what };
        matches!(self.authorizers.decide(&asked).await, Decision::Allow(_))
    }

    /// Whether the writer has all of this by roles, in this namespace, or everywhere.
    fn check_has(
        &self,
        review: &Review<'_>,
        person: &Person,
        (wanted, namespace): (&[PolicyRule], &str),
    ) -> Result<(), Refusal> {
        let rights = self.rights.of(&review.target.cluster).unwrap_or_default();
        let who = Who { name: &person.name, groups: &person.groups };
        let given: Vec<_> = rights.given(who, namespace).collect();
        let own = given.iter().flatten().flat_map(|given| given.rules);
        let lacking = compact(missing(own, wanted));
        if lacking.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = lacking.iter().map(ToString::to_string).collect();
        lines.sort_unstable();
        lines.dedup();
        let more = lines.len().saturating_sub(LACKING_MAX);
        lines.truncate(LACKING_MAX);
        if 0 < more {
            lines.push(format!("and {more} more"));
        }
        let groups: Vec<String> = person.groups.iter().map(|group| format!("{group:?}")).collect();
        let mut why = format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            person.name,
            groups.join(" "),
            lines.join("\n")
        );
        let mut errors: Vec<String> = given
            .iter()
            .filter_map(|given| given.as_ref().err().map(ToString::to_string))
            .collect();
        errors.dedup();
        if !errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
        }
        Err(Refusal::forbidden(why))
    }
}

fn is_template(review: &Review<'_>) -> bool {
    let kind = &review.target.kind;
    (kind.group(), kind.plural()) == (ADD_ON_GROUP, TEMPLATES)
}

/// Roles that a template gives agents, as namespace, kind and name. What is given on whatever cluster the add-on comes to
/// is given everywhere.
fn given_to_agents(template: &Value) -> BTreeSet<(String, String, String)> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, at: &str| {
        value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let registrations = list(template.pointer("/spec/registration"));
    let permissions =
        registrations.iter().flat_map(|it| list(it.pointer("/kubeClient/hubPermissions")));
    let role = |it: Value| {
        if text(&it, "/type") == "CurrentCluster" {
            let name = text(&it, "/currentCluster/clusterRoleName");
            return (String::new(), "ClusterRole".to_owned(), name);
        }
        let one = |at: &str| text(&it, &format!("/singleNamespace/{at}"));
        (one("namespace"), one("roleRef/kind"), one("roleRef/name"))
    };
    // What names no role gives nothing.
    permissions.map(role).filter(|(_, _, name)| !name.is_empty()).collect()
}

/// All that is known of a writer: who decides elsewhere may look at any of it.
pub(crate) fn user_of(person: &Person) -> User {
    let Person { name, uid, groups, extra, .. } = person.clone();
    User { name, uid, groups, extra, ..User::default() }
}

/// Whether nothing changes but who is waited for before it goes.
fn only_lets_go(new: &Value, old: &Value) -> bool {
    let without = |value: &Value| {
        let mut value = value.clone();
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            for key in ["finalizers", "ownerReferences", "managedFields", "resourceVersion"] {
                meta.remove(key);
            }
        }
        value
    };
    without(new) == without(old)
}
