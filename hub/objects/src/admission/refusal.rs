//! Why a write is not let in, and what its writer reads of it.

use freewheel_hub_schema::error::{ApiError, Cause, FieldError};
use serde_json::Value;

use crate::{ObjectRef, meta, refusal};

/// Why a write is not let in.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// 403: it may not be.
    Forbidden {
        /// The reason.
        why: String,
        /// What brought it about, for programs.
        causes: Vec<Cause>,
    },
    /// 404: what it is to lie in is not there.
    Nowhere {
        /// The namespace.
        namespace: String,
    },
    /// 404: what it names is not there.
    NotFound {
        /// API group.
        group: String,
        /// Plural resource.
        plural: String,
        /// Name.
        name: String,
    },
    /// 422: these fields are wrong.
    Invalid(Vec<FieldError>),
    /// Somebody's rule says no, with a code and a reason of its own.
    Denied {
        /// HTTP code.
        code: u16,
        /// `reason`
        reason: &'static str,
        /// Why, after which object is meant.
        why: String,
        /// What brought it about, for programs.
        causes: Vec<Cause>,
    },
    /// A Status that somebody else has made.
    Status(Box<ApiError>),
}

impl Refusal {
    /// 403 for this reason.
    #[must_use]
    pub fn forbidden(why: impl Into<String>) -> Self {
        Self::Forbidden { why: why.into(), causes: Vec::new() }
    }

    /// The Status that its writer gets. `object` may have no name yet.
    pub(super) fn status(self, target: &ObjectRef, object: &Value) -> ApiError {
        let kind = &target.kind;
        match self {
            Self::Forbidden { why, causes } => forbidden(target, object, &why, causes),
            Self::Denied { code, reason, why, causes } => {
                ApiError { code, reason, ..forbidden(target, object, &why, causes) }
            }
            Self::Status(status) => *status,
            Self::Nowhere { namespace } => ApiError::not_found("", "namespaces", &namespace),
            Self::NotFound { group, plural, name } => ApiError::not_found(&group, &plural, &name),
            Self::Invalid(errors) => {
                let name = meta::text(object, "name");
                ApiError::invalid(kind.group(), kind.kind(), name, &errors)
            }
        }
    }
}

fn forbidden(target: &ObjectRef, object: &Value, why: &str, causes: Vec<Cause>) -> ApiError {
    let texts = [&*target.name, meta::text(object, "name"), meta::text(object, "generateName")];
    let name = texts.into_iter().find(|name| !name.is_empty()).unwrap_or("Unknown");
    let target = ObjectRef { name: name.to_owned(), ..target.clone() };
    let mut error = refusal::forbidden(&target, why);
    if let Some(details) = &mut error.details {
        details.causes = causes;
    }
    error
}
