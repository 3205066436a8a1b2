//! The probes of one container: when each is due, and what their outcomes come to.
//!
//! ```text
//! Startup ──has succeeded──▶ Liveness, Readiness, each in its own period
//!    └─has failed─▶ killed ◀─has failed─┘          └▶ ready, or not
//! ```
//!
//! As of kubelet's workers: what has come to nothing (there was no outcome) counts as nothing, the first probe runs as soon
//! as its delay is over, and who has failed is looked at again once it was started again.
//!
//! Guarantees:
//! - a container with a readiness probe is not ready before that has succeeded, and with a startup probe neither it nor
//!   the liveness probe runs before that has (`the_startup_probe_holds_the_others_back`);
//! - only as many outcomes in a row as its thresholds say change anything (`outcomes_count_in_a_row`);
//! - a probe whose outcome is open is not asked for again, and its period goes on meanwhile
//!   (`a_probe_is_due_once_in_each_period`).

use std::time::Duration;

use freewheel_link::probes::{PodProbesV1, ProbeKindV1, ProbeV1};

/// The probes of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    all: Vec<Probing>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Probing {
    probe: ProbeV1,
    /// When it is to run next.
    due: Duration,
    /// It runs.
    open: bool,
    /// The last outcome, and how often it has come in a row.
    last: Option<(bool, u32)>,
    /// What they have come to; `None`: nothing yet.
    result: Option<bool>,
}

impl Probing {
    /// What fails has its container killed: it is looked at again in the next start.
    fn kills(&self) -> bool {
        self.probe.kind != ProbeKindV1::Readiness && self.result == Some(false)
    }
}

impl Probes {
    /// Those of this container.
    #[must_use]
    pub fn of(container: &str, all: Option<&PodProbesV1>) -> Self {
        let all = all.into_iter().flat_map(|all| &all.probes);
        let own = all.filter(|probe| probe.container == container);
        let probing = |probe: &ProbeV1| Probing {
            probe: probe.clone(),
            due: Duration::ZERO,
            open: false,
            last: None,
            result: None,
        };
        Self { all: own.map(probing).collect() }
    }

    /// The container runs from now on: nothing is known of this start.
    pub fn begin(&mut self, now: Duration) {
        for one in &mut self.all {
            one.due = now + Duration::from_secs(one.probe.initial_delay_seconds.into());
            (one.open, one.last, one.result) = (false, None, None);
        }
    }

    fn result(&self, kind: ProbeKindV1) -> Option<bool> {
        match self.all.iter().find(|one| one.probe.kind == kind) {
            Some(one) => one.result,
            None => Some(true),
        }
    }

