//! Kubernetes' protobuf encoding of the built-in kinds, driven by the schema table.
//!
//! ```text
//! body    k8s\0 · runtime.Unknown { 1: typeMeta { 1: apiVersion, 2: kind }, 2: raw, 3, 4 }
//! watch   u32 big endian length · meta/v1 WatchEvent { 1: type, 2: RawExtension { 1: body } }
//!
//! wire    varints, tags, lengths: reading within bounds
//! read    message → JSON value
//! write   JSON value → message, byte for byte as Go's generated code writes it
//! ```
//!
//! Guarantees:
//! - no input makes it panic, and a length beyond what is there is refused
//!   (`hostile_bytes_are_refused_without_a_panic`);
//! - the number of values in a message is bounded (`a_message_of_empty_structs_does_not_eat_the_memory`), and so is its depth
//!   (`a_schema_of_schemas_is_bounded_in_depth`).

mod read;
#[cfg(test)]
mod tests;
pub(crate) mod wire;
mod write;

use serde_json::Value;

use crate::error::ApiError;
use crate::gvk::split_api_version;
use crate::types::TypeFacts;
use wire::Reader;

/// What begins every body.
pub const MAGIC: &[u8] = b"k8s\0";

/// Reads one object with its envelope; the value is canonical and names its apiVersion and kind.
///
/// # Errors
/// 400 when the bytes are no such message, 415 when the kind has no protobuf form.
pub fn decode(bytes: &[u8]) -> Result<Value, ApiError> {
    let malformed = |error: wire::Malformed| {
        ApiError::bad_request(format!("the protobuf object provided is unrecognized: {error}"))
    };
    let envelope = Envelope::read(bytes).map_err(malformed)?;
    let (group, version) = split_api_version(&envelope.api_version);
    let one = TypeFacts::find(group, version, &envelope.kind).filter(|one| one.proto).ok_or_else(
        || {
            let text = format!(
                "{} of {} has no protobuf form here; send application/json",
                envelope.kind, envelope.api_version
            );
            ApiError::new(415, "UnsupportedMediaType", text)
        },
    )?;
    let mut value = read::message(envelope.raw, one).map_err(malformed)?;
    if let Value::Object(map) = &mut value {
        map.insert("apiVersion".to_owned(), Value::String(envelope.api_version));
        map.insert("kind".to_owned(), Value::String(envelope.kind));
    }
    crate::types::canonicalise_as(&mut value, one)?;
    Ok(value)
}

/// Writes one object (also lists and Status) with its envelope. The value must be canonical.
///
/// # Errors
/// 406 when its kind has no protobuf form, 500 when the value is not canonical.
pub fn encode(value: &Value) -> Result<Vec<u8>, ApiError> {
    encode_list(value, std::iter::empty())
}

/// The same of a list whose items come one by one, so that they need not be there as values all at once.
///
/// # Errors
/// As [`encode`], and those of the items.
pub fn encode_list<I>(list: &Value, items: I) -> Result<Vec<u8>, ApiError>
where
    I: IntoIterator<Item = Result<Value, ApiError>>,
{
    let text = |key: &str| list.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let one = proto_type(api_version, kind).ok_or_else(|| {
        let text =
            format!("{kind} of {api_version} has no protobuf form; ask for application/json");
        ApiError::new(406, "NotAcceptable", text)
    })?;
    let mut raw = Vec::new();
    write::message(&mut raw, list, one).map_err(ApiError::internal)?;
    // They have the last number of a list's fields.
    let field = one.wire.iter().find(|field| &*field.name == "items");
    for item in items {
        let field = field.ok_or_else(|| ApiError::internal(format!("{kind} has no items")))?;
        let item = Value::Array(vec![item?]);
        write::field(&mut raw, (field, one), Some(&item)).map_err(ApiError::internal)?;
    }
    let mut type_meta = Vec::new();
    wire::put_bytes(&mut type_meta, 1, api_version.as_bytes());
    wire::put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(raw.len() + type_meta.len() + 24);
    out.extend_from_slice(MAGIC);
    wire::put_bytes(&mut out, 1, &type_meta);
    wire::put_bytes(&mut out, 2, &raw);
    // contentEncoding and contentType: always written, always empty.
    wire::put_bytes(&mut out, 3, b"");
    wire::put_bytes(&mut out, 4, b"");
    Ok(out)
}

/// Whether objects of this kind can be written.
#[must_use]
pub fn can_encode(api_version: &str, kind: &str) -> bool {
    proto_type(api_version, kind).is_some()
}

/// One length-delimited frame of a watch; `event` is `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or
/// `ERROR`.
///
/// # Errors
/// As [`encode`].
pub fn watch_frame(event: &str, object: &Value) -> Result<Vec<u8>, ApiError> {
    let body = encode(object)?;
    let mut extension = Vec::with_capacity(body.len() + 8);
    wire::put_bytes(&mut extension, 1, &body);
    let mut out = vec![0; 4];
    wire::put_bytes(&mut out, 1, event.as_bytes());
    wire::put_bytes(&mut out, 2, &extension);
    let length = u32::try_from(out.len() - 4).map_err(ApiError::internal)?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

fn proto_type(api_version: &str, kind: &str) -> Option<TypeFacts<'static>> {
    let (group, version) = split_api_version(api_version);
    TypeFacts::find(group, version, kind).filter(|one| one.proto)
}

struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, wire::Malformed> {
        let body = bytes.strip_prefix(MAGIC).ok_or(wire::Malformed::Magic)?;
        let mut reader = Reader::new(body);
        let mut out = Self { api_version: String::new(), kind: String::new(), raw: &[] };
        while let Some((number, wire_type)) = reader.tag()? {
            match number {
                1 => {
                    let mut inner = Reader::new(reader.bytes(wire_type)?);
                    while let Some((number, wire_type)) = inner.tag()? {
                        match number {
                            1 => out.api_version = inner.text(wire_type)?.to_owned(),
                            2 => out.kind = inner.text(wire_type)?.to_owned(),
                            _ => inner.skip(wire_type)?,
                        }
                    }
                }
                2 => out.raw = reader.bytes(wire_type)?,
                _ => reader.skip(wire_type)?,
            }
        }
        Ok(out)
    }
}
