//! What keeps an object from being applied.

use freewheel_hub_schema::error::{ApiError, Cause, Details};

use crate::managers::{Manager, Operation};
use crate::path::{self, PathElement};
use crate::scalar;

/// A field that somebody else owns, and that would become another.
#[derive(Clone, Debug)]
pub(crate) struct Conflict {
    pub(crate) manager: Manager,
    pub(crate) path: Vec<PathElement>,
}

/// Why an object is not applied.
#[derive(Debug)]
pub enum NotApplied {
    /// It is not what may be applied here: 400.
    BadRequest(String),
    /// It, or what is stored, does not fit its schema: 500, as kube-apiserver has it.
    DoesNotFit(String),
    /// Others own what it would change: 409.
    Conflicts(Vec<ConflictWith>),
}

/// A field that somebody else owns.
#[derive(Debug)]
pub struct ConflictWith(pub(crate) Conflict);

impl From<NotApplied> for ApiError {
    fn from(why: NotApplied) -> Self {
        match why {
            NotApplied::BadRequest(message) => Self::bad_request(message),
            NotApplied::DoesNotFit(message) => Self::new(500, "", message),
            NotApplied::Conflicts(conflicts) => of_conflicts(&conflicts),
        }
    }
}

fn of_conflicts(conflicts: &[ConflictWith]) -> ApiError {
    let mut error = ApiError::new(409, "Conflict", message(conflicts));
    let causes = conflicts.iter().map(|ConflictWith(one)| Cause {
        reason: "FieldManagerConflict".to_owned(),
        message: format!("conflict with {}", shown(&one.manager)),
        field: path::shown(&one.path),
    });
    error.details = Some(Box::new(Details { causes: causes.collect(), ..Details::default() }));
    error
}

fn message(conflicts: &[ConflictWith]) -> String {
    if let [ConflictWith(one)] = conflicts {
        let (who, what) = (shown(&one.manager), path::shown(&one.path));
        return format!("Apply failed with 1 conflict: conflict with {who}: {what}");
    }
    let mut lines = Vec::new();
    let mut last: Option<&Manager> = None;
    for ConflictWith(one) in conflicts {
        if !last.is_some_and(|last| last.is(&one.manager)) {
            lines.push(format!("conflicts with {}:", shown(&one.manager)));
        }
        lines.push(format!("- {}", path::shown(&one.path)));
        last = Some(&one.manager);
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

fn shown(manager: &Manager) -> String {
    let mut text = scalar::shown(&manager.name.as_str().into());
    if !manager.subresource.is_empty() {
        text.push_str(&format!(
            " with subresource {}",
            scalar::shown(&manager.subresource.as_str().into())
        ));
    }
    if manager.operation == Operation::Update {
        text.push_str(&format!(" using {}", manager.api_version));
    }
    text
}
