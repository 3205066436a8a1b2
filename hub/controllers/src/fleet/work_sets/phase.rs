//! Whether a rollout goes on, rests or goes back, and what is said of that.
//!
//! ```text
//! Forward ──rollout-paused──▶ Paused ──taken off──▶ Forward
//!    └──too many failed, abort-rollout──▶ Back, until the set asks for another template
//! ```
//!
//! That a rollout goes back is said in a condition before anything is done, with the template that is aborted. So a hub
//! that ends in between goes on with it, and what failed once is not tried again as soon as nobody has it any more, nor
//! when something else of the set is changed. It says how many failed, and not who: whoever reads sets need not know the
//! names of clusters.
//!
//! Guarantees:
//! - what is aborted stays so until the set asks for another template (`what_is_aborted_stays_so_for_its_template`);
//! - nobody goes back before there is something that all had (`nobody_goes_back_to_nothing`);
//! - conditions name no clusters (`conditions_name_no_clusters`).

use freewheel_hub_api::conditions::{
    Condition, ConditionStatus, SET_ROLLOUT_ABORTED, SET_ROLLOUT_PAUSED, SET_ROLLOUT_WAITING,
};
use freewheel_hub_api::rollout_annotations::{
    ABORT, PAUSED, Rollback, RolloutControl, why_never_automatic,
};
use jiff::Timestamp;
use serde_json::Value;

use crate::engine::clock::rfc3339;
use crate::index::spec_digest;

/// What a rollout does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Clusters are given the template, as its strategy says.
    Forward,
    /// Nobody new is given it.
    Paused,
    /// Those that have another one get back what all had before, and nobody new is begun with.
    Back,
}

/// Which template is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptTemplate {
    /// None: it was not asked for, or nothing was given to all yet.
    None,
    /// The one that is rolled out: all had it already.
    Same,
    /// The one before.
    Earlier,
}

impl Phase {
    /// As the set says it.
    pub fn of(set: &Value) -> Self {
        let control = RolloutControl::of(set);
        if is_aborted(set) || is_to_be_aborted(set, &control) {
            Self::Back
        } else if control.paused {
            Self::Paused
        } else {
            Self::Forward
        }
    }
}

fn generation(set: &Value) -> Option<i64> {
    set["metadata"]["generation"].as_i64()
}

/// What the condition calls the template.
fn template_name(set: &Value) -> String {
    format!("template {}", spec_digest(&set["spec"]["manifestWorkTemplate"]).hex())
}

/// Whether the rollout of what the set asks for was aborted before, and that is said.
pub(in crate::fleet) fn is_aborted(set: &Value) -> bool {
    let said = SET_ROLLOUT_ABORTED.find(set).filter(|it| it["status"] == "True");
    let message = said.and_then(|it| it["message"].as_str());
    message.is_some_and(|message| message.contains(&template_name(set)))
}

fn is_to_be_aborted(set: &Value, control: &RolloutControl) -> bool {
    control.aborted.is_some() && control.aborted == generation(set)
}

/// What is said of a rollout that does not simply go on.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// `None`: there is nothing to say.
    aborted: Option<Condition<'static>>,
    /// What was said is said on.
    stays: bool,
    paused: Option<Condition<'static>>,
    waiting: Option<Condition<'static>>,
}

impl Told {
    /// Of a set of whose clusters so many have failed; 0 where that is no more than may.
    pub fn of(set: &Value, kept: KeptTemplate, failed: usize) -> Self {
        let (phase, control) = (Phase::of(set), RolloutControl::of(set));
        let why = format!("{PAUSED}: nobody new is given the template");
        let paused = (phase == Phase::Paused)
            .then(|| Condition::new(&SET_ROLLOUT_PAUSED, true, "Paused", why));
        let told = Self { paused, ..Self::default() };
        if is_aborted(set) {
            return Self { stays: true, ..told };
        }
        let said = if is_to_be_aborted(set, &control) {
            Some(aborted(set, kept, "Aborted", &format!("{ABORT} names this generation")))
        } else if control.rollback == Some(Rollback::Automatic)
            && 0 < failed
            && kept != KeptTemplate::Same
        {
            let cause = format!("too many clusters failed or took too long ({failed})");
            Some(aborted(set, kept, "TooManyFailures", &cause))
        } else {
            not_aborted(set, &control)
        };
        Self { aborted: said.map(|it| Condition { observed: generation(set), ..it }), ..told }
    }

    /// The same, where so many clusters wait for their maintenance windows, the first of which opens then.
    pub fn of_waiting(self, clusters: usize, opens: Option<Timestamp>) -> Self {
        if clusters == 0 {
            return self;
        }
        let when = opens.map(|at| format!("; the next one opens at {}", rfc3339(at)));
        let message = format!(
            "clusters that wait for their maintenance window, or to be heard of in it: {clusters}{}",
            when.unwrap_or_default()
        );
        let said = Condition::new(&SET_ROLLOUT_WAITING, true, "MaintenanceWindow", message);
        Self { waiting: Some(said), ..self }
    }

