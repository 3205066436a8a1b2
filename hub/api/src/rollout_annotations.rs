//! Annotations of a ManifestWorkReplicaSet that say of its rollout what upstream has no field for.
//!
//! Guarantees:
//! - what says nothing is found with its place and what was written (`what_says_nothing_is_found`).

use freewheel_hub_schema::error::FieldError;
use serde_json::{Value, json};

/// `Automatic`: when too many clusters fail, those that have the template get back the one that all had before.
/// `Manual`: that one is kept for who aborts a rollout.
pub const ROLLBACK: &str = "freewheel.dev/rollback";

/// `true`: nobody new is given the template.
pub const PAUSED: &str = "freewheel.dev/rollout-paused";

/// The generation of the set whose rollout is aborted. It says nothing of the next one.
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
