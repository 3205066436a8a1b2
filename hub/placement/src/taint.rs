//! Taints and tolerations.

use k8s_openapi::api::core::v1;

/// What a taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing new comes here.
    NoSchedule,
    /// Rather elsewhere.
    PreferNoSchedule,
    /// Nothing new comes here, and what is here goes.
    NoExecute,
}

impl Effect {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

/// One taint of a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// key
    pub key: String,
    /// value, else empty.
    pub value: String,
    /// effect
    pub effect: Effect,
}

impl Taint {
    /// From the API's form; `None` for an effect that does not exist.
    #[must_use]
    pub fn read(taint: &v1::Taint) -> Option<Self> {
        Some(Self {
            key: taint.key.clone(),
            value: taint.value.clone().unwrap_or_default(),
            effect: Effect::parse(&taint.effect)?,
        })
    }
}

/// One toleration of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    /// Empty: every key.
    key: String,
    /// `None`: every value.
    value: Option<String>,
    /// `None`: every effect.
    effect: Option<Effect>,
}

impl Toleration {
    /// From the API's form; `None` when it can tolerate nothing.
    #[must_use]
    pub fn read(toleration: &v1::Toleration) -> Option<Self> {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let key = text(&toleration.key);
        let value = match toleration.operator.as_deref().unwrap_or("Equal") {
            "Exists" => None,
            "Equal" | "" if !key.is_empty() => Some(text(&toleration.value)),
            _ => return None,
        };
        let effect = match toleration.effect.as_deref().unwrap_or_default() {
            "" => None,
            named => Some(Effect::parse(named)?),
        };
        Some(Self { key, value, effect })
    }

    /// Whether it tolerates the taint.
    #[must_use]
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.effect.is_none_or(|e| e == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && self.value.as_ref().is_none_or(|v| *v == taint.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(toleration: serde_json::Value, expected: bool) {
        let toleration: v1::Toleration = serde_json::from_value(toleration).unwrap();
        let taint = Taint { key: "gpu".into(), value: "yes".into(), effect: Effect::NoSchedule };
        let got = Toleration::read(&toleration).is_some_and(|t| t.tolerates(&taint));
        assert_eq!(got, expected, "{toleration:?}");
    }

    #[test]
    fn tolerations() {
        check(json!({"key": "gpu", "value": "yes"}), true);
        check(json!({"key": "gpu", "value": "no"}), false);
        check(json!({"key": "gpu", "operator": "Exists"}), true);
        check(json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}), false);
        check(json!({"operator": "Exists"}), true);
        check(json!({"operator": "Equal"}), false);
        check(json!({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}), true);
    }
}
