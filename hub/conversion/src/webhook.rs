//! The webhook that a definition names.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Reviews that are understood here.
const KNOWN: [&str; 2] = ["v1", "v1beta1"];

/// Where it is, and what it understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Webhook {
    /// Nothing where it is behind a Service.
    pub(crate) url: Option<String>,
    /// PEM of who vouches for it; empty for whom the host trusts.
    pub(crate) authorities: String,
    /// Of its versions of ConversionReview, the first that is known here.
    pub(crate) version: Option<&'static str>,
    /// `Widget`
    pub(crate) kind: String,
}

impl Webhook {
    /// That of a definition, where it has one, and what it is told of how long it may take.
    pub(crate) fn of(definition: &Value, limit: Duration) -> Option<Self> {
        let conversion = definition.pointer("/spec/conversion")?;
        if conversion["strategy"] != "Webhook" {
            return None;
        }
        let (webhook, text) =
            (&conversion["webhook"], |value: &Value| value.as_str().map(str::to_owned));
        let client = &webhook["clientConfig"];
        let versions = webhook["conversionReviewVersions"].as_array().into_iter().flatten();
        let mut known =
            versions.filter_map(|version| KNOWN.iter().find(|known| version == **known));
        let bundle = STANDARD.decode(client["caBundle"].as_str().unwrap_or_default()).ok();
        let url = text(&client["url"]).map(|url| {
            let has_path = url.trim_start_matches("https://").contains('/');
            let path = if has_path { "" } else { "/" };
            format!("{url}{path}?timeout={}s", limit.as_secs())
        });
        Some(Self {
            url,
            authorities: bundle.and_then(|pem| String::from_utf8(pem).ok()).unwrap_or_default(),
            version: known.next().copied(),
            kind: text(&definition["spec"]["names"]["kind"]).unwrap_or_default(),
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
                "clientConfig": {"url": "https://a.example.com", "caBundle": STANDARD.encode("pem")},
                "conversionReviewVersions": ["v9", "v1beta1", "v1"]}}}});
        let webhook = Webhook::of(&definition, Duration::from_secs(30)).unwrap();
        assert_eq!(webhook.url.as_deref(), Some("https://a.example.com/?timeout=30s"));
        assert_eq!((&*webhook.authorities, webhook.version), ("pem", Some("v1beta1")));
        definition["spec"]["conversion"]["strategy"] = json!("None");
        assert_eq!(Webhook::of(&definition, Duration::from_secs(30)), None);
    }
}
