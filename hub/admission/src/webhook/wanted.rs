//! Whether a webhook is asked about a write.

use std::sync::Arc;

use freewheel_hub_cel::UNITS_MAX;
use freewheel_hub_objects::Refusal;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;

use super::hook::Webhook;
use crate::admission::Admission;
use crate::attributes::Attributes;
use crate::index::Bounds;
use crate::policy::Seen;

impl Webhook {
    /// The version in which it is shown a write; nothing where it is not asked.
    pub(super) async fn wants(
        &self,
        admission: &Admission,
        asked: &Attributes<'_>,
        bounds: &Bounds,
    ) -> Result<Option<(Arc<Kind>, Seen)>, Refusal> {
        let registry = admission.kinds.of(&asked.review.target.cluster);
        let version = self
            .selection
            .of(asked, &registry)
            .map_err(|_| Refusal::Nowhere { namespace: asked.namespace.to_owned() })?;
        let Some(version) = version else { return Ok(None) };
        let seen = admission.seen_in(asked, &version).await?;
        if self.conditions.is_empty() {
            return Ok(Some((version, seen)));
        }
        let (conditions, of_conditions) = (self.conditions.clone(), seen.clone());
        let work = move || {
            let mut left = UNITS_MAX;
            conditions.hold(&of_conditions.scope(None, None), &mut left)
        };
        let holds = admission.turns.run(&bounds.turns, work).await;
        match holds.map_err(|error| Refusal::Status(Box::new(error)))? {
            Ok(true) => Ok(Some((version, seen))),
            Ok(false) => Ok(None),
            Err(why) => Err(Refusal::forbidden(why)),
        }
    }
}

pub(super) fn internal(why: impl std::fmt::Display) -> Refusal {
    Refusal::Status(Box::new(ApiError::internal(why)))
}
