//! Annotations of a ManifestWorkReplicaSet that say of its rollout what upstream has no field for.
//!
//! Guarantees:
//! - what says nothing is found with its place and what was written (`what_says_nothing_is_found`);
//! - a rollback that can never come by itself is told of (`what_can_never_fail_is_told`).

use freewheel_hub_schema::error::FieldError;
use serde_json::{Value, json};

/// `Automatic`: when too many clusters fail, those that have another template get back the one of the last finished rollout.
/// `Manual`: that one is kept for who aborts a rollout.
pub const ROLLBACK: &str = "freewheel.dev/rollback";

/// `true`: nobody new is given the template.
pub const PAUSED: &str = "freewheel.dev/rollout-paused";

/// The generation of the set whose rollout is aborted. It says nothing of the next template.
pub const ABORT: &str = "freewheel.dev/abort-rollout";

/// Who goes back to the template that all had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollback {
    /// All, when too many have failed.
    Automatic,
    /// All, when somebody aborts it.
    Manual,
}

/// What is said of a rollout beside its strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolloutControl {
    /// Whether the template that all had before is kept, and for what.
    pub rollback: Option<Rollback>,
    /// Nobody new is given anything.
    pub paused: bool,
    /// Which generation of the set is aborted.
    pub aborted: Option<i64>,
}

impl RolloutControl {
    /// What the annotations of this object say. What is refused where it is written says nothing.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        let mut control = Self::default();
        for (key, text) in annotations(&object["metadata"]) {
            // The first that says nothing stands for itself alone.
            let _ = control.take(key, text);
        }
        control
    }

    fn take(&mut self, key: &str, text: &str) -> Result<(), &'static str> {
        match key {
            ROLLBACK => self.rollback = Some(rollback(text)?),
            PAUSED => self.paused = text.parse().map_err(|_| "must be true or false")?,
            ABORT => {
                let number = text.parse::<i64>().ok().filter(|number| 0 < *number);
                self.aborted = Some(number.ok_or("must be a generation of the object, a number")?);
            }
            _ => {}
        }
        Ok(())
    }
}

fn rollback(text: &str) -> Result<Rollback, &'static str> {
    match text {
        "Automatic" => Ok(Rollback::Automatic),
        "Manual" => Ok(Rollback::Manual),
        _ => Err("must be Automatic or Manual"),
    }
}

/// Why a rollout that is to go back by itself never does, in words: nothing lets one of its clusters fail.
#[must_use]
pub fn why_never_automatic(set: &Value) -> Option<String> {
    if RolloutControl::of(set).rollback != Some(Rollback::Automatic) {
        return None;
    }
    let configs = set["spec"]["manifestWorkTemplate"]["manifestConfigs"].as_array();
    let rules: Vec<&Value> = configs
        .into_iter()
        .flatten()
        .flat_map(|config| config["conditionRules"].as_array().into_iter().flatten())
        .collect();
    let makes = |condition: &str| rules.iter().any(|rule| rule["condition"] == condition);
    if !makes("Progressing") {
        let why =
            "no conditionRule of the template makes Progressing, and what is there counts as well";
        return Some(format!("{ROLLBACK}: it never goes back by itself: {why}"));
    }
    let mut refs = set["spec"]["placementRefs"].as_array().into_iter().flatten();
    refs.find_map(|one| {
        let why = why_nobody_fails(&one["rolloutStrategy"], makes("Degraded"))?;
        let placement = one["name"].as_str().unwrap_or_default();
        Some(format!("{ROLLBACK}: it never goes back by itself for placement {placement}: {why}"))
    })
}

fn why_nobody_fails(strategy: &Value, has_degraded: bool) -> Option<&'static str> {
    let settings = match strategy["type"].as_str() {
        Some("Progressive") => &strategy["progressive"],
        Some("ProgressivePerGroup") => &strategy["progressivePerGroup"],
        _ => return Some("its strategy All stops for nobody"),
    };
    let deadline = settings["progressDeadline"].as_str().unwrap_or_default();
    let has_deadline = !["", "None"].contains(&deadline);
    (!has_deadline && !has_degraded).then_some(
        "it has no progressDeadline, and no conditionRule of the template makes Degraded",
    )
}

fn annotations(metadata: &Value) -> impl Iterator<Item = (&String, &str)> {
    let all = metadata["annotations"].as_object().into_iter().flatten();
    all.filter_map(|(key, text)| Some((key, text.as_str()?)))
}

/// What the annotations of this object say wrongly.
pub(crate) fn check(object: &Value) -> Vec<FieldError> {
    let mut control = RolloutControl::default();
    let wrong = |(key, text): (&String, &str)| {
        let why = control.take(key, text).err()?;
        Some(FieldError::invalid(format!("metadata.annotations[{key}]"), &json!(text), why))
    };
    annotations(&object["metadata"]).filter_map(wrong).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_found() {
        for (key, text, why) in [
            (ROLLBACK, "automatic", "must be Automatic or Manual"),
            (PAUSED, "yes", "must be true or false"),
            (ABORT, "this", "must be a generation of the object, a number"),
            (ABORT, "0", "must be a generation of the object, a number"),
        ] {
            let object = json!({"metadata": {"annotations": {key: text, "other": "x"}}});
            let found = check(&object);
            let [error] = &found[..] else { panic!("{found:?}") };
            assert_eq!(error.field, format!("metadata.annotations[{key}]"));
            assert_eq!(error.message, format!("Invalid value: {text:?}: {why}"));
            assert_eq!(RolloutControl::of(&object), RolloutControl::default());
        }
    }

    #[test]
    fn what_can_never_fail_is_told() {
        let set = |strategy: Value, conditions: &[&str]| {
            let rule = |it: &&str| json!({"type": "CEL", "condition": it});
            let rules: Vec<Value> = conditions.iter().map(rule).collect();
            json!({"metadata": {"annotations": {ROLLBACK: "Automatic"}}, "spec": {
                "manifestWorkTemplate": {"manifestConfigs": [{"conditionRules": rules}]},
                "placementRefs": [{"name": "all", "rolloutStrategy": strategy}]}})
        };
        let with = |deadline: &str| json!({"type": "Progressive", "progressive": {"progressDeadline": deadline}});
        for (strategy, conditions, why) in [
            (with("5m"), &[][..], Some("makes Progressing")),
            (with("5m"), &["Degraded"][..], Some("makes Progressing")),
            (with("5m"), &["Progressing"][..], None),
            (with("None"), &["Progressing"][..], Some("no progressDeadline")),
            (with("None"), &["Progressing", "Degraded"][..], None),
            (json!({"type": "All"}), &["Progressing", "Degraded"][..], Some("stops for nobody")),
        ] {
            let mut set = set(strategy, conditions);
            let told = why_never_automatic(&set);
            assert_eq!(told.is_some(), why.is_some(), "{set}");
            assert!(told.unwrap_or_default().contains(why.unwrap_or_default()), "{set}");
            set["metadata"]["annotations"][ROLLBACK] = json!("Manual");
            assert_eq!(why_never_automatic(&set), None);
        }
    }

    #[test]
    fn what_is_said_is_read() {
        let object = json!({"metadata": {"annotations": {
            ROLLBACK: "Manual", PAUSED: "true", ABORT: "7"}}});
        assert_eq!(check(&object), []);
        let rollback = Some(Rollback::Manual);
        let expected = RolloutControl { rollback, paused: true, aborted: Some(7) };
        assert_eq!(RolloutControl::of(&object), expected);
        assert_eq!(RolloutControl::of(&json!({})), RolloutControl::default());
    }
}
