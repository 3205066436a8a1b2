//! What is known of the module behind an image, for who decides whether devices are to have it.
//!
//! Guarantees:
//! - a module is looked into once, however often it is asked for, and one that is damaged once in a minute
//!   (`what_a_module_takes_and_asks_for_is_known`).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Modules;
use crate::imports::imports;

/// Bytes of a module that is looked into.
const LOOKED_INTO_BYTES_MAX: u64 = 64 << 20;
/// So long is remembered that one cannot be looked into: somebody may put it back.
const FAILURE_REMEMBERED: Duration = Duration::from_secs(60);
/// Modules of which is remembered what they import: names of interfaces that pods are given, of which there are not many.
const REMEMBERED_MAX: usize = 1024;

/// What is known of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its size in bytes, as it was pushed.
    pub bytes: u64,
    /// Interfaces that it imports, without their versions; `None` where it is damaged or has more than 64 MiB.
    pub imports: Option<BTreeSet<String>>,
}

impl Modules {
    /// Of the module that an image's reference stands for; `None`: it is not in the registry.
    pub async fn facts(&self, reference: &str) -> Option<Facts> {
        let (repository, name) = self.inner.own(&reference.parse().ok()?).ok()?;
        let component = self.inner.tags.get(&repository, &name)?.component()?;
        let bytes = self.inner.blobs.size(&component)?;
        let known = self.inner.imports.lock().get(&component).cloned();
        if let Some((at, imports)) = known
            && (imports.is_some() || at.elapsed() < FAILURE_REMEMBERED)
        {
            return Some(Facts { bytes, imports });
        }
        if LOOKED_INTO_BYTES_MAX < bytes {
            return Some(Facts { bytes, imports: None });
        }
        // Not more of them at a time than are looked into when they come.
        let _turn = self.inner.inspections.acquire().await;
        let inner = self.inner.clone();
        let look = move || {
            let module = inner.blobs.read(&component, LOOKED_INTO_BYTES_MAX).ok()?;
            imports(&module).ok()
        };
        let found = tokio::task::spawn_blocking(look).await.ok()?;
        let mut all = self.inner.imports.lock();
        if REMEMBERED_MAX <= all.len() {
            all.clear();
        }
        all.insert(component, (Instant::now(), found.clone()));
        Some(Facts { bytes, imports: found })
    }
}
