//! One event as its watchers get it, in one encoding.

use bytes::Bytes;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::protobuf;
use freewheel_hub_store::{Revision, Stored};
use serde_json::{Value, json};

use crate::encode::Encoder;
use crate::media::Wire;
use crate::splice;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Type {
    /// It is there, or in the selection, from now on.
    Added,
    /// It is another.
    Modified,
    /// It is gone, or out of the selection.
    Deleted,
}

impl Type {
    const fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

impl Encoder {
    /// What a watcher gets of an event.
    pub(crate) fn frame(
        &self,
        kind: Type,
        stored: &Stored,
        revision: Revision,
    ) -> Result<Bytes, ApiError> {
        if !self.is_plain() {
            return self.event(kind.name(), &self.shape(self.value(stored, revision)?));
        }
        let mut out = Vec::with_capacity(stored.object.body.len() + 96);
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.name().as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        splice::append(&mut out, &stored.object.body, revision);
        out.extend_from_slice(b"}\n");
        Ok(out.into())
    }

    /// The same of what is no object of the store: a mark, an error.
    pub(crate) fn event(&self, kind: &str, object: &Value) -> Result<Bytes, ApiError> {
        if self.wanted.wire == Wire::Protobuf {
            return protobuf::watch_frame(kind, object).map(Bytes::from);
        }
        let event = json!({"type": kind, "object": object});
        let mut out = serde_json::to_vec(&event).map_err(ApiError::internal)?;
        out.push(b'\n');
        Ok(out.into())
    }
}
