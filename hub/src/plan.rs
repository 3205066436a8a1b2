//! `hub plan`: what Placements and ManifestWorkReplicaSets of a file would do, before they are applied.
//!
//! ```text
//! FILE ─▶ objects ─▶ each applied in a dry run, with the caller's rights ─▶ what the hub says of it ─▶ printed
//! ```
//!
//! The hub makes the plan (`freewheel_hub_controllers::fleet::RolloutPlans`): what is printed is what its controllers would
//! do, and names what the caller may see.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use freewheel_hub_schema::error::ApiError;
use http::Method;
use serde_json::Value;

use crate::cli::PlanOptions;
use crate::client::{Client, ClientError};

/// Bytes of a file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// What lines of a plan begin with, as the hub says them.
const PLANNED: &str = "plan: ";
/// What is printed where the hub says nothing. A set's labels go to all of its works, and have no plan.
const UNCHANGED: &str = "nothing in the spec would change (changes of labels have no plan)";
/// Which kinds have a plan: API version, kind, and where they are.
const PLANNED_KINDS: [(&str, &str, &str); 2] = [
    ("cluster.open-cluster-management.io/v1beta1", "Placement", "placements"),
    (
        "work.open-cluster-management.io/v1alpha1",
        "ManifestWorkReplicaSet",
        "manifestworkreplicasets",
    ),
];

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is in it.
    #[error("{path} holds no YAML or JSON: {why}")]
    Form {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A name that no object has.
    #[error("{kind} {name:?} has no name that an object can have")]
    Name {
        /// Of which kind.
        kind: String,
        /// The name.
        name: String,
    },
    /// Nothing of it has a plan.
    #[error("{0} holds neither a Placement nor a ManifestWorkReplicaSet")]
    Nothing(PathBuf),
    /// The hub.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Prints the plan of each object that has one; the others are passed over.
///
/// # Errors
/// When the file cannot be read, nothing in it has a plan, or the hub refuses an object.
pub async fn run(options: PlanOptions) -> Result<(), PlanError> {
    let client = Client::new(options.kubeconfig.as_deref())?.at_root();
    let path = options.filename;
    let text = read(&path)?;
    let form = |error: ApiError| PlanError::Form { path: path.clone(), why: error.message };
    let mut planned = 0;
    for object in objects(&text).map_err(form)? {
        let Some(plural) = plural(&object) else { continue };
        planned += 1;
        let place = Place::of(&object, plural, &options.namespace)?;
        println!("{} {}/{}", place.kind, place.namespace, place.name);
        for line in plan(&client, &place, &object).await? {
            println!("  {line}");
        }
    }
    if planned == 0 {
        return Err(PlanError::Nothing(path));
    }
    Ok(())
}

/// A file, or what comes in for `-`.
fn read(path: &Path) -> Result<String, PlanError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path);
        file.and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|source| PlanError::File { path: path.to_path_buf(), source })?;
    Ok(text)
}

/// The objects of a file, those of lists among them.
fn objects(text: &str) -> Result<Vec<Value>, ApiError> {
    let mut all = Vec::new();
    for document in documents(text) {
        let (object, _) = freewheel_hub_yaml::or_json(document.as_bytes())?;
        let is_list = object["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        match object["items"].as_array().filter(|_| is_list) {
            Some(items) => all.extend(items.iter().cloned()),
            None => all.push(object),
        }
    }
    Ok(all)
}

/// The documents of a file, which are told apart by lines of three dashes.
fn documents(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for line in text.lines() {
        if line.strip_prefix("---").is_some_and(|rest| rest.trim_end().is_empty()) {
            all.push(String::new());
        } else if let Some(document) = all.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let says = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    all.retain(|document| document.lines().any(says));
    all
}

fn plural(object: &Value) -> Option<&'static str> {
    let is_it = |(version, kind, _): &&(&str, &str, &str)| {
        object["apiVersion"] == **version && object["kind"] == **kind
    };
    PLANNED_KINDS.iter().find(is_it).map(|(_, _, plural)| *plural)
}

