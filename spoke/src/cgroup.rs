//! What the control groups of this process leave to it, version 2 and version 1.
//!
//! The limits of a group hold for all below it, so a process has the least of its own group's and of all above.
//! In a container the path that the kernel names may be that of the host: groups that are not to be seen from
//! here say nothing, and the mount's root, which is the container's own group, is always asked.
//!
//! Guarantees:
//! - nothing outside of the root's `proc` and `sys` is read, whatever a path says
//!   (`a_container_finds_its_limits_at_the_mount`).

use std::path::{Component, Path, PathBuf};

/// Where both versions are mounted, as systemd, Docker and containerd do it.
const MOUNT: &str = "sys/fs/cgroup";

/// The bounds of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Bytes of memory; `None`: no limit but the machine's.
    pub(crate) memory: Option<u64>,
    /// Thousandths of a core, rounded up; `None`: no quota.
    pub(crate) cpu_milli: Option<u32>,
    /// Bytes of memory that are left below the limit, without caches that the kernel would give up first.
    pub(crate) memory_left: Option<u64>,
}

/// Reads the bounds of this process, with `/proc` and `/sys` below `root`.
pub(crate) fn bounds(root: &Path) -> Bounds {
    let text = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut out = Bounds::default();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if controllers.is_empty() {
            for group in groups(&root.join(MOUNT), path) {
                version_2(&group, &mut out);
            }
            continue;
        }
        for controller in controllers.split(',') {
            for group in groups(&root.join(MOUNT).join(controller), path) {
                match controller {
                    "memory" => memory_1(&group, &mut out),
                    "cpu" => cpu_1(&group, &mut out),
                    _ => {}
                }
            }
        }
    }
    out
}

/// The mount and every group on the way to `path`, as far as they are there.
fn groups(mount: &Path, path: &str) -> Vec<PathBuf> {
    let mut group = mount.to_owned();
    let mut all = vec![group.clone()];
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => group.push(name),
            // A group outside of what this process may see.
            Component::ParentDir => return all,
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
        }
        if group.is_dir() {
            all.push(group.clone());
        }
    }
    all
}

fn version_2(group: &Path, out: &mut Bounds) {
    if let Some(limit) = number(group, "memory.max") {
        let (used, stat) = (number(group, "memory.current"), "memory.stat");
        limit_memory(out, limit, left(group, limit, used, stat, "inactive_file"));
    }
    let max = text(group, "cpu.max");
    if let Some((quota, period)) = max.as_deref().and_then(|max| max.trim().split_once(' '))
        && let (Ok(quota), Ok(period)) = (quota.parse(), period.trim().parse())
    {
        limit_cpu(out, quota, period);
    }
}

fn memory_1(group: &Path, out: &mut Bounds) {
    // Without a limit this is the largest number of whole pages: more than any machine has.
    if let Some(limit) = number(group, "memory.limit_in_bytes").filter(|limit| *limit < 1 << 60) {
        let used = number(group, "memory.usage_in_bytes");
        limit_memory(out, limit, left(group, limit, used, "memory.stat", "total_inactive_file"));
    }
}

fn cpu_1(group: &Path, out: &mut Bounds) {
    // -1, which is no number here: no quota.
    if let (Some(quota), Some(period)) =
        (number(group, "cpu.cfs_quota_us"), number(group, "cpu.cfs_period_us"))
    {
        limit_cpu(out, quota, period);
    }
}

fn limit_memory(out: &mut Bounds, limit: u64, left: Option<u64>) {
    out.memory = Some(out.memory.map_or(limit, |have| have.min(limit)));
    if let Some(left) = left {
        out.memory_left = Some(out.memory_left.map_or(left, |have| have.min(left)));
    }
}

/// What is left of a limit, as kubelet counts a working set.
fn left(group: &Path, limit: u64, used: Option<u64>, stat: &str, cache: &str) -> Option<u64> {
    let stat = text(group, stat).unwrap_or_default();
    let cached = stat.lines().find_map(|line| line.strip_prefix(cache)?.trim().parse().ok());
    Some(limit.saturating_sub(used?.saturating_sub(cached.unwrap_or(0))))
}

fn limit_cpu(out: &mut Bounds, quota: u64, period: u64) {
    let Some(milli) = quota.checked_mul(1000).filter(|_| 0 < period) else { return };
    let milli = u32::try_from(milli.div_ceil(period)).unwrap_or(u32::MAX).max(1);
    out.cpu_milli = Some(out.cpu_milli.map_or(milli, |have| have.min(milli)));
}

fn text(group: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(group.join(file)).ok()
}

fn number(group: &Path, file: &str) -> Option<u64> {
    text(group, file)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], memory: Option<u64>, cpu_milli: Option<u32>) {
        let found = bounds(root(files).path());
        assert_eq!((found.memory, found.cpu_milli), (memory, cpu_milli), "{files:?}");
    }

    #[test]
    fn without_groups_or_limits_there_are_no_bounds() {
        check(&[], None, None);
        let open = [
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.max", "max\n"),
            ("sys/fs/cgroup/a/cpu.max", "max 100000\n"),
        ];
        check(&open, None, None);
    }

    #[test]
    fn the_least_of_a_group_and_those_above_holds() {
        let files = [
            ("proc/self/cgroup", "0::/system.slice/spoke.service\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/system.slice/cpu.max", "400000 100000\n"),
            ("sys/fs/cgroup/system.slice/spoke.service/memory.max", "2147483648\n"),
            ("sys/fs/cgroup/system.slice/spoke.service/cpu.max", "150001 100000\n"),
        ];
        check(&files, Some(1 << 30), Some(1501));
    }

    #[test]
    fn a_container_finds_its_limits_at_the_mount() {
        let version_2 = [
            ("proc/self/cgroup", "0::/../../../other\n"),
            ("sys/fs/cgroup/memory.max", "536870912"),
            ("other/memory.max", "1"),
        ];
        check(&version_2, Some(512 << 20), None);
        let version_1 = [
            ("proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        check(&version_1, Some(256 << 20), Some(500));
    }

    #[test]
    fn what_version_1_writes_for_no_limit_is_none() {
        let files = [
            ("proc/self/cgroup", "4:memory:/\n1:cpu:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        check(&files, None, None);
    }

    #[test]
    fn what_is_not_understood_bounds_nothing() {
        let files = [
            ("proc/self/cgroup", "nonsense\n0::/a\n"),
            ("sys/fs/cgroup/a/memory.max", "plenty"),
            ("sys/fs/cgroup/a/cpu.max", "100 0"),
        ];
        check(&files, None, None);
    }

    #[test]
    fn caches_count_as_left() {
        let files = [
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1000"),
            ("sys/fs/cgroup/memory.current", "900"),
            ("sys/fs/cgroup/memory.stat", "anon 300\ninactive_file 600\n"),
        ];
        assert_eq!(bounds(root(&files).path()).memory_left, Some(700));
    }
}
