//! Times as the API writes them, and the short durations that people read in tables.
//!
//! Guarantees: everything but [`now`] and [`now_micro`] is pure; a text that is no RFC 3339 time is
//! `None`, never a made-up moment.

use jiff::Timestamp;

/// meta/v1 Time: RFC 3339 in UTC at whole seconds.
#[must_use]
pub fn seconds(moment: Timestamp) -> String {
    let whole = Timestamp::from_second(moment.as_second()).unwrap_or(moment);
    format!("{whole:.0}")
}

/// meta/v1 MicroTime: RFC 3339 in UTC with exactly six decimals.
#[must_use]
pub fn micros(moment: Timestamp) -> String {
    let micro = moment.as_microsecond();
    let cut = Timestamp::from_microsecond(micro).unwrap_or(moment);
    format!("{cut:.6}")
}

/// [`seconds`] of a Unix time.
#[must_use]
pub fn from_unix(unix_seconds: i64) -> String {
    seconds(Timestamp::from_second(unix_seconds).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The host's clock as meta/v1 Time.
#[must_use]
pub fn now() -> String {
    seconds(Timestamp::now())
}

/// The host's clock as meta/v1 MicroTime.
#[must_use]
pub fn now_micro() -> String {
    micros(Timestamp::now())
}

/// The host's clock in Unix seconds, for [`crate::kind::Strategy::row`].
#[must_use]
pub fn now_unix() -> i64 {
    Timestamp::now().as_second()
}

/// Any RFC 3339 text.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Any RFC 3339 text in Unix seconds.
#[must_use]
pub fn parse_unix(text: &str) -> Option<i64> {
    parse(text).map(Timestamp::as_second)
}

/// How long ago `text` was at `now` (Unix seconds), as tables show it; `<unknown>` when unset.
#[must_use]
pub fn age(text: &str, now: i64) -> String {
    parse_unix(text).map_or_else(|| "<unknown>".to_owned(), |then| human(now.saturating_sub(then)))
}

/// A duration at two to three digits of precision: `90s`, `5m10s`, `3h2m`, `4d`, `2y20d`.
///
/// Two seconds into the future still read as now: clocks differ.
#[must_use]
pub fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match seconds {
        i64::MIN..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 24 * 8 => pair(days, 'd', hours % 24, 'h'),
        _ if hours < 24 * 365 * 2 => format!("{days}d"),
        _ if hours < 24 * 365 * 8 => pair(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

/// A duration in one unit: `59s`, `59m`, `23h`, `364d`, `2y`.
#[must_use]
pub fn short_human(seconds: i64) -> String {
    match seconds {
        i64::MIN..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        86_400..31_536_000 => format!("{}d", seconds / 86_400),
        _ => format!("{}y", seconds / 31_536_000),
    }
}

fn pair(large: i64, large_unit: char, small: i64, small_unit: char) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_precision_of_their_type() {
        let moment = parse("2026-11-20T14:41:14.123456789Z").unwrap();
        assert_eq!(seconds(moment), "2026-11-20T14:41:14Z");
        assert_eq!(micros(moment), "2026-11-20T14:41:14.123456Z");
        assert_eq!(from_unix(0), "1970-01-01T00:00:00Z");
        assert_eq!(
            micros(parse("2026-11-20T15:41:14+01:00").unwrap()),
            "2026-11-20T14:41:14.000000Z"
        );
        assert_eq!(parse("yesterday"), None);
    }

    #[test]
    fn ages_read_as_kubectl_prints_them() {
        for (seconds, text) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (8 * 3600, "8h"),
            (47 * 3600, "47h"),
            (48 * 3600, "2d"),
            (49 * 3600, "2d1h"),
            (8 * 86_400, "8d"),
            (2 * 365 * 86_400, "2y"),
            (2 * 365 * 86_400 + 86_400, "2y1d"),
            (8 * 365 * 86_400, "8y"),
        ] {
            assert_eq!(human(seconds), text, "{seconds}");
        }
        assert_eq!(age("2026-11-20T14:41:14Z", parse_unix("2026-11-20T14:42:14Z").unwrap()), "60s");
        assert_eq!(age("", 0), "<unknown>");
    }

    #[test]
    fn short_ages_have_one_unit() {
        for (seconds, text) in
            [(59, "59s"), (61, "1m"), (3600, "1h"), (86_400, "1d"), (31_536_000, "1y")]
        {
            assert_eq!(short_human(seconds), text);
        }
    }
}
