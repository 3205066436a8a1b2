//! What a ManifestWork asks for: manifests, and how each of them is applied, watched and left.
//!
//! ```text
//! order            which manifests come first
//! feedback         values of what was applied
//! condition_rules  conditions that expressions make of what was applied
//! aggregate        what all manifests together say of the work
//! ignored          what of a manifest is left to others
//! ```
//!
//! Guarantees:
//! - the first configuration that says something counts, `*` stands for any text
//!   (`the_first_configuration_that_says_something_counts`);
//! - what is orphaned is not owned (`what_is_orphaned_is_not_owned`).

pub mod aggregate;
pub mod condition_rules;
pub mod feedback;
pub mod ignored;
pub mod order;

use serde::Deserialize;
use serde_json::Value;

/// A ManifestWork's spec.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Work {
    /// What is applied.
    pub workload: Workload,
    /// What becomes of it when the work goes.
    pub delete_option: DeleteOption,
    /// How single manifests are treated.
    pub manifest_configs: Vec<ManifestConfig>,
    /// Whose rights decide what may be applied; nobody's, when there is none.
    pub executor: Option<Executor>,
}

/// Whose rights decide what may be applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Executor {
    /// Who.
    pub subject: ExecutorSubject,
}

/// Who that is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExecutorSubject {
    /// `ServiceAccount`
    #[serde(rename = "type")]
    pub kind: String,
    /// A service account of the cluster.
    pub service_account: Option<Account>,
}

/// A service account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What is applied.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// Objects.
    pub manifests: Vec<Value>,
}

/// What becomes of manifests when the work goes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeleteOption {
    /// `Foreground`, `Orphan`, `SelectivelyOrphan`
    pub propagation_policy: String,
    /// Which are left.
    pub selectively_orphans: Option<SelectivelyOrphan>,
    /// How long the work stays when all is done.
    pub ttl_seconds_after_finished: Option<i64>,
}

/// Which manifests are left.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SelectivelyOrphan {
    /// These.
    pub orphaning_rules: Vec<Identifier>,
}

/// Names a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Identifier {
    /// API group.
    pub group: String,
    /// Plural.
    pub resource: String,
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
}

/// How single manifests are treated.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ManifestConfig {
    /// Which.
    pub resource_identifier: Identifier,
    /// Values to report.
    pub feedback_rules: Vec<FeedbackRule>,
    /// How they are applied.
    pub update_strategy: Option<UpdateStrategy>,
    /// Conditions to report.
    pub condition_rules: Vec<ConditionRule>,
}

/// Values to report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FeedbackRule {
    /// `WellKnownStatus` or `JSONPaths`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where the values are.
    pub json_paths: Vec<NamedPath>,
}

/// Where a value is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NamedPath {
    /// What it is called.
    pub name: String,
    /// Of which version of its kind; empty: any.
    pub version: String,
    /// The path.
    pub path: String,
}

/// How a manifest is applied.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// `Update`, `CreateOnly`, `ServerSideApply`, `ReadOnly`
    #[serde(rename = "type")]
    pub kind: String,
    /// For server-side apply.
    pub server_side_apply: Option<ServerSideApply>,
}

/// How server-side apply is done.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServerSideApply {
    /// Take what others own.
    pub force: bool,
    /// Whose the fields are.
    pub field_manager: String,
    /// Fields that are left to others.
    pub ignore_fields: Vec<IgnoreField>,
}

/// Fields that are left to others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IgnoreField {
    /// `OnSpokePresent`: once the object is there; `OnSpokeChange`: once others have changed them.
    pub condition: String,
    /// By paths of Kubernetes.
    pub json_paths: Vec<String>,
    /// By pointers of RFC 6901.
    pub json_pointers: Vec<String>,
}

/// A condition to report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConditionRule {
    /// Its type.
    pub condition: String,
    /// `WellKnownConditions` or `CEL`.
    #[serde(rename = "type")]
    pub kind: String,
    /// All have to hold.
    pub cel_expressions: Vec<String>,
    /// What is said.
    pub message: String,
    /// What makes it.
    pub message_expression: String,
}

