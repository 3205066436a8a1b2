//! What the expressions of a ValidatingAdmissionPolicy say of objects that cannot be said of them: `expressionWarnings` of
//! its status, in the words of kube-apiserver.
//!
//! ```text
//! matchConstraints ─▶ kinds ─┐
//! paramKind ─────────────────┼▶ names ─ variables ─▶ each expression by each kind ─▶ warnings
//! what all requests have ────┘
//! ```
//!
//! A kind that nobody serves, and what its schema leaves open, are warned of by nobody.
//!
//! Guarantees:
//! - a warning names its field, and each kind of which it holds (`warnings_name_field_and_kind`);
//! - kinds are those that are named, ten of a rule at most (`kinds_are_those_that_are_named`), and names that nobody
//!   serves cost nothing (`names_that_nobody_serves_are_no_work`);
//! - warnings leave room for the rest of the object (`warnings_are_bounded`);
//! - no policy makes more work than one may, nor holds more memory than a few megabytes meanwhile
//!   (`a_look_at_a_policy_is_bounded`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_hub_cel::typing::{Names, Parsed, Type, Work};
use freewheel_hub_cel::{NoRoom, STACK_BYTES, on_a_stack_of};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::registry::Registry;
use serde_json::{Value, json};

use crate::admission_names;

/// So many kinds of one rule are looked at, and none of those behind it, as at kube-apiserver.
const KINDS_MAX: usize = 10;
/// Where a rule comes to more paths than these, the kinds that there are are asked whether it names them.
const LOOKS_MAX: usize = 100;
/// Bytes of all warnings of a policy. kube-apiserver has no such bound, and cannot keep what is too long.
const WARNINGS_BYTES_MAX: usize = 256 << 10;
/// Steps of work that each level of what is known of a variable counts for, which stays until all is looked at.
const VARIABLE_STEPS: usize = 20;
/// What is told where work ends.
const TOO_MUCH_WORK: &str = "looking at the expressions of this policy takes more work than one policy may make: what this one and those \
    behind it get wrong is not told";

/// `status.typeChecking.expressionWarnings` of a policy. It takes its time.
///
/// # Errors
/// Nobody can look at it at the moment.
pub fn warnings(policy: &Value, registry: &Registry) -> Result<Vec<Value>, NoRoom> {
    on_a_stack_of(STACK_BYTES, || look(&policy["spec"], registry))
}

fn look(spec: &Value, registry: &Registry) -> Vec<Value> {
    let work = Work::default();
    let mut kinds = by_kind(spec, registry);
    for variable in list(&spec["variables"]) {
        put_variable(variable, &mut kinds, &work);
    }
    let mut warnings = Warnings::default();
    for (place, validation) in list(&spec["validations"]).enumerate() {
        for field in ["expression", "messageExpression"] {
            let Ok(parsed) = Parsed::read(text(&validation[field])) else { continue };
            let field = format!("spec.validations[{place}].{field}");
            let mut message = String::new();
            for (kind, names) in &kinds {
                let mistakes = parsed.check(names, &work).mistakes;
                if !mistakes.is_empty() && !warnings.is_full_with(&message) {
                    let between = if message.is_empty() { "" } else { "\n" };
                    message = format!("{message}{between}{kind}: {mistakes}\n");
                }
            }
            if !message.is_empty() {
                warnings.add(&field, message);
            }
            if work.is_over() {
                warnings.add(&field, TOO_MUCH_WORK.to_owned());
            }
            if work.is_over() || warnings.is_full_with("") {
                return warnings.all;
            }
        }
    }
    warnings.all
}

