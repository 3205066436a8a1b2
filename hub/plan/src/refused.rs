//! What no record can be made of, and why: in words for who reads `kubectl describe`.

use freewheel_link::names::ClusterName;

/// An object that no record could be made of. It stays out of the plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{resource} {namespace}/{name} of {realm}: {message}")]
pub struct Refused {
    /// The object's realm.
    pub realm: ClusterName,
    /// `pods`, `services`, `configmaps`, `secrets`, `podcidrs`.
    pub resource: &'static str,
    /// metadata.namespace, as far as it could be read.
    pub namespace: Box<str>,
    /// metadata.name, as far as it could be read.
    pub name: Box<str>,
    /// metadata.uid, as far as it could be read.
    pub uid: Box<str>,
    /// For an event on the object: `UnsupportedField`, `InvalidField`, `Malformed`, `TooLarge`.
    pub reason: &'static str,
    /// For the user who reads `kubectl describe`.
    pub message: Box<str>,
    /// It is in the plan all the same, without what the message is about.
    pub stays: bool,
}

/// Why something inside of an object cannot be translated: the object adds who it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self { reason: "UnsupportedField", message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { reason: "InvalidField", message: message.into() }
    }

    pub(crate) fn malformed(message: impl std::fmt::Display) -> Self {
        Self { reason: "Malformed", message: message.to_string() }
    }

    /// The refusal of the object with this metadata.
    pub(crate) fn of(
        self,
        realm: &ClusterName,
        resource: &'static str,
        meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    ) -> Refused {
        Refused {
            realm: realm.clone(),
            resource,
            namespace: meta.namespace.clone().unwrap_or_default().into(),
            name: meta.name.clone().unwrap_or_default().into(),
            uid: meta.uid.clone().unwrap_or_default().into(),
            reason: self.reason,
            message: self.message.into(),
            stays: false,
        }
    }
}
