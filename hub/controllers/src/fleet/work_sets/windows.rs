//! Which clusters are not to be begun with now: it is not the time of their maintenance window, or nobody hears of them in
//! it, who would take it up whenever they come back.
//!
//! Guarantees:
//! - a window is open from each of its times on, for as long as it says, by its zone's clock
//!   (`a_window_opens_and_closes_by_its_clock`);
//! - who is not heard of in it waits (`who_is_not_heard_of_waits`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_hub_api::maintenance_window::{MAINTENANCE_WINDOW, MaintenanceWindow};
use freewheel_link::names::ClusterName;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::WorkSets;
use super::view::PlacementView;
use crate::cron_job::schedule::Schedule;
use crate::engine::client::key as key_of;
use crate::index::ClusterEntry;

/// How often those who wait are looked at: windows are changed, and clusters come back.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(60);

/// Clusters that are not to be begun with now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::fleet) struct Closed {
    /// Their names.
    pub clusters: BTreeSet<String>,
    /// When the first of their windows opens.
    pub opens: Option<Timestamp>,
}

/// What is known of a cluster.
struct Candidate<'a> {
    name: &'a str,
    window: Option<&'a str>,
    available: bool,
}

impl Closed {
    fn of<'a>(clusters: impl Iterator<Item = Candidate<'a>>, now: Timestamp) -> Self {
        let (mut out, mut known) = (Self::default(), BTreeMap::new());
        for Candidate { name, window, available } in clusters {
            let Some(text) = window else { continue };
            let opening = *known.entry(text).or_insert_with(|| opening(text, now));
            if opening == Opening::Now && available {
                continue;
            }
            out.clusters.insert(name.to_owned());
            if let Opening::At(at) = opening {
                out.opens = out.opens.into_iter().chain([at]).min();
            }
        }
        out
    }

    /// When to look again, if somebody waits.
    pub fn look_again(&self, now: Timestamp) -> Option<Timestamp> {
        let soon = now.checked_add(LOOK_EVERY).ok().filter(|_| !self.clusters.is_empty());
        soon.into_iter().chain(self.opens).min()
    }
}

/// When a window is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Now,
    At(Timestamp),
    Never,
}

/// What is no window is refused where it is written, and keeps nobody out.
fn opening(text: &str, now: Timestamp) -> Opening {
    let Ok(window) = MaintenanceWindow::read(text) else { return Opening::Now };
    let read = Schedule::read(&window.schedule, window.zone.as_deref());
    let Ok(schedule) = read else { return Opening::Now };
    let since = now.checked_sub(window.length).unwrap_or(Timestamp::MIN);
    if schedule.next(since).is_some_and(|at| at <= now) {
        return Opening::Now;
    }
    schedule.next(now).map_or(Opening::Never, Opening::At)
}

impl WorkSets {
    /// Of those that a placement of a set chooses and that have nothing of what is wanted yet.
    pub(in crate::fleet) fn closed(&self, set: &Value, view: &PlacementView<'_>) -> Closed {
        let of_set = set["metadata"]["annotations"][MAINTENANCE_WINDOW].as_str();
        let root = ClusterName::root();
        let key = |name: &str| key_of(&self.clusters, &root, "", name);
        let found: Vec<Arc<ClusterEntry>> = self
            .indexes
            .clusters
            .look(|all| view.not_begun().filter_map(|name| all.get(&key(name)).cloned()).collect());
        let has_own = |entry: &Arc<ClusterEntry>| entry.openness().window.is_some();
        if of_set.is_none() && !found.iter().any(has_own) {
            return Closed::default();
        }
        let all = found.iter().map(|entry| {
            let own = entry.openness();
            let window = own.window.as_deref().or(of_set);
            Candidate { name: &entry.stored.key.name, window, available: own.available }
        });
        Closed::of(all, self.client.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_opens_and_closes_by_its_clock() {
        // Two o'clock of Saturdays in Vaduz, which is one o'clock in winter, midnight in summer.
        let text = "0 2 * * 6; 4h; Europe/Vaduz";
        for (now, expected) in [
            ("2026-01-03T00:59:59Z", Opening::At(at("2026-01-03T01:00:00Z"))),
            ("2026-01-03T01:00:00Z", Opening::Now),
            ("2026-01-03T04:59:59Z", Opening::Now),
            ("2026-01-03T05:00:00Z", Opening::At(at("2026-01-10T01:00:00Z"))),
            ("2026-07-04T00:30:00Z", Opening::Now),
        ] {
            assert_eq!(opening(text, at(now)), expected, "{now}");
        }
        assert_eq!(opening("0 0 30 2 *; 1h", at("2026-01-03T00:00:00Z")), Opening::Never);
    }

    #[test]
    fn who_is_not_heard_of_waits() {
        let now = at("2026-01-03T00:30:00Z");
        let one = |name, window, available| Candidate { name, window, available };
        let open = Some("0 * * * *; 1h");
        let all = [
            one("free", None, false),
            one("open", open, true),
            one("silent", open, false),
            one("later", Some("0 2 * * *; 1h"), true),
            one("latest", Some("0 3 * * *; 1h"), true),
        ];
        let closed = Closed::of(all.into_iter(), now);
        let names: Vec<&str> = closed.clusters.iter().map(String::as_str).collect();
        assert_eq!(names, ["later", "latest", "silent"]);
        assert_eq!(closed.opens, Some(at("2026-01-03T02:00:00Z")));
        assert_eq!(closed.look_again(now), Some(at("2026-01-03T00:31:00Z")));
        assert_eq!(closed.look_again(at("2026-01-03T01:59:30Z")), closed.opens);
        assert_eq!(Closed::default().look_again(now), None);
    }
}
