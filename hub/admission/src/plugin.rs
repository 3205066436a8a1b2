//! The places at which a write is looked at: while it is changed, policies before webhooks; and before it is kept, policies
//! before webhooks again.

use std::sync::Arc;

use freewheel_hub_objects::Objects;

use crate::admission::Admission;
use crate::asker::Authorizer;
use crate::index::Index;
use crate::policy::{MutatingPolicies, ValidatingPolicies};
use crate::turns::Turns;
use crate::webhook::{Caller, Calls, MutatingWebhooks, ValidatingWebhooks};

/// The same pipeline, in which policies and webhooks of each cluster have a say.
#[must_use]
pub fn add_to(
    objects: Objects,
    index: Arc<Index>,
    authorizer: Arc<dyn Authorizer>,
    caller: Option<Arc<dyn Caller>>,
) -> Objects {
    let (kinds, turns, calls) = (objects.kinds().clone(), Turns::default(), Calls::over(caller));
    let admission = Arc::new(Admission { index, kinds, authorizer, turns, calls });
    objects
        .admitting(Arc::new(MutatingPolicies(admission.clone())))
        .admitting(Arc::new(MutatingWebhooks(admission.clone())))
        .admitting(Arc::new(ValidatingPolicies(admission.clone())))
        .admitting(Arc::new(ValidatingWebhooks(admission)))
}
