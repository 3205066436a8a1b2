//! A pod's volumes: made before its first container, kept in step with configuration, mounted per container.
//!
//! Guarantees:
//! - a path out of a record never leaves the pod's directory (`what_cannot_be_mounted_is_said_in_kubelets_words`,
//!   `nothing_leaves_its_volume`, `nothing_that_could_leave_its_directory_is_a_name`,
//!   `a_single_file_is_never_one_outside_of_its_volume`);
//! - a mounted ConfigMap or Secret is read-only (`configuration_is_mounted_and_follows_changes`) and changes at once
//!   (`a_set_of_files_changes_at_once_and_leaves_nothing_behind`);
//! - what shows the pod itself follows it, alone or beside configuration
//!   (`what_the_pod_is_is_shown_beside_configuration_and_follows_it`), and the node, where it shows what that has
//!   (`what_is_shown_of_the_node_follows_it`);
//! - a single file mounted by `subPath` is the one that stood there at the start, as with Kubernetes
//!   (`single_files_come_in_a_directory_of_their_own`), and takes no room and no time of its own
//!   (`a_single_file_takes_no_more_room_however_often_it_is_shown`);
//! - what a pod shows of configuration is bounded, and made in a time that goes with its size: what is to be in the
//!   volumes is found out on the agent's thread ([`plan`]), and written beside it ([`PlannedVolumes::write`])
//!   (`configuration_of_many_keys_is_made_or_refused_at_once`);
//! - what a container is given is opened here: no path is looked up again
//!   (`what_is_mounted_stays_what_it_was_wherever_its_name_leads`), and nothing before it has a place among the files
//!   that the pod may open (`nothing_is_opened_before_it_has_a_place`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use freewheel_link::plan::{
    ContainerV1, DownwardSourceV1, DownwardV1, EnvSourceV1, Kind, MountV1, PodV1, ProjectedV1,
    ProjectionV1, VolumeSourceV1, VolumeV1,
};

use crate::configs::Configs;
use crate::env::{EnvSources, field, not_found, resource};
use crate::files::{File, Files, stays_inside};
use crate::host_dir::{Entered, HostDir};

/// Files with configuration in all volumes of a pod, those included that a later one takes the place of, and the
/// directories in their paths: each costs some calls to a slow card, for which other pods wait, and inodes that are on
/// nobody's account.
const CONFIG_FILES_MAX: usize = 10_000;
/// Their bytes: as many as the hub sends a device for all of its pods.
const CONFIG_BYTES_MAX: usize = 32 << 20;

/// A directory that a guest sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The directory itself.
    pub dir: HostDir,
    /// Where the guest finds it.
    pub guest: String,
    /// Whether the guest may change nothing in it.
    pub read_only: bool,
}

/// Where the directories of all pods are, under the data directory.
pub const PODS: &str = "pods";

/// Where the logs of a pod are, in its directory.
const LOGS: &str = "logs";

/// Everything of one pod on this spoke's disk. The UID was checked on admission.
#[must_use]
pub fn pod_dir(data: &Path, uid: &str) -> PathBuf {
    data.join(PODS).join(uid)
}

/// The log of one start of a container.
#[must_use]
pub fn log_path(data: &Path, uid: &str, container: &str, attempt: u32) -> PathBuf {
    log_dir(data, uid, container).join(format!("{attempt}.log"))
}

/// The logs of all starts of a container.
#[must_use]
pub fn log_dir(data: &Path, uid: &str, container: &str) -> PathBuf {
    pod_dir(data, uid).join(LOGS).join(container)
}

/// Where the older half of a log is set aside to.
#[must_use]
pub fn log_aside(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// The start that a log file is of. An agent that was killed while it set a full log aside has left that half alone.
#[must_use]
pub fn attempt_of(file: &str) -> Option<u32> {
    file.strip_suffix(".1").unwrap_or(file).strip_suffix(".log")?.parse().ok()
}

/// A start of a container of which there is a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedStart {
    /// Which.
    pub attempt: u32,
    /// It has written something, so it came to run. The log of one that was about to is empty.
    pub wrote: bool,
}

