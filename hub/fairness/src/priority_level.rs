//! PriorityLevelConfiguration: how many seats some requests have, and whether they wait for them.

use std::sync::Arc;

use serde::Deserialize;

/// A PriorityLevelConfiguration as it acts.
#[derive(Debug)]
pub struct PriorityLevel {
    /// Its name.
    pub name: Arc<str>,
    /// Its UID, empty for what acts without an object.
    pub uid: Arc<str>,
    /// Whether its requests are served however many there are.
    pub is_exempt: bool,
    pub(crate) shares: u32,
    pub(crate) lendable_percent: u32,
    /// Of its own seats; `None` for as many as there are.
    pub(crate) borrowing_percent: Option<u32>,
    /// `None` where nobody waits.
    pub(crate) shape: Option<Shape>,
}

/// The queues of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shape {
    pub(crate) queues: u32,
    /// Of how many of them a flow uses the shortest.
    pub(crate) hand_size: u32,
    /// How many may wait in one.
    #[serde(rename = "queueLengthLimit")]
    pub(crate) length: u32,
}

#[derive(Deserialize)]
struct Object {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    exempt: Option<Half>,
    limited: Option<Half>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Half {
    nominal_concurrency_shares: u32,
    lendable_percent: u32,
    borrowing_limit_percent: Option<u32>,
    limit_response: Option<Response>,
}

#[derive(Deserialize)]
struct Response {
    queuing: Option<Shape>,
}

impl PriorityLevel {
    /// Reads an object.
    ///
    /// # Errors
    /// When its spec is none.
    pub fn read(name: &str, uid: &str, object: &[u8]) -> Result<Self, serde_json::Error> {
        let Object { spec: Spec { exempt, limited } } = serde_json::from_slice(object)?;
        let is_exempt = limited.is_none();
        let half = limited.or(exempt).unwrap_or_default();
        Ok(Self {
            name: name.into(),
            uid: uid.into(),
            is_exempt,
            shares: half.nominal_concurrency_shares,
            lendable_percent: half.lendable_percent,
            borrowing_percent: half.borrowing_limit_percent,
            shape: half.limit_response.and_then(|response| response.queuing),
        })
    }
}
