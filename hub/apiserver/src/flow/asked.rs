//! What of a request decides how much of the hub it may use.
//!
//! Guarantees:
//! - a request counts for what it is, however its path is written (`requests_are_what_they_ask_for`);
//! - a list takes the more seats the more it looks at, and a watch that begins with what is there, too
//!   (`lists_and_first_watches_take_seats_by_what_is_there`).

use freewheel_hub_fairness::{Request, Resource, What, work};
use freewheel_hub_objects::Objects;
use freewheel_hub_store::Scope;
use freewheel_link::names::ClusterName;
use http::{Method, Uri};

use super::lasts;
use crate::authn::User;
use crate::path::{Route, Target, verb};
use crate::query::Query;
use crate::view::View;

/// A request, as far as it is known before it is looked at closely.
pub(crate) struct Asked<'a> {
    verb: &'static str,
    path: &'a str,
    target: Option<&'a Target<'a>>,
    query: Query,
}

impl<'a> Asked<'a> {
    pub(crate) fn of(method: &Method, uri: &Uri, path: &'a str, route: &'a Route<'a>) -> Self {
        let by_method = method_verb(method);
        let Route::Resource(target) = route else { return Self::of_path(method, path) };
        // What is asked of somebody behind a proxy is theirs to read; what is wrong in it is told later.
        let text = uri.query().filter(|_| target.subresource != Some("proxy")).unwrap_or_default();
        let query = Query::parse(text).unwrap_or_default();
        let verb = verb::of(method, target, &query).unwrap_or(by_method);
        Self { verb, path, target: Some(target), query }
    }

    /// For a path that is no resource.
    pub(crate) fn of_path(method: &Method, path: &'a str) -> Self {
        Self { verb: method_verb(method), path, target: None, query: Query::default() }
    }

    /// Whether it goes on until somebody ends it and begins with nothing much.
    pub(crate) fn is_session(&self) -> bool {
        let subresource = self.target.and_then(|target| target.subresource).unwrap_or_default();
        self.verb != "watch" && self.target.is_some() && lasts(self.verb, subresource)
    }

    /// The same to those who say whose it is.
    pub(crate) fn by<'b>(&'b self, user: &'b User) -> Request<'b> {
        let what = self.target.map_or(What::Path(self.path), |target| {
            What::Resource(Resource {
                group: target.group,
                plural: target.plural,
                subresource: target.subresource.unwrap_or_default(),
                namespace: target.home(),
            })
        });
        Request { user: &user.name, groups: &user.groups, verb: self.verb, what }
    }

    /// How many seats it takes.
    pub(crate) fn width(&self, objects: &Objects, cluster: &ClusterName) -> u32 {
        let initial = match self.query.send_initial_events {
            Some(initial) => initial,
            None => matches!(self.query.resource_version.as_str(), "" | "0"),
        };
        let looks = match self.verb {
            "list" => !self.query.field_selector.contains("metadata.name="),
            "watch" => initial,
            _ => false,
        };
        let Some(target) = self.target.filter(|_| looks) else { return 1 };
        let registry = objects.kinds().of(cluster);
        let Some(view) = View::find(&registry, target.group, target.version, target.plural) else {
            return 1;
        };
        let scope = Scope {
            resource: view.stored.storage().clone(),
            cluster: Some(cluster.clone()),
            namespace: target.namespace.as_deref().map(Into::into),
        };
        let selects =
            !self.query.label_selector.is_empty() || !self.query.field_selector.is_empty();
        let most = match self.query.limit {
            0 => work::OBJECTS_COUNTED_MAX,
            _ if selects => work::OBJECTS_COUNTED_MAX,
            limit => limit.min(work::OBJECTS_COUNTED_MAX),
        };
        let snapshot = objects.store().snapshot();
        work::of_list(snapshot.range(&scope, None).take(most).count())
    }
}

/// As upstream names it of what is no resource.
fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use freewheel_hub_api::kinds;
    use freewheel_hub_objects::{ObjectRef, WriteOptions};
    use freewheel_hub_store::memory::MemoryStore;
    use serde_json::json;

    use super::*;
    use crate::path;

    /// Answers about a GET of this.
    fn about<T>(uri: &str, answer: impl FnOnce(&Asked<'_>) -> T) -> T {
        let uri: Uri = uri.parse().unwrap();
        let route = path::route(uri.path());
        answer(&Asked::of(&Method::GET, &uri, uri.path(), &route))
    }

    #[test]
    fn requests_are_what_they_ask_for() {
        let ann = User { name: "ann".to_owned(), ..User::default() };
        for (uri, verb, plural, namespace, is_session) in [
            ("/api/v1/namespaces/a/pods/web/log", "get", "pods", "a", true),
            ("/api/v1/namespaces/a/pods/web", "get", "pods", "a", false),
            ("/api/v1/namespaces/a/pods?watch=1", "watch", "pods", "a", false),
            ("/api/v1/watch/namespaces/a/pods", "watch", "pods", "a", false),
            ("/api/v1/pods?limit=x", "list", "pods", "", false),
            ("/api/v1/namespaces/a", "get", "namespaces", "a", false),
            ("/apis/apps/v1/deployments", "list", "deployments", "", false),
        ] {
            about(uri, |asked| {
                let request = asked.by(&ann);
                let What::Resource(what) = request.what else { panic!("{uri}") };
                let got = (request.verb, what.plural, what.namespace, asked.is_session());
                assert_eq!(got, (verb, plural, namespace, is_session), "{uri}");
            });
        }
        about("/openapi/v3", |asked| {
            let request = asked.by(&ann);
            assert!(matches!(request.what, What::Path("/openapi/v3")) && request.verb == "get");
        });
    }

    #[tokio::test]
    async fn lists_and_first_watches_take_seats_by_what_is_there() {
        let objects = Objects::new(Arc::new(MemoryStore::new()));
        let kind = kinds::find("", "v1", "namespaces").unwrap();
        for number in 0..250 {
            let place = ObjectRef {
                kind: kind.clone(),
                cluster: ClusterName::root(),
                namespace: "".into(),
                name: String::new(),
            };
            let object = json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": format!("n-{number}")}});
            objects.create(&WriteOptions::default(), &place, object).await.unwrap();
        }
        for (uri, width) in [
            ("/api/v1/namespaces", 3),
            ("/api/v1/namespaces?limit=100", 1),
            ("/api/v1/namespaces?limit=100&labelSelector=a", 3),
            ("/api/v1/namespaces?fieldSelector=metadata.name=a", 1),
            ("/api/v1/namespaces?watch=1", 3),
            ("/api/v1/namespaces?watch=1&resourceVersion=7", 1),
            ("/api/v1/namespaces?watch=1&resourceVersion=7&sendInitialEvents=true", 3),
            ("/api/v1/namespaces/n-1", 1),
            ("/api/v1/pods", 1),
            ("/api/v1/madeups", 1),
            ("/api", 1),
        ] {
            let got = about(uri, |asked| asked.width(&objects, &ClusterName::root()));
            assert_eq!(got, width, "{uri}");
        }
    }
}
