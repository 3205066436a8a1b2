//! Query parameters as the verbs read them.
//!
//! Values follow apimachinery's conversions: a flag is false for absent, `0` and `false`, else true;
//! a number that is none is a 400 in Go's words.

use std::borrow::Cow;

use freewheel_hub_objects::FieldValidation;
use freewheel_hub_schema::error::{ApiError, FieldError};
use serde_json::{Map, Value, json};

/// Options of all verbs, taken from the query string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// `watch`
    pub watch: bool,
    /// `allowWatchBookmarks`
    pub bookmarks: bool,
    /// `timeoutSeconds`
    pub timeout_seconds: Option<u64>,
    /// `timeout`, as it was said first.
    pub timeout: Option<String>,
    /// `labelSelector`
    pub label_selector: String,
    /// `fieldSelector`
    pub field_selector: String,
    /// `resourceVersion`, empty when not given.
    pub resource_version: String,
    /// `resourceVersionMatch`, empty when not given.
    pub version_match: String,
    /// `limit`, 0 when not given.
    pub limit: usize,
    /// `continue`
    pub resume: String,
    /// `sendInitialEvents`
    pub send_initial_events: Option<bool>,
    /// `dryRun` values
    pub dry_run: Vec<String>,
    /// `fieldValidation`
    pub field_validation: String,
    /// `fieldManager`
    pub field_manager: String,
    /// `force`
    pub force: Option<bool>,
    /// `gracePeriodSeconds`
    pub grace_period_seconds: Option<i64>,
    /// `propagationPolicy`
    pub propagation_policy: String,
    /// `orphanDependents`, what there was before `propagationPolicy`
    pub orphan_dependents: Option<bool>,
    /// `includeObject`
    pub include_object: String,
}

/// Decoded pairs of a query string.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query.as_bytes()).take(256)
}

impl Query {
    /// Reads a query string.
    ///
    /// # Errors
    /// 400 for numbers that are none.
    pub fn parse(query: &str) -> Result<Self, ApiError> {
        let mut out = Self::default();
        if query.is_empty() {
            return Ok(out);
        }
        for (name, value) in pairs(query) {
            match &*name {
                "watch" => out.watch = flag(&value),
                "allowWatchBookmarks" => out.bookmarks = flag(&value),
                "timeoutSeconds" => out.timeout_seconds = number(&value)?.try_into().ok(),
                "timeout" => {
                    out.timeout.get_or_insert_with(|| value.into_owned());
                }
                "labelSelector" => out.label_selector = value.into_owned(),
                "fieldSelector" => out.field_selector = value.into_owned(),
                "resourceVersion" => out.resource_version = value.into_owned(),
                "resourceVersionMatch" => out.version_match = value.into_owned(),
                "limit" => out.limit = number(&value)?.try_into().unwrap_or_default(),
                "continue" => out.resume = value.into_owned(),
                "sendInitialEvents" => out.send_initial_events = Some(flag(&value)),
                "dryRun" => out.dry_run.push(value.into_owned()),
                "fieldValidation" => out.field_validation = value.into_owned(),
                "fieldManager" => out.field_manager = value.into_owned(),
                "force" => out.force = Some(flag(&value)),
                "gracePeriodSeconds" => out.grace_period_seconds = Some(number(&value)?),
                "propagationPolicy" => out.propagation_policy = value.into_owned(),
                "orphanDependents" => out.orphan_dependents = Some(flag(&value)),
                "includeObject" => out.include_object = value.into_owned(),
                _ => {}
            }
        }
        Ok(out)
    }

