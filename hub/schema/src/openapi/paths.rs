//! Operations of the kinds that are served. kubectl reads three things here: which kind a path is of
//! (`explain`), and whether its patch takes `fieldValidation` and `dryRun`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::components::{name_of, reference};
use crate::kind::Kind;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Tells every path of a group and version, one at a time; `root` is `apis/apps/v1`.
pub(super) fn each(root: &str, kinds: &[&Kind], mut tell: impl FnMut(String, Value)) {
    let list = Operation {
        root,
        action: "get",
        verb: "get",
        body: None,
        answer: None,
        ..Operation::new(root)
    };
    tell(format!("/{root}/"), json!({ "get": list.resources() }));
    for kind in kinds {
        let (one, mut of_kind) = (Paths { root, kind }, BTreeMap::new());
        one.collection(&mut of_kind);
        one.object(&mut of_kind);
        one.subresources(&mut of_kind);
        of_kind.into_iter().for_each(|(path, item)| tell(path, item));
    }
}

struct Paths<'a> {
    root: &'a str,
    kind: &'a Kind,
}

/// A kind as operations name it.
#[derive(Clone, Copy)]
struct Gvk<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

impl Gvk<'_> {
    /// The component's name, when there is one.
    fn component(self, of: &Kind) -> Option<String> {
        name_of(of, (self.group, self.version, self.kind))
    }
}

impl Paths<'_> {
    fn gvk(&self) -> Gvk<'_> {
        Gvk { group: self.kind.group(), version: self.kind.version(), kind: self.kind.kind() }
    }

    fn base(&self) -> String {
        let scope = if self.kind.namespaced { "/namespaces/{namespace}" } else { "" };
        format!("/{}{scope}/{}", self.root, self.kind.plural())
    }

    fn operation<'b>(&self, action: &'b str, verb: &'b str, gvk: Gvk<'b>) -> Operation<'b>
    where
        Self: 'b,
    {
        Operation { action, verb, gvk: Some(gvk), ..Operation::new("") }
    }

    fn collection(&self, out: &mut BTreeMap<String, Value>) {
        let list_kind = self.kind.list_kind();
        let gvk = self.gvk();
        let mut list = self.operation("list", "list", gvk);
        list.answer = Some(Gvk { kind: list_kind, ..gvk });
        let mut here = Map::new();
        if self.can("list") {
            here.insert("get".to_owned(), list.write(self, LIST));
        }
        if self.can("create") {
            let mut post = self.operation("post", "create", gvk);
            (post.body, post.answer) = (Some(gvk), Some(gvk));
            here.insert("post".to_owned(), post.write(self, WRITE));
        }
        if self.can("deletecollection") {
            let delete = self.operation("deletecollection", "deletecollection", gvk);
            here.insert("delete".to_owned(), delete.write(self, LIST));
        }
        self.insert(out, self.base(), here, false);
        if self.kind.namespaced && self.can("list") {
            let mut everywhere = Map::new();
            list.verb = "listForAllNamespaces";
            everywhere.insert("get".to_owned(), list.write(self, LIST));
            out.insert(format!("/{}/{}", self.root, self.kind.plural()), Value::Object(everywhere));
        }
    }

    fn object(&self, out: &mut BTreeMap<String, Value>) {
        let here = self.methods(self.gvk(), self.kind.verbs, "");
        self.insert(out, format!("{}/{{name}}", self.base()), here, true);
    }

    fn subresources(&self, out: &mut BTreeMap<String, Value>) {
        for sub in &self.kind.subresources {
            let (group, version) = match &sub.group_version {
                Some((group, version)) => (&**group, &**version),
                None => (self.kind.group(), self.kind.version()),
            };
            let gvk = Gvk { group, version, kind: &sub.kind };
            let mut here = self.methods(gvk, sub.verbs, &sub.name);
            if sub.verbs.contains(&"create") {
                let mut post = self.operation("post", "create", gvk);
                post.suffix = &sub.name;
                (post.body, post.answer) = (Some(gvk), Some(gvk));
                here.insert("post".to_owned(), post.write(self, WRITE));
            }
            self.insert(out, format!("{}/{{name}}/{}", self.base(), sub.name), here, true);
        }
    }

    /// get, put, patch and delete of one object or subresource.
    fn methods(&self, gvk: Gvk<'_>, verbs: &[&str], suffix: &str) -> Map<String, Value> {
        let mut out = Map::new();
        let table = [
            ("get", "get", "get", &[][..]),
            ("update", "put", "put", WRITE),
            ("patch", "patch", "patch", PATCH),
            ("delete", "delete", "delete", DELETE),
        ];
        for (verb, method, action, parameters) in table {
            if verbs.contains(&verb) {
                let mut operation = self.operation(action, verb, gvk);
                operation.suffix = suffix;
                operation.body = (verb == "update").then_some(gvk);
                operation.answer = (verb != "delete").then_some(gvk);
                out.insert(method.to_owned(), operation.write(self, parameters));
            }
        }
        out
    }

    fn insert(
        &self,
        out: &mut BTreeMap<String, Value>,
        path: String,
        mut methods: Map<String, Value>,
        named: bool,
    ) {
        if methods.is_empty() {
            return;
        }
        let mut parameters = Vec::new();
        for (name, wanted) in [("name", named), ("namespace", self.kind.namespaced)] {
            if wanted {
                let schema = json!({"type": "string", "uniqueItems": true});
                parameters
                    .push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
            }
        }
        if !parameters.is_empty() {
            methods.insert("parameters".to_owned(), Value::Array(parameters));
        }
        out.insert(path, Value::Object(methods));
    }

    fn can(&self, verb: &str) -> bool {
        self.kind.verbs.contains(&verb)
    }
}

