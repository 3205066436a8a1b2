//! Paths that are no resources: what is served, its schemas, the version, health, figures.
//!
//! Guarantees:
//! - figures are on the account of their connection, however many they are
//!   (`figures_are_on_the_account_of_their_connection`).

use bytes::Bytes;
use freewheel_hub_api::KUBERNETES_VERSION;
use freewheel_hub_metrics::{Format, Metrics};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::registry::Registry;
use http::header::{ACCEPT, HOST};
use http::{Method, Response};
use serde_json::json;

use crate::body::Body;
use crate::context::Context;
use crate::discovery::{self, Aggregated};
use crate::flow;
use crate::flow::workers::WorkerQueue;
use crate::memory_account::Held;
use crate::openapi::Asks;
use crate::path::{self, Route};
use crate::send_backlog::SendBacklog;
use crate::tenant::Tenant;
use crate::{health, media, openapi, respond, tokens};

/// [`KUBERNETES_VERSION`] in parts.
const VERSION: (&str, &str) = ("1", "36");

/// Answers who may read that.
pub(crate) async fn answer(
    context: &Context<'_>,
    tenant: &Tenant,
    route: Route<'_>,
) -> Result<Response<Body>, ApiError> {
    if route == Route::Unknown {
        return Err(respond::no_such_path());
    }
    if !matches!(*context.method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed());
    }
    // Of the whole hub, so for nobody whose rights end at a cluster.
    if matches!(route, Route::Metrics) && tenant.name.is_root() {
        return figures(context).await;
    }
    if matches!(route, Route::PriorityLevels) {
        let levels = context.hub.flows.levels(&tenant.name);
        return Ok(respond::text(200, flow::dump(&levels)));
    }
    if let Route::OpenId(what) = route {
        return Ok(tokens::openid(&context.hub.issuer, &tenant.name, what));
    }
    let registry = context.hub.server.objects.kinds().of(&tenant.name);
    describe(context, registry, route).await
}

fn version() -> Response<Body> {
    let (major, minor) = VERSION;
    respond::json(
        200,
        &json!({
            "major": major, "minor": minor, "emulationMajor": major, "emulationMinor": minor,
            "minCompatibilityMajor": major, "minCompatibilityMinor": "35",
            "gitVersion": format!("{KUBERNETES_VERSION}+freewheel-{}", env!("CARGO_PKG_VERSION")),
            "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "none", "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        }),
    )
}

/// About the bytes of the figures of a hub that has little to count.
const METRICS_BYTES_ESTIMATE: usize = 256 << 10;

/// What the hub counts. Objects are counted for it, which is no work for a thread that serves everybody.
async fn figures(context: &Context<'_>) -> Result<Response<Body>, ApiError> {
    let format = media::metrics(context.header(&ACCEPT).unwrap_or_default());
    let backlog = &context.incoming.slot().backlog;
    let (text, held) =
        counted(&context.hub.server.metrics, format, context.worker_queue(), backlog).await?;
    Ok(respond::compressed(200, format.content_type(), text, context.gzip(), held).await)
}

/// The figures, and the room that they turn out to take: the more is asked of the hub, the more series there are.
async fn counted(
    metrics: &Metrics,
    format: Format,
    worker_queue: WorkerQueue<'_>,
    backlog: &SendBacklog,
) -> Result<(Bytes, Option<Held>), ApiError> {
    let (held, metrics) = (backlog.hold(METRICS_BYTES_ESTIMATE).await?, metrics.clone());
    let text = move || {
        let mut text = metrics.text(format).map_err(ApiError::internal)?;
        text.shrink_to_fit();
        Ok(Bytes::from(text))
    };
    let (text, mut held) = worker_queue.run(held, text).await?;
    if let Some(held) = &mut held {
        held.grow(text.len())?;
    }
    Ok((text, held))
}

/// Room for a document, before it is made: a thousand who wait are to hold nothing.
async fn room(
    backlog: &SendBacklog,
    registry: &Registry,
    route: &Route<'_>,
) -> Result<Option<Held>, ApiError> {
    match route {
        Route::OpenApiV2 => Ok(None),
        Route::OpenApiV3(document) if !document.is_empty() => Ok(None),
        route if route.describes_the_api() || *route == Route::Index => {
            backlog.hold(discovery::estimate(registry)).await
        }
        _ => Ok(None),
    }
}

