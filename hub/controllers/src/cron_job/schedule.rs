//! The times at which a CronJob runs.
//!
//! Guarantees:
//! - clocks that are put forward or back do to it what they do under Kubernetes: a time that there is not is left out,
//!   one that there is twice counts twice (`summer_time_comes_and_goes`);
//! - what it costs to ask is bounded, also of a day that never comes (`a_day_that_never_comes_is_no_time`).

use std::fmt::Write as _;
use std::time::Duration;

use cronexpr::{Crontab, FallbackTimezoneOption, ParseOptions, parse_crontab_with};
use freewheel_hub_api::cron::{Cron, Field};
use freewheel_hub_api::time_zone;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// As far into the future as it is looked, as upstream.
const SCHEDULE_HORIZON: SignedDuration = SignedDuration::from_hours(5 * 366 * 24);

/// Times, in a time zone.
#[derive(Debug)]
pub struct Schedule {
    times: Times,
    zone: TimeZone,
}

#[derive(Debug)]
enum Times {
    Every(Duration),
    At(Box<Crontab>),
    Never,
}

/// Why there are none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It is no schedule.
    #[error("{0}")]
    Unparseable(String),
    /// There is no such time zone.
    #[error("unknown time zone {0}")]
    UnknownTimeZone(String),
}

impl Schedule {
    /// Reads `spec.schedule` and `spec.timeZone`, which is UTC when nobody says.
    pub fn read(schedule: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => {
                let unknown = || ScheduleError::UnknownTimeZone(name.to_owned());
                let rules = time_zone::rules(name).ok_or_else(unknown)?;
                TimeZone::tzif(name, rules).map_err(|_| unknown())?
            }
        };
        let times = match Cron::read(schedule).map_err(ScheduleError::Unparseable)? {
            Cron::Every(time) => Times::Every(time),
            Cron::At(fields) if fields.iter().any(|field| field.values.is_empty()) => Times::Never,
            Cron::At(fields) => Times::At(Box::new(table(&fields)?)),
        };
        Ok(Self { times, zone })
    }

    /// The first time after this one.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = Timestamp::from_second(after.as_second()).ok()?;
        match &self.times {
            Times::Every(time) => after.checked_add(*time).ok(),
            Times::At(table) => self.next_at(table, after),
            Times::Never => None,
        }
    }

    /// Between two changes of the zone's offset its clock runs as that of UTC does: the table is asked as if it was UTC.
    fn next_at(&self, table: &Crontab, after: Timestamp) -> Option<Timestamp> {
        let horizon = after.checked_add(SCHEDULE_HORIZON).ok()?;
        let (mut from, mut last) = (after, after);
        while from <= horizon {
            let offset = SignedDuration::from_secs(self.zone.to_offset(from).seconds().into());
            let end = self.zone.following(from).next().map(|change| change.timestamp());
            let local = last.checked_add(offset).ok()?;
            let found = table.find_next(cronexpr::MakeTimestamp(local)).ok()?.timestamp();
            let found = found.checked_sub(offset).ok()?;
            match end.filter(|end| *end <= found) {
                None => return Some(found),
                // The moment of the change is a time itself.
                Some(end) => {
                    (from, last) = (end, end.checked_sub(SignedDuration::from_secs(1)).ok()?);
                }
            }
        }
        None
    }
}

