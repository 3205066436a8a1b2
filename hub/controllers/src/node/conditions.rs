//! What a session means for a Node and a ManagedCluster: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use freewheel_hub_api::conditions::{
    CLUSTER_ACCEPTED, CLUSTER_AVAILABLE, CLUSTER_CERTIFICATE, CLUSTER_JOINED, Condition,
    ConditionStatus, ConditionType, NODE_DISK_PRESSURE, NODE_LEDGER_UNWRITABLE,
    NODE_MEMORY_PRESSURE, NODE_PID_PRESSURE, NODE_READONLY_FILESYSTEM, NODE_READY,
};
use freewheel_hub_objects::internal::SessionRecord;
use freewheel_hub_store::Stored;
use serde_json::{Value, json};

pub use freewheel_hub_api::kinds::node::UNREACHABLE;

/// Taint of a cordoned spoke.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions of a spoke that is short of something, and the taints that keep new pods away meanwhile.
pub(super) const PRESSURES: [(&ConditionType, &str); 3] = [
    (&NODE_MEMORY_PRESSURE, "node.kubernetes.io/memory-pressure"),
    (&NODE_DISK_PRESSURE, "node.kubernetes.io/disk-pressure"),
    (&NODE_PID_PRESSURE, "node.kubernetes.io/pid-pressure"),
];
/// How long a session may be gone before the spoke counts as silent.
pub const SESSION_GRACE: Duration = Duration::from_secs(10);
/// How long after its own start a hub calls nobody silent who was not before: spokes look for it every 15 s at
/// least, and a dial takes a while.
const START_GRACE: Duration = Duration::from_secs(30);
/// Names the labels that a Node has from its ManagedCluster, so that they can be taken off again. A Node
/// without it was never a spoke's.
const COPIED_LABELS_ANNOTATION: &str = "freewheel.dev/labels-of-cluster";

/// What is known of a spoke's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It was never here.
    Never,
    /// It is here.
    Connected,
    /// It is here and takes no plan: what is wanted of it is not done.
    Late,
    /// It is here, and its disk keeps nothing of what it is told.
    Forgetful,
    /// It is here, and has not said what it is.
    Untold,
    /// It was here.
    Silent,
}

/// A Node's Ready.
#[must_use]
pub fn ready(presence: Presence) -> Condition<'static> {
    let (status, reason, message) = match presence {
        Presence::Never => {
            (ConditionStatus::Unknown, "NodeStatusNeverUpdated", "The spoke has not connected yet.")
        }
        Presence::Connected => {
            (ConditionStatus::True, "KubeletReady", "the spoke agent is connected")
        }
        Presence::Late => (
            ConditionStatus::False,
            "PlansDoNotLand",
            "The spoke is connected and takes no plan; what it holds goes on.",
        ),
        Presence::Forgetful => (
            ConditionStatus::False,
            "LedgerUnwritable",
            "The spoke cannot write to its data directory: its pods run, and what changes is lost when it restarts; \
             `spoke doctor` there says why.",
        ),
        Presence::Untold => {
            let text = "The spoke has not said what it is yet.";
            (ConditionStatus::Unknown, "NodeStatusNeverUpdated", text)
        }
        Presence::Silent => {
            let text = "The spoke is silent; pods without a tolerationSeconds of their own are left running, and all are while \
                        most of the cluster is silent.";
            (ConditionStatus::Unknown, "NodeStatusUnknown", text)
        }
    };
    Condition::new(&NODE_READY, status, reason, message)
}

/// The same for one Node: one in which its spoke has said nothing is not Ready, whoever made it, and neither is one that
/// says that it keeps nothing.
#[must_use]
pub fn of_node(node: &Value, spoke: Presence) -> Presence {
    let agent = node.pointer("/status/nodeInfo/kubeletVersion").and_then(Value::as_str);
    match spoke {
        Presence::Connected | Presence::Late if agent.is_none_or(str::is_empty) => Presence::Untold,
        Presence::Connected
            if [&NODE_READONLY_FILESYSTEM, &NODE_LEDGER_UNWRITABLE]
                .iter()
                .any(|trouble| trouble.holds(node)) =>
        {
            Presence::Forgetful
        }
        Presence::Connected | Presence::Late => spoke,
        Presence::Never | Presence::Forgetful | Presence::Untold | Presence::Silent => spoke,
    }
}

