//! What expressions of admission may speak of, by type, as kube-apiserver declares it: of a request and of a namespace it
//! knows hand-made types, of objects and parameters whatever is known of their kinds.

use std::sync::Arc;

use freewheel_hub_cel::typing::{Names, Record, Type};
use freewheel_hub_schema::types::TypeFacts;

/// What they speak of, where objects are of this type and parameters of that one. Variables are still to come.
pub(crate) fn names<'a>(object: &Type<'a>, params: Type<'a>) -> Names<'a> {
    Names::default()
        .with("object", object.clone())
        .with("oldObject", object.clone())
        .with("params", params)
        .with("request", request())
        .with("namespaceObject", namespace())
        .with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"))
        .with("authorizer.requestResource", Type::Opaque("kubernetes.authorization.ResourceCheck"))
        .with("variables", record("kubernetes.variables", []))
}

fn record<'a, const N: usize>(
    name: &'static str,
    fields: [(&'static str, Type<'a>); N],
) -> Type<'a> {
    let fields = fields.map(|(field, of)| (field.to_owned(), of)).into_iter().collect();
    Type::Record(Arc::new(Record { name, fields }))
}

/// What is said of a request (admission/v1 AdmissionRequest), but the objects.
fn request<'a>() -> Type<'a> {
    let texts = |name, of: [&'static str; 3]| record(name, of.map(|field| (field, Type::String)));
    let kind = texts("kubernetes.GroupVersionKind", ["group", "version", "kind"]);
    let resource = texts("kubernetes.GroupVersionResource", ["group", "version", "resource"]);
    let user = TypeFacts::by_name("io.k8s.api.authentication.v1.UserInfo");
    record(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", Type::String),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", Type::String),
            ("name", Type::String),
            ("namespace", Type::String),
            ("operation", Type::String),
            ("userInfo", user.map_or(Type::Dyn, Type::Object)),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    )
}

/// What is said of a namespace. Upstream calls its UID by the name that it has in Go, so that nobody finds one.
fn namespace<'a>() -> Type<'a> {
    // Upstream says that times are times, and evaluates what is text.
    let time = || Type::Text;
    let condition = record(
        "kubernetes.NamespaceCondition",
        [
            ("status", Type::String),
            ("type", Type::String),
            ("lastTransitionTime", time()),
            ("message", Type::String),
            ("reason", Type::String),
        ],
    );
    let texts = || Type::map(Type::String, Type::String);
    let metadata = record(
        "kubernetes.NamespaceMetadata",
        [
            ("name", Type::String),
            ("generateName", Type::String),
            ("namespace", Type::String),
            ("labels", texts()),
            ("annotations", texts()),
            ("UID", Type::String),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", Type::Int),
            ("deletionTimestamp", time()),
            ("generation", Type::Int),
            ("resourceVersion", Type::String),
            ("finalizers", Type::list(Type::String)),
        ],
    );
    let spec = record("kubernetes.NamespaceSpec", [("finalizers", Type::list(Type::String))]);
    let status = [("conditions", Type::list(condition)), ("phase", Type::String)];
    let status = record("kubernetes.NamespaceStatus", status);
    record("kubernetes.Namespace", [("metadata", metadata), ("spec", spec), ("status", status)])
}
