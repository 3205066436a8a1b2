//! What the API server counts: requests, how long they take, what is under way; by kube-apiserver's names and labels.
//!
//! Guarantees:
//! - every answer is counted once, as it goes out and by what was asked for
//!   (`requests_are_counted_as_kube_apiserver_counts_them`), also one to who is refused at the door
//!   (`who_is_refused_at_the_door_is_counted`);
//! - what a client makes up is no label: what is not served is counted without it, and kinds of clusters' own are
//!   counted as one (`what_a_client_makes_up_is_no_label`);
//! - a request is under way until its answer begins, and a watch runs until it ends
//!   (`a_watch_counts_as_long_as_it_lasts`).

use std::sync::Arc;
use std::time::Instant;

use freewheel_hub_metrics::{Gauge, Hold, MetricFamily, MetricKind, Metrics, Sample, Value};
use freewheel_hub_schema::kind::Kind;
use http::{Method, Response};

use crate::body::Body;
use crate::flow;
use crate::path::{OpenId, Route, Target};
use crate::series::{Labels, Series, SeriesTable, Spot};

/// The figures.
#[derive(Default)]
pub(crate) struct RequestMetrics {
    series: SeriesTable,
    mutating: Arc<Gauge>,
    read_only: Arc<Gauge>,
}

impl RequestMetrics {
    /// Shows them there.
    pub(crate) fn shown_in(metrics: &Metrics) -> Arc<Self> {
        let meters = Arc::<Self>::default();
        let help = "Requests answered, by what they asked for and the answer's code";
        metrics.show(meters.reading(("apiserver_request", help), MetricKind::Counter, |series| {
            let code =
                |(code, count): (u16, u64)| (vec![("code", code.to_string())], Value::Whole(count));
            series.codes().map(code).collect()
        }));
        let help = "Time in seconds until an answer begins, of requests that are not long-running";
        let named = ("apiserver_request_duration_seconds", help);
        metrics.show(meters.reading(named, MetricKind::Histogram, |series| {
            vec![(Vec::new(), Value::Histogram(series.times.clone()))]
        }));
        let help = "Watches and logs that have not ended";
        let named = ("apiserver_longrunning_requests", help);
        metrics.show(meters.reading(named, MetricKind::Gauge, |series| {
            vec![(Vec::new(), Value::Whole(series.running.get()))]
        }));
        let help = "Requests under way that are not long-running";
        let named = ("apiserver_current_inflight_requests", help);
        let at = meters.clone();
        metrics.show(MetricFamily::new(named, MetricKind::Gauge, move || {
            [("mutating", &at.mutating), ("readOnly", &at.read_only)].map(of_kind).into()
        }));
        meters
    }

    /// Figures of each series, labels of their own behind the series'.
    fn reading(
        self: &Arc<Self>,
        named: (&'static str, &'static str),
        figure: MetricKind,
        of: fn(&Series) -> Vec<(Labels, Value)>,
    ) -> MetricFamily {
        let meters = self.clone();
        MetricFamily::new(named, figure, move || {
            let mut samples = Vec::new();
            for (labels, series) in meters.series.made() {
                for (more, value) in of(series) {
                    let labels = labels.iter().cloned().chain(more).collect();
                    samples.push(Sample { labels, value });
                }
            }
            samples
        })
    }

    /// A request has come.
    pub(crate) fn begin(self: &Arc<Self>, method: &Method) -> Seen {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let gauge = if reads { &self.read_only } else { &self.mutating };
        let verb = verb_of(method);
        Seen {
            began: Instant::now(),
            under_way: gauge.hold(),
            verb,
            spot: Spot::of_path("", verb),
            is_long: false,
            meters: self.clone(),
        }
    }
}

fn of_kind((kind, gauge): (&str, &Arc<Gauge>)) -> Sample {
    Sample { labels: vec![("request_kind", kind.to_owned())], value: Value::Whole(gauge.get()) }
}

/// One request.
pub(crate) struct Seen {
    meters: Arc<RequestMetrics>,
    began: Instant,
    under_way: Hold,
    verb: &'static str,
    spot: Spot,
    is_long: bool,
}

