//! Times in log files: RFC 3339 in UTC with nine digits, so that text order is time order.

use std::time::{SystemTime, UNIX_EPOCH};

/// Length of a stamp.
pub(crate) const STAMP_BYTES: usize = "2026-11-20T15:04:05.000000000Z".len();

/// A time as text.
pub(crate) fn stamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let nanos = since.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Year, month and day of a day since 1970, by Howard Hinnant's `civil_from_days`.
const fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[track_caller]
    fn check(seconds: u64, nanos: u32, text: &str) {
        assert_eq!(stamp(UNIX_EPOCH + Duration::new(seconds, nanos)), text);
        assert_eq!(text.len(), STAMP_BYTES);
    }

    #[test]
    fn stamps() {
        check(0, 0, "1970-01-01T00:00:00.000000000Z");
        check(951_827_696, 7, "2000-02-29T12:34:56.000000007Z");
        check(1_795_188_245, 120_000_000, "2026-11-20T15:24:05.120000000Z");
    }
}