/// A ManagedCluster's conditions.
#[must_use]
pub fn cluster_conditions(accepted: bool, presence: Presence) -> Vec<Condition<'static>> {
    let mut all = Vec::new();
    all.push(if accepted {
        let text = "Accepted by hub cluster admin";
        Condition::new(&CLUSTER_ACCEPTED, true, "HubClusterAdminAccepted", text)
    } else {
        let text = "Denied by hub cluster admin";
        Condition::new(&CLUSTER_ACCEPTED, false, "HubClusterAdminDenied", text)
    });
    if presence != Presence::Never {
        let text = "Managed cluster joined";
        all.push(Condition::new(&CLUSTER_JOINED, true, "ManagedClusterJoined", text));
        all.push(if presence == Presence::Connected && accepted {
            let text = "Managed cluster is available";
            Condition::new(&CLUSTER_AVAILABLE, true, "ManagedClusterAvailable", text)
        } else if presence == Presence::Late && accepted {
            let text = "The spoke is connected and takes no plan.";
            Condition::new(&CLUSTER_AVAILABLE, false, "PlansDoNotLand", text)
        } else {
            let text = "The spoke is silent.";
            let reason = "ManagedClusterLeaseUpdateStopped";
            Condition::new(&CLUSTER_AVAILABLE, ConditionStatus::Unknown, reason, text)
        });
    }
    all
}

/// Puts a taint that keeps new pods away on, or takes it off.
pub fn put_taint(node: &mut Value, key: &str, wanted: bool, now: &str) {
    put_taint_of(node, (key, "NoSchedule"), wanted, now);
}

/// Puts a taint with this key and effect on, or takes it off.
pub fn put_taint_of(node: &mut Value, (key, effect): (&str, &str), wanted: bool, now: &str) {
    let list = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let is_it = |taint: &Value| taint["key"] == key && taint["effect"] == effect;
    if list.iter().any(is_it) == wanted {
        return;
    }
    let mut list: Vec<Value> = list.into_iter().filter(|taint| !is_it(taint)).collect();
    if wanted {
        list.push(json!({"key": key, "effect": effect, "timeAdded": now}));
    }
    node["spec"]["taints"] = json!(list);
}

/// Puts the ManagedCluster's labels on a Node and takes those off that it no longer has.
pub fn put_labels(node: &mut Value, name: &str, of_cluster: &BTreeMap<String, String>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let copied = text(&node["metadata"]["annotations"][COPIED_LABELS_ANNOTATION]);
    let info = &node["status"]["nodeInfo"];
    let (arch, os) = (text(&info["architecture"]), text(&info["operatingSystem"]));
    let mut labels = node["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    for key in copied.split(',').filter(|key| !of_cluster.contains_key(*key)) {
        labels.remove(key);
    }
    labels.insert("kubernetes.io/hostname".into(), json!(name));
    for (key, value) in [("kubernetes.io/arch", arch), ("kubernetes.io/os", os)] {
        if !value.is_empty() {
            labels.insert(key.into(), json!(value));
        }
    }
    for (key, value) in of_cluster {
        labels.insert(key.clone(), json!(value));
    }
    node["metadata"]["labels"] = Value::Object(labels);
    let keys: Vec<&str> = of_cluster.keys().map(String::as_str).collect();
    if !node["metadata"]["annotations"].is_object() {
        node["metadata"]["annotations"] = json!({});
    }
    node["metadata"]["annotations"][COPIED_LABELS_ANNOTATION] = json!(keys.join(","));
}

/// Whether this Node was ever written for a spoke.
pub(crate) fn is_ours(node: &Stored) -> bool {
    let value = node.object.value().unwrap_or_default();
    value["metadata"]["annotations"][COPIED_LABELS_ANNOTATION].is_string()
}

