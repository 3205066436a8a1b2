//! `kubectl get componentstatuses`: how the parts of the hub are.
//!
//! kube-apiserver asks a scheduler, a controller manager and etcd at the ports that they have beside it by default, and
//! has said for years not to rely on it. What is true of a hub are the checks of its `/readyz`, by their names there.
//!
//! Guarantees:
//! - each check is one component, with the reason of one that fails for those of the whole hub alone, as at
//!   `/readyz/NAME` (`components_are_the_checks_of_the_hub`).

use freewheel_hub_api::kinds::component_status::{PLURAL, value};
use freewheel_hub_schema::error::ApiError;
use serde_json::Value;

use crate::call::Call;

/// Whether a request is for them.
pub(crate) fn is_asked(call: &Call) -> bool {
    let kind = &call.view.served;
    kind.group().is_empty() && kind.plural() == PLURAL
}

/// One for each check. Why one fails concerns those of the whole hub.
pub(crate) fn all(call: &Call) -> Result<Vec<Value>, ApiError> {
    let checks = call.hub.server.checks.iter().map(|check| {
        let wrong = check.run().err();
        let message = wrong
            .map(|why| if call.tenant.name.is_root() { why } else { "reason withheld".to_owned() });
        value(check.name, message.as_deref())
    });
    Ok(checks.collect())
}
