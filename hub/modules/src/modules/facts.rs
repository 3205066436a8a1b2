//! What is known of the module behind an image, for who decides whether devices are to have it.

use std::collections::BTreeSet;

use super::Modules;
use crate::imports::imports;

/// Bytes of a module that is looked into.
const LOOKED_INTO_BYTES_MAX: u64 = 64 << 20;

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
        // Not more of them at a time than are looked into when they come.
        let _turn = self.inner.inspections.acquire().await;
        let inner = self.inner.clone();
        let look = move || {
            let bytes = inner.blobs.size(&component)?;
            let module = inner.blobs.read(&component, LOOKED_INTO_BYTES_MAX).ok();
            Some(Facts { bytes, imports: module.and_then(|module| imports(&module).ok()) })
        };
        tokio::task::spawn_blocking(look).await.ok()?
    }
}
