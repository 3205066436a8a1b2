//! Where modules come from: the hub, or a test.

use async_trait::async_trait;
use freewheel_link::digest::Digest;
use freewheel_link::message::ModuleHeaderV1;
use freewheel_link::profile::Profile;
use freewheel_spoke_agent::uplink::{FetchError, Handle, Sink};

/// A source of compiled modules.
#[async_trait]
pub trait Fetch: Send + Sync + 'static {
    /// Fills the sink with all compressed bytes of a component's artifact; waits for the hub as long as it takes.
    async fn fetch(
        &self,
        component: Digest,
        profile: Profile,
        sink: &mut dyn Sink,
    ) -> Result<ModuleHeaderV1, FetchError>;
}

#[async_trait]
impl Fetch for Handle {
    async fn fetch(
        &self,
        component: Digest,
        profile: Profile,
        sink: &mut dyn Sink,
    ) -> Result<ModuleHeaderV1, FetchError> {
        let mut rng = fastrand::Rng::new();
        Self::fetch(self, component, profile, sink, &mut rng).await
    }
}