impl LoggedStart {
    /// The newer of two; of one start, what both files of its log say.
    const fn or_newer(self, other: Self) -> Self {
        if self.attempt < other.attempt || (self.attempt == other.attempt && other.wrote) {
            other
        } else {
            self
        }
    }
}

/// The newest start of each container of a pod of which there is a log.
///
/// # Errors
/// When the disk does not answer.
pub fn logged_starts(
    files: &dyn Files,
    data: &Path,
    uid: &str,
) -> io::Result<BTreeMap<String, LoggedStart>> {
    let mut out = BTreeMap::new();
    let logs = pod_dir(data, uid).join(LOGS);
    for container in files.dirs_in(&logs)? {
        let all = files.files_in(&logs.join(&container))?;
        let starts = all.iter().filter_map(|(file, bytes)| {
            Some(LoggedStart { attempt: attempt_of(file)?, wrote: 0 < *bytes })
        });
        if let Some(newest) = starts.reduce(LoggedStart::or_newer) {
            out.insert(container, newest);
        }
    }
    Ok(out)
}

/// The directory of one volume.
#[must_use]
pub fn volume_dir(data: &Path, uid: &str, volume: &str) -> PathBuf {
    volumes_dir(data, uid).join(volume)
}

/// The directories of all volumes of a pod.
#[must_use]
pub fn volumes_dir(data: &Path, uid: &str) -> PathBuf {
    pod_dir(data, uid).join("volumes")
}

/// Single files out of volumes, by container.
#[must_use]
pub fn shown_dir(data: &Path, uid: &str) -> PathBuf {
    pod_dir(data, uid).join("subpaths")
}

/// Whether a volume is the pod's own to fill.
#[must_use]
pub const fn is_own(volume: &VolumeV1) -> bool {
    matches!(volume.source, VolumeSourceV1::EmptyDir(_))
}

/// What is to be in the volumes of a pod, up to the first that cannot be made.
pub struct PlannedVolumes {
    uid: String,
    /// Each by its name, with its files; `None`: it is the pod's own to fill.
    volumes: Vec<(String, Option<Vec<File>>)>,
    /// Why there are no more of them.
    failed: Option<String>,
    bytes: usize,
}

/// Finds out what is to be in the volumes of a pod.
#[must_use]
pub fn plan(around: &EnvSources<'_>) -> PlannedVolumes {
    let (mut volumes, mut failed) = (Vec::new(), None);
    let mut making = Making { around, configs: Configs::new(around.config), files: 0, bytes: 0 };
    for volume in &around.pod.volumes {
        match making.contents(volume) {
            Ok(contents) => volumes.push((volume.name.clone(), contents.map(files_of))),
            Err(error) => {
                failed = Some(set_up_failed(&volume.name, &error));
                break;
            }
        }
    }
    PlannedVolumes { uid: around.pod.uid.clone(), volumes, failed, bytes: making.bytes }
}

fn files_of(set: Set) -> Vec<File> {
    let file = |(path, (bytes, mode))| File { path, bytes, mode };
    set.into_iter().map(file).collect()
}

fn set_up_failed(volume: &str, error: &dyn std::fmt::Display) -> String {
    format!("MountVolume.SetUp failed for volume {volume:?} : {error}")
}

impl PlannedVolumes {
    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.volumes.is_empty()
    }

    /// About the bytes that it holds.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the volumes, or brings those with configuration up to date.
    ///
    /// # Errors
    /// With kubelet's text for the first volume that cannot be made.
    pub fn write(self, files: &dyn Files, data: &Path) -> Result<(), String> {
        for (name, contents) in self.volumes {
            let dir = volume_dir(data, &self.uid, &name);
            let written = match contents {
                None => files.make_dir(&dir),
                Some(set) => files.write_set(&dir, &set),
            };
            written.map_err(|error| set_up_failed(&name, &error))?;
        }
        self.failed.map_or(Ok(()), Err)
    }
}

