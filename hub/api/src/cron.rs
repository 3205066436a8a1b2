//! The text that says when a CronJob runs, as Kubernetes' parser reads it: what it takes, and what it says of what it does
//! not take.

use std::collections::BTreeSet;
use std::time::Duration;

use freewheel_hub_schema::duration;

/// When something runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cron {
    /// Again and again after so much time, a second at least.
    Every(Duration),
    /// When the minute, hour, day of the month, month and day of the week are among these.
    At([Field; 5]),
}

/// What one of the five may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Anything. Of the two kinds of days, one that is not may be enough for both that are not.
    pub any: bool,
    /// One of these; Sunday is 0.
    pub values: BTreeSet<u32>,
}

/// What a field of it may hold.
struct Bounds {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] =
    &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Minute, hour, day of the month, month, day of the week.
const FIELDS: [Bounds; 5] = [
    Bounds { least: 0, most: 59, names: &[] },
    Bounds { least: 0, most: 23, names: &[] },
    Bounds { least: 1, most: 31, names: &[] },
    Bounds { least: 1, most: 12, names: MONTHS },
    Bounds { least: 0, most: 6, names: DAYS },
];
const NAMED: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

impl Cron {
    /// Reads a schedule.
    ///
    /// # Errors
    /// Why it says nothing, in the words of Kubernetes' parser.
    pub fn read(schedule: &str) -> Result<Self, String> {
        let names_a_zone = schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=");
        // That it may not name a time zone is told by whoever asks. What follows names none again.
        let schedule = if names_a_zone {
            let rest = schedule.split_once(' ').map(|(_, rest)| rest.trim());
            rest.ok_or("invalid schedule format")?
        } else {
            schedule
        };
        if !schedule.starts_with('@') {
            return read_fields(schedule);
        }
        if let Some((_, fields)) = NAMED.iter().find(|(name, _)| *name == schedule) {
            return read_fields(fields);
        }
        let Some(text) = schedule.strip_prefix("@every ") else {
            return Err(format!("unrecognized descriptor: {schedule}"));
        };
        let every = period(text).ok_or_else(|| {
            format!("failed to parse duration {schedule}: time: invalid duration {text:?}")
        })?;
        Ok(Self::Every(every))
    }
}

fn read_fields(schedule: &str) -> Result<Cron, String> {
    let texts: Vec<&str> = schedule.split_whitespace().collect();
    if texts.len() != FIELDS.len() {
        let list = texts.join(" ");
        return Err(format!("expected exactly 5 fields, found {}: [{list}]", texts.len()));
    }
    let mut fields: [Field; 5] = Default::default();
    for ((text, bounds), field) in texts.iter().zip(&FIELDS).zip(&mut fields) {
        for range in text.split(',').filter(|range| !range.is_empty()) {
            read_range(range, bounds, field)?;
        }
    }
    Ok(Cron::At(fields))
}

/// `1h30m`, in whole seconds and one at least.
fn period(text: &str) -> Option<Duration> {
    let read = duration::read(text).ok()?;
    let seconds = Duration::try_from(read).map_or(0, |period| period.as_secs());
    Some(Duration::from_secs(seconds.max(1)))
}

/// `*/5`, `1-7`, `MON`
fn read_range(range: &str, bounds: &Bounds, field: &mut Field) -> Result<(), String> {
    let parts: Vec<&str> = range.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let all = matches!(ends[0], "*" | "?");
    let (start, mut end) = match ends.as_slice() {
        _ if all => (bounds.least, bounds.most),
        [one] => (number(one, bounds)?, number(one, bounds)?),
        [start, end] => (number(start, bounds)?, number(end, bounds)?),
        _ => return Err(format!("too many hyphens: {range}")),
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            if ends.len() == 1 {
                end = bounds.most;
            }
            plain(step)?
        }
        _ => return Err(format!("too many slashes: {range}")),
    };
    let Bounds { least, most, .. } = bounds;
    if start < *least {
        return Err(format!("beginning of range ({start}) below minimum ({least}): {range}"));
    }
    if *most < end {
        return Err(format!("end of range ({end}) above maximum ({most}): {range}"));
    }
    if end < start {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {range}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {range}"));
    }
    field.any |= all && step == 1;
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    field.values.extend((start..=end).step_by(step));
    Ok(())
}

fn number(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match (bounds.least..).zip(bounds.names).find(|(_, name)| **name == lower) {
        Some((number, _)) => Ok(number),
        None => plain(text),
    }
}

fn plain(text: &str) -> Result<u32, String> {
    let bad = || {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    };
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => u32::try_from(number).map_err(|_| bad()),
        Err(_) => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cron_reads_is_read_alike() {
        for schedule in [
            "*/5 * * * ?",
            "0 0 1 JAN sun",
            "1-7,30 2/3 * * MON-FRI",
            "@hourly",
            "@every 1h30m",
            "0 0 * * 6",
        ] {
            assert!(Cron::read(schedule).is_ok(), "{schedule}");
        }
        for (schedule, why) in [
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("*/1/2 * * * *", "too many slashes: */1/2"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(Cron::read(schedule), Err(why.to_owned()), "{schedule}");
        }
    }

    #[test]
    fn fields_are_what_they_may_be() {
        let Ok(Cron::At([minute, hour, day, month, weekday])) = Cron::read("*/20,7 */1 ? FEB fri")
        else {
            panic!("no fields")
        };
        assert_eq!((minute.any, minute.values), (false, BTreeSet::from([0, 7, 20, 40])));
        assert!(hour.any && day.any && !weekday.any);
        assert_eq!((month.values, weekday.values), (BTreeSet::from([2]), BTreeSet::from([5])));
        let every =
            |text| Cron::read(text).map(|cron| matches!(cron, Cron::Every(_)).then_some(cron));
        let of = |seconds| Ok(Some(Cron::Every(Duration::from_secs(seconds))));
        assert_eq!(every("@every 1h30m1.5s"), of(5401));
        assert_eq!(every("@every 10ms"), of(1));
        assert_eq!(every("@every -1h"), of(1));
        assert_eq!(every("@every 0"), of(1));
        for wrong in ["@every ", "@every 5", "@every 1x", "@every 9999999h", "@every ."] {
            assert!(Cron::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_time_zone_is_read_and_no_more() {
        assert_eq!(Cron::read("TZ=Europe/Vaduz 0 0 * * *"), Cron::read("@daily"));
        let none = Cron::read("TZ=Europe/Vaduz");
        assert_eq!(none, Err("invalid schedule format".to_owned()));
        let many = format!("{}* * * * *", "CRON_TZ= ".repeat(500_000));
        assert!(Cron::read(&many).unwrap_err().starts_with("expected exactly 5 fields"));
    }
}
