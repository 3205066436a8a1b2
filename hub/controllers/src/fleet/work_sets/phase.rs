//! Whether a rollout goes on, rests or goes back, and what is said of that.
//!
//! ```text
//! Forward ──rollout-paused──▶ Paused ──taken off──▶ Forward
//!    └──too many failed, abort-rollout──▶ Back, until the set asks for something else: its next generation
//! ```
//!
//! That a rollout goes back is said in a condition before anything is done, of the generation that is aborted. So a hub
//! that ends in between goes on with it, and what failed once is not tried again as soon as nobody has it any more.
//!
//! Guarantees:
//! - what is aborted stays so until the set asks for something else (`what_is_aborted_stays_so_for_its_generation`);
//! - nobody goes back before there is something that all had (`nobody_goes_back_to_nothing`).

use std::collections::BTreeSet;

use freewheel_hub_api::conditions::{
    Condition, ConditionStatus, SET_ROLLOUT_ABORTED, SET_ROLLOUT_PAUSED, SET_ROLLOUT_WAITING,
};
use freewheel_hub_api::rollout_annotations::{ABORT, PAUSED, Rollback, RolloutControl};
use jiff::Timestamp;
use serde_json::Value;

use crate::engine::clock::rfc3339;

/// Clusters that are named as having failed.
const NAMED_MAX: usize = 10;

/// What a rollout does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Clusters are given the template, as its strategy says.
    Forward,
    /// Nobody new is given it.
    Paused,
    /// Those that have it get back what all had before.
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

