//! What a webhook's patch makes of an object.

use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::patch::{NotPatched, operations_on};
use serde_json::Value;

use crate::policy::settle;

/// The object after it, in canonical form.
pub(super) fn patched(object: &Value, operations: Value, version: &Kind) -> Result<Value, String> {
    let mut new = operations_on(object, operations).map_err(|why| match why {
        NotPatched::Test => "testing value failed".to_owned(),
        NotPatched::Because(error) => error.message,
    })?;
    settle(&mut new, version).map_err(|error| error.message)?;
    Ok(new)
}
