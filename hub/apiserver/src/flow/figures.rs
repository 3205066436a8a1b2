//! What is counted of requests by their levels and schemas, by kube-apiserver's names.
//!
//! Guarantees:
//! - what clusters call theirs is no label: what is not suggested counts as `custom`
//!   (`a_clusters_flow_schemas_are_its_own`).

use std::sync::{Arc, OnceLock};

use freewheel_hub_fairness::{Class, LevelState, Refusal};
use freewheel_hub_metrics::{
    Counter, DurationHistogram, Gauge, Hold, MetricFamily, MetricKind, Metrics,
    QUICK_SECONDS_BUCKETS, Sample, Value,
};
use tokio::time::Instant;

/// What is not suggested.
const CUSTOM: &str = "custom";

const REFUSALS: [Refusal; 3] = [Refusal::QueueFull, Refusal::ConcurrencyLimit, Refusal::TimedOut];

type Labels = Vec<(&'static str, String)>;

/// A value, and a label of its own beside those of level and schema.
type Figure = (Option<(&'static str, &'static str)>, Value);

/// What is read of a level.
type LevelFigure = (&'static str, &'static str, fn(&LevelState) -> u64);

/// The figures.
pub(crate) struct FlowFigures {
    levels: Vec<Arc<str>>,
    schemas: Vec<Arc<str>>,
    /// By level and schema.
    series: Vec<OnceLock<Arc<FlowSeries>>>,
}

/// Of one schema in one level.
struct FlowSeries {
    dispatched: Counter,
    refused: [Counter; 3],
    waiting: Arc<Gauge>,
    executing: Arc<Gauge>,
    waited: Arc<DurationHistogram>,
    waited_in_vain: Arc<DurationHistogram>,
}

/// One request that asks for a seat.
pub(crate) struct Asking {
    flows: Arc<FlowSeries>,
    began: Instant,
    _waiting: Hold,
}

impl FlowFigures {
    /// Of these levels and schemas, and all others.
    pub(crate) fn of((mut levels, mut schemas): (Vec<Arc<str>>, Vec<Arc<str>>)) -> Arc<Self> {
        levels.push(CUSTOM.into());
        schemas.push(CUSTOM.into());
        let number = levels.len() * schemas.len();
        let series = std::iter::repeat_with(OnceLock::new).take(number).collect();
        Arc::new(Self { levels, schemas, series })
    }

    /// Shows them there, with the levels that the root has.
    pub(crate) fn show(
        self: &Arc<Self>,
        metrics: &Metrics,
        root: impl Fn() -> Vec<LevelState> + Clone + Send + Sync + 'static,
    ) {
        let help = "Requests served, by level and schema";
        let named = ("apiserver_flowcontrol_dispatched_requests", help);
        metrics.show(self.reading(named, MetricKind::Counter, |flows| {
            vec![(None, Value::Whole(flows.dispatched.get()))]
        }));
        let help = "Requests refused, by level, schema and reason";
        let named = ("apiserver_flowcontrol_rejected_requests", help);
        metrics.show(self.reading(named, MetricKind::Counter, |flows| {
            let refused = REFUSALS.iter().zip(&flows.refused).filter(|(_, count)| count.get() != 0);
            let one = |(why, count): (&Refusal, &Counter)| {
                (Some(("reason", why.reason())), Value::Whole(count.get()))
            };
            refused.map(one).collect()
        }));
        let help = "Requests that wait for a seat, by level and schema";
        let named = ("apiserver_flowcontrol_current_inqueue_requests", help);
        metrics.show(self.reading(named, MetricKind::Gauge, |flows| {
            vec![(None, Value::Whole(flows.waiting.get()))]
        }));
        let help = "Requests that have a seat, by level and schema";
        let named = ("apiserver_flowcontrol_current_executing_requests", help);
        metrics.show(self.reading(named, MetricKind::Gauge, |flows| {
            vec![(None, Value::Whole(flows.executing.get()))]
        }));
        let help = "Time in seconds that requests wait for a seat, by whether they get one";
        let named = ("apiserver_flowcontrol_request_wait_duration_seconds", help);
        metrics.show(self.reading(named, MetricKind::Histogram, |flows| {
            let of = |executes, times: &Arc<DurationHistogram>| {
                (Some(("execute", executes)), Value::Histogram(times.clone()))
            };
            vec![of("true", &flows.waited), of("false", &flows.waited_in_vain)]
        }));
        self.show_seats(metrics, root);
    }

    fn show_seats(
        self: &Arc<Self>,
        metrics: &Metrics,
        root: impl Fn() -> Vec<LevelState> + Clone + Send + Sync + 'static,
    ) {
        let figures: [LevelFigure; 3] = [
            (
                "apiserver_flowcontrol_nominal_limit_seats",
                "A level's own seats, in the root",
                |level| level.nominal.into(),
            ),
            (
                "apiserver_flowcontrol_current_limit_seats",
                "Seats that a level may use now, with what it borrows and without what it lends, in the root",
                |level| level.current.into(),
            ),
            (
                "apiserver_flowcontrol_current_executing_seats",
                "Seats that requests take, in the root",
                |level| level.seats_in_use,
            ),
        ];
        for (name, help, of) in figures {
            let (figures, root) = (self.clone(), root.clone());
            metrics.show(MetricFamily::new((name, help), MetricKind::Gauge, move || {
                let mut sums = vec![0; figures.levels.len()];
                for level in root() {
                    if let Some(sum) = sums.get_mut(at(&figures.levels, &level.name)) {
                        *sum += of(&level);
                    }
                }
                let one = |(name, sum): (&Arc<str>, u64)| Sample {
                    labels: vec![("priority_level", name.to_string())],
                    value: Value::Whole(sum),
                };
                figures.levels.iter().zip(sums).map(one).collect()
            }));
        }
    }

    /// Figures of each schema in each level.
    fn reading(
        self: &Arc<Self>,
        named: (&'static str, &'static str),
        kind: MetricKind,
        of: fn(&FlowSeries) -> Vec<Figure>,
    ) -> MetricFamily {
        let figures = self.clone();
        MetricFamily::new(named, kind, move || {
            let mut samples = Vec::new();
            for (number, flows) in figures.series.iter().enumerate() {
                let Some(flows) = flows.get() else { continue };
                for (more, value) in of(flows) {
                    let mut labels = figures.labels(number);
                    labels.extend(more.map(|(name, value)| (name, value.to_owned())));
                    samples.push(Sample { labels, value });
                }
            }
            samples
        })
    }

    fn labels(&self, number: usize) -> Labels {
        let name = |names: &[Arc<str>], at: usize| names.get(at).map(|name| name.to_string());
        let level = name(&self.levels, number / self.schemas.len()).unwrap_or_default();
        let schema = name(&self.schemas, number % self.schemas.len()).unwrap_or_default();
        vec![("priority_level", level), ("flow_schema", schema)]
    }

    /// A request of this class asks for a seat.
    pub(crate) fn asks(&self, class: &Class) -> Option<Asking> {
        let level = at(&self.levels, &class.level.name);
        let schema = at(&self.schemas, &class.schema.name);
        let flows = self.series.get(level * self.schemas.len() + schema)?;
        let flows = flows.get_or_init(Arc::default).clone();
        Some(Asking { _waiting: flows.waiting.hold(), began: Instant::now(), flows })
    }
}

/// Where a name is, or what stands for all others.
fn at(names: &[Arc<str>], name: &str) -> usize {
    names.iter().position(|own| **own == *name).unwrap_or(names.len() - 1)
}

impl Default for FlowSeries {
    fn default() -> Self {
        let times = || Arc::new(DurationHistogram::new(QUICK_SECONDS_BUCKETS));
        Self {
            dispatched: Counter::default(),
            refused: <[Counter; 3]>::default(),
            waiting: Arc::default(),
            executing: Arc::default(),
            waited: times(),
            waited_in_vain: times(),
        }
    }
}

impl Asking {
    /// It has its seat, as long as what is returned is kept.
    pub(crate) fn served(self) -> Hold {
        self.flows.dispatched.inc();
        self.flows.waited.observe(self.began.elapsed());
        self.flows.executing.hold()
    }

    /// It gets none.
    pub(crate) fn refused(self, why: Refusal) {
        self.flows.waited_in_vain.observe(self.began.elapsed());
        let counters = REFUSALS.iter().zip(&self.flows.refused);
        counters.filter(|(refusal, _)| **refusal == why).for_each(|(_, counter)| counter.inc());
    }
}