/// Where an object is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    version: String,
    kind: String,
    plural: &'static str,
    namespace: String,
    name: String,
}

impl Place {
    fn of(object: &Value, plural: &'static str, namespace: &str) -> Result<Self, PlanError> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let meta = &object["metadata"];
        let (kind, name) = (text(&object["kind"]), text(&meta["name"]));
        let namespace = meta["namespace"].as_str().unwrap_or(namespace).to_owned();
        let fits = |part: &str| {
            let is_of_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
            !part.is_empty() && !part.starts_with('.') && part.bytes().all(is_of_name)
        };
        for part in [&name, &namespace] {
            if !fits(part) {
                return Err(PlanError::Name { kind, name: part.clone() });
            }
        }
        Ok(Self { version: text(&object["apiVersion"]), kind, plural, namespace, name })
    }

    fn path(&self) -> String {
        let Self { version, plural, namespace, name, .. } = self;
        format!("/apis/{version}/namespaces/{namespace}/{plural}/{name}")
    }
}

/// What the hub says of an object that would be applied as `kubectl apply --server-side` does it.
async fn plan(client: &Client, place: &Place, object: &Value) -> Result<Vec<String>, ClientError> {
    let path = format!("{}?fieldManager=kubectl&force=true&dryRun=All", place.path());
    let body = object.to_string().into();
    let answer = client.send(Method::PATCH, &path, "application/apply-patch+yaml", body).await?;
    Ok(told(&answer.success()?.warnings))
}

/// A plan for people; other warnings are told as such.
fn told(warnings: &[String]) -> Vec<String> {
    let line = |warning: &String| match warning.strip_prefix(PLANNED) {
        Some(line) => line.to_owned(),
        None => format!("warning: {warning}"),
    };
    if warnings.is_empty() {
        return vec![UNCHANGED.to_owned()];
    }
    warnings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_those_of_all_documents_and_lists() {
        let text = "# a comment\n---\nkind: A\nmetadata: {name: a}\n--- \n\n---\n\
                    kind: List\nitems:\n- {kind: B}\n- {kind: C}\n";
        let kinds: Vec<Value> =
            objects(text).unwrap().into_iter().map(|object| object["kind"].clone()).collect();
        assert_eq!(kinds, ["A", "B", "C"]);
        assert_eq!(objects("{\"kind\": \"A\"}\n").unwrap(), [json!({"kind": "A"})]);
        assert!(objects("a: [\n").is_err());
    }

    #[test]
    fn an_object_is_where_it_says_or_where_its_user_does() {
        let object = |name: &str, more: &Value| {
            let mut object = json!({"apiVersion": "cluster.open-cluster-management.io/v1beta1",
                "kind": "Placement", "metadata": {"name": name}});
            object["metadata"]["namespace"] = more.clone();
            object
        };
        let path = |object: &Value| {
            let plural = plural(object).unwrap();
            Place::of(object, plural, "mine").map(|place| place.path())
        };
        let head = "/apis/cluster.open-cluster-management.io/v1beta1/namespaces";
        let own = path(&object("all", &json!("site"))).unwrap();
        assert_eq!(own, format!("{head}/site/placements/all"));
        let given = path(&object("all", &Value::Null)).unwrap();
        assert_eq!(given, format!("{head}/mine/placements/all"));
        for name in ["", "..", "a/b", "a?b"] {
            assert!(matches!(path(&object(name, &Value::Null)), Err(PlanError::Name { .. })));
        }
        assert_eq!(plural(&json!({"apiVersion": "v1", "kind": "Placement"})), None);
    }

    #[test]
    fn what_is_no_plan_is_told_as_a_warning() {
        let warnings = ["plan: wave 1".to_owned(), "unknown field".to_owned()];
        assert_eq!(told(&warnings), ["wave 1", "warning: unknown field"]);
        assert_eq!(told(&[]), [UNCHANGED]);
    }
}
