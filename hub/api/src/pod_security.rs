//! Pod Security Standards: how safe pods have to be, as labels of their namespace ask for it (KEP-2579).
//!
//! ```text
//! labels of a namespace ─▶ Policy: enforce, audit, warn ─▶ Standard ─▶ checks ─▶ violations of a pod
//! ```
//!
//! Pods of modules have no kernel to themselves: most of what is looked at does nothing here anyway, and host ports are the
//! exception. It is looked at all the same: who asks for a level is not to be told that a pod keeps to it which elsewhere does
//! not.
//!
//! Guarantees:
//! - labels that say no level or version are told in upstream's words, and ask for the strictest where pods are refused
//!   (`labels_say_what_is_asked_for`);
//! - who is refused is warned of it where the pods are made from (`what_is_enforced_is_warned_of`).

mod checks;
mod standard;

use std::collections::BTreeMap;

use freewheel_hub_schema::error::FieldError;
use serde_json::Value;

use self::standard::Version;
pub use self::standard::{Level, Standard, Violations};

/// What begins labels of namespaces, and annotations of audit events.
pub const PREFIX: &str = "pod-security.kubernetes.io/";

impl Standard {
    /// What a pod, or a template of some, asks for beyond it.
    #[must_use]
    pub fn violations(self, pod: &Value) -> Violations {
        match self.level {
            Level::Privileged => Violations(Vec::new()),
            Level::Baseline | Level::Restricted => Violations(checks::all(self, pod)),
        }
    }
}

/// What is asked for in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Pods that do not keep to it are refused.
    pub enforce: Standard,
    /// Of those that do not keep to it the audit is told.
    pub audit: Standard,
    /// And who writes them.
    pub warn: Standard,
}

impl Policy {
    /// What a namespace's labels ask for, and what is wrong with them.
    #[must_use]
    pub fn of(labels: &BTreeMap<String, String>) -> (Self, Vec<FieldError>) {
        let mut errors = Vec::new();
        // Where nobody can tell what is meant, pods are refused rather than let in; nobody is told of anything.
        let enforce = Mode::read(labels, "enforce", Level::Restricted, &mut errors);
        let audit = Mode::read(labels, "audit", Level::Privileged, &mut errors);
        let mut warn = Mode::read(labels, "warn", Level::Privileged, &mut errors);
        if !warn.says_level && enforce.is_level && warn.standard.level < enforce.standard.level {
            warn.standard.level = enforce.standard.level;
            if !warn.says_version {
                warn.standard.version = enforce.standard.version;
            }
        }
        let policy = Self { enforce: enforce.standard, audit: audit.standard, warn: warn.standard };
        (policy, errors)
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|one| one.level == Level::Privileged)
    }
}

/// What the two labels of a mode say.
struct Mode {
    standard: Standard,
    says_level: bool,
    is_level: bool,
    says_version: bool,
}

impl Mode {
    fn read(
        labels: &BTreeMap<String, String>,
        mode: &str,
        otherwise: Level,
        errors: &mut Vec<FieldError>,
    ) -> Self {
        let mut wrong = |label: &str, text: &str, why: &str| {
            let at = format!("metadata.labels[{label}]");
            errors.push(FieldError::invalid(at, &text.into(), why));
        };
        let mut standard = Standard::NONE;
        let label = format!("{PREFIX}{mode}");
        let (said, level) = (labels.get(&label), labels.get(&label).map(|text| Level::parse(text)));
        standard.level = level.map_or(standard.level, |level| level.unwrap_or(otherwise));
        if let (Some(text), Some(None)) = (said, level) {
            wrong(&label, text, "must be one of privileged, baseline, restricted");
        }
        let label = format!("{PREFIX}{mode}-version");
        let version = labels.get(&label);
        if let Some(text) = version {
            match Version::parse(text) {
                Some(version) => standard.version = version,
                None => wrong(&label, text, r#"must be "latest" or "v1.x""#),
            }
        }
        let is_level = level.flatten().is_some();
        Self { standard, says_level: said.is_some(), is_level, says_version: version.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(said: &[(&str, &str)]) -> BTreeMap<String, String> {
        said.iter().map(|(mode, text)| (format!("{PREFIX}{mode}"), (*text).to_owned())).collect()
    }

    fn told(said: &[(&str, &str)]) -> [String; 3] {
        let (policy, errors) = Policy::of(&labels(said));
        assert_eq!(errors, []);
        [policy.enforce, policy.audit, policy.warn].map(|one| one.to_string())
    }

    #[test]
    fn labels_say_what_is_asked_for() {
        assert!(Policy::of(&BTreeMap::new()).0.is_privileged());
        let all = [("enforce", "baseline"), ("audit", "restricted"), ("audit-version", "v1.24")];
        assert_eq!(told(&all), ["baseline:latest", "restricted:v1.24", "baseline:latest"]);
        let wrong = [("enforce", "Baseline"), ("warn", ""), ("warn-version", "v1.01")];
        let (policy, errors) = Policy::of(&labels(&wrong));
        assert_eq!(policy.enforce.to_string(), "restricted:latest");
        assert_eq!(policy.warn.to_string(), "privileged:latest");
        let errors: Vec<String> =
            errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
        let level = "must be one of privileged, baseline, restricted";
        assert_eq!(
            errors,
            [
                format!("metadata.labels[{PREFIX}enforce]: Invalid value: \"Baseline\": {level}"),
                format!("metadata.labels[{PREFIX}warn]: Invalid value: \"\": {level}"),
                format!(
                    "metadata.labels[{PREFIX}warn-version]: Invalid value: \"v1.01\": must be \"latest\" or \"v1.x\""
                ),
            ]
        );
        for wrong in ["1.24", "v1", "v2.1", "v1.x", "v1.", "v1.+1", "Latest"] {
            assert_eq!(Version::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_enforced_is_warned_of() {
        let enforced = [("enforce", "restricted"), ("enforce-version", "v1.30")];
        assert_eq!(told(&enforced)[2], "restricted:v1.30");
        let own = [enforced[0], enforced[1], ("warn", "baseline")];
        assert_eq!(told(&own)[2], "baseline:latest");
        let version = [enforced[0], enforced[1], ("warn-version", "v1.31")];
        assert_eq!(told(&version)[2], "restricted:v1.31");
    }

    #[test]
    fn a_standard_is_stricter_or_another_one() {
        let of = |level, version| Standard { level, version };
        let baseline = of(Level::Baseline, Version::Latest);
        let restricted = of(Level::Restricted, Version::Latest);
        assert!(restricted.asks_more_than(baseline));
        assert!(!baseline.asks_more_than(restricted));
        assert!(!baseline.asks_more_than(baseline));
        assert!(of(Level::Baseline, Version::Minor(24)).asks_more_than(restricted));
        assert!(!Standard::NONE.asks_more_than(of(Level::Restricted, Version::Minor(24))));
    }
}
