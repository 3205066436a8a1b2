//! The versions of a definition: what each says, and what all say alike, which is looked at once.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::field_errors::FieldErrors;
use freewheel_hub_schema::name;
use freewheel_hub_schema::path::Path;
use serde_json::{Value, json};

use super::super::accessors::{flag, list, text};
use super::super::rules;
use crate::json_path::JsonPath;
use crate::work::Work;

/// Fields that a version may let selectors name.
const SELECTABLE_FIELDS_MAX: usize = 8;
const COLUMN_TYPES: &str = "boolean,date,integer,number,string";
const COLUMN_FORMATS: &str = "byte,date,date-time,double,float,int32,int64,password";

/// What all versions may say alike: then it stands at the top, and is looked at once.
pub(crate) const SHARED: [(&str, &str); 4] = [
    ("schema", "validation"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

pub(super) fn check(definition: &Value, work: &Work) -> FieldErrors {
    let versions = list(definition, "/spec/versions");
    let mut errors = FieldErrors::default();
    let (mut names, mut twice) = (BTreeSet::new(), false);
    let shared = SHARED.map(|(key, _)| {
        let first = versions.first().and_then(|version| version.get(key));
        versions.iter().all(|version| version.get(key) == first)
    });
    let spec = Path::root("spec");
    for (index, version) in versions.iter().enumerate() {
        if errors.is_full() || !work.step(0) {
            break;
        }
        let at = spec.item("versions", index);
        let own = text(version, "/name");
        twice |= !names.insert(own);
        if version.pointer("/schema/openAPIV3Schema").is_none() {
            errors.push(FieldError::required(at.field("schema").field("openAPIV3Schema"), ""));
        }
        let wrong = name::dns1035_label(own);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(at.field("name"), &json!(own), &wrong.join(",")));
        }
        errors.extend(check_deprecation(version, &at.text()));
        let version = VersionOf { versions, index, version, at, shared };
        version.check(&mut errors, work);
    }
    let stored = versions.iter().filter(|version| flag(version, "/storage")).count();
    for (wrong, why) in [
        (twice, "must contain unique version names"),
        (stored != 1, "must have exactly one version marked as storage version"),
    ] {
        if wrong {
            let shown = definition.pointer("/spec/versions").cloned().unwrap_or_default();
            errors.push(FieldError::invalid("spec.versions", &shown, why));
        }
    }
    errors
}

/// One of the versions, and what all of them say alike.
struct VersionOf<'a> {
    versions: &'a [Value],
    index: usize,
    version: &'a Value,
    at: Path<'a>,
    shared: [bool; 4],
}

impl VersionOf<'_> {
    /// What it says, but for what all say alike and one has said before.
    fn check(&self, errors: &mut FieldErrors, work: &Work) {
        let spec = Path::root("spec");
        for ((key, top), shared) in SHARED.into_iter().zip(self.shared) {
            if shared && self.index != 0 {
                continue;
            }
            let place = if shared { spec.field(top) } else { self.at.field(key) };
            match key {
                "schema" => {
                    let (schema, has_status) = (self.version.get(key), self.has_status(shared));
                    errors.extend(rules::check(schema, &place, has_status, work));
                }
                "subresources" => {
                    let scale = self.version.pointer("/subresources/scale");
                    errors.extend(check_scale(scale, &place.text()));
                }
                "additionalPrinterColumns" => {
                    let columns = list(self.version, "/additionalPrinterColumns");
                    for (index, column) in columns.iter().enumerate() {
                        errors.extend(check_column(column, &place.index(index).text()));
                    }
                }
                _ => errors.extend(check_selectable(self.version, &place.text())),
            }
        }
    }

    fn has_status(&self, shared: bool) -> bool {
        let has_status = |one: &Value| one.pointer("/subresources/status").is_some();
        if shared { self.versions.iter().any(has_status) } else { has_status(self.version) }
    }
}

fn check_deprecation(version: &Value, at: &str) -> Vec<FieldError> {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else {
        return Vec::new();
    };
    let mut wrong = Vec::new();
    if flag(version, "/deprecated") {
        if 256 < warning.len() {
            wrong.push("must be <= 256 characters long".to_owned());
        }
        if warning.is_empty() {
            wrong.push("must not be an empty string".to_owned());
        }
        if let Some((at, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
            wrong.push(format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {at}"
            ));
        }
    } else {
        wrong.push("can only be set for deprecated versions".to_owned());
    }
    let field = format!("{at}.deprecationWarning");
    wrong.iter().map(|why| FieldError::invalid(field.clone(), &json!(warning), why)).collect()
}

