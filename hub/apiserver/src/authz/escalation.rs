//! Nobody gives away what they do not have: who writes a role has all that it gives, or the verb `escalate`; who writes a
//! binding has all that its role gives, or the verb `bind`. An AddOnTemplate that gives agents rights at the hub is as good
//! as the bindings that the manager of add-ons makes of it, and so is what names one: an add-on, or its instance on a
//! cluster, whose users have the agent's credentials.
//!
//! Guarantees:
//! - so it is by whatever door the role comes, patches and roles that are made of others included
//!   (`nobody_gives_away_what_they_do_not_have`), and templates (`who_writes_a_template_has_what_its_agents_get`);
//! - and whoever names one in an add-on or an instance of it, by which of its doors it may be, unless the instance names
//!   what its add-on gives everybody (`who_names_a_template_has_what_its_agents_get`).
//!
//! Not held: a template that is given more rights later gives them to all agents that are made of it, whoever named it. Who
//! does that has them.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_api::kinds;
use freewheel_hub_objects::{Actor, Claims, ObjectRef, Person, Plugin, Refusal, Review, Verb};
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
/// Templates that one write may name anew: each is read.
const NAMED_MAX: usize = 64;
const ADD_ON_GROUP: &str = "addon.open-cluster-management.io";
const TEMPLATES: &str = "addontemplates";
const ADD_ONS: &str = "clustermanagementaddons";
const INSTANCES: &str = "managedclusteraddons";
/// Stands for no default in a version of the API.
const NO_DEFAULT: &str = "__reserved_no_default__";

/// Rights of agents, as namespace, kind and name of a role. What is given on whatever cluster the add-on comes to has no
/// namespace.
type Given = BTreeSet<(String, String, String)>;

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
        let concerns = if names_templates(review) {
            // By its status as well: that is what agents are made of.
            review.stores && matches!(review.verb, Verb::Create | Verb::Update)
        } else {
            (review.target.kind.group() == GROUP || is_template(review)) && review.asks_for_it()
        };
        concerns && !person.groups.iter().any(|group| group == MASTERS)
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
        if names_templates(review) {
            self.check_named(review, person, object).await?;
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
        let added = given_to_agents(template).difference(&before).cloned().collect();
        self.check_given(review, person, &added).await
    }

    async fn check_given(
        &self,
        review: &Review<'_>,
        person: &Person,
        added: &Given,
    ) -> Result<(), Refusal> {
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

    /// Whether the writer of what names templates has all that agents get by those that it did not name before.
    async fn check_named(
        &self,
        review: &Review<'_>,
        person: &Person,
        object: &Value,
    ) -> Result<(), Refusal> {
        let mut known = review.old.map(named_templates).unwrap_or_default();
        let is_instance = review.target.kind.plural() == INSTANCES;
        if is_instance && let Some(add_on) = in_state(review, ADD_ONS, &review.target.name) {
            known.extend(named_templates(&add_on["spec"]["supportedConfigs"]));
        }
        let named = named_templates(object);
        let added: Vec<_> = named.difference(&known).collect();
        if NAMED_MAX < added.len() {
            let many = format!("it names more than {NAMED_MAX} AddOnTemplates at once");
            return Err(Refusal::forbidden(many));
        }
        let mut given = Given::new();
        for name in added {
            match in_state(review, TEMPLATES, name) {
                Some(template) => given.extend(given_to_agents(&template)),
                // It may come to give whatever its writer has.
                None => self.check_may_all(review, person, name)?,
            }
        }
        let here = |(namespace, kind, name): (String, String, String)| {
            let of_cluster = is_instance && namespace.is_empty();
            (if of_cluster { review.target.namespace.to_string() } else { namespace }, kind, name)
        };
        let given = given.into_iter().map(here).collect();
        self.check_given(review, person, &given).await
    }

    fn check_may_all(
        &self,
        review: &Review<'_>,
        person: &Person,
        template: &str,
    ) -> Result<(), Refusal> {
        let all = self.check_has(review, person, (&PolicyRule::everything(), ""));
        all.map_err(|_| Refusal::NotFound {
            group: ADD_ON_GROUP.to_owned(),
            plural: TEMPLATES.to_owned(),
            name: template.to_owned(),
        })
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

/// Whether it is an add-on, or one on its cluster.
fn names_templates(review: &Review<'_>) -> bool {
    let kind = &review.target.kind;
    kind.group() == ADD_ON_GROUP && matches!(kind.plural(), ADD_ONS | INSTANCES)
}

/// Templates that are named anywhere in it, in whatever version it is, in what is asked for or what is said.
fn named_templates(object: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![object];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(fields) => {
                left.extend(fields.values());
                if value["group"] == ADD_ON_GROUP && value["resource"] == TEMPLATES {
                    let nested = ["defaultConfig", "desiredConfig", "lastAppliedConfig"];
                    let all = nested.iter().map(|key| &value[*key]).chain([value]);
                    found.extend(all.filter_map(|it| it["name"].as_str()).map(str::to_owned));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    found.retain(|name| !name.is_empty() && name != NO_DEFAULT);
    found
}

/// An object of the group of add-ons that is in no namespace, as it is stored.
fn in_state(review: &Review<'_>, plural: &str, name: &str) -> Option<Value> {
    let kind = kinds::find(ADD_ON_GROUP, "v1alpha1", plural)?.clone();
    let cluster = review.target.cluster.clone();
    let place = ObjectRef { kind, cluster, namespace: "".into(), name: name.to_owned() };
    review.state().get(&place.key())?.object.value().ok()
}

/// Roles that a template gives agents. What is given on whatever cluster the add-on comes to is given everywhere.
fn given_to_agents(template: &Value) -> Given {
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
