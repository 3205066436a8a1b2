//! Stored objects as bytes on the wire.
//!
//! Plain JSON of a kind that is stored as it is served is spliced from the stored bytes, without parsing them.
//!
//! Guarantees:
//! - what is spliced has its revision in its own metadata (`the_revision_goes_into_the_objects_own_metadata`);
//! - of a list, only one object is there as a tree of values at a time, but in YAML
//!   (`a_list_is_the_same_item_by_item`), and a long one is made where no other request waits for it
//!   (`a_long_list_is_made_on_no_thread_that_serves`);
//! - every form that clients ask for is served (`tables_and_metadata_are_served`,
//!   `an_object_is_created_and_read_in_protobuf`).

use std::sync::Arc;

use bytes::Bytes;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::table::{self, Include, partial_metadata};
use freewheel_hub_schema::{protobuf, time};
use freewheel_hub_store::Stored;
use freewheel_hub_yaml as yaml;
use serde_json::{Value, json};

use crate::lease::Renewal;
use crate::media::{PLAIN, Shape, Wanted, Wire};
use crate::splice;
use crate::view::View;

/// Bytes that an item of a list has beside its body: a comma, and its revision with that one's name.
pub(crate) const LIST_ITEM_EXTRA_BYTES: usize = 48;

/// How the objects of one request are written.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    pub(crate) view: View,
    pub(crate) wanted: Wanted,
    pub(crate) include: Include,
}

impl Encoder {
    /// Whether stored bytes go out as they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.wanted == PLAIN && self.view.is_verbatim()
    }

    /// The object in its served form, with a resourceVersion.
    pub(crate) fn value(&self, stored: &Stored, revision: u64) -> Result<Value, ApiError> {
        let mut value = stored.object.value()?;
        if revision != 0
            && let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut)
        {
            meta.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
        }
        self.view.outward(value)
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

    /// A list, of its items as they are now.
    pub(crate) fn list(
        &self,
        items: &[Arc<Stored>],
        meta: &ListMeta,
        renewal: &Renewal,
    ) -> Result<Bytes, ApiError> {
        if self.is_plain() {
            return self.plain_list(items, meta, renewal);
        }
        let values = items.iter().map(|stored| {
            let stored = renewal.renew(stored)?;
            self.value(&stored, stored.revision)
        });
        self.list_of(meta.value(), values)
    }

    /// A list of served objects, with this metadata.
    pub(crate) fn list_of(
        &self,
        meta: Value,
        values: impl Iterator<Item = Result<Value, ApiError>>,
    ) -> Result<Bytes, ApiError> {
        let values = values.map(|value| {
            let value = value?;
            Ok(match self.wanted.shape {
                Shape::Object => value,
                Shape::Metadata => partial_metadata(&value),
                Shape::Table { .. } => {
                    table::row(&self.view.served, &value, self.include, time::now_unix())
                }
            })
        });
        let (mut head, field) = self.head(meta);
        let mut bytes = match self.wanted.wire {
            Wire::Json => json_list(&head, field, values)?,
            Wire::Protobuf => protobuf::encode_list(&head, values)?,
            Wire::Yaml => {
                head[field] = values.collect::<Result<Vec<Value>, ApiError>>()?.into();
                return to_wire(Wire::Yaml, &head);
            }
        };
        // It is held until its client has read it, and may have room for twice as much.
        bytes.shrink_to_fit();
        Ok(bytes.into())
    }

    /// A list without its items, and the field that they go to.
    fn head(&self, meta: Value) -> (Value, &'static str) {
        let (api_version, kind) = match self.wanted.shape {
            Shape::Table { beta } => {
                let mut table = self.table(&[], beta);
                table["metadata"] = meta;
                if let Some(table) = table.as_object_mut() {
                    table.remove("rows");
                }
                return (table, "rows");
            }
            Shape::Object => {
                let served = &self.view.served;
                (served.api_version(), served.list_kind().to_owned())
            }
            Shape::Metadata => ("meta.k8s.io/v1", "PartialObjectMetadataList".to_owned()),
        };
        let head = json!({"apiVersion": api_version, "kind": kind, "metadata": meta});
        (head, "items")
    }

    fn plain_list(
        &self,
        items: &[Arc<Stored>],
        meta: &ListMeta,
        renewal: &Renewal,
    ) -> Result<Bytes, ApiError> {
        let size: usize =
            items.iter().map(|stored| stored.object.body.len() + LIST_ITEM_EXTRA_BYTES).sum();
        let mut out = Vec::with_capacity(size + 256);
        let kind = &self.view.served;
        let head = format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{},\"items\":[",
            kind.list_kind(),
            kind.api_version(),
            meta.value()
        );
        out.extend_from_slice(head.as_bytes());
        for (i, stored) in items.iter().enumerate() {
            if 0 < i {
                out.push(b',');
            }
            splice::append(&mut out, &renewal.renew(stored)?.object.body, stored.revision);
        }
        out.extend_from_slice(b"]}");
        // It is held until its client has read it.
        out.shrink_to_fit();
        Ok(out.into())
    }
}