/// Query parameters: name and type.
type Parameters = &'static [(&'static str, &'static str)];

const WRITE: Parameters = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("pretty", "string"),
];

const PATCH: Parameters = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
    ("pretty", "string"),
];

const DELETE: Parameters = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("pretty", "string"),
    ("propagationPolicy", "string"),
];

const LIST: Parameters = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("pretty", "string"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];

struct Operation<'a> {
    root: &'a str,
    /// `x-kubernetes-action`
    action: &'a str,
    /// For the id.
    verb: &'a str,
    /// Subresource, for the id.
    suffix: &'a str,
    gvk: Option<Gvk<'a>>,
    body: Option<Gvk<'a>>,
    /// `None`: a Status.
    answer: Option<Gvk<'a>>,
}

impl<'a> Operation<'a> {
    const fn new(root: &'a str) -> Self {
        Self { root, action: "", verb: "", suffix: "", gvk: None, body: None, answer: None }
    }

    /// The list of a group and version's resources.
    fn resources(&self) -> Value {
        let answer = reference(&format!("{META}.APIResourceList"));
        json!({
            "operationId": format!("get{}APIResources", camel(self.root)),
            "tags": [tag(self.root)],
            "responses": {"200": {
                "description": "OK",
                "content": {"application/json": {"schema": answer}},
            }},
        })
    }

    fn write(&self, of: &Paths<'_>, parameters: Parameters) -> Value {
        let scope = if of.kind.namespaced && self.verb != "listForAllNamespaces" {
            "Namespaced"
        } else {
            ""
        };
        let id = format!(
            "{}{}{scope}{}{}",
            self.verb,
            camel(of.root),
            of.kind.kind(),
            camel(self.suffix)
        );
        let answer = self
            .answer
            .and_then(|gvk| gvk.component(of.kind))
            .unwrap_or_else(|| format!("{META}.Status"));
        let types = if self.action == "list" { LIST_TYPES } else { TYPES };
        let mut out = json!({
            "operationId": id,
            "tags": [tag(of.root)],
            "x-kubernetes-action": self.action,
            "parameters": parameters.iter().map(|(name, kind)| {
                json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
            }).collect::<Vec<_>>(),
            "responses": {
                "200": {"description": "OK", "content": content(of.kind, types, &answer)},
                "401": {"description": "Unauthorized"},
            },
        });
        if let Some(gvk) = self.gvk {
            out["x-kubernetes-group-version-kind"] =
                json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
        }
        if self.action == "patch" {
            let patch = format!("{META}.Patch");
            out["requestBody"] =
                json!({"required": true, "content": content(of.kind, PATCH_TYPES, &patch)});
        } else if let Some(body) = self.body.and_then(|gvk| gvk.component(of.kind)) {
            out["requestBody"] =
                json!({"required": true, "content": content(of.kind, &["*/*"], &body)});
        } else if self.action.starts_with("delete") {
            let options = format!("{META}.DeleteOptions");
            out["requestBody"] = json!({ "content": content(of.kind, &["*/*"], &options) });
        }
        out
    }
}

const TYPES: &[&str] =
    &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

const LIST_TYPES: &[&str] = &[
    "application/json",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf",
    "application/vnd.kubernetes.protobuf;stream=watch",
    "application/yaml",
];

const PATCH_TYPES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// A kind of a CRD, also one that the hub brings along, has neither protobuf numbers nor merge keys: `kubectl apply` reads
/// from here which patch to send.
fn content(kind: &Kind, types: &[&str], component: &str) -> Value {
    let schema = reference(component);
    let native = kind.form().is_none() && kind.facts().is_none_or(|facts| !facts.crd);
    let plain = |name: &&&str| !name.contains("protobuf") && !name.contains("strategic");
    let types = types.iter().filter(|name| native || plain(name));
    types.map(|name| ((*name).to_owned(), json!({ "schema": schema }))).collect()
}

/// `apis/apps/v1` → `AppsV1`; `api/v1` → `CoreV1`.
fn camel(path: &str) -> String {
    let path =
        if path == "api/v1" { "core/v1" } else { path.strip_prefix("apis/").unwrap_or(path) };
    let group = path.split('/').map(|part| part.strip_suffix(".k8s.io").unwrap_or(part));
    let words: Vec<&str> = group.flat_map(|part| part.split(['.', '-'])).collect();
    let upper = |word: &&str| {
        let mut letters = word.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    words.iter().map(upper).collect()
}

fn tag(root: &str) -> String {
    let root =
        if root == "api/v1" { "core/v1" } else { root.strip_prefix("apis/").unwrap_or(root) };
    root.replace(".k8s.io", "").replace(['/', '.', '-'], "_")
}