/// What is to be said of a spoke's certificate, and when that changes. A spoke renews it with a quarter to a fifth
/// of its life left; that it is not renewed with an eighth left, somebody should know.
pub(super) fn certificate(
    session: Option<&SessionRecord>,
    now: i64,
) -> (Option<Condition<'static>>, Option<Duration>) {
    let Some(SessionRecord { life: (from, to), .. }) = session.filter(|s| s.life.0 < s.life.1)
    else {
        return (None, None);
    };
    let late = to - (to - from) / 8;
    let say = |status: bool, reason: &'static str, message: &'static str| {
        Condition::new(&CLUSTER_CERTIFICATE, status, reason, message)
    };
    let (condition, change) = if now < late {
        (say(false, "Valid", "The spoke's certificate is valid for long."), Some(late))
    } else if now <= *to {
        let text = "The spoke has not renewed its certificate, which ends soon: it does so by itself while it is in \
                    session. See that it is connected, and its log.";
        (say(true, "NotRenewed", text), Some(*to + 1))
    } else {
        let text = "The spoke's certificate has ended. It gets a new one with its key when it comes back, as long as \
                    it is accepted.";
        (say(true, "Expired", text), None)
    };
    let wait = change.and_then(|at| u64::try_from(at - now).ok());
    (Some(condition), wait.map(Duration::from_secs))
}

/// How a spoke is, and when that changes by itself.
pub(super) fn presence(
    session: Option<&SessionRecord>,
    now_millis: i64,
) -> (Presence, Option<Duration>) {
    match session {
        None => (Presence::Never, None),
        Some(SessionRecord { connected: true, late: true, .. }) => (Presence::Late, None),
        Some(SessionRecord { connected: true, .. }) => (Presence::Connected, None),
        Some(SessionRecord { connected: false, since, .. }) => {
            let grace = i64::try_from(SESSION_GRACE.as_millis()).unwrap_or(i64::MAX);
            let gone = now_millis.saturating_sub(*since);
            // One that ended much later than now was there before the clock was set back: how long ago, nobody knows.
            if (-grace..grace).contains(&gone) {
                let rest = Duration::from_millis(grace.abs_diff(gone));
                (Presence::Connected, Some(rest))
            } else {
                (Presence::Silent, None)
            }
        }
    }
}

/// The same for a hub that runs since `up`: who was not called silent before it started gets the time to come back.
pub(super) fn with_start_grace(
    seen: (Presence, Option<Duration>),
    called_silent: bool,
    up: Duration,
) -> (Presence, Option<Duration>) {
    let rest = START_GRACE.saturating_sub(up);
    if seen.0 == Presence::Silent && !called_silent && !rest.is_zero() {
        (Presence::Connected, Some(rest))
    } else {
        seen
    }
}

