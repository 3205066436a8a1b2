//! Binding: a pod's node, as whoever assigns it posts it. Nothing of it is stored.

use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Kind, Strategy};

/// Binding of core/v1, for those who are asked about one: its collection holds nothing.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "Binding"), "bindings", Rules).verbs(&["create"])
}

struct Rules;

impl Strategy for Rules {}
