//! What keeps an object from being applied.
//!
//! Guarantees:
//! - conflicts take no more memory than what they are about, and no more is told of them than anybody reads
//!   (`many_conflicts_in_long_names_are_told_in_short`).

use freewheel_hub_schema::error::{ApiError, Cause, Details, MAX_CAUSES};

use crate::managers::{Manager, Operation};
use crate::path;
use crate::scalar;
use crate::set::Set;

/// Fields that somebody else owns, and that would become others.
#[derive(Clone, Debug)]
pub(crate) struct Conflict {
    pub(crate) manager: Manager,
    pub(crate) fields: Set,
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

/// Fields that somebody else owns.
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
    let count = conflicts.iter().map(|ConflictWith(one)| one.fields.len()).sum();
    let managers = by_manager(conflicts);
    let mut error = ApiError::new(409, "Conflict", message(&managers, count));
    let causes = managers.into_iter().flat_map(|(manager, fields)| {
        let message = format!("conflict with {}", shown(manager));
        let reason = "FieldManagerConflict".to_owned();
        let cause = move |field| Cause { reason: reason.clone(), message: message.clone(), field };
        fields.into_iter().map(cause)
    });
    error.details = Some(Box::new(Details { causes: causes.collect(), ..Details::default() }));
    error
}

/// Who owns which fields, as far as anybody is told.
fn by_manager(conflicts: &[ConflictWith]) -> Vec<(&Manager, Vec<String>)> {
    let mut left = MAX_CAUSES;
    let mut all = Vec::new();
    for ConflictWith(one) in conflicts {
        let mut fields = Vec::new();
        if left == 0 {
            break;
        }
        one.fields.each(&mut |path| {
            fields.push(path::shown(path.iter().copied()));
            left -= 1;
            left != 0
        });
        all.push((&one.manager, fields));
    }
    all
}

fn message(managers: &[(&Manager, Vec<String>)], count: usize) -> String {
    if let ([(manager, fields)], 1) = (managers, count) {
        let (who, what) = (shown(manager), fields.concat());
        return format!("Apply failed with 1 conflict: conflict with {who}: {what}");
    }
    let mut lines = Vec::new();
    for (manager, fields) in managers {
        lines.push(format!("conflicts with {}:", shown(manager)));
        lines.extend(fields.iter().map(|field| format!("- {field}")));
    }
    if MAX_CAUSES < count {
        lines.push(format!("and {} more", count - MAX_CAUSES));
    }
    format!("Apply failed with {count} conflicts: {}", lines.join("\n"))
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
