//! How fast a number may follow what is measured: rules of both directions.

use std::time::Duration;

use freewheel_hub_schema::quantity::Quantity;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior,
};

use super::replicas::Tolerance;

/// How long recommendations count for fewer, unless a behavior says something else.
pub const DOWNSCALE_STABILIZATION: Duration = Duration::from_secs(300);
/// How far usage may be from its target, unless a behavior says something else.
const USAGE_TOLERANCE: f64 = 0.1;
/// How long changes are looked back at by the policies that are there unless others are given.
const POLICY_PERIOD: Duration = Duration::from_secs(15);

/// Rules of both directions.
#[derive(Clone, Debug, PartialEq)]
pub struct Behavior {
    /// For more.
    pub up: Rules,
    /// For fewer.
    pub down: Rules,
}

/// Rules of one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// How much may change, each by itself.
    pub policies: Vec<Policy>,
    /// Which of them counts.
    pub select: SelectPolicy,
    /// How long recommendations count.
    pub window: Duration,
    /// How far usage may be from its target.
    pub tolerance: f64,
}

/// Which policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectPolicy {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// None: there is no change.
    Disabled,
}

/// How much may change in a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// So much.
    pub step: Step,
    /// In so long.
    pub period: Duration,
}

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many pods.
    Pods(i32),
    /// So many percent of those that there were.
    Percent(i32),
}

impl Behavior {
    /// From a spec; what is left out is as usual.
    #[must_use]
    pub fn read(behavior: &HorizontalPodAutoscalerBehavior) -> Self {
        let percent = Policy { step: Step::Percent(100), period: POLICY_PERIOD };
        let pods = Policy { step: Step::Pods(4), period: POLICY_PERIOD };
        Self {
            up: Rules::read(behavior.scale_up.as_ref(), (&[pods, percent], Duration::ZERO)),
            down: Rules::read(behavior.scale_down.as_ref(), (&[percent], DOWNSCALE_STABILIZATION)),
        }
    }

    /// The longest time that a policy looks back.
    #[must_use]
    pub fn longest_period(&self) -> Duration {
        let all = self.up.policies.iter().chain(&self.down.policies);
        all.map(|policy| policy.period).max().unwrap_or_default()
    }

    /// The longest time that recommendations count.
    #[must_use]
    pub fn longest_window(&self) -> Duration {
        self.up.window.max(self.down.window)
    }

    /// How far usage may be from its target: of one that has no behavior, too.
    #[must_use]
    pub fn tolerance(behavior: Option<&Self>) -> Tolerance {
        let usual = Tolerance { up: USAGE_TOLERANCE, down: USAGE_TOLERANCE };
        behavior.map_or(usual, |it| Tolerance { up: it.up.tolerance, down: it.down.tolerance })
    }
}

impl Rules {
    fn read(rules: Option<&HPAScalingRules>, (usual, window): (&[Policy], Duration)) -> Self {
        let select = match rules.and_then(|rules| rules.select_policy.as_deref()) {
            Some("Min") => SelectPolicy::Min,
            Some("Disabled") => SelectPolicy::Disabled,
            Some(_) | None => SelectPolicy::Max,
        };
        let policies = rules.and_then(|rules| rules.policies.as_ref());
        let seconds = rules.and_then(|rules| rules.stabilization_window_seconds);
        let tolerance = rules.and_then(|rules| rules.tolerance.as_ref());
        let tolerance = tolerance.and_then(|amount| amount.0.parse().ok());
        Self {
            policies: policies
                .map_or_else(|| usual.to_vec(), |all| all.iter().map(Policy::read).collect()),
            select,
            window: seconds.map_or(window, secs),
            tolerance: tolerance.map_or(USAGE_TOLERANCE, |amount: Quantity| amount.approximate()),
        }
    }
}

impl Policy {
    fn read(policy: &HPAScalingPolicy) -> Self {
        let is_percent = policy.type_ == "Percent";
        let step = if is_percent { Step::Percent(policy.value) } else { Step::Pods(policy.value) };
        Self { step, period: secs(policy.period_seconds) }
    }
}

fn secs(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn behavior(value: Value) -> Behavior {
        Behavior::read(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn what_is_left_out_is_as_usual() {
        let usual = behavior(json!({}));
        let percent = Policy { step: Step::Percent(100), period: POLICY_PERIOD };
        let up = Rules {
            policies: vec![Policy { step: Step::Pods(4), period: POLICY_PERIOD }, percent],
            select: SelectPolicy::Max,
            window: Duration::ZERO,
            tolerance: 0.1,
        };
        let window = Duration::from_secs(300);
        let down = Rules { policies: vec![percent], window, ..up };
        assert_eq!(usual, Behavior { up: up.clone(), down });
        let said = behavior(json!({"scaleDown": {"stabilizationWindowSeconds": 0,
            "selectPolicy": "Disabled", "tolerance": "50m",
            "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60},
                {"type": "Percent", "value": 10, "periodSeconds": 90}]}}));
        assert_eq!(said.up, up);
        assert_eq!((said.down.window, said.down.select), (Duration::ZERO, SelectPolicy::Disabled));
        let steps: Vec<_> = said.down.policies.iter().map(|policy| policy.step).collect();
        assert_eq!(steps, [Step::Pods(2), Step::Percent(10)]);
        assert_eq!(said.longest_period(), Duration::from_secs(90));
        assert_eq!(Behavior::tolerance(Some(&said)), Tolerance { up: 0.1, down: 0.05 });
        assert_eq!(Behavior::tolerance(None), Tolerance { up: 0.1, down: 0.1 });
    }
}
