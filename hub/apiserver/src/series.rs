//! The series that requests are counted in: a place for each kind of request, found by numbers.
//!
//! ```text
//! row        each kind that is built in, all kinds of clusters' own as one, what has no objects, all other paths
//!   cell     subresource or path ▸ verb ▸ scope ▸ dry run: made when the first such request comes
//! ```
//!
//! So a request costs neither a lock nor memory, and there is no place for what a client makes up.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use freewheel_hub_api::kinds;
use freewheel_hub_metrics::{Counter, DurationHistogram, Gauge, REQUEST_SECONDS_BUCKETS};
use freewheel_hub_schema::kind::{Kind, KindId};
use freewheel_link::names::ClusterName;

/// kube-apiserver's words for verbs; the last is for what is none.
const VERBS: [&str; 9] =
    ["GET", "LIST", "WATCH", "POST", "PUT", "PATCH", "DELETE", "DELETECOLLECTION", "other"];
/// kube-apiserver's words for what a request is about; the first is for paths that are no resources.
const SCOPES: [&str; 4] = ["", "resource", "namespace", "cluster"];
/// Codes of answers; any other is counted as 0.
const CODES: [u16; 27] = [
    200, 201, 202, 204, 206, 301, 302, 304, 400, 401, 403, 404, 405, 406, 409, 410, 411, 413, 415,
    416, 422, 429, 500, 501, 502, 503, 504,
];
/// Paths that are no resources; the first is for what is served nowhere.
const PATHS: [&str; 12] = [
    "",
    "/",
    "/version",
    "/metrics",
    "/healthz",
    "/livez",
    "/readyz",
    "/api",
    "/apis",
    "/openapi/v2",
    "/openapi/v3",
    "/v2",
];
/// What a kind of a cluster's own may have; its names are its owner's, and no label.
const OWN: [&str; 3] = ["", "status", "scale"];

/// Resources that are answered without objects: group and plural, all of v1.
const OBJECTLESS: [(&str, &str); 4] = [
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
];

/// What is counted of requests that are alike.
pub(crate) struct Series {
    codes: [Counter; CODES.len() + 1],
    /// Of those that are not long-running.
    pub(crate) times: Arc<DurationHistogram>,
    /// Long-running ones that have not ended.
    pub(crate) running: Arc<Gauge>,
}

impl Series {
    fn new() -> Self {
        let codes = std::array::from_fn(|_| Counter::default());
        Self {
            codes,
            times: Arc::new(DurationHistogram::new(REQUEST_SECONDS_BUCKETS)),
            running: Arc::default(),
        }
    }

    /// One more answer of this code.
    pub(crate) fn answered(&self, code: u16) {
        let at = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len());
        if let Some(counter) = self.codes.get(at) {
            counter.inc();
        }
    }

    /// How many answers of which code there were.
    pub(crate) fn codes(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = self.codes.iter().map(Counter::get);
        CODES.into_iter().chain([0]).zip(counts).filter(|(_, count)| *count != 0)
    }
}

/// Which series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    row: usize,
    sub: usize,
    verb: usize,
    scope: usize,
    dry_run: bool,
}

impl Spot {
    fn new(row: usize, sub: Option<usize>, verb: &str, scope: &str, dry_run: bool) -> Self {
        let at = |names: &[&str], name| names.iter().position(|known| *known == name);
        Self {
            row,
            sub: sub.unwrap_or(0),
            verb: at(&VERBS, verb).unwrap_or(VERBS.len() - 1),
            scope: at(&SCOPES, scope).unwrap_or(0),
            dry_run,
        }
    }

    /// A path that is no resource; empty for one that is not served.
    pub(crate) fn of_path(path: &str, verb: &str) -> Self {
        Self::new(0, PATHS.iter().position(|known| *known == path), verb, "", false)
    }

    /// A resource that is answered without objects.
    pub(crate) fn of_objectless(
        (group, plural): (&str, &str),
        (verb, scope): (&str, &str),
    ) -> Self {
        let at = OBJECTLESS.iter().position(|known| *known == (group, plural));
        Self::new(at.map_or(0, |at| 2 + at), None, verb, scope, false)
    }

    fn cell(self) -> usize {
        ((self.sub * VERBS.len() + self.verb) * SCOPES.len() + self.scope) * 2
            + usize::from(self.dry_run)
    }
}

