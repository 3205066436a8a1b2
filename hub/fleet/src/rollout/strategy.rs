//! A rollout's strategy, and how its amounts and durations are read.

use freewheel_hub_schema::duration;
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::Value;

use crate::share;

/// A rollout's strategy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Strategy {
    /// `All`, `Progressive`, `ProgressivePerGroup`
    #[serde(rename = "type")]
    pub kind: String,
    /// For `All`.
    pub all: Option<Settings>,
    /// For `Progressive`.
    pub progressive: Option<Settings>,
    /// For `ProgressivePerGroup`.
    pub progressive_per_group: Option<Settings>,
}

/// What a strategy is set to; each has some of these.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Settings {
    /// How long a cluster has to be well before it counts.
    pub min_success_time: String,
    /// How long a cluster may take; `None`: as long as it likes.
    pub progress_deadline: String,
    /// How many may fail, a number or a percentage.
    pub max_failures: Value,
    /// How many at a time, a number or a percentage.
    pub max_concurrency: Value,
    /// Groups that come first.
    pub mandatory_decision_groups: Vec<MandatoryGroup>,
}

/// A group that comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MandatoryGroup {
    /// By its name.
    pub group_name: String,
    /// By its number, when it has no name.
    pub group_index: i32,
}

/// A strategy that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAStrategy(pub(super) String);

impl Strategy {
    /// As it stands in an object; nothing is the default.
    ///
    /// # Errors
    /// When it has another form: what is not understood is not taken for the default, which is everybody at once.
    pub fn read(asked: &Value) -> Result<Self, NotAStrategy> {
        if asked.is_null() {
            return Ok(Self::default());
        }
        Self::deserialize(asked).map_err(|error| NotAStrategy(error.to_string()))
    }
}

/// A number or a percentage of a total; `default` where that is nothing, or more than all.
pub(super) fn amount(asked: &Value, total: usize, default: usize) -> Result<usize, NotAStrategy> {
    let wrong = || {
        let text = asked.to_string();
        NotAStrategy(format!(
            "{text} is an invalid maximum threshold value: string is not a percentage"
        ))
    };
    let number = match asked {
        Value::Null => 0,
        Value::Number(number) => number.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
        Value::String(text) => share::of(text, total).ok_or_else(wrong)?,
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => return Err(wrong()),
    };
    Ok(if number == 0 || total < number { default } else { number })
}

/// `None`, or a duration as Go writes it; nothing for none.
pub(super) fn time(text: &str) -> Result<Option<SignedDuration>, NotAStrategy> {
    if text.is_empty() || text == "None" {
        return Ok(None);
    }
    let wrong = |_| NotAStrategy(format!("{text:?} is no duration (30s, 5m, 1h)"));
    duration::read(text).map(Some).map_err(wrong)
}
