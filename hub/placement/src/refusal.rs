//! Why nothing fits, in kube-scheduler's words.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::taint::Taint;

/// Why one node does not fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// spec.unschedulable
    Unschedulable,
    /// nodeSelector or nodeAffinity
    NoMatch,
    /// A taint, as `key: value`.
    Tainted(String),
    /// Condition Ready is not True.
    NotReady,
    /// A hostPort is taken.
    PortTaken,
    /// The spoke cannot do what the pod needs.
    Unable,
    /// All pods that may run there do.
    TooManyPods,
    /// `cpu`, `memory`, `ephemeral-storage`, or what only some devices have.
    Insufficient(Cow<'static, str>),
}

impl Reason {
    pub(crate) fn tainted(taint: &Taint) -> Self {
        Self::Tainted(format!("{{{}: {}}}", taint.key, taint.value))
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unschedulable => f.write_str("node(s) were unschedulable"),
            Self::NoMatch => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Self::Tainted(taint) => write!(f, "node(s) had untolerated taint {taint}"),
            Self::NotReady => f.write_str("node(s) were not ready"),
            Self::PortTaken => {
                f.write_str("node(s) didn't have free ports for the requested pod ports")
            }
            Self::Unable => f.write_str("node(s) lacked a feature that the pod needs"),
            Self::TooManyPods => f.write_str("Too many pods"),
            Self::Insufficient(what) => write!(f, "Insufficient {what}"),
        }
    }
}

/// Why no node fits.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct Refusal {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them have which reason; one node may have several.
    pub reasons: BTreeMap<Reason, usize>,
}

impl Refusal {
    fn text(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let counted = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}"));
        let mut parts: Vec<String> = counted.collect();
        parts.sort();
        format!("0/{} nodes are available: {}.", self.nodes, parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_kubernetes_words_them() {
        assert_eq!(Refusal::default().to_string(), "no nodes available to schedule pods");
        let reasons = BTreeMap::from([
            (Reason::NoMatch, 2),
            (Reason::Insufficient("cpu".into()), 1),
            (Reason::Tainted("{a: b}".into()), 1),
        ]);
        let refusal = Refusal { nodes: 4, reasons };
        assert_eq!(
            refusal.to_string(),
            "0/4 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {a: b}, \
             2 node(s) didn't match Pod's node affinity/selector."
        );
    }
}