fn check_scale(scale: Option<&Value>, at: &str) -> Vec<FieldError> {
    let Some(scale) = scale else { return Vec::new() };
    let mut errors = Vec::new();
    let mut check = |key: &str, under: &[&str], whose: &str| {
        let (path, field) = (text(scale, &format!("/{key}")), format!("{at}.scale.{key}"));
        if path.is_empty() {
            if key != "labelSelectorPath" {
                errors.push(FieldError::required(field, ""));
            }
        } else if !path.starts_with('.') {
            let why = "must be a simple json path starting with .";
            errors.push(FieldError::invalid(field, &json!(path), why));
        } else if !under.iter().any(|under| path.starts_with(under)) {
            let why = format!("should be a json path under {whose}");
            errors.push(FieldError::invalid(field, &json!(path), &why));
        }
    };
    check("specReplicasPath", &[".spec."], ".spec");
    check("statusReplicasPath", &[".status."], ".status");
    check("labelSelectorPath", &[".spec.", ".status."], "either .spec or .status");
    errors
}

fn check_column(column: &Value, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let own = |key: &str| text(column, &format!("/{key}"));
    if own("name").is_empty() {
        errors.push(FieldError::required(format!("{at}.name"), ""));
    }
    let (types, formats) =
        (format!("must be one of {COLUMN_TYPES}"), format!("must be one of {COLUMN_FORMATS}"));
    if own("type").is_empty() {
        errors.push(FieldError::required(format!("{at}.type"), &types));
    } else if !COLUMN_TYPES.split(',').any(|known| known == own("type")) {
        errors.push(FieldError::invalid(format!("{at}.type"), &json!(own("type")), &types));
    }
    if !own("format").is_empty() && !COLUMN_FORMATS.split(',').any(|known| known == own("format")) {
        errors.push(FieldError::invalid(format!("{at}.format"), &json!(own("format")), &formats));
    }
    let path = own("jsonPath");
    if path.is_empty() {
        errors.push(FieldError::required(format!("{at}.JSONPath"), ""));
    } else if !path.starts_with('.') {
        let why = "must be a simple json path starting with .";
        errors.push(FieldError::invalid(format!("{at}.JSONPath"), &json!(path), why));
    } else if JsonPath::read(path).is_none() {
        // kube-apiserver keeps such a column and shows nothing in it.
        let why = "is no JSONPath that this hub follows";
        errors.push(FieldError::invalid(format!("{at}.JSONPath"), &json!(path), why));
    }
    errors
}

fn check_selectable(version: &Value, at: &str) -> Vec<FieldError> {
    let (mut errors, mut seen) = (Vec::new(), BTreeSet::new());
    for (index, field) in list(version, "/selectableFields").iter().enumerate() {
        let (path, field) = (text(field, "/jsonPath"), format!("{at}[{index}].jsonPath"));
        let mut wrong =
            |why: &str| errors.push(FieldError::invalid(field.clone(), &json!(path), why));
        if path.is_empty() {
            errors.push(FieldError::required(field, ""));
            continue;
        }
        let mut schema = version.pointer("/schema/openAPIV3Schema");
        for name in path.strip_prefix('.').unwrap_or_default().split('.') {
            schema = schema.and_then(|schema| {
                let named = schema.get("properties").and_then(|all| all.get(name));
                named.or_else(|| schema.get("additionalProperties").filter(|each| each.is_object()))
            });
        }
        let Some(schema) = schema else {
            wrong("is an invalid path: does not refer to a valid field");
            continue;
        };
        if path.starts_with(".metadata") {
            wrong("must not point to fields in metadata");
        }
        if !matches!(text(schema, "/type"), "string" | "boolean" | "integer") {
            wrong(
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            );
        }
        if !seen.insert(path) {
            errors.push(FieldError::duplicate(field, &json!(path)));
        }
    }
    if SELECTABLE_FIELDS_MAX < seen.len() {
        errors.push(FieldError::too_many(at, seen.len(), SELECTABLE_FIELDS_MAX));
    }
    errors
}