/// Discovery and schemas.
async fn describe(
    context: &Context<'_>,
    registry: Registry,
    route: Route<'_>,
) -> Result<Response<Body>, ApiError> {
    let (backlog, makers) = (&context.incoming.slot().backlog, context.worker_queue());
    let held = room(backlog, &registry, &route).await?;
    let (query, gzip) = (context.uri.query().unwrap_or_default(), context.gzip());
    let (cluster, path) = path::cluster(context.uri.path());
    let aggregated = Aggregated::wanted(context.header(&ACCEPT));
    let found = |document: Option<Bytes>| {
        let answer = document.map(|bytes| respond::whole(200, media::JSON, bytes));
        answer.ok_or_else(respond::no_such_path)
    };
    // What all ask for is nobody's.
    let packs = gzip.map(|_| context.hub.flows.workers.of_all());
    let asks = Asks { packed: &context.hub.packed, backlog, makers, gzip: packs };
    let answer = match (route, aggregated) {
        (Route::CoreVersions | Route::Groups, Some(form)) => {
            let core = matches!(path::route(path), Route::CoreVersions);
            let bytes = discovery::aggregated(&registry, core, form);
            return Ok(respond::compressed(200, form.content_type(), bytes, gzip, held).await);
        }
        (Route::Index, _) => found(Some(discovery::paths(&registry))),
        (Route::CoreVersions, None) => {
            let host = context.uri.authority().map(|a| a.as_str());
            let host = host.or_else(|| context.header(&HOST));
            found(Some(discovery::core_versions(host.unwrap_or_default())))
        }
        (Route::Groups, None) => found(Some(discovery::groups(&registry))),
        (Route::Group(name), _) => found(discovery::group(&registry, name)),
        (Route::Resources { group, version }, _) => {
            found(discovery::resources(&registry, group, version))
        }
        (Route::OpenApiV3(document), _) => {
            let prefix = cluster.map(|name| format!("/clusters/{name}")).unwrap_or_default();
            openapi::answer(registry, &prefix, document, query, asks).await
        }
        (Route::OpenApiV2, _) => openapi::answer_v2(registry, context.header(&ACCEPT), asks).await,
        (Route::Version, _) => Ok(version()),
        (Route::Health { probe, check }, _) => {
            // Of the whole hub, as its figures are.
            let asked = (check, cluster.is_none());
            Ok(health::answer(probe, asked, query, &context.hub.server.checks))
        }
        (
            Route::Unknown
            | Route::Metrics
            | Route::PriorityLevels
            | Route::OpenId(_)
            | Route::Resource(_),
            _,
        ) => Err(respond::no_such_path()),
    };
    answer.map(|response| response.map(|body| body.keeping(held)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use freewheel_hub_metrics::{MetricFamily, MetricKind, Sample, Value};

    use super::*;
    use crate::flow::shares::Sharer;
    use crate::flow::workers::Workers;

    #[tokio::test(start_paused = true)]
    async fn figures_are_on_the_account_of_their_connection() {
        let (metrics, workers) = (Metrics::default(), Workers::default());
        let (backlog, named) = (SendBacklog::new(Arc::default()), ("many", "So many series"));
        metrics.show(MetricFamily::new(named, MetricKind::Gauge, || {
            let label = |number: u32| vec![("text", format!("{number:0>100}"))];
            let sample = |number| Sample { labels: label(number), value: Value::Whole(1) };
            (0..20_000).map(sample).collect()
        }));
        let (format, mut texts) = (Format::Prometheus, Vec::new());
        let refused = loop {
            match counted(&metrics, format, workers.of(Sharer::in_root("reader")), &backlog).await {
                Ok(text) => texts.push(text),
                Err(error) => break error,
            }
        };
        assert_eq!((refused.code, refused.reason), (429, "TooManyRequests"));
        let bytes: usize = texts.iter().map(|(text, _)| text.len()).sum();
        assert!(5 << 20 < bytes && bytes == backlog.account.held(), "{bytes}");
    }
}