/// Whether a Node has the taint of a spoke that is silent.
pub(super) fn has_unreachable_taint(node: &Stored) -> bool {
    let value = node.object.value().unwrap_or_default();
    let taints = value["spec"]["taints"].as_array();
    taints.is_some_and(|taints| taints.iter().any(|taint| taint["key"] == UNREACHABLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_starts_gives_its_spokes_the_time_to_come_back() {
        let silent = (Presence::Silent, None);
        let left = START_GRACE.checked_sub(Duration::from_secs(12));
        let up = Duration::from_secs(12);
        assert_eq!(with_start_grace(silent, false, up), (Presence::Connected, left));
        assert_eq!(with_start_grace(silent, true, up), silent, "it was silent before");
        assert_eq!(with_start_grace(silent, false, START_GRACE), silent);
        let (never, here) = ((Presence::Never, None), (Presence::Connected, None));
        assert_eq!(
            (with_start_grace(never, false, up), with_start_grace(here, false, up)),
            (never, here)
        );
        let mut backoff = freewheel_link::backoff::Backoff::uplink();
        let mut rng = fastrand::Rng::with_seed(1);
        let tries = (0..5_000).map(|_| backoff.wait(Some(Duration::ZERO), &mut rng));
        assert!(
            tries.max().unwrap() + Duration::from_secs(10) < START_GRACE,
            "a try and its dial fit"
        );
    }

    #[test]
    fn conditions_follow_the_session() {
        assert_eq!(ready(Presence::Connected).status, ConditionStatus::True);
        assert_eq!(ready(Presence::Silent).reason, "NodeStatusUnknown");
        let kinds = |accepted, presence| -> Vec<(&str, ConditionStatus)> {
            let all = cluster_conditions(accepted, presence);
            all.iter().map(|condition| (condition.kind.name, condition.status)).collect()
        };
        assert_eq!(
            kinds(true, Presence::Never),
            [("HubAcceptedManagedCluster", ConditionStatus::True)]
        );
        assert_eq!(
            kinds(true, Presence::Silent),
            [
                ("HubAcceptedManagedCluster", ConditionStatus::True),
                ("ManagedClusterJoined", ConditionStatus::True),
                ("ManagedClusterConditionAvailable", ConditionStatus::Unknown)
            ]
        );
    }

    #[test]
    fn a_short_absence_is_none() {
        let gone = SessionRecord { connected: false, since: 5_000, ..SessionRecord::default() };
        let left = Some(Duration::from_secs(7));
        assert_eq!(presence(Some(&gone), 8_000), (Presence::Connected, left));
        assert_eq!(presence(Some(&gone), 15_000), (Presence::Silent, None));
        assert_eq!(presence(None, 8_000), (Presence::Never, None));
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nobody_connected() {
        let since = 86_400_000;
        let gone = SessionRecord { connected: false, since, ..SessionRecord::default() };
        assert_eq!(presence(Some(&gone), 0), (Presence::Silent, None), "a day");
        let (seen, left) = presence(Some(&gone), since - 500);
        let slewed = Duration::from_millis(10_500);
        assert_eq!((seen, left), (Presence::Connected, Some(slewed)), "a moment, and not for long");
    }

    #[test]
    fn who_is_connected_and_takes_no_plan_is_not_ready() {
        let late =
            SessionRecord { connected: true, since: 5_000, late: true, ..SessionRecord::default() };
        let (presence, look_again) = presence(Some(&late), 8_000);
        assert_eq!((presence, look_again), (Presence::Late, None));
        let not_ready = |condition: &Condition<'_>| {
            condition.status == ConditionStatus::False && condition.reason == "PlansDoNotLand"
        };
        assert!(not_ready(&ready(presence)));
        assert!(cluster_conditions(true, presence).iter().any(not_ready));
    }

    #[test]
    fn whose_disk_keeps_nothing_is_not_ready() {
        let of = |kind: &str, status: &str| {
            let node = json!({"status": {
                "nodeInfo": {"kubeletVersion": "v1"},
                "conditions": [{"type": kind, "status": status}],
            }});
            let ready = ready(of_node(&node, Presence::Connected));
            (ready.status, ready.reason.into_owned())
        };
        for kind in ["LedgerUnwritable", "ReadonlyFilesystem"] {
            assert_eq!(of(kind, "True"), (ConditionStatus::False, "LedgerUnwritable".to_owned()));
            assert_eq!(of(kind, "False").0, ConditionStatus::True);
        }
        assert_eq!(of("LedgerDamaged", "True").0, ConditionStatus::True, "it has begun anew");
    }

    #[test]
    fn a_certificate_that_is_not_renewed_is_told_of_before_it_ends() {
        let held = |life| SessionRecord { connected: true, life, ..SessionRecord::default() };
        let reason = |now| {
            let (condition, again) = certificate(Some(&held((0, 800))), now);
            (
                condition.map(|condition| condition.reason.into_owned()),
                again.map(|again| again.as_secs()),
            )
        };
        assert_eq!(reason(600), (Some("Valid".to_owned()), Some(100)));
        assert_eq!(reason(700), (Some("NotRenewed".to_owned()), Some(101)));
        assert_eq!(reason(801), (Some("Expired".to_owned()), None));
        assert_eq!(certificate(Some(&held((0, 0))), 5), (None, None));
        assert_eq!(certificate(None, 5), (None, None));
    }

    #[test]
    fn labels_come_and_go_with_the_cluster() {
        let mut node = json!({"metadata": {"labels": {"mine": "1"}}});
        let site = BTreeMap::from([("site".to_owned(), "attic".to_owned())]);
        put_labels(&mut node, "pi-1", &site);
        assert_eq!(node["metadata"]["labels"]["site"], "attic");
        put_labels(&mut node, "pi-1", &BTreeMap::new());
        assert_eq!(
            node["metadata"]["labels"],
            json!({"mine": "1", "kubernetes.io/hostname": "pi-1"})
        );
    }

    #[test]
    fn the_taint_goes_alone() {
        let mut node = json!({"spec": {"taints": [{"key": "mine", "effect": "NoSchedule"}]}});
        put_taint(&mut node, UNREACHABLE, true, "t");
        assert_eq!(node["spec"]["taints"].as_array().unwrap().len(), 2);
        put_taint(&mut node, UNREACHABLE, false, "t");
        assert_eq!(node["spec"]["taints"], json!([{"key": "mine", "effect": "NoSchedule"}]));
    }
}
