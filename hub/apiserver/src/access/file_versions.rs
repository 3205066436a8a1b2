//! In which versions the files come that say who callers are and what they may do (`apiserver.config.k8s.io`).

const GROUP_VERSIONS: [&str; 3] = [
    "apiserver.config.k8s.io/v1",
    "apiserver.config.k8s.io/v1beta1",
    "apiserver.config.k8s.io/v1alpha1",
];

/// Refuses a file that is no `expected` in a version that kube-apiserver knows.
///
/// # Errors
/// What it is instead.
pub(crate) fn check(api_version: &str, kind: &str, expected: &str) -> Result<(), String> {
    if kind == expected && GROUP_VERSIONS.contains(&api_version) {
        return Ok(());
    }
    let [newest, ..] = GROUP_VERSIONS;
    Err(format!("it is {kind} of {api_version}, and not {expected} of {newest}"))
}
