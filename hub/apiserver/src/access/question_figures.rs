//! What has become of questions to somebody else, and how long they took.

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_metrics::{
    Counter, DurationHistogram, MetricFamily, MetricKind, QUICK_SECONDS_BUCKETS, Sample, Value,
};

/// What became of one, in kube-apiserver's words.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Success,
    Error,
    Timeout,
}

const OUTCOMES: [(Outcome, &str); 3] =
    [(Outcome::Success, "success"), (Outcome::Error, "error"), (Outcome::Timeout, "timeout")];

/// Those of one, and by which labels it is told from others.
pub(crate) type Labelled = (Vec<(&'static str, String)>, Arc<QuestionFigures>);

/// All questions to one.
#[derive(Debug)]
pub(crate) struct QuestionFigures([(Counter, Arc<DurationHistogram>); 3]);

impl Default for QuestionFigures {
    fn default() -> Self {
        let none = || (Counter::default(), Arc::new(DurationHistogram::new(QUICK_SECONDS_BUCKETS)));
        Self([none(), none(), none()])
    }
}

impl QuestionFigures {
    /// One more, which took so long.
    pub(crate) fn count(&self, outcome: Outcome, took: Duration) {
        if let Some((count, times)) = self.0.get(outcome as usize) {
            count.inc();
            times.observe(took);
        }
    }

    /// How many there were, by what became of them.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.iter().zip(&self.0).map(|((_, word), (count, _))| (*word, count.get()))
    }

    fn times(&self) -> impl Iterator<Item = (&'static str, Arc<DurationHistogram>)> {
        OUTCOMES.iter().zip(&self.0).map(|((_, word), (_, times))| (*word, times.clone()))
    }

    /// How many there were of each of these, under this name and with its labels before what became of them.
    pub(crate) fn counted(named: (&'static str, &'static str), all: Vec<Labelled>) -> MetricFamily {
        MetricFamily::new(named, MetricKind::Counter, move || {
            let of = |(labels, own): &Labelled| -> Vec<Sample> {
                own.counts().map(|(word, n)| sample(labels, word, Value::Whole(n))).collect()
            };
            all.iter().flat_map(of).collect()
        })
    }

    /// How long they took.
    pub(crate) fn timed(named: (&'static str, &'static str), all: Vec<Labelled>) -> MetricFamily {
        MetricFamily::new(named, MetricKind::Histogram, move || {
            let of = |(labels, own): &Labelled| -> Vec<Sample> {
                own.times().map(|(word, it)| sample(labels, word, Value::Histogram(it))).collect()
            };
            all.iter().flat_map(of).collect()
        })
    }
}

fn sample(labels: &[(&'static str, String)], word: &str, value: Value) -> Sample {
    let own = ("result", word.to_owned());
    Sample { labels: labels.iter().cloned().chain([own]).collect(), value }
}