impl Seen {
    /// It is for a path that is no resource.
    pub(crate) fn is_for_path(&mut self, route: &Route<'_>) {
        self.is_at(match route {
            Route::Index => "/",
            Route::Version => "/version",
            Route::Metrics => "/metrics",
            Route::Health { probe: "livez", .. } => "/livez",
            Route::Health { probe: "readyz", .. } => "/readyz",
            Route::Health { .. } => "/healthz",
            Route::CoreVersions => "/api",
            Route::Groups | Route::Group(_) | Route::Resources { .. } => "/apis",
            Route::OpenApiV2 => "/openapi/v2",
            Route::OpenApiV3(_) => "/openapi/v3",
            Route::OpenId(OpenId::Configuration) => "/.well-known/openid-configuration",
            Route::OpenId(OpenId::Keys) => "/openid/v1/jwks",
            Route::Resource(_) | Route::PriorityLevels | Route::Unknown => "",
        });
    }

    /// It is for this path.
    pub(crate) fn is_at(&mut self, path: &'static str) {
        self.spot = Spot::of_path(path, self.verb);
    }

    /// It is for a resource that is answered without objects.
    pub(crate) fn is_for_objectless(&mut self, target: &Target<'_>) {
        let what = if self.verb == "GET" { ("LIST", "cluster") } else { (self.verb, "resource") };
        self.spot = Spot::of_objectless((target.group, target.plural), what);
    }

    /// It is for a resource that is served.
    pub(crate) fn is_for(&mut self, verb: &str, kind: &Kind, target: &Target<'_>, dry_run: bool) {
        let subresource = target.subresource.unwrap_or_default();
        self.is_long = flow::lasts(verb, subresource);
        let scope = if target.name.is_some() || verb == "create" {
            "resource"
        } else if target.namespace.is_some() {
            "namespace"
        } else {
            "cluster"
        };
        let verb = match verb {
            "list" => "LIST",
            "watch" => "WATCH",
            "deletecollection" => "DELETECOLLECTION",
            // The method's own.
            _ => self.verb,
        };
        self.spot = self.meters.series.spot(kind, subresource, (verb, scope), dry_run);
    }

    /// This is its answer.
    pub(crate) fn end(self, answer: Response<Body>) -> Response<Body> {
        drop(self.under_way);
        let Some(series) = self.meters.series.at(self.spot) else { return answer };
        series.answered(answer.status().as_u16());
        if !self.is_long {
            series.times.observe(self.began.elapsed());
            return answer;
        }
        let running = series.running.hold();
        answer.map(|body| body.counted(running))
    }
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_api::kinds;
    use freewheel_hub_metrics::Format;
    use freewheel_hub_schema::gvk::Gvk;
    use freewheel_hub_schema::kind::Kind;

    use super::*;
    use crate::path;

    #[test]
    fn what_a_client_makes_up_is_no_label() {
        let metrics = Metrics::default();
        let meters = RequestMetrics::shown_in(&metrics);
        let pods = kinds::find("", "v1", "pods").unwrap();
        let own = own_kind();
        for (path, kind) in [
            ("/api/v1/namespaces/default/pods/web/made-up", &**pods),
            ("/made/up", &**pods),
            ("/apis/made.up/v1/namespaces/default/madeups/web", &own),
        ] {
            let mut seen = meters.begin(&Method::GET);
            match path::route(path) {
                Route::Resource(target) => seen.is_for("get", kind, &target, false),
                route => seen.is_for_path(&route),
            }
            seen.end(Response::new(Body::empty()));
        }
        let text = metrics.text(Format::Prometheus).unwrap();
        assert!(!text.contains("made"), "{text}");
        for labels in [
            "version=\"v1\",resource=\"pods\",subresource=\"\",scope=\"resource\"",
            "version=\"\",resource=\"custom\",subresource=\"\",scope=\"resource\"",
            "version=\"\",resource=\"\",subresource=\"\",scope=\"\"",
        ] {
            let line = format!(
                "apiserver_request_total{{verb=\"GET\",dry_run=\"\",group=\"\",{labels},\
                 component=\"apiserver\",code=\"200\"}} 1\n"
            );
            assert!(text.contains(&line), "{line}{text}");
        }
        assert!(text.contains("apiserver_current_inflight_requests{request_kind=\"readOnly\"} 0"));
    }

    fn own_kind() -> Kind {
        struct Plain;
        impl freewheel_hub_schema::kind::Strategy for Plain {}
        Kind::new(Gvk::new("made.up", "v1", "MadeUp"), "madeups", Plain)
    }
}