/// A variable is known to those behind it by what it is. One is read at a time.
fn put_variable(variable: &Value, kinds: &mut [(String, Names<'_>)], work: &Work) {
    let read = || Parsed::read(text(&variable["expression"])).ok();
    let parsed = if work.is_over() { None } else { read() };
    let name: Arc<str> = format!("variables.{}", text(&variable["name"])).into();
    for (_, names) in kinds {
        let is = parsed.as_ref().map_or(Type::Dyn, |parsed| parsed.check(names, work).is);
        // What is kept of it is there until all is looked at.
        let kept = work.take(VARIABLE_STEPS * (1 + is.levels()));
        names.put(name.clone(), if kept { is.of_variable() } else { Type::Dyn });
    }
}

/// Warnings as they are kept.
#[derive(Default)]
struct Warnings {
    all: Vec<Value>,
    bytes: usize,
}

impl Warnings {
    /// Whether there is no room for more, when this comes as well.
    const fn is_full_with(&self, text: &str) -> bool {
        WARNINGS_BYTES_MAX < self.bytes + text.len()
    }

    /// One more. Where there is no room for it, that is the last one.
    fn add(&mut self, field: &str, warning: String) {
        self.bytes += field.len() + warning.len();
        let last = "this warning and what else there may be to warn of is too long to be kept";
        let warning = if self.is_full_with("") { last.to_owned() } else { warning };
        self.all.push(json!({"fieldRef": field, "warning": warning}));
    }
}

/// What expressions may speak of, by the kinds that a policy names; variables are still to come.
fn by_kind<'a>(spec: &Value, registry: &'a Registry) -> Vec<(String, Names<'a>)> {
    let params = params(spec, registry);
    let names = |kind: &'a Arc<Kind>| {
        let object = Type::Object(kind.facts()?);
        Some((told(kind), admission_names::names(&object, params.clone())))
    };
    kinds(spec, registry).into_iter().filter_map(names).collect()
}

/// The kinds that a policy names, sorted: those of its rules without a wildcard.
fn kinds<'a>(spec: &Value, registry: &'a Registry) -> Vec<&'a Arc<Kind>> {
    let mut found = BTreeMap::new();
    for rule in list(&spec["matchConstraints"]["resourceRules"]) {
        let named = named(rule, registry);
        let is_full = KINDS_MAX <= named.len();
        for kind in named.into_iter().take(KINDS_MAX) {
            found.insert((kind.group(), kind.version(), kind.kind()), kind);
        }
        if is_full {
            break;
        }
    }
    found.into_values().collect()
}

/// The kinds that one rule names, by its names in order. Names that nobody serves cost no more than that they are there.
fn named<'a>(rule: &Value, registry: &'a Registry) -> Vec<&'a Arc<Kind>> {
    let (groups, versions) = (texts(&rule["apiGroups"]), texts(&rule["apiVersions"]));
    if groups.iter().chain(&versions).any(|one| one.contains('*')) {
        return Vec::new();
    }
    let mut plurals = texts(&rule["resources"]);
    plurals.retain(|one| !one.contains(['*', '/']));
    let looks = groups.len().saturating_mul(versions.len()).saturating_mul(plurals.len());
    if looks <= LOOKS_MAX {
        let mut found = Vec::new();
        for group in &groups {
            for version in &versions {
                let of = |plural: &&str| registry.find(group, version, plural);
                found.extend(plurals.iter().filter_map(of));
            }
        }
        return found;
    }
    let is_named = |kind: &&Arc<Kind>| {
        let (group, version) = (kind.group(), kind.version());
        groups.contains(group) && versions.contains(version) && plurals.contains(kind.plural())
    };
    let mut all: Vec<&Arc<Kind>> = registry.all().filter(is_named).collect();
    all.sort_by_key(|kind| (kind.group(), kind.version(), kind.plural()));
    all
}

/// `apps/v1, Kind=Deployment`
fn told(kind: &Kind) -> String {
    format!("{}/{}, Kind={}", kind.group(), kind.version(), kind.kind())
}

/// What the parameters of a policy are.
fn params<'a>(spec: &Value, registry: &'a Registry) -> Type<'a> {
    let params = &spec["paramKind"];
    let kind = registry.by_kind(text(&params["apiVersion"]), text(&params["kind"]));
    kind.and_then(|kind| kind.facts()).map_or(Type::Dyn, Type::Object)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Each once, sorted.