/// Whether the rollout of what the set asks for was aborted before.
fn is_aborted(set: &Value) -> bool {
    let said = SET_ROLLOUT_ABORTED.find(set);
    said.is_some_and(|it| {
        it["status"] == "True" && it["observedGeneration"].as_i64() == generation(set)
    })
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
    /// Of a set of whose clusters these have failed, which are too many.
    pub fn of(set: &Value, kept: KeptTemplate, failed: &BTreeSet<String>) -> Self {
        let (phase, control) = (Phase::of(set), RolloutControl::of(set));
        let why = format!("{PAUSED}: nobody new is given the template");
        let paused = (phase == Phase::Paused)
            .then(|| Condition::new(&SET_ROLLOUT_PAUSED, true, "Paused", why));
        let told = Self { paused, ..Self::default() };
        if is_aborted(set) {
            return Self { stays: true, ..told };
        }
        let (reason, cause) = if is_to_be_aborted(set, &control) {
            ("Aborted", format!("{ABORT} names this generation"))
        } else if control.rollback == Some(Rollback::Automatic)
            && !failed.is_empty()
            && kept != KeptTemplate::Same
        {
            let cause = format!("too many clusters failed or took too long ({})", listed(failed));
            ("TooManyFailures", cause)
        } else {
            return told;
        };
        let (holds, reason, effect) = match kept {
            KeptTemplate::Earlier => {
                (true, reason, "those that have the template get back the one that all had before")
            }
            // Nobody is begun with any more; that is what can be done.
            KeptTemplate::None if reason == "Aborted" => {
                (true, reason, "no earlier template is kept, and clusters keep what they have")
            }
            KeptTemplate::None => (
                false,
                "NoEarlierTemplate",
                "no earlier template is kept, and clusters keep what they have",
            ),
            KeptTemplate::Same => {
                (false, "AlreadyComplete", "all had the template already, and keep it")
            }
        };
        let message = format!("{cause}: {effect}");
        let said = Condition::new(&SET_ROLLOUT_ABORTED, holds, reason, message);
        Self { aborted: Some(Condition { observed: generation(set), ..said }), ..told }
    }

    /// The same, where these clusters wait for their maintenance windows, the first of which opens then.
    pub fn of_waiting(self, clusters: &BTreeSet<String>, opens: Option<Timestamp>) -> Self {
        if clusters.is_empty() {
            return self;
        }
        let when = opens.map(|at| format!("; the next one opens at {}", rfc3339(at)));
        let message = format!(
            "wait for their maintenance window, or to be heard of in it: {}{}",
            listed(clusters),
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

fn listed(clusters: &BTreeSet<String>) -> String {
    let named: Vec<&str> = clusters.iter().take(NAMED_MAX).map(String::as_str).collect();
    let more = clusters.len() - named.len();
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{rest}", named.join(", "))
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
        set(json!({"freewheel.dev/rollback": "Automatic"}))
    }

    fn failed() -> BTreeSet<String> {
        ["pi-2".to_owned()].into()
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
    fn what_is_aborted_stays_so_for_its_generation() {
        let mut set = automatic();
        let none = BTreeSet::new();
        let told = Told::of(&set, KeptTemplate::Earlier, &failed());
        assert!(goes_back(&told) && told.news(&set).is_some_and(|it| it.1.contains("(pi-2)")));
        assert_eq!(said(&mut set, &told), pair("True", "TooManyFailures"));
        assert_eq!(Phase::of(&set), Phase::Back);
        let later = Told::of(&set, KeptTemplate::Earlier, &none);
        assert!(!goes_back(&later) && later.news(&set).is_none());
        assert_eq!(said(&mut set, &later), pair("True", "TooManyFailures"));
        set["metadata"]["generation"] = json!(5);
        assert_eq!(Phase::of(&set), Phase::Forward);
        let new = Told::of(&set, KeptTemplate::Earlier, &none);
        assert_eq!(said(&mut set, &new), pair("", ""));
    }

    #[test]
    fn nobody_goes_back_to_nothing() {
        for (kept, expected) in [
            (KeptTemplate::None, pair("False", "NoEarlierTemplate")),
            (KeptTemplate::Same, pair("", "")),
        ] {
            let mut set = automatic();
            let told = Told::of(&set, kept, &failed());
            assert!(!goes_back(&told), "{kept:?}");
            assert_eq!(said(&mut set, &told), expected);
            assert!(Told::of(&set, kept, &failed()).news(&set).is_none(), "it is told once");
        }
        let manual = set(json!({"freewheel.dev/rollback": "Manual"}));
        assert!(!goes_back(&Told::of(&manual, KeptTemplate::Earlier, &failed())));
    }

    #[test]
    fn who_aborts_names_a_generation() {
        for (named, phase) in [("4", Phase::Back), ("3", Phase::Forward), ("5", Phase::Forward)] {
            let set = set(json!({"freewheel.dev/abort-rollout": named}));
            assert_eq!(Phase::of(&set), phase, "{named}");
            let told = Told::of(&set, KeptTemplate::Earlier, &BTreeSet::new());
            assert_eq!(goes_back(&told), phase == Phase::Back);
        }
        let mut done = set(json!({"freewheel.dev/abort-rollout": "4"}));
        let told = Told::of(&done, KeptTemplate::Same, &BTreeSet::new());
        assert_eq!(said(&mut done, &told), pair("False", "AlreadyComplete"));
    }

    #[test]
    fn who_waits_is_said_and_until_when() {
        let mut set = set(json!({}));
        let none = BTreeSet::new();
        let told = || Told::of(&automatic(), KeptTemplate::None, &none);
        let opens = "2026-01-03T02:00:00Z".parse().ok();
        told().of_waiting(&failed(), opens).put(&mut set["status"]["conditions"], "t");
        let said = SET_ROLLOUT_WAITING.find(&set).unwrap();
        assert_eq!(
            said["message"],
            "wait for their maintenance window, or to be heard of in it: pi-2; the next one opens at 2026-01-03T02:00:00Z"
        );
        told().of_waiting(&none, None).put(&mut set["status"]["conditions"], "t");
        assert!(SET_ROLLOUT_WAITING.find(&set).is_none());
    }

    #[test]
    fn a_pause_is_said_and_taken_back() {
        let mut set = set(json!({"freewheel.dev/rollout-paused": "true"}));
        assert_eq!(Phase::of(&set), Phase::Paused);
        let none = BTreeSet::new();
        Told::of(&set, KeptTemplate::None, &none).put(&mut set["status"]["conditions"], "t");
        assert!(SET_ROLLOUT_PAUSED.holds(&set));
        set["metadata"]["annotations"] = json!({});
        Told::of(&set, KeptTemplate::None, &none).put(&mut set["status"]["conditions"], "t");
        assert!(SET_ROLLOUT_PAUSED.find(&set).is_none());
    }
}
