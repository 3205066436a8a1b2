//! What holds recommendations back.

use serde_json::{Value, json};

use super::*;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn asked(current: i32, wanted: i32) -> Recommendation {
    Recommendation { current, wanted, least: 2, most: 20 }
}

fn behavior(value: Value) -> Behavior {
    Behavior::read(&serde_json::from_value(value).unwrap())
}

/// One that has been as it is for long.
fn settled(replicas: i32) -> Past {
    Past::beginning(replicas, Duration::ZERO)
}

const LATER: Duration = Duration::from_secs(10_000);

#[track_caller]
fn comes_to(found: Limited, replicas: i32, stabilized: Stabilized, bound: Bound) {
    assert_eq!(found, Limited { replicas, stabilized, bound });
}

#[test]
fn without_a_behavior_it_doubles_and_waits_before_it_shrinks() {
    let plain = |asked, past: &Past, now| limited(asked, None, past, now);
    let old = settled(3);
    comes_to(plain(asked(3, 5), &old, LATER), 5, Stabilized::No, Bound::Within);
    comes_to(plain(asked(3, 9), &old, LATER), 6, Stabilized::No, Bound::UpRate);
    comes_to(plain(asked(1, 9), &old, LATER), 4, Stabilized::No, Bound::UpRate);
    comes_to(plain(asked(15, 99), &old, LATER), 20, Stabilized::No, Bound::Most);
    comes_to(plain(asked(10, 1), &old, LATER), 2, Stabilized::No, Bound::Fewest);
    let mut past = settled(10);
    comes_to(plain(asked(10, 4), &past, secs(300)), 10, Stabilized::Down, Bound::Within);
    past.recommend(7, secs(300), secs(200));
    comes_to(plain(asked(10, 4), &past, secs(301)), 7, Stabilized::Down, Bound::Within);
    comes_to(plain(asked(10, 4), &past, secs(501)), 4, Stabilized::No, Bound::Within);
}

#[test]
fn windows_hold_back_both_ways() {
    let both = behavior(json!({
        "scaleUp": {"stabilizationWindowSeconds": 60},
        "scaleDown": {"stabilizationWindowSeconds": 120},
    }));
    let at = |wanted, past: &Past, now| limited(asked(10, wanted), Some(&both), past, secs(now));
    let mut past = settled(10);
    comes_to(at(15, &past, 59), 10, Stabilized::Up, Bound::Within);
    comes_to(at(15, &past, 60), 15, Stabilized::No, Bound::Within);
    comes_to(at(5, &past, 119), 10, Stabilized::Down, Bound::Within);
    comes_to(at(5, &past, 120), 5, Stabilized::No, Bound::Within);
    past.recommend(12, secs(120), secs(100));
    comes_to(at(15, &past, 130), 12, Stabilized::Up, Bound::Within);
    past.recommend(8, secs(120), secs(150));
    comes_to(at(5, &past, 221), 8, Stabilized::Down, Bound::Within);
    let none = behavior(json!({"scaleDown": {"stabilizationWindowSeconds": 0}}));
    let found = limited(asked(10, 5), Some(&none), &past, secs(151));
    comes_to(found, 5, Stabilized::No, Bound::Within);
}

fn policy(kind: &str, value: i32, seconds: i32) -> Value {
    json!({"type": kind, "value": value, "periodSeconds": seconds})
}

fn rules(select: &str, policies: &[Value]) -> Behavior {
    let rules =
        json!({"stabilizationWindowSeconds": 0, "selectPolicy": select, "policies": policies});
    behavior(json!({"scaleUp": rules, "scaleDown": rules}))
}

#[test]
fn policies_bound_changes_in_their_period() {
    let policies = [policy("Pods", 2, 60), policy("Percent", 50, 60)];
    let (most, least, none) =
        (rules("Max", &policies), rules("Min", &policies), rules("Disabled", &policies));
    let past = settled(10);
    let to =
        |behavior, current, wanted| limited(asked(current, wanted), Some(behavior), &past, LATER);
    comes_to(to(&most, 10, 19), 15, Stabilized::No, Bound::UpRate);
    comes_to(to(&least, 10, 19), 12, Stabilized::No, Bound::UpRate);
    comes_to(to(&none, 10, 19), 10, Stabilized::No, Bound::UpRate);
    comes_to(to(&most, 10, 14), 14, Stabilized::No, Bound::Within);
    comes_to(to(&most, 18, 40), 20, Stabilized::No, Bound::Most);
    comes_to(to(&most, 10, 3), 5, Stabilized::No, Bound::DownRate);
    comes_to(to(&least, 10, 3), 8, Stabilized::No, Bound::DownRate);
    comes_to(to(&none, 10, 3), 10, Stabilized::No, Bound::DownRate);
    comes_to(to(&most, 3, 1), 2, Stabilized::No, Bound::Fewest);
    // Half of three is rounded up for more and down for fewer.
    let half = rules("Max", &[policy("Percent", 50, 60)]);
    comes_to(to(&half, 3, 19), 5, Stabilized::No, Bound::UpRate);
    comes_to(to(&half, 5, 2), 2, Stabilized::No, Bound::Within);
}

#[test]
fn what_was_done_just_now_counts_towards_the_next_change() {
    let pods = rules("Max", &[policy("Pods", 4, 60)]);
    let mut past = settled(10);
    past.rescaled((10, 13), &pods, LATER);
    let at = |past: &Past, current, wanted, seconds| {
        limited(asked(current, wanted), Some(&pods), past, LATER + secs(seconds))
    };
    comes_to(at(&past, 13, 20, 59), 14, Stabilized::No, Bound::UpRate);
    comes_to(at(&past, 13, 20, 60), 17, Stabilized::No, Bound::UpRate);
    past.rescaled((13, 14), &pods, LATER + secs(10));
    comes_to(at(&past, 14, 20, 20), 14, Stabilized::No, Bound::UpRate);
    // What was taken away may come back.
    past.rescaled((14, 11), &pods, LATER + secs(20));
    comes_to(at(&past, 11, 20, 30), 14, Stabilized::No, Bound::UpRate);
    comes_to(at(&past, 11, 2, 30), 6, Stabilized::No, Bound::DownRate);
}
