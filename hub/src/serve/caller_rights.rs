//! What callers may do, as the controllers see it.

use async_trait::async_trait;
use freewheel_hub_apiserver::{CallerRights, WantedRight};
use freewheel_hub_controllers::rights::{RightAsked, Rights};

/// The API's authorizers.
pub struct CallersRights(pub CallerRights);

#[async_trait]
impl Rights for CallersRights {
    async fn may(&self, asked: RightAsked<'_>) -> bool {
        let RightAsked { cluster, user, groups, verb, group, resource, namespace, name } = asked;
        let wanted = WantedRight { user, groups, verb, group, resource, namespace, name };
        self.0.allow(cluster, &wanted).await
    }
}
