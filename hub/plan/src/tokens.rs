//! Tokens of a pod's service account → `ConfigV1`, a record of its own: another token is no other pod.

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{
    ConfigV1, Kind, PodEndedV1, PodV1, ProjectedV1, ProjectionV1, Record, RecordKey, TokenKey,
    VolumeSourceV1,
};

use super::config;
use super::refused::{Fault, Refused};

/// The tokens that a pod asks for, of one account and bound to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokensAsked {
    /// Its cluster.
    pub realm: ClusterName,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub account: String,
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// Its node.
    pub node: String,
    /// Which, in order.
    pub tokens: Vec<TokenKey>,
}

impl TokensAsked {
    /// Those that a pod asks for, if it asks for any: one that has ended does not.
    #[must_use]
    pub fn of(realm: &ClusterName, pod: &PodV1) -> Option<Self> {
        let mut tokens: Vec<_> =
            pod.volumes.iter().flat_map(|volume| asked(&volume.source)).collect();
        if tokens.is_empty() || matches!(pod.parts.get::<PodEndedV1>(), Ok(Some(_))) {
            return None;
        }
        tokens.sort_unstable();
        tokens.dedup();
        Some(Self {
            realm: realm.clone(),
            namespace: pod.namespace.clone(),
            account: pod.service_account.clone(),
            pod: pod.name.clone(),
            uid: pod.uid.clone(),
            node: pod.node.clone(),
            tokens,
        })
    }

    /// Where their record is.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        config::key(&self.realm, Kind::POD_TOKENS_V1, &self.namespace, &self.uid)
    }

    /// Their record: each of [`TokensAsked::tokens`] with its text.
    ///
    /// # Errors
    /// When they are no record, which texts cannot cause.
    pub fn record(&self, texts: &[String]) -> Result<Record, Refused> {
        let data = self.tokens.iter().zip(texts);
        let mut data: Vec<_> =
            data.map(|(asked, text)| (asked.to_string(), text.clone().into_bytes())).collect();
        data.sort_unstable();
        Record::new(self.key(), 0, 0, &ConfigV1 { data }).map_err(|error| Refused {
            realm: self.realm.clone(),
            resource: "pods",
            namespace: (&*self.namespace).into(),
            name: (&*self.pod).into(),
            uid: (&*self.uid).into(),
            reason: "Malformed",
            message: Fault::malformed(error).message.into(),
            stays: false,
        })
    }
}

fn asked(source: &VolumeSourceV1) -> impl Iterator<Item = TokenKey> {
    let projections = match source {
        VolumeSourceV1::Projected(all) => &**all,
        VolumeSourceV1::EmptyDir(_) | VolumeSourceV1::Config(_) | VolumeSourceV1::Downward(_) => {
            &[]
        }
    };
    let tokens = projections.iter().filter_map(|one| match one {
        ProjectionV1::Config(one @ ProjectedV1 { kind: Kind::POD_TOKENS_V1, .. }) => Some(one),
        ProjectionV1::Config(_) | ProjectionV1::Downward(_) => None,
    });
    tokens.flat_map(|one| one.items.iter().filter_map(|(key, ..)| TokenKey::read(key)))
}
