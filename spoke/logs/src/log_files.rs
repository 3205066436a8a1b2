//! Which log files pods have, so that they go with their pod.

use std::collections::HashMap;
use std::path::PathBuf;

/// Files of a container: of the start that runs and of the one before. The agent removes older ones.
const STARTS_KEPT: usize = 2;

/// Log files by pod, with the names of their containers; the newest of a container last.
#[derive(Debug, Default)]
pub struct KeptLogs(HashMap<String, Vec<(String, PathBuf)>>);

impl KeptLogs {
    /// A container is started and writes into this file.
    pub fn add(&mut self, pod: &str, container: &str, log: PathBuf) {
        let logs = self.0.entry(pod.to_owned()).or_default();
        let same = logs.iter().filter(|(of, _)| of == container).count();
        if STARTS_KEPT <= same
            && let Some(oldest) = logs.iter().position(|(of, _)| of == container)
        {
            logs.remove(oldest);
        }
        logs.push((container.to_owned(), log));
    }

    /// The file of the newest start of a container.
    #[must_use]
    pub fn newest(&self, pod: &str, container: &str) -> Option<PathBuf> {
        let of = |(name, log): &(String, PathBuf)| (name == container).then(|| log.clone());
        self.0.get(pod)?.iter().rev().find_map(of)
    }

    /// The files of a pod that is gone.
    pub fn take(&mut self, pod: &str) -> Vec<PathBuf> {
        let logs = self.0.remove(pod).unwrap_or_default();
        logs.into_iter().map(|(_, log)| log).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_files_of_each_container_are_kept() {
        let mut logs = KeptLogs::default();
        for start in 0..1000 {
            logs.add("pod", "crashes", format!("crashes/{start}").into());
        }
        logs.add("pod", "stays", "stays/0".into());
        logs.add("other", "crashes", "other/0".into());
        assert_eq!(logs.newest("pod", "crashes"), Some("crashes/999".into()));
        assert_eq!((logs.newest("pod", "c"), logs.newest("p", "stays")), (None, None));
        let kept = ["crashes/998", "crashes/999", "stays/0"].map(PathBuf::from);
        assert_eq!(logs.take("pod"), kept);
        assert!(logs.take("pod").is_empty());
    }
}
