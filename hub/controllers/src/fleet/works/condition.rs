//! Conditions whose types are named by users: put as apimachinery's SetStatusCondition does.

use serde_json::{Value, json};

/// A condition as it is now.
#[derive(Clone, Debug)]
pub(super) struct Said<'a> {
    pub kind: &'a str,
    pub status: &'a str,
    pub reason: &'a str,
    pub message: &'a str,
    /// The generation that it is about.
    pub observed: Option<i64>,
}

impl Said<'_> {
    /// Puts it into a list; the time of its transition moves with its status.
    pub fn put(&self, list: &mut Value, now: &str) {
        if !list.is_array() {
            *list = json!([]);
        }
        let Some(all) = list.as_array_mut() else { return };
        let old = all.iter().position(|one| one["type"] == self.kind);
        let same = old.and_then(|at| all.get(at)).filter(|one| one["status"] == self.status);
        let since = same.and_then(|one| one["lastTransitionTime"].as_str()).unwrap_or(now);
        let mut new = json!({
            "type": self.kind, "status": self.status, "reason": self.reason, "message": self.message,
            "lastTransitionTime": since,
        });
        if let Some(observed) = self.observed {
            new["observedGeneration"] = json!(observed);
        }
        match old.and_then(|at| all.get_mut(at)) {
            Some(slot) => *slot = new,
            None => all.push(new),
        }
    }
}

/// The condition of this type in a list.
pub(super) fn find<'a>(list: &'a Value, kind: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|one| one["type"] == kind)
}

/// Whether it holds.
pub(super) fn holds(list: &Value, kind: &str) -> bool {
    find(list, kind).is_some_and(|one| one["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_moves_with_the_status() {
        let mut list = Value::Null;
        let said = |status, message| Said {
            kind: "Applied",
            status,
            reason: "R",
            message,
            observed: Some(1),
        };
        said("True", "a").put(&mut list, "t1");
        said("True", "b").put(&mut list, "t2");
        assert_eq!(list[0]["lastTransitionTime"], "t1");
        assert_eq!(list[0]["message"], "b");
        said("False", "b").put(&mut list, "t3");
        assert_eq!(list[0]["lastTransitionTime"], "t3");
        assert!(!holds(&list, "Applied") && find(&list, "Other").is_none());
    }
}
