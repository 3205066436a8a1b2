//! Who brings objects of a kind from one of its versions to another, where that takes more than the schema knows.
//!
//! Most kinds have nobody: their strategy says how an object is stored, and nothing here costs them more than a look.

use std::future::Future;
use std::pin::Pin;

use serde_json::Value;

use super::Kind;
use crate::error::ApiError;

/// Objects on their way from one version to another.
pub type Converting<'a> = Pin<Box<dyn Future<Output = Result<Vec<Value>, ApiError>> + Send + 'a>>;

/// Brings objects from one version of their kind to another.
pub trait Converter: Send + Sync {
    /// These, each of which says its own version, in this one (`example.com/v2`): as many, in the same order, about the
    /// same objects.
    fn convert<'a>(&'a self, to: &'a str, objects: Vec<Value>) -> Converting<'a>;
}

impl Kind {
    /// Who converts its objects, where somebody has to be asked.
    #[must_use]
    pub fn converter(&self) -> Option<&dyn Converter> {
        self.converter.as_deref()
    }

    /// The version that its objects are stored in: `example.com/v1`.
    #[must_use]
    pub fn stored_version(&self) -> String {
        match &self.stored_as {
            None => self.api_version().to_owned(),
            Some(stored) if stored.group.is_empty() => stored.version.to_string(),
            Some(stored) => format!("{}/{}", stored.group, stored.version),
        }
    }

    /// A stored object in this kind's own version.
    ///
    /// # Errors
    /// What whoever converts it answers; 500 where its defaults find no room.
    pub async fn out_of_store(&self, mut object: Value) -> Result<Value, ApiError> {
        if let Some(converter) = &self.converter
            && object["apiVersion"] != self.api_version()
        {
            object = one(&**converter, self.api_version(), object).await?;
        }
        self.from_stored_object(&mut object)?;
        Ok(object)
    }

    /// An object of this kind's own version as it is stored.
    ///
    /// # Errors
    /// What whoever converts it answers.
    pub async fn into_store(&self, mut object: Value) -> Result<Value, ApiError> {
        if let (Some(converter), Some(_)) = (&self.converter, &self.stored_as) {
            object = one(&**converter, &self.stored_version(), object).await?;
        }
        self.strategy.to_stored(&mut object);
        Ok(object)
    }
}

async fn one(converter: &dyn Converter, to: &str, object: Value) -> Result<Value, ApiError> {
    let converted = converter.convert(to, vec![object]).await?;
    let lost = || ApiError::internal("a converter has lost its object");
    converted.into_iter().next().ok_or_else(lost)
}