/// In numbers, which all readers of such tables read alike.
fn table(fields: &[Field; 5]) -> Result<Crontab, ScheduleError> {
    let mut text = String::new();
    for field in fields {
        let separator = if text.is_empty() { "" } else { " " };
        text.push_str(separator);
        if field.any {
            text.push('*');
            continue;
        }
        for (at, value) in field.values.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(text, "{comma}{value}");
        }
    }
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    let read = parse_crontab_with(&text, options);
    read.map_err(|why| ScheduleError::Unparseable(why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a schedule, its zone, a time and those after it, as robfig/cron has them.
    #[track_caller]
    fn check(rows: &str) {
        let minute = |text: &str| format!("{text}:00Z").parse::<Timestamp>().unwrap();
        for row in rows.lines().filter(|row| !row.trim().is_empty()) {
            let [schedule, zone, after, expected] =
                row.split('|').map(str::trim).collect::<Vec<_>>().try_into().unwrap();
            let zone = Some(zone).filter(|zone| !zone.is_empty());
            let schedule = Schedule::read(schedule, zone).unwrap();
            let mut time = minute(after);
            for expected in expected.split_whitespace() {
                time = schedule.next(time).unwrap();
                assert_eq!(time, minute(expected), "{row}");
            }
        }
    }

    const PLAIN: &str = "
        */15 * * * ? |  | 2026-01-01T00:00 | 2026-01-01T00:15 2026-01-01T00:30 2026-01-01T00:45 2026-01-01T01:00
        0 0 1 * * |  | 2026-01-31T23:59 | 2026-02-01T00:00 2026-03-01T00:00 2026-04-01T00:00 2026-05-01T00:00
        0 12 13 * fri |  | 2026-02-01T00:00 | 2026-02-06T12:00 2026-02-13T12:00 2026-02-20T12:00 2026-02-27T12:00
        0 12 */10 * fri |  | 2026-02-01T00:00 | 2026-02-01T12:00 2026-02-06T12:00 2026-02-11T12:00 2026-02-13T12:00
        0 12 * * fri |  | 2026-02-01T00:00 | 2026-02-06T12:00 2026-02-13T12:00 2026-02-20T12:00 2026-02-27T12:00
        30 6-16/4 * * 1-5 |  | 2026-01-02T07:00 | 2026-01-02T10:30 2026-01-02T14:30 2026-01-05T06:30 2026-01-05T10:30
        @weekly |  | 2026-01-01T00:00 | 2026-01-04T00:00 2026-01-11T00:00 2026-01-18T00:00 2026-01-25T00:00
        @every 90m |  | 2026-01-01T00:00 | 2026-01-01T01:30 2026-01-01T03:00 2026-01-01T04:30 2026-01-01T06:00
        0 0 29 2 * |  | 2026-01-01T00:00 | 2028-02-29T00:00 2032-02-29T00:00 2036-02-29T00:00 2040-02-29T00:00
        0 9 * * 1 | Asia/Kolkata | 2026-01-01T00:00 | 2026-01-05T03:30 2026-01-12T03:30 2026-01-19T03:30 2026-01-26T03:30
        0 0 1 1 * | Pacific/Kiritimati | 2026-06-01T00:00 | 2026-12-31T10:00 2027-12-31T10:00 2028-12-31T10:00 2029-12-31T10:00
    ";

    /// In Sao Paulo the clock went from midnight to one; at Lord Howe it goes by half an hour.
    const WHEN_CLOCKS_CHANGE: &str = "
        30 2 * * * | Europe/Vaduz | 2026-03-28T00:00 | 2026-03-28T01:30 2026-03-30T00:30 2026-03-31T00:30 2026-04-01T00:30
        30 2 * * * | Europe/Vaduz | 2026-10-24T00:00 | 2026-10-24T00:30 2026-10-25T00:30 2026-10-25T01:30 2026-10-26T01:30
        */30 * * * * | Europe/Vaduz | 2026-03-29T00:15 | 2026-03-29T00:30 2026-03-29T01:00 2026-03-29T01:30 2026-03-29T02:00
        */30 2 * * * | Europe/Vaduz | 2026-10-24T23:45 | 2026-10-25T00:00 2026-10-25T00:30 2026-10-25T01:00 2026-10-25T01:30
        0 0 * * * | America/Sao_Paulo | 2018-11-02T12:00 | 2018-11-03T03:00 2018-11-05T02:00 2018-11-06T02:00 2018-11-07T02:00
        0 1 * * * | America/Sao_Paulo | 2018-11-02T12:00 | 2018-11-03T04:00 2018-11-04T03:00 2018-11-05T03:00 2018-11-06T03:00
        45 1 * * * | Australia/Lord_Howe | 2026-04-03T00:00 | 2026-04-03T14:45 2026-04-04T14:45 2026-04-04T15:15 2026-04-05T15:15
        15 2 * * * | Australia/Lord_Howe | 2026-10-02T00:00 | 2026-10-02T15:45 2026-10-04T15:15 2026-10-05T15:15 2026-10-06T15:15
    ";

    #[test]
    fn times_are_those_of_kubernetes() {
        check(PLAIN);
    }

    #[test]
    fn summer_time_comes_and_goes() {
        check(WHEN_CLOCKS_CHANGE);
    }

    #[test]
    fn a_day_that_never_comes_is_no_time() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        for never in ["59 23 31 2 *", "0 0 30 2 ?", ", * * * *"] {
            assert_eq!(Schedule::read(never, None).unwrap().next(now), None, "{never}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let zone = Schedule::read("@daily", Some("Mars/Olympus")).unwrap_err();
        assert_eq!(zone, ScheduleError::UnknownTimeZone("Mars/Olympus".into()));
        let fields = Schedule::read("* *", None).unwrap_err();
        assert_eq!(fields.to_string(), "expected exactly 5 fields, found 2: [* *]");
    }
}