    /// Whether a container that runs has come up.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.result(ProbeKindV1::Startup) == Some(true)
    }

    /// Whether a container that runs takes connections.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.has_started() && self.result(ProbeKindV1::Readiness) == Some(true)
    }

    /// The probe that the container has failed, so that it has to be killed.
    #[must_use]
    pub fn failed(&self) -> Option<&ProbeV1> {
        self.all.iter().find(|one| one.kills()).map(|one| &one.probe)
    }

    /// When each of those is due that can run now. `ending`: the container is on its way out, and all that counts is
    /// whether it is ready.
    pub fn due(&self, ending: bool) -> impl Iterator<Item = (ProbeKindV1, Duration)> {
        let started = self.has_started();
        let runs = move |one: &&Probing| match one.probe.kind {
            ProbeKindV1::Startup => !started && !ending && !one.kills(),
            ProbeKindV1::Liveness => started && !ending && !one.kills(),
            ProbeKindV1::Readiness => started,
        };
        let can = self.all.iter().filter(|one| !one.open).filter(runs);
        can.map(|one| (one.probe.kind, one.due))
    }

    /// It runs from now on; what it is.
    pub fn ask(&mut self, kind: ProbeKindV1) -> Option<ProbeV1> {
        let one = self.all.iter_mut().find(|one| one.probe.kind == kind && !one.open)?;
        one.open = true;
        Some(one.probe.clone())
    }

    /// It has run, and succeeded or not; `None`: there is no outcome.
    pub fn took(&mut self, kind: ProbeKindV1, outcome: Option<bool>, now: Duration) {
        let Some(one) = self.all.iter_mut().find(|one| one.probe.kind == kind && one.open) else {
            return;
        };
        one.open = false;
        // It keeps its beat, unless it has fallen behind.
        let period = Duration::from_secs(one.probe.period_seconds.max(1).into());
        one.due = (one.due + period).max(now);
        let Some(outcome) = outcome else { return };
        let before = one.last.filter(|(last, _)| *last == outcome).map_or(0, |(_, count)| count);
        let count = before.saturating_add(1);
        one.last = Some((outcome, count));
        let threshold = match outcome {
            true => one.probe.success_threshold,
            false => one.probe.failure_threshold,
        };
        if threshold <= count {
            one.result = Some(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::probes::ProbeHandlerV1;

    use super::*;
    use ProbeKindV1::{Liveness, Readiness, Startup};

    const S: Duration = Duration::from_secs(1);

    fn probe(kind: ProbeKindV1) -> ProbeV1 {
        ProbeV1 {
            container: "web".to_owned(),
            kind,
            handler: ProbeHandlerV1::Tcp(80),
            initial_delay_seconds: 5,
            period_seconds: 10,
            timeout_seconds: 1,
            success_threshold: 1,
            failure_threshold: 3,
            grace_seconds: None,
        }
    }

    fn begun(all: Vec<ProbeV1>) -> Probes {
        let mut probes = Probes::of("web", Some(&PodProbesV1 { probes: all }));
        probes.begin(100 * S);
        probes
    }

    fn due(probes: &Probes) -> Vec<(ProbeKindV1, Duration)> {
        probes.due(false).collect()
    }

    /// It runs, and this is its outcome.
    fn run(probes: &mut Probes, kind: ProbeKindV1, outcome: Option<bool>) {
        let (_, at) = probes.due(false).find(|(due, _)| *due == kind).unwrap();
        probes.ask(kind).unwrap();
        probes.took(kind, outcome, at);
    }

    #[test]
    fn who_has_none_is_up_and_ready() {
        let mut other = probe(Readiness);
        other.container = "other".to_owned();
        let probes = begun(vec![other]);
        assert!(probes.has_started() && probes.is_ready() && probes.failed().is_none());
        assert_eq!(due(&probes), []);
    }

    #[test]
    fn the_startup_probe_holds_the_others_back() {
        let mut probes = begun(vec![probe(Startup), probe(Liveness), probe(Readiness)]);
        assert!(!probes.has_started() && !probes.is_ready());
        assert_eq!(due(&probes), [(Startup, 105 * S)]);
        run(&mut probes, Startup, Some(false));
        assert_eq!(due(&probes), [(Startup, 115 * S)]);
        run(&mut probes, Startup, Some(true));
        assert!(probes.has_started() && !probes.is_ready());
        assert_eq!(due(&probes), [(Liveness, 105 * S), (Readiness, 105 * S)], "they run at once");
        run(&mut probes, Readiness, Some(true));
        assert!(probes.is_ready());
        // All that is left to a container on its way out.
        assert_eq!(probes.due(true).map(|(kind, _)| kind).collect::<Vec<_>>(), [Readiness]);
        probes.begin(200 * S);
        assert!(!probes.has_started() && !probes.is_ready());
    }

    #[test]
    fn outcomes_count_in_a_row() {
        let mut readiness = probe(Readiness);
        readiness.success_threshold = 2;
        let mut probes = begun(vec![probe(Liveness), readiness]);
        for outcome in [Some(true), None, Some(false), Some(true)] {
            run(&mut probes, Readiness, outcome);
            assert!(!probes.is_ready());
        }
        run(&mut probes, Readiness, Some(true));
        assert!(probes.is_ready());
        for outcome in [Some(false), Some(false), Some(true), Some(false), None, Some(false)] {
            run(&mut probes, Readiness, outcome);
            run(&mut probes, Liveness, outcome);
            assert!(probes.is_ready() && probes.failed().is_none());
        }
        run(&mut probes, Readiness, Some(false));
        assert!(!probes.is_ready() && probes.failed().is_none());
        run(&mut probes, Liveness, Some(false));
        assert_eq!(probes.failed().unwrap().kind, Liveness);
        assert_eq!(due(&probes).len(), 1, "it is looked at again once it was started again");
        probes.begin(500 * S);
        assert!(probes.failed().is_none());
    }

    #[test]
    fn a_probe_is_due_once_in_each_period() {
        let mut probes = begun(vec![probe(Liveness)]);
        assert_eq!(due(&probes), [(Liveness, 105 * S)]);
        assert!(probes.ask(Liveness).is_some() && probes.ask(Liveness).is_none());
        assert_eq!(due(&probes), []);
        probes.took(Liveness, Some(true), 106 * S);
        assert_eq!(due(&probes), [(Liveness, 115 * S)]);
        probes.ask(Liveness);
        probes.took(Liveness, Some(true), 130 * S);
        assert_eq!(due(&probes), [(Liveness, 130 * S)], "it took longer than a period");
        // What comes of a start before this one.
        probes.took(Liveness, Some(false), 131 * S);
        assert_eq!(due(&probes), [(Liveness, 130 * S)]);
    }
}
