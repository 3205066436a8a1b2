//! A record that is too large for any plan.

use freewheel_link::limits;
use freewheel_link::plan::Record;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::refused::{Fault, Refused};

/// Refuses a record that is too large for any plan.
pub(super) fn check(
    record: Record,
    resource: &'static str,
    meta: &ObjectMeta,
) -> Result<Record, Refused> {
    if record.weight() <= limits::RECORD_BYTES_MAX {
        return Ok(record);
    }
    let text = format!(
        "it takes {} bytes on its way to a device, which takes at most {} of one object",
        record.weight(),
        limits::RECORD_BYTES_MAX
    );
    Err(Fault { reason: "TooLarge", message: text }.of(&record.key.realm, resource, meta))
}