    /// Whether it asks for a dry run, as far as its path says.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run.iter().any(|value| value == "All")
    }

    /// Whether nothing shall be written; `options` is the kind named in the error.
    ///
    /// # Errors
    /// 422 for a value that is not `All`.
    pub fn dry_run(&self, options: &str) -> Result<bool, ApiError> {
        check_dry_run(&self.dry_run, options)
    }

    /// What to do with unknown fields.
    ///
    /// # Errors
    /// 422 for a value that is none of the three.
    pub fn field_validation(&self, options: &str) -> Result<FieldValidation, ApiError> {
        match self.field_validation.as_str() {
            "" | "Warn" => Ok(FieldValidation::Warn),
            "Strict" => Ok(FieldValidation::Strict),
            "Ignore" => Ok(FieldValidation::Ignore),
            other => {
                let error = FieldError::not_supported(
                    "fieldValidation",
                    &json!(other),
                    &["", "Ignore", "Strict", "Warn"],
                );
                Err(ApiError::invalid("meta.k8s.io", options, "", &[error]))
            }
        }
    }

    /// The field manager: the parameter, else the program's name from the User-Agent.
    ///
    /// # Errors
    /// 422 when it is too long or cannot be printed.
    pub fn manager(&self, user_agent: &str, options: &str) -> Result<String, ApiError> {
        if self.field_manager.is_empty() {
            let program = user_agent.split('/').next().unwrap_or_default();
            return Ok(program.chars().filter(|c| !c.is_control()).take(128).collect());
        }
        let wrong = if 128 < self.field_manager.len() {
            Some(FieldError {
                reason: "FieldValueTooLong",
                field: "fieldManager".to_owned(),
                message: "Too long: may not be more than 128 bytes".to_owned(),
            })
        } else if self.field_manager.chars().any(char::is_control) {
            Some(FieldError::invalid(
                "fieldManager",
                &json!(self.field_manager),
                "should only contain printable characters",
            ))
        } else {
            None
        };
        match wrong {
            Some(error) => Err(ApiError::invalid("meta.k8s.io", options, "", &[error])),
            None => Ok(self.field_manager.clone()),
        }
    }

    /// Its part of CreateOptions and the like, as it was said.
    pub(crate) fn options(&self) -> Map<String, Value> {
        let given =
            [("fieldManager", &self.field_manager), ("fieldValidation", &self.field_validation)];
        let given = given.into_iter().filter(|(_, text)| !text.is_empty());
        given.map(|(key, text)| (key.to_owned(), json!(text))).collect()
    }

    /// `resourceVersion` as a number; `None` when it was not given.
    ///
    /// # Errors
    /// 400 when it is no number.
    pub fn revision(&self) -> Result<Option<u64>, ApiError> {
        if self.resource_version.is_empty() {
            return Ok(None);
        }
        parse_revision(&self.resource_version).map(Some)
    }
}

/// Whether nothing shall be written.
///
/// # Errors
/// 422 for a value that is not `All`.
pub fn check_dry_run(values: &[String], options: &str) -> Result<bool, ApiError> {
    if values.iter().any(|value| value != "All") {
        let error = FieldError::not_supported("dryRun", &json!(values), &["All"]);
        return Err(ApiError::invalid("meta.k8s.io", options, "", &[error]));
    }
    Ok(!values.is_empty())
}

/// A resource version as a revision.
///
/// # Errors
/// 400 when it is no number.
pub fn parse_revision(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

/// A flag as apimachinery reads it.
#[must_use]
pub fn flag(value: &str) -> bool {
    !matches!(value, "0") && !value.eq_ignore_ascii_case("false")
}

/// A number as apimachinery reads it.
///
/// # Errors
/// 400 when it is none.
pub fn number(value: &str) -> Result<i64, ApiError> {
    value.parse().map_err(|_| {
        ApiError::bad_request(format!("strconv.ParseInt: parsing {value:?}: invalid syntax"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("watch=1&labelSelector=a%3Db%2Cc&limit=5&dryRun=All").unwrap();
        assert!(query.watch);
        assert_eq!(query.label_selector, "a=b,c");
        assert_eq!(query.limit, 5);
        assert!(query.dry_run("CreateOptions").unwrap());
        assert_eq!(query.revision().unwrap(), None);
    }

    #[test]
    fn bad_values_are_named() {
        assert_eq!(Query::parse("limit=x").unwrap_err().code, 400);
        let query = Query::parse("resourceVersion=abc&dryRun=Some").unwrap();
        assert_eq!(
            query.revision().unwrap_err().message,
            "invalid resource version: resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax"
        );
        assert_eq!(query.dry_run("CreateOptions").unwrap_err().code, 422);
    }

    #[test]
    fn the_manager_is_the_parameter_or_the_program() {
        let query = Query::default();
        assert_eq!(query.manager("kubectl/v1.32 (linux)", "X").unwrap(), "kubectl");
        let query = Query::parse("fieldManager=me").unwrap();
        assert_eq!(query.manager("kubectl/v1.32", "X").unwrap(), "me");
    }
}
