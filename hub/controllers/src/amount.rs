//! A number of pods, or a share of them.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// In pods, of so many; a share is rounded up or down.
#[must_use]
pub(crate) fn in_pods(bound: &IntOrString, of: i32, up: bool) -> i32 {
    match bound {
        IntOrString::Int(pods) => *pods,
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok());
            let hundredths = percent.unwrap_or_default().saturating_mul(i64::from(of));
            let pods = if up { hundredths.saturating_add(99) / 100 } else { hundredths / 100 };
            i32::try_from(pods).unwrap_or(i32::MAX)
        }
    }
}
