//! A share of clusters, such as `25%`.
//!
//! Guarantees:
//! - it comes to as many as in Open Cluster Management, which counts in floating point: 7 % of 100 are 8
//!   (`shares_come_to_what_upstream_counts`).

/// How many of a total that is, rounded up; `None` when it is no share.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "numbers of clusters, as upstream counts them; less than none is none"
)]
pub(crate) fn of(text: &str, total: usize) -> Option<usize> {
    let percent: f64 = text.strip_suffix('%')?.parse().ok()?;
    percent.is_finite().then(|| (percent / 100.0 * total as f64).ceil() as usize)
}

#[cfg(test)]
mod tests {
    #[test]
    fn shares_come_to_what_upstream_counts() {
        for (text, total, expected) in [
            ("25%", 10, Some(3)),
            ("100%", 8, Some(8)),
            ("7%", 100, Some(8)),
            ("14%", 50, Some(8)),
            ("0%", 8, Some(0)),
            ("-5%", 8, Some(0)),
            ("inf%", 8, None),
            ("3", 8, None),
            ("x%", 8, None),
        ] {
            assert_eq!(super::of(text, total), expected, "{text} of {total}");
        }
    }
}
