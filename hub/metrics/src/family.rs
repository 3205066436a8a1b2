//! Figures under a name, read when somebody looks.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::DurationHistogram;

/// What a figure does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It goes up and down.
    Gauge,
    /// It only grows; its name in the text ends with `_total`.
    Counter,
    /// It is many times, by how long they are.
    Histogram,
}

/// One value.
#[derive(Clone, Debug)]
pub enum Value {
    /// In wholes.
    Whole(u64),
    /// In parts of it.
    Real(f64),
    /// Of [`MetricKind::DurationHistogram`].
    Histogram(Arc<DurationHistogram>),
}

/// One value and the labels that tell it apart.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Names and values of its labels.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// Figures of one name.
pub struct MetricFamily {
    name: &'static str,
    help: &'static str,
    figure: MetricKind,
    read: Box<dyn Fn() -> Vec<Sample> + Send + Sync>,
}

impl MetricFamily {
    /// Figures that are told apart by labels. The name of a counter is without `_total`, the help without a full stop.
    pub fn new(
        (name, help): (&'static str, &'static str),
        figure: MetricKind,
        read: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) -> Self {
        Self { name, help, figure, read: Box::new(read) }
    }

    /// One figure without labels; none when there is nothing to read.
    pub fn one(
        named: (&'static str, &'static str),
        figure: MetricKind,
        read: impl Fn() -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        let one = move || read().map(|value| Sample { labels: Vec::new(), value });
        Self::new(named, figure, move || one().into_iter().collect())
    }

    fn put(&self, mut to: MetricEncoder<'_>, value: &Value) -> fmt::Result {
        match (self.figure, value) {
            (MetricKind::Gauge, Value::Whole(value)) => to.encode_gauge(value),
            (MetricKind::Gauge, Value::Real(value)) => to.encode_gauge(value),
            (MetricKind::Counter, Value::Whole(value)) => {
                to.encode_counter::<NoLabelSet, _, u64>(value, None)
            }
            (MetricKind::Counter, Value::Real(value)) => {
                to.encode_counter::<NoLabelSet, _, u64>(value, None)
            }
            (MetricKind::Histogram, Value::Histogram(times)) => {
                let (sum, counts) = times.read();
                let count = counts.iter().map(|(_, count)| count).sum();
                to.encode_histogram::<NoLabelSet>(sum, count, &counts, None)
            }
            (MetricKind::Gauge | MetricKind::Counter, Value::Histogram(_))
            | (MetricKind::Histogram, Value::Whole(_) | Value::Real(_)) => Err(fmt::Error),
        }
    }
}

impl fmt::Debug for MetricFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Collector for MetricFamily {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let samples = (self.read)();
        if samples.is_empty() {
            return Ok(());
        }
        let kind = match self.figure {
            MetricKind::Gauge => MetricType::Gauge,
            MetricKind::Counter => MetricType::Counter,
            MetricKind::Histogram => MetricType::Histogram,
        };
        let help = format!("{}.", self.help);
        let mut to = encoder.encode_descriptor(self.name, &help, None, kind)?;
        for Sample { labels, value } in samples {
            self.put(to.encode_family(&labels)?, &value)?;
        }
        Ok(())
    }
}
