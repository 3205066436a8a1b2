//! When a cluster may be given something new: an annotation of a ManagedCluster, or of a ManifestWorkReplicaSet for those
//! that have none.
//!
//! ```text
//! freewheel.dev/maintenance-window: "0 2 * * 6; 4h; Europe/Vaduz"
//!                                     when it opens; for how long; in which time zone, else UTC
//! ```
//!
//! Guarantees:
//! - what is none is refused where it is written, with what is wrong (`what_is_no_window_is_told_why`).

use std::time::Duration;

use freewheel_hub_schema::duration;
use freewheel_hub_schema::error::FieldError;
use serde_json::{Value, json};

use crate::cron::Cron;
use crate::time_zone;

/// Where it stands.
pub const MAINTENANCE_WINDOW: &str = "freewheel.dev/maintenance-window";

/// What is longer is no window, and would be looked back over for long.
const LENGTH_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// What is shorter is over before a device has heard of it.
const LENGTH_MIN: Duration = Duration::from_secs(60);

/// When it opens, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaintenanceWindow {
    /// When it opens, as a CronJob's schedule.
    pub schedule: String,
    /// How long it is open then.
    pub length: Duration,
    /// By which clock; UTC when nobody says.
    pub zone: Option<String>,
}

impl MaintenanceWindow {
    /// What the annotation says.
    ///
    /// # Errors
    /// In words, when it is none.
    pub fn read(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(';').map(str::trim).collect();
        let (schedule, length, zone) = match parts.as_slice() {
            [schedule, length] => (*schedule, *length, None),
            [schedule, length, zone] => (*schedule, *length, Some(*zone)),
            _ => {
                return Err("must be SCHEDULE; DURATION or SCHEDULE; DURATION; ZONE, such as \
                            \"0 2 * * 6; 4h; Europe/Vaduz\""
                    .to_owned());
            }
        };
        if schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=") {
            return Err("names its time zone behind the duration".to_owned());
        }
        if let Cron::Every(_) = Cron::read(schedule)? {
            return Err("says how often it opens, and not when".to_owned());
        }
        let wrong = || format!("{length:?} is no duration from 1m to 168h");
        let read = duration::read(length).ok().and_then(|it| Duration::try_from(it).ok());
        let fits = |it: &Duration| (LENGTH_MIN..=LENGTH_MAX).contains(it);
        let length = read.filter(fits).ok_or_else(wrong)?;
        if let Some(zone) = zone.filter(|zone| time_zone::rules(zone).is_none()) {
            return Err(format!("unknown time zone {zone}"));
        }
        Ok(Self { schedule: schedule.to_owned(), length, zone: zone.map(str::to_owned) })
    }
}

/// What the annotation of this object says wrongly, if it has one.
pub(crate) fn check(object: &Value) -> Option<FieldError> {
    let text = object["metadata"]["annotations"][MAINTENANCE_WINDOW].as_str()?;
    let why = MaintenanceWindow::read(text).err()?;
    let place = format!("metadata.annotations[{MAINTENANCE_WINDOW}]");
    Some(FieldError::invalid(place, &json!(text), &why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_window_is_told_why() {
        for (text, why) in [
            ("", "must be SCHEDULE; DURATION"),
            ("0 2 * * 6", "must be SCHEDULE; DURATION"),
            ("0 2 * * 6; 4h; UTC; more", "must be SCHEDULE; DURATION"),
            ("0 2 * *; 4h", "expected exactly 5 fields"),
            ("TZ=UTC 0 2 * * 6; 4h", "behind the duration"),
            ("@every 1h; 4h", "says how often it opens"),
            ("0 2 * * 6; long", "\"long\" is no duration from 1m to 168h"),
            ("0 2 * * 6; 0s", "is no duration from 1m to 168h"),
            ("0 2 * * 6; 169h", "is no duration from 1m to 168h"),
            ("0 2 * * 6; 4h; Mars", "unknown time zone Mars"),
        ] {
            let said = MaintenanceWindow::read(text).unwrap_err();
            assert!(said.contains(why), "{text:?}: {said}");
            let object = json!({"metadata": {"annotations": {MAINTENANCE_WINDOW: text}}});
            let error = check(&object).unwrap();
            assert_eq!(error.field, "metadata.annotations[freewheel.dev/maintenance-window]");
        }
        let object = json!({"metadata": {"annotations": {MAINTENANCE_WINDOW: "@daily; 30m"}}});
        assert_eq!((check(&object), check(&json!({}))), (None, None));
    }

    #[test]
    fn a_window_is_read() {
        let window = MaintenanceWindow::read(" 0 2 * * 6 ;4h; Europe/Vaduz ").unwrap();
        let expected = MaintenanceWindow {
            schedule: "0 2 * * 6".to_owned(),
            length: Duration::from_secs(4 * 60 * 60),
            zone: Some("Europe/Vaduz".to_owned()),
        };
        assert_eq!(window, expected);
        assert_eq!(MaintenanceWindow::read("@hourly; 10m").unwrap().zone, None);
    }
}