    /// What of it is new to a set: reason and message of an event.
    pub fn news(&self, set: &Value) -> Option<(&'static str, String)> {
        let said = self.aborted.as_ref()?;
        let before = SET_ROLLOUT_ABORTED.find(set);
        let is_same = |it: &Value| {
            it["status"] == said.status.name() && it["observedGeneration"].as_i64() == said.observed
        };
        let is_back = said.status == ConditionStatus::True;
        let reason = if is_back { "RolloutAborted" } else { "NotRolledBack" };
        let is_news = before.is_none_or(|it| !is_same(it));
        is_news.then(|| (reason, said.message.to_string()))
    }

    /// Puts it into a list of conditions.
    pub fn put(&self, conditions: &mut Value, now: &str) {
        match &self.aborted {
            Some(said) => {
                said.put(conditions, now);
            }
            None if self.stays => {}
            None => SET_ROLLOUT_ABORTED.remove(conditions),
        }
        match &self.paused {
            Some(said) => {
                said.put(conditions, now);
            }
            None => SET_ROLLOUT_PAUSED.remove(conditions),
        }
        match &self.waiting {
            Some(said) => {
                said.put(conditions, now);
            }
            None => SET_ROLLOUT_WAITING.remove(conditions),
        }
    }
}

/// That a rollout is aborted for this reason, or why it is not.
fn aborted(
    set: &Value,
    kept: KeptTemplate,
    reason: &'static str,
    cause: &str,
) -> Condition<'static> {
    let (holds, reason, effect) = match kept {
        KeptTemplate::Earlier => (
            true,
            reason,
            "those that have another one get back the template that all had before, and nobody new is begun with",
        ),
        // Nobody is begun with any more; that is what can be done.
        KeptTemplate::None if reason == "Aborted" => (
            true,
            reason,
            "no earlier template is kept; clusters keep what they have, and nobody new is begun with",
        ),
        KeptTemplate::None => (
            false,
            "NoEarlierTemplate",
            "no earlier template is kept, and clusters keep what they have",
        ),
        KeptTemplate::Same => (
            true,
            reason,
            "all had this template already; clusters keep what they have, and nobody new is begun with",
        ),
    };
    let message = format!("{cause}: {effect} ({})", template_name(set));
    Condition::new(&SET_ROLLOUT_ABORTED, holds, reason, message)
}

