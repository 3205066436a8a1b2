//! Create, update and patch.

use bytes::Bytes;
use freewheel_hub_objects::{Canonical, FieldValidation, WriteOptions, Written};
use freewheel_hub_schema::error::{ApiError, FieldError};
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::types::Typed;
use freewheel_hub_schema::{patch, types};
use http::Response;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::body::Body;
use crate::call::Call;
use crate::converted;
use crate::decode;
use crate::encode::Encoder;
use crate::respond;

/// POST to a collection.
pub(crate) async fn create(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let encoder = call.encoder()?;
    let how = call.how("CreateOptions")?;
    let (value, mut warnings) = read_object(call, body, &how)?;
    call.view.check(&value, None)?;
    let written = call.hub.server.objects.create(&how, &call.object_ref(), value).await?;
    warnings.extend(written.warnings.iter().cloned());
    answer(201, &encoder, written, &warnings).await
}

/// PUT of an object or a subresource that has its kind.
pub(crate) async fn update(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let encoder = call.encoder()?;
    let mut how = call.how("UpdateOptions")?;
    let (value, mut warnings) = read_object(call, body, &how)?;
    check_name(call, &value)?;
    let door = door(call);
    let may_make = door.is_none() && call.view.stored.has(Trait::CreatesOnUpdate);
    // What goes meanwhile is not made again by somebody who was not asked for that right.
    how.makes_nothing = call.hub.server.objects.get(&call.object_ref()).is_ok();
    if may_make && !how.makes_nothing {
        call.check_may_create().await?;
    }
    if !call.view.is_plain() {
        match call.hub.server.objects.get(&call.object_ref()) {
            Ok(old) => {
                call.view.check(&value, Some(&old.object.value()?))?;
            }
            Err(_) if may_make => {
                call.view.check(&value, None)?;
            }
            Err(absent) => return Err(absent),
        }
    }
    let again = (may_make && how.makes_nothing).then(|| value.clone());
    let objects = &call.hub.server.objects;
    let mut written = objects.update(&how, &call.object_ref(), door, value).await;
    if let (Err(gone), Some(value)) = (&written, again)
        && gone.code == 404
        && objects.get(&call.object_ref()).is_err()
    {
        // It went between the look and the write: what is not there is made by who may do that.
        call.check_may_create().await?;
        how.makes_nothing = false;
        written = objects.update(&how, &call.object_ref(), door, value).await;
    }
    let written = written?;
    warnings.extend(written.warnings.iter().cloned());
    answer(if written.created { 201 } else { 200 }, &encoder, written, &warnings).await
}

/// PATCH of an object or a subresource that has its kind.
pub(crate) async fn patch(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let form = Form::of(call)?;
    let encoder = call.encoder()?;
    let how = call.how("PatchOptions")?;
    let patch = Patch::read(call, (form, body), &how)?;
    let view = &call.view;
    let typed = Typed::from(&*view.served);
    // The change may run again after a conflict; the last run counts.
    let unknown = Mutex::new(Vec::new());
    let change = |stored: Value| {
        // Where it is served as it is stored, one tree is enough.
        let outward = (!view.is_verbatim()).then(|| view.outward(stored.clone())).transpose()?;
        let document = outward.as_ref().unwrap_or(&stored);
        let after = || patch.apply(document, typed);
        let mut patched = after()?;
        check_name(call, &patched)?;
        *unknown.lock() = settle(&mut patched, (&patch, &after), typed, how.field_validation)?;
        let new = view.inward(patched);
        view.check(&new, Some(&stored))?;
        Ok(new)
    };
    let place = call.object_ref();
    let written = call.hub.server.objects.modify(&how, &place, door(call), change).await?;
    let mut warnings = unknown.into_inner();
    warnings.extend(written.warnings.iter().cloned());
    answer(200, &encoder, written, &warnings).await
}

/// The subresource, if it is about one.
pub(crate) fn door(call: &Call) -> Option<&str> {
    (!call.subresource.is_empty()).then_some(call.subresource.as_str())
}

/// The object as it is after a write.
pub(crate) async fn answer(
    code: u16,
    encoder: &Encoder,
    written: Written,
    warnings: &[String],
) -> Result<Response<Body>, ApiError> {
    let stored = converted::one(&encoder.view.served, written.stored).await?;
    let bytes = encoder.object(&stored)?;
    let mut response = respond::whole(code, encoder.wanted.content_type(), bytes);
    respond::warn(&mut response, warnings);
    Ok(response)
}

