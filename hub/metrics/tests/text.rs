//! The texts, read as strictly as their formats allow.

mod reader;

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_metrics::{
    Counter, DurationHistogram, Format, MetricFamily, MetricKind, Metrics, Sample, Value,
};
use reader::{Page, read};

fn figures() -> Metrics {
    let metrics = Metrics::default();
    let requests = Arc::<Counter>::default();
    requests.inc();
    metrics.show(MetricFamily::new(("requests", "Requests"), MetricKind::Counter, move || {
        let labels = |verb: &str| vec![("verb", verb.to_owned()), ("path", String::new())];
        vec![
            Sample { labels: labels("GET"), value: Value::Whole(requests.get()) },
            Sample { labels: labels("a \"quoted\\\" \n word"), value: Value::Whole(0) },
        ]
    }));
    let times = Arc::new(DurationHistogram::new(&[0.5, 1.0]));
    times.observe(Duration::from_millis(250));
    times.observe(Duration::from_secs(2));
    let one = move || Some(Value::Histogram(times.clone()));
    metrics.show(MetricFamily::one(("duration_seconds", "How long"), MetricKind::Histogram, one));
    let cpu = || Some(Value::Real(1.5));
    metrics.show(MetricFamily::one(("cpu_seconds", "Time"), MetricKind::Counter, cpu));
    metrics.show(MetricFamily::one(("open", "Open ones"), MetricKind::Gauge, || {
        Some(Value::Whole(3))
    }));
    metrics.show(MetricFamily::one(("nothing", "Not to be had"), MetricKind::Gauge, || None));
    metrics
}

fn check(page: &Page) {
    let kinds: Vec<_> = page.kinds.iter().map(|(name, kind)| (&**name, &**kind)).collect();
    assert_eq!(
        kinds,
        [
            ("cpu_seconds", "counter"),
            ("duration_seconds", "histogram"),
            ("open", "gauge"),
            ("requests", "counter"),
        ]
    );
    assert_eq!(page.value("requests_total", &[("verb", "GET"), ("path", "")]), Some(1.0));
    let odd = [("verb", "a \"quoted\\\" \n word"), ("path", "")];
    assert_eq!(page.value("requests_total", &odd), Some(0.0));
    assert_eq!(page.value("cpu_seconds_total", &[]), Some(1.5));
    assert_eq!(page.value("open", &[]), Some(3.0));
    let below = |bound| page.bucket("duration_seconds", &[], bound);
    assert_eq!((below(0.5), below(1.0), below(f64::INFINITY)), (Some(1.0), Some(1.0), Some(2.0)));
    assert_eq!(page.value("duration_seconds_sum", &[]), Some(2.25));
    assert_eq!(page.value("duration_seconds_count", &[]), Some(2.0));
}

#[test]
fn both_texts_say_the_same_in_the_words_of_their_formats() {
    let metrics = figures();
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let text = metrics.text(format).unwrap();
        match read(&text, format) {
            Ok(page) => check(&page),
            Err(why) => panic!("{format:?}: {why}\n{text}"),
        }
    }
}

#[test]
fn a_figure_that_is_none_of_its_kind_is_an_error() {
    let metrics = Metrics::default();
    let times = Arc::new(DurationHistogram::new(&[1.0]));
    let wrong = move || Some(Value::Histogram(times.clone()));
    metrics.show(MetricFamily::one(("open", "Open ones"), MetricKind::Gauge, wrong));
    assert!(metrics.text(Format::Prometheus).is_err());
}

#[test]
fn the_reader_takes_nothing_else() {
    let right = "# HELP a A.\n# TYPE a gauge\na{b=\"c\"} 1\n";
    assert!(read(right, Format::Prometheus).is_ok());
    assert!(read(&format!("{right}# EOF\n"), Format::OpenMetrics).is_ok());
    assert!(read(right, Format::OpenMetrics).is_err(), "no end");
    for wrong in [
        "a 1\n",
        "# TYPE a gauge\na 1",
        "# TYPE a gauge\na one\n",
        "# TYPE a gauge\na{b=c} 1\n",
        "# TYPE a gauge\na{b=\"c} 1\n",
        "# TYPE a gauge\na{b=\"\\c\"} 1\n",
        "# TYPE a gauge\na{0=\"c\"} 1\n",
        "# TYPE a gauge\na 1\na 2\n",
        "# TYPE a gauge\na 1\n# TYPE a gauge\n",
        "# TYPE a gauge\nb 1\n",
        "# TYPE a thing\na 1\n",
        "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
        "# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2\n",
    ] {
        assert!(read(wrong, Format::Prometheus).is_err(), "{wrong:?}");
    }
}