/// A list in JSON: its head, and the items in this field of it.
fn json_list(
    head: &Value,
    field: &str,
    items: impl Iterator<Item = Result<Value, ApiError>>,
) -> Result<Vec<u8>, ApiError> {
    let mut out = serde_json::to_vec(head).map_err(ApiError::internal)?;
    // The head is an object that has something in it.
    out.pop();
    out.extend_from_slice(format!(",{field:?}:[").as_bytes());
    for (i, item) in items.enumerate() {
        if 0 < i {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, &item?).map_err(ApiError::internal)?;
    }
    out.extend_from_slice(b"]}");
    Ok(out)
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
        Wire::Yaml => yaml::write(value)?.into_bytes(),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use freewheel_hub_api::kinds;
    use freewheel_hub_schema::object::{Key, Object, Resource};
    use freewheel_link::names::ClusterName;

    use super::*;

    fn items(count: usize) -> Vec<Arc<Stored>> {
        let stored = |number: usize| {
            let name = format!("m{number}");
            let body = json!({"metadata": {"name": &name}, "data": {"a": "x".repeat(100)}});
            let resource = Resource::new("", "configmaps");
            let key = Key::new(&resource, &ClusterName::root(), "default", &name);
            let object = Object::from_value(body, BTreeMap::new()).unwrap();
            Arc::new(Stored { key, object, revision: 7, created: 7 })
        };
        (0..count).map(stored).collect()
    }

    #[test]
    fn a_list_is_the_same_item_by_item() {
        let registry = kinds::registry(&ClusterName::root());
        let view = View::find(&registry, "", "v1", "configmaps").unwrap();
        let meta = ListMeta { revision: 9, ..ListMeta::default() };
        for count in [0, 1, 3] {
            for shape in [Shape::Object, Shape::Metadata, Shape::Table { beta: true }] {
                let of = |wire| Encoder {
                    view: view.clone(),
                    wanted: Wanted { wire, shape },
                    include: Include::Metadata,
                };
                let list = |wire| of(wire).list(&items(count), &meta, &Renewal::default()).unwrap();
                let json: Value = serde_json::from_slice(&list(Wire::Json)).unwrap();
                let (field, table) = match shape {
                    Shape::Table { .. } => ("rows", true),
                    _ => ("items", false),
                };
                assert_eq!(json[field].as_array().unwrap().len(), count, "{json}");
                assert_eq!(json["metadata"]["resourceVersion"], "9");
                assert_eq!(json["columnDefinitions"].is_array(), table);
                let yaml: Value =
                    serde_saphyr::from_str(std::str::from_utf8(&list(Wire::Yaml)).unwrap())
                        .unwrap();
                assert_eq!(yaml, json);
                if !table {
                    let whole = protobuf::encode(&json).unwrap();
                    assert_eq!(list(Wire::Protobuf), whole, "{json}");
                }
            }
        }
    }
}
