//! Why a write was refused, in the words of the Kubernetes API.

use freewheel_hub_schema::error::{ApiError, Details, FieldError};

use super::{OVERTAKEN, ObjectRef};
use freewheel_hub_store::CommitError;
use freewheel_link::names::ClusterName;

const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// 404 for the place.
pub(super) fn not_found(target: &ObjectRef) -> ApiError {
    ApiError::not_found(target.kind.group(), target.kind.plural(), &target.name)
}

/// 409: the name is taken.
pub(super) fn already_exists(target: &ObjectRef) -> ApiError {
    ApiError::already_exists(target.kind.group(), target.kind.plural(), &target.name)
}

/// 409: somebody else was faster.
pub(super) fn modified(target: &ObjectRef) -> ApiError {
    conflict(target, MODIFIED)
}

/// 409 with a reason.
pub(super) fn conflict(target: &ObjectRef, why: &str) -> ApiError {
    ApiError::conflict(target.kind.group(), target.kind.plural(), &target.name, why)
}

/// 409: it is another object of that name.
pub(super) fn other_uid(target: &ObjectRef, wanted: &str, found: &str) -> ApiError {
    conflict(
        target,
        &format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"),
    )
}

/// 409: a delete's resourceVersion precondition.
pub(super) fn other_revision(target: &ObjectRef, wanted: u64, found: u64) -> ApiError {
    conflict(
        target,
        &format!(
            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {found}"
        ),
    )
}

/// 422: a PUT that does not say what it replaces. It names the resource, not the kind, as kube-apiserver does here.
pub(super) fn unconditional(target: &ObjectRef) -> ApiError {
    let error = FieldError {
        reason: "FieldValueInvalid",
        field: "metadata.resourceVersion".to_owned(),
        message: "Invalid value: 0x0: must be specified for an update".to_owned(),
    };
    ApiError::invalid(target.kind.group(), target.kind.plural(), &target.name, &[error])
}

/// 403 with a reason.
pub(super) fn forbidden(target: &ObjectRef, why: &str) -> ApiError {
    let group = target.kind.group();
    let dot = if group.is_empty() { "" } else { "." };
    let resource = target.kind.plural();
    let message = format!("{resource}{dot}{group} {:?} is forbidden: {why}", target.name);
    let mut error = ApiError::new(403, "Forbidden", message);
    error.details = Some(Box::new(Details {
        name: target.name.clone(),
        group: group.to_owned(),
        kind: resource.to_owned(),
        ..Details::default()
    }));
    error
}

/// Why a transaction was not committed.
pub(super) enum NotCommitted {
    /// What its writer looked at first is not so any more.
    Overtaken,
    /// The store's own reason.
    Store(CommitError),
}

impl From<CommitError> for NotCommitted {
    fn from(error: CommitError) -> Self {
        Self::Store(error)
    }
}

impl NotCommitted {
    /// Somebody else has changed what the transaction is about: a next try may succeed.
    pub(super) const fn is_race(&self) -> bool {
        matches!(self, Self::Store(CommitError::Unmet { .. }))
    }

    /// In the API's words.
    pub(super) fn of(&self, target: &ObjectRef) -> ApiError {
        match self {
            Self::Overtaken => {
                let text = format!(
                    "{} {:?} is not written: what it was to be written for is gone, or another by now",
                    target.kind.plural(),
                    target.name
                );
                ApiError::new(409, OVERTAKEN, text)
            }
            Self::Store(error) => of_commit(error, target),
        }
    }
}

/// What the store said, but for expectations that do not hold: those have a meaning of their own.
fn of_commit(error: &CommitError, target: &ObjectRef) -> ApiError {
    match error {
        CommitError::Unmet { .. } => modified(target),
        CommitError::TooLarge(why) => {
            ApiError::new(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
        }
        CommitError::ClusterFull { cluster, held, most, .. } => full(target, cluster, *held, *most),
        CommitError::Malformed(_) => ApiError::internal(error),
        CommitError::Busy => unavailable("as many writes wait for its disk as may wait; try again"),
        CommitError::Unavailable(why) => unavailable(why),
        CommitError::Stopped => unavailable("its writer has stopped"),
    }
}

/// 507, as for a full disk. Of a full etcd kube-apiserver answers 500 without a reason, which no client can tell from a
/// mistake of the server's.
fn full(target: &ObjectRef, cluster: &ClusterName, held: u64, most: u64) -> ApiError {
    let text = format!(
        "{} {:?} is not written: cluster {:?} has {held} bytes stored of {most} that it may have: delete something, or \
         have its quota raised (--cluster-quota-bytes of the hub)",
        target.kind.plural(),
        target.name,
        cluster.as_str(),
    );
    ApiError::new(507, "InsufficientStorage", text)
}

fn unavailable(why: &str) -> ApiError {
    ApiError::busy(format!("the store cannot write at the moment: {why}"))
}