/// The volumes of one pod while it is found out what is in them.
struct Making<'a> {
    around: &'a EnvSources<'a>,
    configs: Configs<'a>,
    /// Names and bytes so far.
    files: usize,
    bytes: usize,
}

/// Contents and permission bits by path.
type Set = BTreeMap<String, (Vec<u8>, u32)>;

impl Making<'_> {
    /// The files of a volume; `None` when it is the pod's own to fill.
    fn contents(&mut self, volume: &VolumeV1) -> Result<Option<Set>, String> {
        let mut out = Set::new();
        match &volume.source {
            VolumeSourceV1::EmptyDir(_) => return Ok(None),
            VolumeSourceV1::Config(one) => self.project(one, &mut out)?,
            VolumeSourceV1::Projected(many) => {
                for one in many {
                    match one {
                        ProjectionV1::Config(one) => self.project(one, &mut out)?,
                        ProjectionV1::Downward(one) => self.show(one, &mut out)?,
                    }
                }
            }
            VolumeSourceV1::Downward(one) => self.show(one, &mut out)?,
        }
        Ok(Some(out))
    }

    /// What the pod itself is.
    fn show(&mut self, from: &DownwardV1, out: &mut Set) -> Result<(), String> {
        for file in &from.files {
            let value = match &file.source {
                DownwardSourceV1::Field(path) => field(self.around, path)?,
                DownwardSourceV1::Resource(of, what, divisor) => {
                    resource(self.around, of, what, divisor)?
                }
            };
            self.add(out, &file.path, value.as_bytes(), file.mode.unwrap_or(from.mode))?;
        }
        Ok(())
    }

    fn project(&mut self, from: &ProjectedV1, out: &mut Set) -> Result<(), String> {
        let Some(config) = self.configs.get(from.kind, &from.name) else {
            return if from.optional { Ok(()) } else { Err(not_found(from.kind, &from.name)) };
        };
        if from.items.is_empty() {
            return config.iter().try_for_each(|(key, bytes)| self.add(out, key, bytes, from.mode));
        }
        for (key, path, mode) in &from.items {
            match config.value(key) {
                Some(bytes) => self.add(out, path, bytes, mode.unwrap_or(from.mode))?,
                None if from.optional => {}
                None => {
                    if from.kind == Kind::POD_TOKENS_V1 {
                        return Err(not_found(from.kind, &from.name));
                    }
                    let what = if from.kind == Kind::SECRET_V1 { "secret" } else { "configmap" };
                    return Err(format!("{what} references non-existent config key: {key}"));
                }
            }
        }
        Ok(())
    }

    /// The later of two files with one path wins, as in a projected volume.
    fn add(&mut self, out: &mut Set, path: &str, bytes: &[u8], mode: u32) -> Result<(), String> {
        if !stays_inside(path) {
            return Err(format!("path {path:?} leaves the volume"));
        }
        let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
        self.files += names.len().max(1);
        self.bytes += bytes.len();
        if CONFIG_FILES_MAX < self.files || CONFIG_BYTES_MAX < self.bytes {
            return Err(format!(
                "the pod's volumes show more configuration than a device makes: {CONFIG_FILES_MAX} files and directories, \
                 {CONFIG_BYTES_MAX} bytes"
            ));
        }
        out.insert(names.join("/"), (bytes.to_vec(), mode));
        Ok(())
    }
}

/// Whether anything of the pod is made of this ConfigMap or Secret.
#[must_use]
pub fn names_config(pod: &PodV1, kind: Kind, name: &str) -> bool {
    let is_it = |from: &ProjectedV1| from.kind == kind && from.name == name;
    let in_volumes = pod.volumes.iter().any(|volume| match &volume.source {
        VolumeSourceV1::Config(from) => is_it(from),
        VolumeSourceV1::Projected(all) => all.iter().any(|one| match one {
            ProjectionV1::Config(from) => is_it(from),
            ProjectionV1::Downward(_) => false,
        }),
        VolumeSourceV1::EmptyDir(_) | VolumeSourceV1::Downward(_) => false,
    });
    in_volumes
        || pod.init.iter().chain(&pod.containers).any(|container| {
            let whole =
                container.env_from.iter().any(|from| from.kind == kind && from.name == name);
            whole
                || container.env.iter().any(|variable| match &variable.source {
                    EnvSourceV1::Key { kind: of, name: from, .. } => *of == kind && from == name,
                    EnvSourceV1::Value(_) | EnvSourceV1::Field(_) | EnvSourceV1::Resource(..) => {
                        false
                    }
                })
        })
}