fn read_object(
    call: &Call,
    body: Bytes,
    how: &WriteOptions,
) -> Result<(Canonical, Vec<String>), ApiError> {
    let kind = &call.view.served;
    let (mut value, warnings) =
        decode::object(call.body_wire()?, body, Typed::from(&**kind), how.field_validation)?;
    if kind.namespaced {
        let own = value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        if own.is_empty() {
            value.put_namespace(&call.namespace);
        } else if own != call.namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    let view = &call.view;
    Ok((if view.is_plain() { value } else { value.inward(kind) }, warnings))
}

fn check_name(call: &Call, value: &Value) -> Result<(), ApiError> {
    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if name == call.name {
        return Ok(());
    }
    if name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    Err(ApiError::bad_request(format!(
        "the name of the object ({name}) does not match the name on the URL ({})",
        call.name
    )))
}

/// Makes a patched document canonical; a document that is none is the patch's mistake. `after` makes it once more, to be
/// shown: a copy of each would be as large as it is.
///
/// What a patch says twice, or of fields that are unknown, is 422 under strict validation, where a POST or PUT gets
/// 400: so kube-apiserver 1.36 has it for all three forms, with the document after the patch or, of a strategic merge,
/// the patch as Go prints a map (k8s.io/apiserver, pkg/endpoints/handlers/patch.go: `applyPatchToCurrentObject` of
/// `jsonPatcher`, `applyPatchToObject`). Only server-side apply has 400 there.
pub(crate) fn settle(
    patched: &mut Value,
    (patch, after): (&Patch, &dyn Fn() -> Result<Value, ApiError>),
    typed: Typed<'_>,
    validation: FieldValidation,
) -> Result<Vec<String>, ApiError> {
    let (version, name) = (typed.version, typed.kind);
    let invalid = |why: &str| {
        let shown = after().map_or_else(|error| error.message, |before| patch.shown(&before));
        let mistake = FieldError::invalid("patch", &json!(shown), why);
        ApiError::invalid("", "", "", &[mistake])
    };
    let unknown = types::canonicalise(patched, typed).map_err(|error| {
        let prefix = format!("{name} in version {version:?} cannot be handled as a {name}: ");
        let why = error.message.strip_prefix(&prefix).unwrap_or(&error.message);
        invalid(why)
    })?;
    let unknown = unknown.unknown.iter().map(|path| format!("unknown field {path:?}"));
    let texts: Vec<String> = patch.strict.iter().cloned().chain(unknown).collect();
    match validation {
        FieldValidation::Strict if !texts.is_empty() => {
            Err(invalid(&format!("strict decoding error: {}", texts.join(", "))))
        }
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Strict | FieldValidation::Warn => Ok(texts),
    }
}

/// A patch of any kind.
pub(crate) struct Patch {
    form: Form,
    body: Bytes,
    /// What strict validation refuses of it, whatever it is applied to.
    strict: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Merge,
    Strategic,
}

impl Form {
    /// By its content type, which is looked at before all else.
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        match call.content_type() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            _ => {
                let text = "415: Unsupported Media Type";
                Err(respond::generic(415, "UnsupportedMediaType", text))
            }
        }
    }
}

impl Patch {
    /// From a body of this form.
    pub(crate) fn read(
        call: &Call,
        (form, body): (Form, Bytes),
        how: &WriteOptions,
    ) -> Result<Self, ApiError> {
        if call.query.force.is_some() {
            let wrong = FieldError::forbidden("force", "may not be specified for non-apply patch");
            return Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", &[wrong]));
        }
        let strict = match how.field_validation {
            FieldValidation::Ignore => Vec::new(),
            FieldValidation::Strict | FieldValidation::Warn => {
                patch::strict(&body, form == Form::Json)?
            }
        };
        Ok(Self { form, body, strict })
    }

    /// What an error about the patch shows; `patched` is the document after it.
    fn shown(&self, patched: &Value) -> String {
        let patch = match self.form {
            Form::Json | Form::Merge => None,
            Form::Strategic => serde_json::from_slice(&self.body).ok(),
        };
        patch.map_or_else(|| patched.to_string(), |patch: Value| as_go(&patch))
    }

    /// The document after the patch.
    pub(crate) fn apply(&self, document: &Value, typed: Typed<'_>) -> Result<Value, ApiError> {
        match self.form {
            Form::Json => patch::json(document, &self.body),
            Form::Merge => patch::merge(document, &self.body),
            Form::Strategic => patch::strategic(document, &self.body, typed),
        }
    }
}

/// A value as Go's `%+v` prints it.
fn as_go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(as_go).collect::<Vec<_>>().join(" "))
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            let fields = fields.iter().map(|(key, value)| format!("{key}:{}", as_go(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_printed_as_go_does() {
        let value = json!({"b": [1, "two", null, true], "a": {"x": {}}});
        assert_eq!(as_go(&value), "map[a:map[x:map[]] b:[1 two <nil> true]]");
    }
}
