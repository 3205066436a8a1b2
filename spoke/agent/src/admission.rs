//! What a spoke takes on at all. Everything that becomes part of a path is checked here, once.

use freewheel_link::ended::ContainersEndedV1;
use freewheel_link::limits::POD_MOUNTS_MAX;
use freewheel_link::plan::{PodEndedV1, PodOsV1, PodStorageV1, PodV1, feature};
use freewheel_link::probes::PodProbesV1;

/// Bits of [`feature`] that this agent honours.
pub const FEATURES: u64 = feature::COMMAND | feature::HTTP | feature::SIDECARS;

/// Checks a pod's record.
///
/// # Errors
/// With (reason, message) for the user when this spoke cannot run it.
pub fn check(pod: &PodV1) -> Result<(), (String, String)> {
    let names = pod
        .init
        .iter()
        .chain(&pod.containers)
        .map(|c| c.name.as_str())
        .chain(pod.volumes.iter().map(|v| v.name.as_str()));
    for name in names.chain([pod.uid.as_str()]) {
        if !is_path_segment(name) {
            return Err((
                "InvalidPod".to_owned(),
                format!("{:?} is no name", name.chars().take(100).collect::<String>()),
            ));
        }
    }
    if pod.containers.is_empty() {
        return Err(("InvalidPod".to_owned(), "the pod has no containers".to_owned()));
    }
    let mounts: usize = pod.init.iter().chain(&pod.containers).map(|c| c.mounts.len()).sum();
    if POD_MOUNTS_MAX < mounts {
        let text = format!("its containers have {mounts} mounts, and {POD_MOUNTS_MAX} is the most");
        return Err(("InvalidPod".to_owned(), text));
    }
    // Without its limits it must not run, nor when it, or a container of it, may have ended, nor count as ready unseen, nor
    // where it may be for another system.
    let error = pod.parts.get::<PodStorageV1>().err();
    let error = error.or_else(|| pod.parts.get::<PodOsV1>().err());
    let error = error.or_else(|| pod.parts.get::<PodProbesV1>().err());
    let error = error.or_else(|| pod.parts.get::<PodEndedV1>().err());
    if let Some(error) = error.or_else(|| pod.parts.get::<ContainersEndedV1>().err()) {
        let text = format!("{error}: upgrade the spoke");
        return Err(("UnsupportedFeature".to_owned(), text));
    }
    let mut seen = std::collections::BTreeSet::new();
    match pod.init.iter().chain(&pod.containers).find(|c| !seen.insert(c.name.as_str())) {
        Some(twice) => {
            Err(("InvalidPod".to_owned(), format!("two containers are called {:?}", twice.name)))
        }
        None => Ok(()),
    }
}

/// Checks the features that something, in words, needs.
///
/// # Errors
/// With (reason, message) when there is a bit that this agent does not know.
pub fn check_needs(what: &str, needs: u64) -> Result<(), (String, String)> {
    let missing = needs & !FEATURES;
    if missing == 0 {
        return Ok(());
    }
    Err((
        "UnsupportedFeature".to_owned(),
        format!(
            "{what} needs features {missing:#x} that this spoke's agent does not have; upgrade the spoke"
        ),
    ))
}

/// Whether it can be a file's name: UIDs and DNS labels are.
#[must_use]
pub fn is_path_segment(name: &str) -> bool {
    let clean = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    clean && !name.is_empty() && name.len() <= 253 && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_could_leave_its_directory_is_a_name() {
        for (name, fine) in [
            ("3f0a-uid", true),
            ("web", true),
            ("", false),
            ("..", false),
            ("a/b", false),
            (".hidden", false),
            ("a\0b", false),
        ] {
            assert_eq!(is_path_segment(name), fine, "{name:?}");
        }
    }

    #[test]
    fn an_unknown_feature_is_named() {
        assert!(check_needs("the pod", FEATURES).is_ok());
        let (reason, message) = check_needs("the pod", 1 << 40 | 1).unwrap_err();
        assert_eq!(reason, "UnsupportedFeature");
        assert!(message.contains("0x10000000000"), "{message}");
    }
}
