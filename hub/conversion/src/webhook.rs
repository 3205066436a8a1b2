//! The webhook that a definition names.

use std::time::Duration;

use freewheel_hub_admission::{Address, ClientConfig};
use freewheel_link::names::ClusterName;
use serde_json::Value;

/// Reviews that are understood here.
const KNOWN: [&str; 2] = ["v1", "v1beta1"];

/// Where it is, and what it understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Webhook {
    pub(crate) address: Address,
    /// Of its versions of ConversionReview, the first that is known here.
    pub(crate) version: Option<&'static str>,
    /// `Widget`
    pub(crate) kind: String,
}

impl Webhook {
    /// That of a definition of this cluster, where it has one, and what it is told of how long it may take.
    pub(crate) fn of(cluster: &ClusterName, definition: &Value, limit: Duration) -> Option<Self> {
        let conversion = definition.pointer("/spec/conversion")?;
        if conversion["strategy"] != "Webhook" {
            return None;
        }
        let webhook = &conversion["webhook"];
        let versions = webhook["conversionReviewVersions"].as_array().into_iter().flatten();
        let mut known =
            versions.filter_map(|version| KNOWN.iter().find(|known| version == **known));
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap_or_default();
        Some(Self {
            address: ClientConfig::read(&webhook["clientConfig"]).address(cluster, limit),
            version: known.next().copied(),
            kind: kind.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_says_where_its_webhook_is() {
        let mut definition = json!({"spec": {"names": {"kind": "Widget"}, "conversion": {
            "strategy": "Webhook", "webhook": {
                "clientConfig": {"url": "https://a.example.com"},
                "conversionReviewVersions": ["v9", "v1beta1", "v1"]}}}});
        let of = |definition: &Value| {
            Webhook::of(&ClusterName::root(), definition, Duration::from_secs(30))
        };
        let webhook = of(&definition).unwrap();
        assert_eq!(webhook.address.url, "https://a.example.com/?timeout=30s");
        assert_eq!((&*webhook.kind, webhook.version), ("Widget", Some("v1beta1")));
        let service = json!({"service": {"namespace": "hooks", "name": "converts"}});
        definition["spec"]["conversion"]["webhook"]["clientConfig"] = service;
        let address = of(&definition).unwrap().address;
        assert_eq!(address.url, "https://converts.hooks.svc:443/?timeout=30s");
        assert_eq!(address.service.unwrap().name, "converts");
        definition["spec"]["conversion"]["strategy"] = json!("None");
        assert_eq!(of(&definition), None);
    }
}