fn texts(value: &Value) -> BTreeSet<&str> {
    list(value).filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;

    use super::*;
    use crate::kinds;

    fn registry() -> Registry {
        kinds::registry(&ClusterName::root())
    }

    fn policy(more: &Value) -> Value {
        let rules = json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"],
            "resources": ["deployments"]}]);
        let mut spec = json!({"matchConstraints": {"resourceRules": rules}});
        spec.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        json!({"spec": spec})
    }

    fn told_of(more: &Value) -> Vec<(String, String)> {
        let all = warnings(&policy(more), &registry()).unwrap();
        let pair =
            |one: Value| (text(&one["fieldRef"]).to_owned(), text(&one["warning"]).to_owned());
        all.into_iter().map(pair).collect()
    }

    fn expression(expression: &str) -> Value {
        json!({"validations": [{"expression": expression}]})
    }

    #[test]
    fn warnings_name_field_and_kind() {
        let wrong = json!({"validations": [
            {"expression": "object.spec.replicas > 1", "messageExpression": "'got ' + object.spec.replicas"},
            {"expression": "object.spec.replicas > '1'", "messageExpression": "string(object.spec.replicas)"},
        ]});
        let told = told_of(&wrong);
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0].0, "spec.validations[0].messageExpression");
        assert!(told[0].1.contains("overload for '_+_' applied to '(string, int)'"), "{told:?}");
        let whole = "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to \
            '(int, string)'\n | object.spec.replicas > '1'\n | .....................^\n";
        assert_eq!(told[1], ("spec.validations[1].expression".to_owned(), whole.to_owned()));

        let rules = json!([{"apiGroups": ["apps", ""], "apiVersions": ["v1"], "operations": ["*"],
            "resources": ["deployments", "pods"]}]);
        let both = json!({"matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": "object.spec.size == 1"}]});
        let told = told_of(&both);
        assert_eq!(told.len(), 1, "{told:?}");
        let starts = told[0].1.lines().filter_map(|line| line.split_once(": ERROR"));
        let kinds: Vec<&str> = starts.map(|(kind, _)| kind).collect();
        assert_eq!(kinds, ["/v1, Kind=Pod", "apps/v1, Kind=Deployment"]);
    }

    #[test]
    fn what_policies_may_speak_of_is_known() {
        let right = json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "variables": [
                {"name": "replicas", "expression": "object.spec.replicas"},
                {"name": "spec", "expression": "object.spec"},
                {"name": "twice", "expression": "variables.replicas * 2"},
            ],
            "validations": [
                {"expression": "variables.twice > 1 && variables.spec.anything == 1 && has(variables.twice)"},
                {"expression": "params.data['a'] == request.userInfo.username && params.data.b != ''"},
                {"expression": "request.kind.kind == 'x' && request.resource.resource in request.userInfo.groups && !request.dryRun"},
                {"expression": "namespaceObject.metadata.labels.env == 'x' && request.options.anything == 1"},
                {"expression": "authorizer.requestResource.check('get').allowed()"},
                {"expression": "oldObject == null || object.spec.template == oldObject.spec.template"},
            ],
        });
        let told = told_of(&right);
        assert!(told.is_empty(), "{told:?}");
        let wrong = |text: &str, more: &Value| {
            let mut all = expression(text);
            all.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
            let told = told_of(&all);
            assert_eq!(told.len(), 1, "{text}: {told:?}");
            told[0].1.clone()
        };
        let variables = json!({"variables": [{"name": "name", "expression": "'x'"}]});
        assert!(wrong("variables.other", &variables).contains("undefined field 'other'"));
        assert!(wrong("variables.name == 1", &variables).contains("'(string, int)'"));
        let params = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}});
        assert!(wrong("params.spec == 1", &params).contains("undefined field 'spec'"));
        assert!(wrong("request.object == null", &json!({})).contains("undefined field 'object'"));
        let unknown = json!({"paramKind": {"apiVersion": "x.dev/v1", "kind": "Nobody"},
            "validations": [{"expression": "params.spec == 1"}]});
        assert!(told_of(&unknown).is_empty());
    }

    #[test]
    fn kinds_are_those_that_are_named() {
        let named = |rules: Value| {
            let spec = json!({"matchConstraints": {"resourceRules": rules}});
            let registry = registry();
            kinds(&spec, &registry).into_iter().map(|kind| told(kind)).collect::<Vec<_>>()
        };
        let rule = |group: &str, version: &str, resources: &[&str]| json!({"apiGroups": [group], "apiVersions": [version], "resources": resources});
        let apps = rule("apps", "v1", &["deployments"]);
        assert_eq!(named(json!([apps])), ["apps/v1, Kind=Deployment"]);
        assert_eq!(
            named(json!([apps, rule("", "v1", &["pods"])])),
            ["/v1, Kind=Pod", "apps/v1, Kind=Deployment"]
        );
        assert!(named(json!([rule("apps", "v1", &["*"])])).is_empty());
        assert!(named(json!([rule("", "v1", &["pods/*", "pods/log"])])).is_empty());
        assert!(named(json!([rule("x.dev", "v1", &["nothing"])])).is_empty());
        assert_eq!(named(json!([apps, rule("apps", "*", &["deployments"]), apps])).len(), 1);
        let many = [
            "pods",
            "secrets",
            "services",
            "nodes",
            "events",
            "endpoints",
            "configmaps",
            "namespaces",
            "limitranges",
            "resourcequotas",
            "serviceaccounts",
            "podtemplates",
        ];
        assert_eq!(named(json!([rule("", "v1", &many), apps])).len(), KINDS_MAX);
        let (some, others) = many.split_at(9);
        assert_eq!(named(json!([rule("", "v1", some), rule("", "v1", others), apps])).len(), 13);
        assert_eq!(warnings(&json!({}), &registry()), Ok(Vec::new()));
    }

    #[test]
    fn names_that_nobody_serves_are_no_work() {
        let names = |what: &str, known: &str| {
            let made = (0..3_000).map(|n| format!("{what}{n}"));
            made.chain([known.to_owned()]).collect::<Vec<_>>()
        };
        let rule = json!({"apiGroups": names("g", "apps"), "apiVersions": names("v", "v1"),
            "resources": names("r", "deployments")});
        let spec = json!({"matchConstraints": {"resourceRules": [rule]}});
        let (registry, began) = (registry(), std::time::Instant::now());
        let found: Vec<String> = kinds(&spec, &registry).into_iter().map(|it| told(it)).collect();
        assert_eq!(found, ["apps/v1, Kind=Deployment"]);
        assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
    }

    /// What takes long to look at, or much memory, or both.
    fn large_policies() -> Vec<Value> {
        let nested = |open: &str, close: &str, levels: usize| {
            format!("{}1{}", open.repeat(levels), close.repeat(levels))
        };
        let variable =
            |n: usize| json!({"name": format!("v{n}"), "expression": nested("{1:", "}", 90)});
        let variables: Vec<Value> = (0..500).map(variable).collect();
        let uses = format!("[{}].size() > 0", vec!["variables.v0"; 1_200].join(","));
        let deep: Vec<Value> = (0..30).map(|_| json!({"expression": uses})).collect();
        let ordered = format!("[{}] > 1", vec!["[1].map(x,[[x]])"; 150].join(","));
        let wrong: Vec<Value> = (0..900).map(|_| json!({"expression": ordered})).collect();
        let long = json!([{"name": "n".repeat(1 << 20), "expression": "1"}]);
        vec![
            json!({"variables": variables, "validations": deep}),
            json!({"validations": wrong}),
            json!({"variables": long, "validations": [{"expression": "object.nothing"}]}),
        ]
    }

    #[test]
    fn a_look_at_a_policy_is_bounded() {
        let kinds = ["deployments", "daemonsets", "statefulsets", "replicasets"];
        let rules = json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": kinds}]);
        for mut policy in large_policies() {
            policy["matchConstraints"] = json!({"resourceRules": rules});
            let policy = json!({"spec": policy});
            let began = std::time::Instant::now();
            let all = warnings(&policy, &registry()).unwrap();
            let bytes: usize = all.iter().map(|one| text(&one["warning"]).len()).sum();
            assert!(bytes < 2 * WARNINGS_BYTES_MAX, "{bytes}");
            // It takes a second or two, and the parser's time.
            assert!(began.elapsed() < std::time::Duration::from_secs(60), "{:?}", began.elapsed());
        }
        let too_much = large_policies().swap_remove(0);
        let told = told_of(&too_much);
        assert_eq!(told.last().map(|(_, why)| why.as_str()), Some(TOO_MUCH_WORK), "{told:?}");
    }

    #[test]
    fn warnings_are_bounded() {
        let long = format!("object.nothing == '{}'", "x".repeat(10_000));
        let all: Vec<Value> = (0..100).map(|_| json!({"expression": long})).collect();
        let told = told_of(&json!({"validations": all}));
        let bytes: usize = told.iter().map(|(field, warning)| field.len() + warning.len()).sum();
        assert!(bytes < WARNINGS_BYTES_MAX + 1_000, "{bytes}");
        let (last, rest) = told.split_last().unwrap();
        assert!(last.1.contains("too long to be kept") && 10 < rest.len(), "{last:?}");
        assert!(rest.iter().all(|(_, warning)| warning.contains("undefined field 'nothing'")));
    }
}
