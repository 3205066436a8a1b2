//! Stored objects as bytes on the wire.
//!
//! Plain JSON of a kind that is stored as it is served is spliced from the stored bytes, without parsing them.
//!
//! Guarantees:
//! - what is spliced has its revision in its own metadata (`the_revision_goes_into_the_objects_own_metadata`);
//! - every form that clients ask for is served (`tables_and_metadata_are_served`,
//!   `an_object_is_created_and_read_in_protobuf`).

use std::sync::Arc;

use bytes::Bytes;
use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::table::{self, Include, partial_metadata};
use freewheel_hub_api::{protobuf, time};
use freewheel_hub_store::Stored;
use serde_json::{Value, json};

use crate::call::Call;
use crate::media::{PLAIN, Shape, Wanted, Wire};
use crate::splice;
use crate::view::View;

/// How the objects of one request are written.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    pub(crate) view: View,
    pub(crate) wanted: Wanted,
    pub(crate) include: Include,
}

impl Encoder {
    /// For what this request accepts.
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        let text = call.query.include_object.as_str();
        let include = Include::parse(text).ok_or_else(|| {
            ApiError::bad_request(format!("unrecognized includeObject value: {text:?}"))
        })?;
        Ok(Self { view: call.view.clone(), wanted: call.wanted()?, include })
    }

    /// Whether stored bytes go out as they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.wanted == PLAIN && self.view.is_plain()
    }

    /// The object in its served form, with a resourceVersion.
    pub(crate) fn value(&self, stored: &Stored, revision: u64) -> Result<Value, ApiError> {
        let mut value = stored.object.value()?;
        if revision != 0
            && let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut)
        {
            meta.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
        }
        Ok(self.view.outward(value))
    }

    /// One object.
    pub(crate) fn object(&self, stored: &Stored) -> Result<Bytes, ApiError> {
        if self.is_plain() {
            return Ok(splice::spliced(&stored.object.body, stored.revision));
        }
        self.shaped(self.value(stored, stored.revision)?)
    }

    /// One object that was made for this answer, in the shape and format wanted.
    pub(crate) fn shaped(&self, value: Value) -> Result<Bytes, ApiError> {
        to_wire(self.wanted.wire, &self.shape(value))
    }

    /// The shape wanted of one served object.
    pub(crate) fn shape(&self, value: Value) -> Value {
        match self.wanted.shape {
            Shape::Object => value,
            Shape::Metadata => partial_metadata(&value),
            Shape::Table { beta } => {
                let version = value.pointer("/metadata/resourceVersion").cloned();
                let mut table = self.table(&[value], beta);
                if let Some(version) = version {
                    table["metadata"]["resourceVersion"] = version;
                }
                table
            }
        }
    }

    fn table(&self, items: &[Value], beta: bool) -> Value {
        let mut table = table::render(&self.view.served, items, self.include, time::now_unix());
        if beta {
            table["apiVersion"] = json!("meta.k8s.io/v1beta1");
        }
        table
    }

    /// A list.
    pub(crate) fn list(&self, items: &[Arc<Stored>], meta: &ListMeta) -> Result<Bytes, ApiError> {
        if self.is_plain() {
            return Ok(self.plain_list(items, meta));
        }
        let mut values = Vec::with_capacity(items.len());
        for stored in items {
            values.push(self.value(stored, stored.revision)?);
        }
        let list = match self.wanted.shape {
            Shape::Table { beta } => {
                let mut table = self.table(&values, beta);
                table["metadata"] = meta.value();
                table
            }
            Shape::Object => json!({
                "apiVersion": self.view.served.api_version(),
                "kind": format!("{}List", self.view.served.kind()),
                "metadata": meta.value(), "items": values,
            }),
            Shape::Metadata => {
                let items: Vec<Value> = values.iter().map(partial_metadata).collect();
                json!({
                    "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                    "metadata": meta.value(), "items": items,
                })
            }
        };
        to_wire(self.wanted.wire, &list)
    }

    fn plain_list(&self, items: &[Arc<Stored>], meta: &ListMeta) -> Bytes {
        let size: usize = items.iter().map(|stored| stored.object.body.len() + 48).sum();
        let mut out = Vec::with_capacity(size + 256);
        let kind = &self.view.served;
        let head = format!(
            "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{},\"items\":[",
            kind.kind(),
            kind.api_version(),
            meta.value()
        );
        out.extend_from_slice(head.as_bytes());
        for (i, stored) in items.iter().enumerate() {
            if 0 < i {
                out.push(b',');
            }
            splice::append(&mut out, &stored.object.body, stored.revision);
        }
        out.extend_from_slice(b"]}");
        out.into()
    }
}

/// `metadata` of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListMeta {
    pub(crate) revision: u64,
    pub(crate) resume: Option<String>,
    pub(crate) remaining: Option<usize>,
}

impl ListMeta {
    fn value(&self) -> Value {
        let mut meta = json!({"resourceVersion": self.revision.to_string()});
        if let Some(resume) = &self.resume {
            meta["continue"] = json!(resume);
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = json!(remaining);
        }
        meta
    }
}

/// A value in a wire format.
pub(crate) fn to_wire(wire: Wire, value: &Value) -> Result<Bytes, ApiError> {
    let mut bytes = match wire {
        Wire::Json => serde_json::to_vec(value).map_err(ApiError::internal)?,
        Wire::Yaml => serde_saphyr::to_string(value).map_err(ApiError::internal)?.into_bytes(),
        Wire::Protobuf => protobuf::encode(value)?,
    };
    // It is held until its client has read it, and may have room for twice as much.
    bytes.shrink_to_fit();
    Ok(bytes.into())
}

/// Whether a kind has a protobuf form: Kubernetes' own do.
pub(crate) fn has_protobuf(kind: &Kind) -> bool {
    protobuf::can_encode(kind.api_version(), kind.kind())
}