/// How one manifest is treated, by all that was said of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Treatment<'a> {
    /// Values to report.
    pub feedback: &'a [FeedbackRule],
    /// Conditions to report.
    pub conditions: &'a [ConditionRule],
    /// How it is applied; `None`: updated.
    pub strategy: Option<&'a UpdateStrategy>,
}

impl Work {
    /// From the object.
    ///
    /// # Errors
    /// When its spec has another form.
    pub fn read(object: &Value) -> Result<Self, serde_json::Error> {
        let spec = object.get("spec").filter(|spec| !spec.is_null());
        spec.map_or_else(|| Ok(Self::default()), Self::deserialize)
    }

    /// How a manifest is treated.
    #[must_use]
    pub fn treatment(&self, of: &Identifier) -> Treatment<'_> {
        let mut out = Treatment::default();
        for config in self.manifest_configs.iter().filter(|it| it.resource_identifier.names(of)) {
            if out.feedback.is_empty() {
                out.feedback = &config.feedback_rules;
            }
            if out.conditions.is_empty() {
                out.conditions = &config.condition_rules;
            }
            out.strategy = out.strategy.or(config.update_strategy.as_ref());
        }
        out
    }

    /// Whether conditions are made of what is applied.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        self.manifest_configs.iter().any(|it| !it.condition_rules.is_empty())
    }

    /// Whether a manifest goes with the work.
    #[must_use]
    pub fn owns(&self, one: &Identifier) -> bool {
        match &*self.delete_option.propagation_policy {
            "Orphan" => false,
            "SelectivelyOrphan" => {
                let rules = self.delete_option.selectively_orphans.as_ref();
                !rules.is_some_and(|rules| rules.orphaning_rules.contains(one))
            }
            _ => true,
        }
    }
}

impl Identifier {
    /// Whether it names this one; `*` in name and namespace stands for any text.
    #[must_use]
    fn names(&self, one: &Self) -> bool {
        self.group == one.group
            && self.resource == one.resource
            && matches(&self.name, &one.name)
            && matches(&self.namespace, &one.namespace)
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    if !pattern.contains('*') {
        return rest.is_empty();
    }
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn identifier(name: &str) -> Identifier {
        Identifier {
            group: "apps".to_owned(),
            resource: "deployments".to_owned(),
            name: name.to_owned(),
            namespace: "default".to_owned(),
        }
    }

    #[test]
    fn the_first_configuration_that_says_something_counts() {
        let named = |name: &str| json!({"group": "apps", "resource": "deployments", "name": name, "namespace": "*"});
        let work = Work::read(&json!({"spec": {"manifestConfigs": [
            {"resourceIdentifier": named("web"), "feedbackRules": [{"type": "WellKnownStatus"}]},
            {"resourceIdentifier": named("w*"), "updateStrategy": {"type": "CreateOnly"},
             "feedbackRules": [{"type": "JSONPaths"}]},
            {"resourceIdentifier": named("*b"), "updateStrategy": {"type": "ReadOnly"}},
        ]}}))
        .unwrap();
        let web = work.treatment(&identifier("web")).clone();
        assert_eq!(web.feedback[0].kind, "WellKnownStatus");
        assert_eq!(web.strategy.unwrap().kind, "CreateOnly");
        assert_eq!(work.treatment(&identifier("wide")).feedback[0].kind, "JSONPaths");
        assert_eq!(work.treatment(&identifier("db")).strategy.unwrap().kind, "ReadOnly");
        assert_eq!(work.treatment(&identifier("other")), Treatment::default());
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_orphaned_is_not_owned() {
        let with = |option: Value| Work::read(&json!({"spec": {"deleteOption": option}})).unwrap();
        assert!(Work::default().owns(&identifier("web")));
        assert!(with(json!({"propagationPolicy": "Foreground"})).owns(&identifier("web")));
        assert!(!with(json!({"propagationPolicy": "Orphan"})).owns(&identifier("web")));
        let some = with(
            json!({"propagationPolicy": "SelectivelyOrphan", "selectivelyOrphans": {"orphaningRules":
            [{"group": "apps", "resource": "deployments", "name": "web", "namespace": "default"}]}}),
        );
        assert!(!some.owns(&identifier("web")) && some.owns(&identifier("db")));
    }
}
