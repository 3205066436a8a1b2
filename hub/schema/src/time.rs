//! Times as the API writes them, and the short durations that people read in tables.
//!
//! Everything but [`now`] and [`now_unix`] is pure.
//!
//! Guarantees:
//! - a text that is no RFC 3339 time is `None`, never a made-up moment (`times_are_read_as_go_reads_them`,
//!   `times_have_the_precision_of_their_type`).

use jiff::civil::{DateTime, date};
use jiff::{SignedDuration, Timestamp};

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

/// The host's clock in Unix seconds, for [`crate::kind::Strategy::row`].
#[must_use]
pub fn now_unix() -> i64 {
    Timestamp::now().as_second()
}

const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

/// Seconds since 1970 and nanoseconds, the latter never negative, of a moment in UTC: of all of the year 9999, which a
/// [`Timestamp`] is not.
#[must_use]
pub fn unix_parts(moment: DateTime) -> (i64, i32) {
    let since = moment.duration_since(EPOCH);
    let (seconds, nanos) = (since.as_secs(), since.subsec_nanos());
    if nanos < 0 { (seconds - 1, nanos + 1_000_000_000) } else { (seconds, nanos) }
}

/// The moment of these, if RFC 3339 can write it.
#[must_use]
pub fn of_unix_parts(seconds: i64, nanos: i32) -> Option<DateTime> {
    let moment = EPOCH.checked_add(SignedDuration::new(seconds, nanos)).ok()?;
    (0 <= moment.year()).then_some(moment)
}

/// An RFC 3339 text as Go's layout of that name reads it, in UTC: all of the year 9999, and no second 60.
#[must_use]
pub fn read_rfc3339(text: &str) -> Option<DateTime> {
    let bytes = text.as_bytes();
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !marks.iter().all(|(at, mark)| bytes.get(*at) == Some(mark)) {
        return None;
    }
    let digits = |from: usize, to: usize| -> Option<i16> {
        let part = text.get(from..to)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten()
    };
    let small = |from: usize| digits(from, from + 2).and_then(|n| i8::try_from(n).ok());
    let (mut nanos, mut rest) = (0, text.get(19..)?);
    if let Some(fraction) = rest.strip_prefix('.') {
        let end = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let (figures, after) = fraction.split_at(end);
        let nine = figures.get(..9).unwrap_or(figures);
        nanos = format!("{nine:0<9}").parse().ok().filter(|_| end != 0)?;
        rest = after;
    }
    let local = DateTime::new(
        digits(0, 4)?,
        small(5)?,
        small(8)?,
        small(11)?,
        small(14)?,
        small(17)?,
        nanos,
    );
    local.ok()?.checked_sub(offset(rest)?).ok().filter(|moment| 0 <= moment.year())
}

/// `Z`, `+01:00`.
fn offset(text: &str) -> Option<SignedDuration> {
    if text == "Z" {
        return Some(SignedDuration::ZERO);
    }
    let sign = match text.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let two = |part: &str| part.parse::<i64>().ok().filter(|_| part.len() == 2);
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours < 24 && minutes < 60).then(|| SignedDuration::from_mins(sign * (hours * 60 + minutes)))
}

/// As meta/v1 Time, or MicroTime, writes it.
#[must_use]
pub fn write_rfc3339(moment: DateTime, micro: bool) -> String {
    let (date, time) = (moment.date(), moment.time());
    let mut out = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        date.year(),
        date.month(),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    if micro {
        out.push_str(&format!(".{:06}", time.subsec_nanosecond() / 1000));
    }
    out.push('Z');
    out
}

/// The moment of an RFC 3339 text; of one that is later than a [`Timestamp`] can be, the latest.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    let (seconds, nanos) = unix_parts(read_rfc3339(text)?);
    Some(Timestamp::new(seconds, nanos).unwrap_or(Timestamp::MAX))
}

/// The same in Unix seconds.
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
    fn times_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("2026-11-20T14:41:14Z", Some("2026-11-20T14:41:14.000000Z")),
            ("2026-11-20T14:41:14.5+01:30", Some("2026-11-20T13:11:14.500000Z")),
            ("9999-12-31T23:59:59Z", Some("9999-12-31T23:59:59.000000Z")),
            ("9999-12-31T23:59:59.123456789Z", Some("9999-12-31T23:59:59.123456Z")),
            ("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00.000000Z")),
            ("2024-02-29T00:00:00-00:00", Some("2024-02-29T00:00:00.000000Z")),
            ("9999-12-31T23:59:59-01:00", None),
            ("2026-11-20T14:41:60Z", None),
            ("2026-11-20T14:41Z", None),
            ("2026-11-20T14:41:14", None),
            ("2026-11-20 14:41:14Z", None),
            ("2026-11-20t14:41:14z", None),
            ("2026-11-20T14:41:14.Z", None),
            ("2026-11-20T24:00:00Z", None),
            ("2026-02-29T00:00:00Z", None),
            ("2026-11-20T14:41:14+1:00", None),
            ("2026-11-20T14:41:14Zz", None),
            ("é026-11-20T14:41:14Z", None),
            ("", None),
        ] {
            let read = read_rfc3339(text).map(|moment| write_rfc3339(moment, true));
            assert_eq!(read.as_deref(), expected, "{text}");
            assert_eq!(parse(text).is_some(), expected.is_some(), "{text}");
            if let Some(moment) = read_rfc3339(text) {
                let (seconds, nanos) = unix_parts(moment);
                assert_eq!(of_unix_parts(seconds, nanos), Some(moment), "{text}");
            }
        }
        assert_eq!(parse("9999-12-31T23:59:59Z"), Some(Timestamp::MAX));
        assert_eq!(unix_parts(read_rfc3339("1969-12-31T23:59:59.5Z").unwrap()), (-1, 500_000_000));
        assert_eq!(of_unix_parts(i64::MAX, 0), None);
        assert_eq!(of_unix_parts(-62_167_219_201, 0), None, "before the year 0");
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
}
