//! AddOnTemplate: what an add-on is made of on a cluster, with places for variables.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::{Column, Kind};
use serde_json::Value;

use super::STORED;
use crate::kinds::accessors::{NAME, column, name, text};
use crate::kinds::field_value::FieldValue;
use crate::kinds::fleet::{ADD_ON_GROUP, Rules, follows};

const COLUMNS: &[Column] = &[NAME, column("ADDON NAME", "string", "The add-on that it is of.")];
/// As the CRD has it.
const SIGNER: &str = r"^([a-z0-9][a-z0-9-]*[a-z0-9]\.)+[a-z]+\/[a-z0-9-\.]+$";

/// AddOnTemplate of addon.open-cluster-management.io/v1alpha1.
pub(crate) fn kind() -> Kind {
    let rules = Rules {
        mistakes,
        cells: |object, _| vec![name(object), text(object, "/spec/addonName").into()],
        ..Rules::new(ADD_ON_GROUP, STORED, "AddOnTemplate")
    };
    rules.kind_without_status("addontemplates").cluster_scoped().columns(COLUMNS)
}

fn mistakes(object: &Value) -> Vec<FieldError> {
    let mut found = Vec::new();
    for registration in FieldValue::of(object, "spec").child("registration").items() {
        let signer = registration.child("customSigner").child("signerName");
        found.extend(follows(&signer, SIGNER).or_else(|| signer.no_longer(571)));
    }
    found
}
