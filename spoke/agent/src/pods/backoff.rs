//! How long a container that ended waits for its next start, as kubelet counts: at once, then 10 s
//! doubling to 5 min, and from the beginning after 10 min of good behaviour.

use std::time::Duration;

/// A start that lasted this long is no crash loop.
pub const CRASH_STREAK_RESET_AFTER: Duration = Duration::from_secs(600);
/// The longest wait.
pub const RESTART_BACKOFF_MAX: Duration = Duration::from_secs(300);
/// The first wait.
pub const RESTART_BACKOFF_FIRST: Duration = Duration::from_secs(10);

/// What a pod mounts may come a moment after it. It is looked for once more after this, and told if it is not there.
pub const MOUNT_PATIENCE: Duration = Duration::from_secs(1);

/// The wait after this many restarts in a row.
#[must_use]
pub fn delay(streak: u32) -> Duration {
    match streak.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => (RESTART_BACKOFF_FIRST * 2_u32.saturating_pow(doublings.min(8)))
            .min(RESTART_BACKOFF_MAX),
    }
}

/// The wait after volumes could not be made this many times in a row.
#[must_use]
pub fn mount_delay(failures: u32) -> Duration {
    if failures == 1 { MOUNT_PATIENCE } else { delay(failures.saturating_sub(1)) }
}

/// A duration as Go prints it: `10s`, `1m20s`, `5m0s`.
#[must_use]
pub fn go_text(delay: Duration) -> String {
    let seconds = delay.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_five_minutes() {
        let waits: Vec<String> = (0..9).map(|streak| go_text(delay(streak))).collect();
        assert_eq!(waits, ["0s", "10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s", "5m0s"]);
        assert_eq!(delay(u32::MAX), RESTART_BACKOFF_MAX);
    }
}
