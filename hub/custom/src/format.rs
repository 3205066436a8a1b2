//! Formats that a schema may ask for. Those that Kubernetes does not know are not checked.

pub use freewheel_hub_cel::format::has;
use freewheel_hub_cel::format::is_of_text;

use crate::schema::Type;

/// Whether a format says anything of this type.
#[must_use]
pub fn is_checked(format: &str, of: Option<Type>) -> bool {
    match of {
        None | Some(Type::String) => is_of_text(format),
        Some(Type::Integer) => matches!(format, "int32" | "int64"),
        Some(Type::Number) => matches!(format, "float" | "double"),
        Some(Type::Object | Type::Array | Type::Boolean) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_checked_for_the_type_that_it_is_of() {
        assert!(is_checked("date-time", Some(Type::String)) && !is_checked("int32", None));
        assert!(is_checked("int32", Some(Type::Integer)) && !is_checked("x", Some(Type::String)));
    }
}
