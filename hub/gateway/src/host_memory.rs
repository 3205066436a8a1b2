//! How much memory this process may have: the machine's, or what its group is given.

use std::path::{Component, Path};

/// What is taken for granted where nothing says.
const ASSUMED_MEMORY_BYTES: u64 = 1 << 30;

/// Bytes.
#[must_use]
pub fn host_memory() -> u64 {
    below(Path::new("/")).unwrap_or(ASSUMED_MEMORY_BYTES)
}

fn below(root: &Path) -> Option<u64> {
    let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let machine = machine(&text(&root.join("proc/meminfo")));
    let groups = text(&root.join("proc/self/cgroup"));
    // The one hierarchy of version 2.
    let group = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let mut place = root.join("sys/fs/cgroup");
    let mut least = machine;
    let own = Path::new(group).components().filter(|part| matches!(part, Component::Normal(_)));
    for part in std::iter::once(None).chain(own.map(Some)) {
        place.extend(part);
        // `max`, which is no number: it may have all.
        let limit: Option<u64> = text(&place.join("memory.max")).trim().parse().ok();
        least = least.into_iter().chain(limit).min();
    }
    least
}

fn machine(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_group_that_is_given_less_than_the_machine_has_counts() {
        let machine = ("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");
        let group = ("proc/self/cgroup", "0::/system.slice/hub.service\n");
        let max = "sys/fs/cgroup/system.slice/memory.max";
        let own = "sys/fs/cgroup/system.slice/hub.service/memory.max";
        let of = |files: &[(&str, &str)]| below(root(files).path());
        assert_eq!(of(&[machine]), Some(8 << 30));
        assert_eq!(of(&[machine, group, (max, "max\n"), (own, "1073741824\n")]), Some(1 << 30));
        assert_eq!(of(&[machine, group, (max, "536870912\n"), (own, "max\n")]), Some(512 << 20));
        assert_eq!(of(&[machine, ("sys/fs/cgroup/memory.max", "1048576")]), Some(1 << 20));
        assert_eq!(of(&[]), None);
    }
}
