//! URL paths: which logical cluster, and what of it.
//!
//! ```text
//! [/clusters/NAME] /api/v1/namespaces/NS/pods/NAME/log
//! [/clusters/NAME] /apis/GROUP/VERSION/PLURAL/NAME/status
//! ```
//!
//! Guarantees:
//! - a path with a part that is empty or names nothing, or with more parts than there are meanings, leads nowhere, and
//!   never to what stands before that part (`malformed_paths_lead_nowhere`,
//!   `a_malformed_path_reads_and_deletes_nothing`);
//! - a part names one thing however it is encoded: none says two of them (`malformed_paths_lead_nowhere`).

pub(crate) mod verb;

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The resource whose objects others are in, and the part of a path before a namespace.
const NAMESPACES: &str = "namespaces";

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/`
    Index,
    /// `/version`
    Version,
    /// `/metrics`
    Metrics,
    /// `/debug/api_priority_and_fairness/dump_priority_levels`
    PriorityLevels,
    /// `/healthz`, `/livez`, `/readyz`, and one check of it.
    Health {
        /// Which of the three.
        probe: &'a str,
        /// The part after it, empty for all checks.
        check: &'a str,
    },
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(&'a str),
    /// `/api/v1`, `/apis/GROUP/VERSION`
    Resources {
        /// Group, empty for core.
        group: &'a str,
        /// Version.
        version: &'a str,
    },
    /// `/openapi/v2`
    OpenApiV2,
    /// `/openapi/v3`, and what follows it.
    OpenApiV3(&'a str),
    /// What others need to verify tokens.
    OpenId(OpenId),
    /// An object or a collection.
    Resource(Target<'a>),
    /// Nothing of ours.
    Unknown,
}

/// What others need to verify tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenId {
    /// `/.well-known/openid-configuration`
    Configuration,
    /// `/openid/v1/jwks`
    Keys,
}

/// An object, a collection or a subresource.
#[derive(Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Group, empty for core.
    pub group: &'a str,
    /// Version.
    pub version: &'a str,
    /// Namespace, when the path has one.
    pub namespace: Option<Cow<'a, str>>,
    /// Plural resource.
    pub plural: &'a str,
    /// Object's name.
    pub name: Option<Cow<'a, str>>,
    /// Subresource and what may follow it.
    pub subresource: Option<&'a str>,
    /// The path behind a subresource that leads on, without the slash before it.
    pub rest: &'a str,
    /// The old `/watch/` prefix.
    pub watch: bool,
}

impl Target<'_> {
    /// The namespace that it is in, empty for none. A namespace is in itself: who is given a role there may have a right
    /// to it.
    pub(crate) fn home(&self) -> &str {
        let is_namespace = self.group.is_empty() && self.plural == NAMESPACES;
        let own = self.name.as_deref().filter(|_| is_namespace);
        self.namespace.as_deref().or(own).unwrap_or_default()
    }
}

impl Route<'_> {
    /// Whether it leads to what is served, and not to anything that is there.
    #[must_use]
    pub fn describes_the_api(&self) -> bool {
        matches!(
            self,
            Self::CoreVersions
                | Self::Groups
                | Self::Group(_)
                | Self::Resources { .. }
                | Self::OpenApiV3(_)
                | Self::OpenApiV2
        )
    }
}

/// Takes `/clusters/NAME` off; `None` for the root.
#[must_use]
pub fn cluster(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("/clusters/") else { return (None, path) };
    let end = rest.find('/').unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    (Some(name), if rest.is_empty() { "/" } else { rest })
}

/// Where a path (without the cluster's prefix) leads. One slash at its end is nobody's mistake, as at kube-apiserver.
#[must_use]
pub fn route(path: &str) -> Route<'_> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Route::Index;
    }
    // What is left out by mistake, as by a variable that is empty, must not make it the path of something larger.
    if path.split('/').any(str::is_empty) {
        return Route::Unknown;
    }
    let (head, rest) = path.split_once('/').unwrap_or((path, ""));
    match head {
        "version" if rest.is_empty() => Route::Version,
        "metrics" if rest.is_empty() => Route::Metrics,
        "debug" if rest == "api_priority_and_fairness/dump_priority_levels" => {
            Route::PriorityLevels
        }
        ".well-known" if rest == "openid-configuration" => Route::OpenId(OpenId::Configuration),
        "openid" if rest == "v1/jwks" => Route::OpenId(OpenId::Keys),
        "healthz" | "livez" | "readyz" => Route::Health { probe: head, check: rest },
        "openapi" => match rest.split_once('/').unwrap_or((rest, "")) {
            ("v2", "") => Route::OpenApiV2,
            ("v3", path) => Route::OpenApiV3(path),
            _ => Route::Unknown,
        },
        "api" => match rest.split_once('/') {
            None if rest.is_empty() => Route::CoreVersions,
            None => Route::Resources { group: "", version: rest },
            Some((version, rest)) => target("", version, rest),
        },
        "apis" => {
            let mut parts = rest.splitn(3, '/');
            match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
                ("", ..) => Route::Groups,
                (group, None, _) => Route::Group(group),
                (group, Some(version), None) => Route::Resources { group, version },
                (group, Some(version), Some(rest)) => target(group, version, rest),
            }
        }
        _ => Route::Unknown,
    }
}

fn target<'a>(group: &'a str, version: &'a str, rest: &'a str) -> Route<'a> {
    let (watch, rest) = match rest.strip_prefix("watch/") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let parts: Vec<&str> = rest.split('/').collect();
    let (namespace, plural, name, subresource) = match parts[..] {
        // The namespace itself, or a subresource of it: the only ones there are.
        [NAMESPACES, namespace] => (None, NAMESPACES, Some(namespace), None),
        [NAMESPACES, namespace, sub @ ("status" | "finalize")] if group.is_empty() => {
            (None, NAMESPACES, Some(namespace), Some(sub))
        }
        [NAMESPACES, namespace, plural] => (Some(namespace), plural, None, None),
        [NAMESPACES, namespace, plural, name] => (Some(namespace), plural, Some(name), None),
        [NAMESPACES, namespace, plural, name, sub] => {
            (Some(namespace), plural, Some(name), Some(sub))
        }
        // What follows is a path of the pod's own, or of the node's.
        [NAMESPACES, namespace, plural, name, "proxy", ..] => {
            (Some(namespace), plural, Some(name), Some("proxy"))
        }
        ["nodes", name, "proxy", ..] if group.is_empty() => {
            (None, "nodes", Some(name), Some("proxy"))
        }
        [plural] => (None, plural, None, None),
        [plural, name] => (None, plural, Some(name), None),
        [plural, name, sub] => (None, plural, Some(name), Some(sub)),
        _ => return Route::Unknown,
    };
    // Nobody watches a part of an object.
    if watch && subresource.is_some() {
        return Route::Unknown;
    }
    let (Ok(namespace), Ok(name)) = (decode(namespace), decode(name)) else {
        return Route::Unknown;
    };
    let leads_on = subresource == Some("proxy");
    let behind = rest.splitn(if namespace.is_some() { 6 } else { 4 }, '/').last();
    let is_behind = if namespace.is_some() { 6 } else { 4 } <= parts.len();
    let rest = behind.filter(|_| leads_on && is_behind).unwrap_or_default();
    Route::Resource(Target { group, version, namespace, plural, name, subresource, rest, watch })
}

/// A part that is no name of anything, whatever is there.
struct NoName;

/// What a part says. A slash in it would be another path to whoever decodes first and then looks for parts.
fn decode(segment: Option<&str>) -> Result<Option<Cow<'_, str>>, NoName> {
    let Some(segment) = segment else { return Ok(None) };
    let name = percent_decode_str(segment).decode_utf8().map_err(|_| NoName)?;
    if matches!(&*name, "." | "..") || name.contains('/') {
        return Err(NoName);
    }
    Ok(Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_a_prefix() {
        assert_eq!(cluster("/clusters/pi-7/api/v1"), (Some("pi-7"), "/api/v1"));
        assert_eq!(cluster("/clusters/pi-7"), (Some("pi-7"), "/"));
        assert_eq!(cluster("/api/v1"), (None, "/api/v1"));
    }

    #[track_caller]
    fn check(
        path: &str,
        (namespace, plural, name, sub): (Option<&str>, &str, Option<&str>, Option<&str>),
    ) {
        let Route::Resource(target) = route(path) else { panic!("{path}: {:?}", route(path)) };
        let got = (
            target.namespace.as_deref(),
            target.plural,
            target.name.as_deref(),
            target.subresource,
        );
        assert_eq!(got, (namespace, plural, name, sub), "{path}");
    }

    #[test]
    fn what_is_behind_a_proxy_is_its_own_path() {
        for (path, rest) in [
            ("/api/v1/nodes/a/proxy/metrics/resource", "metrics/resource"),
            ("/api/v1/nodes/a/proxy/metrics/", "metrics"),
            ("/api/v1/nodes/a/proxy", ""),
            ("/api/v1/namespaces/n/pods/p/proxy/x/y", "x/y"),
            ("/api/v1/namespaces/n/pods/p/proxy", ""),
            ("/api/v1/namespaces/n/pods/p/log", ""),
        ] {
            let Route::Resource(target) = route(path) else { panic!("{path}") };
            assert_eq!(target.rest, rest, "{path}");
        }
    }

    #[test]
    fn resource_paths() {
        check("/api/v1/pods", (None, "pods", None, None));
        check("/api/v1/nodes/a", (None, "nodes", Some("a"), None));
        check("/api/v1/nodes/a/status", (None, "nodes", Some("a"), Some("status")));
        check("/api/v1/namespaces", (None, "namespaces", None, None));
        check("/api/v1/namespaces/a", (None, "namespaces", Some("a"), None));
        check("/api/v1/namespaces/a/finalize", (None, "namespaces", Some("a"), Some("finalize")));
        check("/api/v1/namespaces/a/pods", (Some("a"), "pods", None, None));
        check("/api/v1/namespaces/a/pods/p/log", (Some("a"), "pods", Some("p"), Some("log")));
        check(
            "/apis/apps/v1/namespaces/a/deployments/d",
            (Some("a"), "deployments", Some("d"), None),
        );
        check(
            "/api/v1/namespaces/a/configmaps/x%3Ay",
            (Some("a"), "configmaps", Some("x:y"), None),
        );
    }

    #[test]
    fn other_paths() {
        assert_eq!(route("/"), Route::Index);
        assert_eq!(route("/api"), Route::CoreVersions);
        assert_eq!(route("/apis/"), Route::Groups);
        assert_eq!(route("/apis/apps"), Route::Group("apps"));
        assert_eq!(route("/apis/apps/v1"), Route::Resources { group: "apps", version: "v1" });
        assert_eq!(route("/readyz/ping"), Route::Health { probe: "readyz", check: "ping" });
        assert_eq!(route("/openapi/v3/apis/apps/v1"), Route::OpenApiV3("apis/apps/v1"));
        for (path, what) in [
            ("/.well-known/openid-configuration", OpenId::Configuration),
            ("/openid/v1/jwks", OpenId::Keys),
        ] {
            assert_eq!(route(path), Route::OpenId(what));
        }
        assert_eq!(route("/nonsense"), Route::Unknown);
    }

    #[test]
    fn malformed_paths_lead_nowhere() {
        for path in [
            "/api/v1/namespaces/prod//web",
            "/api/v1/namespaces//pods",
            "/api/v1/namespaces/p/pods//x",
            "/api/v1/namespaces/p/pods//log",
            "/api/v1/namespaces/p//",
            "//api/v1/namespaces/p",
            "/api//namespaces/p",
            "/api//v1/namespaces/p",
            "/apis//v1/deployments",
            "/apis/apps//deployments",
            "/api/v1/nodes/a/status/x",
            "/api/v1/nodes/a/status/x/y",
            "/api/v1/nodes/a/proxy//metrics",
            "/apis/x/v1/nodes/a/proxy/metrics",
            "/api/v1/namespaces/a/status/x/y/z",
            "/api/v1/namespaces/a/pods/p/log/x",
            "/api/v1/namespaces/a/pods/p/log/x/y",
            "/api/v1/watch/namespaces/a/pods/p/status",
            "/api/v1/nodes/%2E%2E",
            "/api/v1/nodes/.",
            "/api/v1/namespaces/a/pods/..",
            "/api/v1/namespaces/../pods/p",
            "/api/v1/namespaces/a%2Fpods%2Fp",
            "/api/v1/namespaces/a/pods/p%2Flog",
            "/api/v1/namespaces/a/pods/%ff",
            "/openapi//v2",
            "/openapi/v3//apis/apps/v1",
            "/readyz//ping",
            "//version",
        ] {
            assert_eq!(route(path), Route::Unknown, "{path}");
        }
        check("/api/v1/namespaces/a/pods/", (Some("a"), "pods", None, None));
        check(
            "/api/v1/namespaces/a/pods/p/proxy/index.html",
            (Some("a"), "pods", Some("p"), Some("proxy")),
        );
    }
}
