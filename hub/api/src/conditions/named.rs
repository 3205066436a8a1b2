//! Conditions whose types are named by users, as rules of ManifestWorks name them: put as apimachinery's
//! SetStatusCondition does.
//!
//! Guarantees:
//! - the time of a transition moves with the status and with nothing else (`the_time_moves_with_the_status`).

use serde_json::{Value, json};

use super::list::{Position, transition_time, upsert};

/// A condition as it is now.
#[derive(Clone, Debug)]
pub struct NamedCondition<'a> {
    /// type
    pub kind: &'a str,
    /// status
    pub status: &'a str,
    /// reason
    pub reason: &'a str,
    /// message
    pub message: &'a str,
    /// The generation that it is about.
    pub observed: Option<i64>,
}

impl NamedCondition<'_> {
    /// Puts it into a list; the time of its transition moves with its status.
    pub fn put(&self, list: &mut Value, now: &str) {
        upsert(list, self.kind, Position::Kept, |old| Some(self.value(old, now)));
    }

    fn value(&self, old: Option<&Value>, now: &str) -> Value {
        let mut new = json!({
            "type": self.kind, "status": self.status, "reason": self.reason, "message": self.message,
            "lastTransitionTime": transition_time(old, self.status, now),
        });
        if let Some(observed) = self.observed {
            new["observedGeneration"] = json!(observed);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::{find, holds};
    use super::*;

    #[test]
    fn the_time_moves_with_the_status() {
        let mut list = Value::Null;
        let condition = |status, message| NamedCondition {
            kind: "Applied",
            status,
            reason: "R",
            message,
            observed: Some(1),
        };
        condition("True", "a").put(&mut list, "t1");
        condition("True", "b").put(&mut list, "t2");
        assert_eq!(list[0]["lastTransitionTime"], "t1");
        assert_eq!(list[0]["message"], "b");
        condition("False", "b").put(&mut list, "t3");
        assert_eq!(list[0]["lastTransitionTime"], "t3");
        assert!(!holds(&list, "Applied") && find(&list, "Other").is_none());
    }
}
