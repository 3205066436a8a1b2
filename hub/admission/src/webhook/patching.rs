//! What a webhook's patch makes of an object.

use freewheel_hub_schema::patch::{NotPatched, operations_on};
use serde_json::Value;

use crate::policy::Form;

/// The object after it, in canonical form.
pub(super) fn patched(object: &Value, operations: Value, form: &Form) -> Result<Value, String> {
    let mut new = operations_on(object, operations).map_err(|why| match why {
        NotPatched::Test => "testing value failed".to_owned(),
        NotPatched::Because(error) => error.message,
    })?;
    form.settle(&mut new).map_err(|error| error.message)?;
    Ok(new)
}