/// Why what is asked for does not abort anything, where it cannot.
fn not_aborted(set: &Value, control: &RolloutControl) -> Option<Condition<'static>> {
    let early = control.aborted.filter(|asked| generation(set).is_some_and(|now| now < *asked));
    let (reason, why) = if let Some(asked) = early {
        let why = format!("{ABORT} names generation {asked}, which is still to come");
        ("LaterGeneration", format!("{why}: it is aborted as soon as it does"))
    } else {
        ("NeverAutomatic", why_never_automatic(set)?)
    };
    Some(Condition::new(&SET_ROLLOUT_ABORTED, false, reason, why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(annotations: Value) -> Value {
        let mut set = json!({"metadata": {"generation": 4}});
        set["metadata"]["annotations"] = annotations;
        set
    }

    fn automatic() -> Value {
        let mut set = set(json!({"freewheel.dev/rollback": "Automatic"}));
        let rule = json!({"type": "CEL", "condition": "Progressing", "celExpressions": ["true"]});
        set["spec"] = json!({
            "manifestWorkTemplate": {"manifestConfigs": [{"conditionRules": [rule]}]},
            "placementRefs": [{"name": "all", "rolloutStrategy": {
                "type": "Progressive", "progressive": {"progressDeadline": "60s"}}}]});
        set
    }

    /// Whether a rollout is to go back that did not.
    fn goes_back(told: &Told) -> bool {
        told.aborted.as_ref().is_some_and(|it| it.status == ConditionStatus::True)
    }

    /// What is said when this is put into what was said before.
    fn said(set: &mut Value, told: &Told) -> (String, String) {
        told.put(&mut set["status"]["conditions"], "t");
        let it = SET_ROLLOUT_ABORTED.find(set).cloned().unwrap_or_default();
        let text = |key: &str| it[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"))
    }

    fn pair(status: &str, reason: &str) -> (String, String) {
        (status.to_owned(), reason.to_owned())
    }

    #[test]
    fn what_is_aborted_stays_so_for_its_template() {
        let mut set = automatic();
        let told = Told::of(&set, KeptTemplate::Earlier, 1);
        assert!(goes_back(&told) && told.news(&set).is_some_and(|it| it.1.contains("long (1)")));
        assert_eq!(said(&mut set, &told), pair("True", "TooManyFailures"));
        assert_eq!(Phase::of(&set), Phase::Back);
        let later = Told::of(&set, KeptTemplate::Earlier, 0);
        assert!(!goes_back(&later) && later.news(&set).is_none());
        assert_eq!(said(&mut set, &later), pair("True", "TooManyFailures"));
        set["metadata"]["generation"] = json!(5);
        set["spec"]["cascadeDeletionPolicy"] = json!("Orphan");
        assert_eq!(Phase::of(&set), Phase::Back, "the template is the same");
        let later = Told::of(&set, KeptTemplate::Earlier, 0);
        assert_eq!(said(&mut set, &later), pair("True", "TooManyFailures"));
        set["metadata"]["generation"] = json!(6);
        set["spec"]["manifestWorkTemplate"]["workload"] = json!({});
        assert_eq!(Phase::of(&set), Phase::Forward);
        let new = Told::of(&set, KeptTemplate::Earlier, 0);
        assert_eq!(said(&mut set, &new), pair("", ""));
    }

    #[test]
    fn nobody_goes_back_to_nothing() {
        for (kept, expected) in [
            (KeptTemplate::None, pair("False", "NoEarlierTemplate")),
            (KeptTemplate::Same, pair("", "")),
        ] {
            let mut set = automatic();
            let told = Told::of(&set, kept, 1);
            assert!(!goes_back(&told), "{kept:?}");
            assert_eq!(said(&mut set, &told), expected);
            assert!(Told::of(&set, kept, 1).news(&set).is_none(), "it is told once");
        }
        let manual = set(json!({"freewheel.dev/rollback": "Manual"}));
        assert!(!goes_back(&Told::of(&manual, KeptTemplate::Earlier, 1)));
    }

    #[test]
    fn who_aborts_names_a_generation() {
        for (named, phase, expected) in [
            ("4", Phase::Back, pair("True", "Aborted")),
            ("3", Phase::Forward, pair("", "")),
            ("5", Phase::Forward, pair("False", "LaterGeneration")),
        ] {
            let mut set = set(json!({"freewheel.dev/abort-rollout": named}));
            assert_eq!(Phase::of(&set), phase, "{named}");
            let told = Told::of(&set, KeptTemplate::Earlier, 0);
            assert_eq!(said(&mut set, &told), expected, "{named}");
        }
        let mut done = set(json!({"freewheel.dev/abort-rollout": "4"}));
        let told = Told::of(&done, KeptTemplate::Same, 0);
        assert_eq!(said(&mut done, &told), pair("True", "Aborted"));
        assert!(is_aborted(&done));
    }

    #[test]
    fn what_never_goes_back_by_itself_says_so() {
        let mut set = automatic();
        set["spec"]["placementRefs"][0]["rolloutStrategy"] = json!({"type": "All"});
        let told = Told::of(&set, KeptTemplate::Earlier, 0);
        assert_eq!(said(&mut set, &told), pair("False", "NeverAutomatic"));
        set["spec"]["placementRefs"] = automatic()["spec"]["placementRefs"].clone();
        let told = Told::of(&set, KeptTemplate::Earlier, 0);
        assert_eq!(said(&mut set, &told), pair("", ""));
    }

    #[test]
    fn conditions_name_no_clusters() {
        let mut set = automatic();
        let opens = "2026-01-03T02:00:00Z".parse().ok();
        let told = || Told::of(&automatic(), KeptTemplate::None, 2);
        told().of_waiting(1, opens).put(&mut set["status"]["conditions"], "t");
        let said = SET_ROLLOUT_WAITING.find(&set).unwrap();
        assert_eq!(
            said["message"],
            "clusters that wait for their maintenance window, or to be heard of in it: 1; the next one opens at 2026-01-03T02:00:00Z"
        );
        let said = SET_ROLLOUT_ABORTED.find(&set).unwrap()["message"].as_str().unwrap();
        assert!(said.starts_with("too many clusters failed or took too long (2): "), "{said}");
        told().of_waiting(0, None).put(&mut set["status"]["conditions"], "t");
        assert!(SET_ROLLOUT_WAITING.find(&set).is_none());
    }

    #[test]
    fn a_pause_is_said_and_taken_back() {
        let mut set = set(json!({"freewheel.dev/rollout-paused": "true"}));
        assert_eq!(Phase::of(&set), Phase::Paused);
        Told::of(&set, KeptTemplate::None, 0).put(&mut set["status"]["conditions"], "t");
        assert!(SET_ROLLOUT_PAUSED.holds(&set));
        set["metadata"]["annotations"] = json!({});
        Told::of(&set, KeptTemplate::None, 0).put(&mut set["status"]["conditions"], "t");
        assert!(SET_ROLLOUT_PAUSED.find(&set).is_none());
    }
}