/// Whether a volume shows what containers may have, which may be all that the node has.
#[must_use]
pub fn shows_resources(pod: &PodV1) -> bool {
    let has = |one: &DownwardV1| {
        one.files.iter().any(|file| matches!(file.source, DownwardSourceV1::Resource(..)))
    };
    pod.volumes.iter().any(|volume| match &volume.source {
        VolumeSourceV1::Downward(one) => has(one),
        VolumeSourceV1::Projected(all) => all.iter().any(|one| match one {
            ProjectionV1::Downward(one) => has(one),
            ProjectionV1::Config(_) => false,
        }),
        VolumeSourceV1::EmptyDir(_) | VolumeSourceV1::Config(_) => false,
    })
}

/// Whether a volume shows configuration.
#[must_use]
pub fn shows_config(pod: &PodV1) -> bool {
    pod.volumes.iter().any(|volume| !is_own(volume))
}

/// The directories that one container sees, in the order of its mounts. WASI mounts directories only: a single file
/// shows up in a directory of its own, in place of the one above its mount path.
///
/// # Errors
/// With the cause when a mount names no volume or a path that leaves it.
pub fn mounts(
    files: &dyn Files,
    data: &Path,
    pod: &PodV1,
    container: &ContainerV1,
) -> Result<Vec<Mount>, String> {
    let mut out: Vec<Mount> = Vec::new();
    for mount in &container.mounts {
        let volume = pod
            .volumes
            .iter()
            .find(|volume| volume.name == mount.volume)
            .ok_or_else(|| format!("volume {:?} is not in the pod", mount.volume))?;
        let ours = !is_own(volume);
        let dir = volume_dir(data, &pod.uid, &volume.name);
        let read_only = mount.read_only || ours;
        let guest = mount.path.clone();
        if mount.sub_path.is_empty() {
            let dir = files.open(&dir).map_err(|error| {
                format!("failed to open volume {:?} for mounting: {error}", mount.volume)
            })?;
            out.push(Mount { dir, guest, read_only });
            continue;
        }
        let failed = |error: io::Error| {
            format!("failed to prepare subPath for volumeMount {:?}: {error}", mount.volume)
        };
        match files.enter(&dir, &mount.sub_path, ours).map_err(failed)? {
            Entered::Dir(dir) => out.push(Mount { dir, guest, read_only }),
            Entered::File(file) => {
                let home = shown_dir(data, &pod.uid).join(&container.name);
                let shown = show_file(files, &home, mount, &file, &mut out);
                shown.map_err(failed)?;
            }
        }
    }
    Ok(out)
}

/// Links a single file into the directory that stands for the parent of its mount path.
fn show_file(
    files: &dyn Files,
    home: &Path,
    mount: &MountV1,
    file: &std::fs::File,
    out: &mut Vec<Mount>,
) -> io::Result<()> {
    let trimmed = mount.path.trim_end_matches('/');
    let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    let parent = if parent.is_empty() { "/" } else { parent };
    if !crate::admission::is_path_segment(name) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "bad mountPath"));
    }
    let known =
        out.iter().find(|known| known.guest == parent && known.dir.path().starts_with(home));
    let dir = match known {
        Some(known) => known.dir.path().to_owned(),
        None => {
            let path = home.join(out.len().to_string());
            files.make_dir(&path)?;
            let dir = files.open(&path)?;
            out.push(Mount { dir, guest: parent.to_owned(), read_only: true });
            path
        }
    };
    files.link(file, &dir.join(name))
}

#[cfg(test)]
mod tests;