/// The labels of a series.
pub(crate) type Labels = Vec<(&'static str, String)>;

struct Row {
    group: String,
    version: String,
    resource: String,
    subs: Vec<String>,
    cells: OnceLock<Box<[OnceLock<Box<Series>>]>>,
}

impl Row {
    fn new(names: [&str; 3], subs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let [group, version, resource] = names.map(str::to_owned);
        let subs = subs.into_iter().map(Into::into).collect();
        Self { group, version, resource, subs, cells: OnceLock::new() }
    }

    fn of(kind: &Kind) -> Self {
        let subs = kind.subresources.iter().map(|sub| sub.name.to_string());
        let names = [kind.group(), kind.version(), kind.plural()];
        Self::new(names, std::iter::once(String::new()).chain(subs))
    }

    fn cells(&self) -> &[OnceLock<Box<Series>>] {
        let count = self.subs.len() * VERBS.len() * SCOPES.len() * 2;
        self.cells.get_or_init(|| std::iter::repeat_with(OnceLock::new).take(count).collect())
    }

    fn labels(&self, cell: usize) -> Labels {
        let (dry_run, cell) = (cell % 2 == 1, cell / 2);
        let (scope, cell) = (cell % SCOPES.len(), cell / SCOPES.len());
        let (verb, sub) = (cell % VERBS.len(), cell / VERBS.len());
        let name =
            |names: &[&str], at: usize| names.get(at).copied().unwrap_or_default().to_owned();
        vec![
            ("verb", name(&VERBS, verb)),
            ("dry_run", if dry_run { "All" } else { "" }.to_owned()),
            ("group", self.group.clone()),
            ("version", self.version.clone()),
            ("resource", self.resource.clone()),
            ("subresource", self.subs.get(sub).cloned().unwrap_or_default()),
            ("scope", name(&SCOPES, scope)),
            ("component", "apiserver".to_owned()),
        ]
    }
}

/// All of them.
pub(crate) struct SeriesTable {
    rows: Vec<Row>,
    built_in: HashMap<KindId, usize>,
}

impl Default for SeriesTable {
    fn default() -> Self {
        let mut rows = vec![Row::new(["", "", ""], PATHS), Row::new(["", "", "custom"], OWN)];
        rows.extend(OBJECTLESS.map(|(group, plural)| Row::new([group, "v1", plural], [""])));
        let mut built_in = HashMap::new();
        for kind in kinds::registry(&ClusterName::root()).all() {
            built_in.insert(kind.id(), rows.len());
            rows.push(Row::of(kind));
        }
        Self { rows, built_in }
    }
}

impl SeriesTable {
    /// Where requests of this verb for this resource are counted.
    pub(crate) fn spot(
        &self,
        kind: &Kind,
        subresource: &str,
        (verb, scope): (&str, &str),
        dry_run: bool,
    ) -> Spot {
        let row = self.built_in.get(&kind.id()).copied().unwrap_or(1);
        let subs = self.rows.get(row).map_or(&[] as &[String], |row| &row.subs);
        let sub = subs.iter().position(|known| known == subresource);
        Spot::new(row, sub, verb, scope, dry_run)
    }

    /// The series there.
    pub(crate) fn at(&self, spot: Spot) -> Option<&Series> {
        let cell = self.rows.get(spot.row)?.cells().get(spot.cell())?;
        Some(cell.get_or_init(|| Box::new(Series::new())))
    }

    /// Those that somebody asked for, with their labels.
    pub(crate) fn made(&self) -> impl Iterator<Item = (Labels, &Series)> {
        self.rows.iter().filter_map(|row| Some((row, row.cells.get()?))).flat_map(|(row, cells)| {
            let made = move |(at, cell): (usize, &'_ OnceLock<Box<Series>>)| cell.get().map(|_| at);
            let made: Vec<usize> = cells.iter().enumerate().filter_map(made).collect();
            made.into_iter().filter_map(move |at| {
                let series = cells.get(at)?.get()?;
                Some((row.labels(at), &**series))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_spot_has_a_series_and_labels_of_its_own() {
        let all = SeriesTable::default();
        let pods = kinds::find("", "v1", "pods").unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for sub in ["", "status", "log"] {
            for verb in VERBS {
                for scope in SCOPES {
                    for dry_run in [false, true] {
                        let spot = all.spot(pods, sub, (verb, scope), dry_run);
                        all.at(spot).unwrap().answered(200);
                        let row = &all.rows[spot.row];
                        let labels = row.labels(spot.cell());
                        let value =
                            |name| labels.iter().find(|(of, _)| *of == name).unwrap().1.clone();
                        assert_eq!(value("subresource"), sub);
                        assert_eq!((&*value("verb"), &*value("scope")), (verb, scope));
                        assert_eq!(value("dry_run") == "All", dry_run);
                        assert_eq!(value("resource"), "pods");
                        assert!(seen.insert(labels), "told twice");
                    }
                }
            }
        }
        let made: Vec<_> =
            all.made().map(|(labels, series)| (labels, series.codes().count())).collect();
        assert_eq!(made.len(), seen.len());
        assert!(made.iter().all(|(_, codes)| *codes == 1));
    }

    #[test]
    fn a_code_that_nobody_foresaw_is_counted_as_none() {
        let series = Series::new();
        series.answered(418);
        series.answered(404);
        series.answered(404);
        assert_eq!(series.codes().collect::<Vec<_>>(), [(404, 2), (0, 1)]);
    }
}
