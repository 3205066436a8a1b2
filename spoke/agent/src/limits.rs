//! What a pod may have, over all of its containers.

use freewheel_link::plan::{ContainerV1, PodV1};

/// Bytes of memory: those of the containers that run side by side, or of one that runs before them. `None`: one of
/// them has no limit.
#[must_use]
pub fn memory(pod: &PodV1) -> Option<u64> {
    memory_of(&pod.init, &pod.containers)
}

fn memory_of(init: &[ContainerV1], main: &[ContainerV1]) -> Option<u64> {
    let (sidecars, before): (Vec<_>, Vec<_>) = init.iter().partition(|init| init.sidecar);
    let before = before.iter().try_fold(0, |most: u64, init| Some(most.max(init.memory_limit?)))?;
    let main = sum(main.iter())?;
    Some(main.max(before).saturating_add(sum(sidecars.into_iter())?))
}

fn sum<'a>(mut containers: impl Iterator<Item = &'a ContainerV1>) -> Option<u64> {
    containers.try_fold(0, |sum: u64, one| Some(sum.saturating_add(one.memory_limit?)))
}

#[cfg(test)]
mod tests {
    use freewheel_link::plan::ModuleV1;

    use super::*;

    fn container(memory_limit: Option<u64>, sidecar: bool) -> ContainerV1 {
        ContainerV1 {
            name: "c".to_owned(),
            image: "c".to_owned(),
            module: ModuleV1::Missing(String::new(), String::new()),
            args: vec![],
            env_from: vec![],
            env: vec![],
            ports: vec![],
            mounts: vec![],
            memory_limit,
            cpu_limit_milli: None,
            requests: (None, None),
            sidecar,
            working_dir: String::new(),
            http: freewheel_link::plan::HttpV1::default(),
        }
    }

    #[test]
    fn a_pod_has_what_its_containers_have() {
        let of = |init: &[(u64, bool)], main: &[Option<u64>]| {
            let init = init.iter().map(|(limit, sidecar)| container(Some(*limit), *sidecar));
            let main = main.iter().map(|limit| container(*limit, false));
            memory_of(&init.collect::<Vec<_>>(), &main.collect::<Vec<_>>())
        };
        assert_eq!(of(&[], &[Some(10), Some(20)]), Some(30));
        assert_eq!(of(&[(50, false), (40, false), (5, true)], &[Some(10)]), Some(55));
        assert_eq!(of(&[(5, true)], &[Some(10), None]), None);
    }
}
