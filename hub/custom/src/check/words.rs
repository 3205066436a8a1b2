//! What is said of a value, in the words of kube-openapi's validator.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::path::Path;
use serde_json::{Value, json};

/// Mistakes of an object: more than anybody is told.
const MISTAKES_MAX: usize = 1_000;
/// Bytes of the values that are told of those that there may be.
const SUPPORTED_BYTES_MAX: usize = 2 << 10;

/// What a check came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) mistakes: Vec<Mistake>,
    /// How much was right: of several schemas that might fit, the mistakes of the one are told that fits best.
    pub(super) matched: usize,
}

/// A mistake, by its place under the value that is checked.
#[derive(Debug, PartialEq)]
pub(super) struct Mistake {
    /// `None`: what kube-apiserver tells without a place.
    place: Option<String>,
    error: FieldError,
}

impl Outcome {
    pub(super) fn matched(matched: usize) -> Self {
        Self { mistakes: Vec::new(), matched }
    }

    pub(super) fn wrong(mistake: Mistake) -> Self {
        Self { mistakes: vec![mistake], matched: 0 }
    }

    pub(super) fn add(&mut self, mistake: Mistake) {
        if self.mistakes.len() < MISTAKES_MAX && !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    pub(super) fn join(&mut self, other: Self) {
        self.matched += other.matched;
        other.mistakes.into_iter().for_each(|mistake| self.add(mistake));
    }

    pub(super) fn is_right(&self) -> bool {
        self.mistakes.is_empty()
    }
}

impl Mistake {
    fn at(path: &Path<'_>, error: FieldError) -> Self {
        Self { place: Some(path.text()), error: error.in_short() }
    }

    /// Of another type.
    pub(super) fn of_type(path: &Path<'_>, asked: &str, found: &str) -> Self {
        let text = format!("{} in body must be of type {asked}: {found:?}", path.text());
        let error = FieldError::invalid("", &json!(found), &text);
        Self::at(path, FieldError { reason: "FieldValueTypeInvalid", ..error })
    }

    /// None of those that there may be.
    pub(super) fn not_of(path: &Path<'_>, value: &Value, known: &[Value]) -> Self {
        let texts =
            known.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned));
        let mut bytes = 0;
        let texts: Vec<String> = texts
            .take_while(|text| {
                bytes += text.len();
                bytes <= SUPPORTED_BYTES_MAX
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        Self::at(path, FieldError::not_supported("", value, &texts))
    }

    /// It breaks a rule, which `what` says after the place.
    pub(super) fn rule(path: &Path<'_>, value: &Value, what: &str) -> Self {
        Self::at(path, FieldError::invalid("", value, &format!("{} in body {what}", path.text())))
    }

    pub(super) fn required(path: &Path<'_>) -> Self {
        Self::at(path, FieldError::required("", ""))
    }

    pub(super) fn too_long(path: &Path<'_>, most: i64) -> Self {
        Self::at(path, FieldError::too_long("", usize::try_from(most).unwrap_or_default()))
    }

    pub(super) fn too_many(path: &Path<'_>, found: usize, most: i64) -> Self {
        Self::at(path, FieldError::too_many("", found, usize::try_from(most).unwrap_or_default()))
    }

    /// A field that nobody may have.
    pub(super) fn forbidden_field(path: &Path<'_>, key: &str) -> Self {
        let text = format!("{} in body is a forbidden property", path.dotted(key).text());
        Self::at(path, FieldError::invalid("", &json!(key), &text))
    }

    /// What kube-apiserver says without a place.
    pub(super) fn nowhere(text: &str) -> Self {
        Self { place: None, error: FieldError::invalid("", &json!(""), text) }
    }

    /// As its reader sees it, of a value that stands at `root`.
    pub(super) fn into_error(self, root: &str) -> FieldError {
        let field = match self.place {
            None if root.is_empty() => "<nil>".to_owned(),
            None => root.to_owned(),
            Some(place) => match (root, place.trim_start_matches('.')) {
                ("", "") => "<nil>".to_owned(),
                ("", place) => place.to_owned(),
                (root, "") => root.to_owned(),
                (root, place) => format!("{root}.{place}"),
            },
        };
        FieldError { field, ..self.error }
    }
}
