//! What add-ons say of a cluster, as expressions ask it: `managedCluster.scores('NAME')`.
//!
//! Guarantees:
//! - what is out of date is not said, as with prioritizers, and when it will be is known
//!   (`scores_are_asked_for_and_have_their_time`);
//! - however often an expression asks, an object is read once (`scores_are_read_once`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use freewheel_hub_cel::Scores;
use jiff::Timestamp;

use crate::prioritizer::AddOnScores;

/// What add-ons say of one cluster, by the name of the AddOnPlacementScore.
pub type ScoreSource = Box<dyn Fn(&str) -> Option<AddOnScores> + Send + Sync>;

/// When something of what was asked for will be out of date.
#[derive(Clone, Debug, Default)]
pub(crate) struct Until(Arc<Mutex<Option<Timestamp>>>);

impl Until {
    fn note(&self, end: Timestamp) {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).into_iter().chain([end]).min();
    }

    /// The first of them.
    pub fn first(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The scores of one cluster, while its expressions are evaluated.
pub(crate) struct AskedScores {
    pub source: ScoreSource,
    pub now: Timestamp,
    pub until: Until,
    read: Mutex<BTreeMap<String, AddOnScores>>,
}

impl AskedScores {
    pub fn new(source: ScoreSource, now: Timestamp, until: Until) -> Self {
        Self { source, now, until, read: Mutex::default() }
    }

    fn read(&self, resource: &str) -> Option<AddOnScores> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.get(resource) {
            return Some(known.clone());
        }
        let scores = (self.source)(resource)?;
        read.insert(resource.to_owned(), scores.clone());
        Some(scores)
    }
}

impl Scores for AskedScores {
    fn of(&self, resource: &str) -> Result<Vec<(String, i64)>, String> {
        let found = self.read(resource);
        let found = found.ok_or_else(|| {
            format!("addonplacementscore.cluster.open-cluster-management.io {resource:?} not found")
        })?;
        if let Some(end) = found.valid_until {
            // Who looks again at its end, as it is told to, finds it over.
            if end <= self.now {
                return Err(format!("AddOnPlacementScore {resource:?} expired"));
            }
            self.until.note(end);
        }
        Ok(found.scores.into_iter().map(|one| (one.name, i64::from(one.value))).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::prioritizer::NamedScore;

    #[test]
    fn scores_are_read_once() {
        let reads = Arc::new(AtomicUsize::new(0));
        let own = reads.clone();
        let at = |second| Timestamp::from_second(second).unwrap();
        let source: ScoreSource = Box::new(move |resource| {
            own.fetch_add(1, Ordering::Relaxed);
            let scores = vec![NamedScore { name: "cpu".to_owned(), value: 3 }];
            let valid_until = Some(at(if resource == "old" { 5 } else { 20 }));
            (resource != "none").then_some(AddOnScores { scores, valid_until })
        });
        let asked = AskedScores::new(source, at(10), Until::default());
        assert_eq!(asked.until.first(), None);
        for _ in 0..3 {
            assert_eq!(asked.of("usage"), Ok(vec![("cpu".to_owned(), 3)]));
            assert!(asked.of("old").unwrap_err().contains("expired"));
        }
        assert_eq!((reads.load(Ordering::Relaxed), asked.until.first()), (2, Some(at(20))));
        assert!(asked.of("none").unwrap_err().contains("not found"));
    }
}
