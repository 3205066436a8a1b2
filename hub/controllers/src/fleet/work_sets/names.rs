//! What works of a set are called, and what label says whose they are.

use freewheel_hub_schema::object::Key;
use freewheel_link::digest::Digest;

/// Bytes of a label's value.
const LABEL_BYTES_MAX: usize = 63;
/// Bytes of a set's name in its works' names: what is applied has a name in front of that.
const NAME_BYTES_MAX: usize = 120;

/// Whether the name of a set is too long for a label.
pub(super) fn is_cut(set: &Key) -> bool {
    LABEL_BYTES_MAX < set.namespace.len() + 1 + set.name.len()
}

/// Whether a label may be one that was cut, of which its hash alone says whose it is.
pub(super) fn may_be_cut(label: &str) -> bool {
    label.len() == LABEL_BYTES_MAX
}

/// Whose a work is, as a label can say it.
pub(super) fn label(set: &Key) -> String {
    let plain = format!("{}.{}", set.namespace, set.name);
    if plain.len() <= LABEL_BYTES_MAX {
        return plain;
    }
    let hash = Digest::of(plain.as_bytes()).hex();
    let cut: String = plain.chars().take(LABEL_BYTES_MAX - 33).collect();
    format!("{cut}-{}", hash.get(..32).unwrap_or_default())
}

/// What the works of a set are called that are of one placement.
pub(super) fn work_name(set: &Key, placement: &str) -> String {
    let hash = Digest::of(format!("{}/{}/{placement}", set.namespace, set.name).as_bytes()).hex();
    let cut: String = set.name.chars().take(NAME_BYTES_MAX).collect();
    format!("{}-{}", cut.trim_end_matches(['.', '-']), hash.get(..10).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use freewheel_hub_schema::object::Resource;
    use freewheel_link::names::ClusterName;

    #[test]
    fn long_names_are_cut_and_told_apart() {
        let resource = Resource::new("work.open-cluster-management.io", "manifestworkreplicasets");
        let key = |name: &str| Key::new(&resource, &ClusterName::root(), "site", name);
        assert_eq!(label(&key("web")), "site.web");
        let (a, b) = ("x".repeat(200), format!("{}y", "x".repeat(199)));
        let labels = [label(&key(&a)), label(&key(&b))];
        assert!(labels.iter().all(|it| may_be_cut(it)) && is_cut(&key(&a)) && !is_cut(&key("web")));
        assert!(labels[0] != labels[1] && labels.iter().all(|it| it.len() <= LABEL_BYTES_MAX));
        assert!(work_name(&key(&a), "p") != work_name(&key(&b), "p"));
        assert!(work_name(&key(&a), "p") != work_name(&key(&a), "q"));
        assert!(work_name(&key(&a), "p").len() < 140);
    }
}
