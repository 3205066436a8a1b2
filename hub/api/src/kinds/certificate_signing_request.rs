//! CertificateSigningRequest: a spoke's request for its identity.
//!
//! Guarantees:
//! - the spec never changes; Approved and Denied go through the door `approval` alone, and the certificate through
//!   `status` alone, once (`each_door_changes_its_own`, `conditions_are_checked_and_kept`).

mod conditions;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{
    Column, FieldPaths, Kind, NameRule, READ_WRITE, Strategy, Trait, keep, keep_other_half,
};
use freewheel_hub_schema::{name as names, time};
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, column, int, list, name, text};
use conditions::{DECISIONS, check_conditions, keep_decision, of_type, put_conditions};

/// Where the extra of who asks names the cluster that a device joins as: the gateway alone says so, and signs it.
pub const JOINING_CLUSTER: &str = "freewheel.dev/joining-cluster";

/// The one signer of this hub.
const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const COLUMNS: &[Column] = &[
    NAME,
    AGE,
    column("SignerName", "string", "Who is asked to sign."),
    column("Requestor", "string", "Who asks."),
    column("RequestedDuration", "string", "For how long."),
    column("Condition", "string", "What was decided."),
];

/// CertificateSigningRequest of certificates.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(
        Gvk::new("certificates.k8s.io", "v1", "CertificateSigningRequest"),
        "certificatesigningrequests",
        Rules,
    )
    .cluster_scoped()
    .short(["csr"])
    .subresource("approval", READ_WRITE)
    .with_status()
    .columns(COLUMNS)
    .names_are(NameRule::PathSegment)
    .fields(["spec.signerName"])
    .with(&[Trait::AsksForACertificate, Trait::CountsNoGeneration])
}

struct Rules;

impl Strategy for Rules {
    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        match subresource {
            Some("approval") => {
                let conditions = new.pointer_mut("/status/conditions").map(Value::take);
                keep(new, old, "spec");
                keep(new, old, "status");
                put_conditions(new, conditions);
            }
            Some("status") => {
                keep_other_half(subresource, new, old);
                DECISIONS.iter().for_each(|kind| keep_decision(new, old, kind));
            }
            _ => {
                keep_other_half(subresource, new, old);
                keep(new, old, "spec");
            }
        }
    }

    fn reset_fields(&self, subresource: Option<&str>) -> FieldPaths {
        match subresource {
            Some("approval") => &[&["spec"], &["status", "certificate"]],
            Some("status") => &[&["spec"], &["status", "conditions"]],
            Some(_) | None => &[&["spec"], &["status"]],
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        errors.extend(check_request(text(object, "/spec/request")));
        let signer = text(object, "/spec/signerName");
        if signer.is_empty() {
            errors.push(FieldError::required("spec.signerName", ""));
        } else if let Some(wrong) = check_signer(signer) {
            errors.push(FieldError::invalid("spec.signerName", &json!(signer), &wrong));
        }
        let usages = list(object, "/spec/usages");
        if usages.is_empty() {
            errors.push(FieldError::required("spec.usages", ""));
        }
        let mut taken = BTreeSet::new();
        for (i, usage) in usages.iter().enumerate() {
            let at = format!("spec.usages[{i}]");
            if !USAGES.iter().any(|u| usage == u) {
                errors.push(FieldError::not_supported(at, usage, USAGES));
            } else if !taken.insert(usage.as_str()) {
                errors.push(FieldError::duplicate(at, usage));
            }
        }
        if let Some(seconds) = object.pointer("/spec/expirationSeconds")
            && int(object, "/spec/expirationSeconds") < 600
        {
            let text = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.push(FieldError::invalid("spec.expirationSeconds", seconds, text));
        }
        errors.extend(check_conditions(list(object, "/status/conditions")));
        errors
    }

    fn validate_update(
        &self,
        subresource: Option<&str>,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        if subresource.is_none() {
            return Vec::new();
        }
        let mut errors = Vec::new();
        let at = "status.conditions";
        for kind in ["Approved", "Denied", "Failed"] {
            let (was, now) = (of_type(old, kind), of_type(new, kind));
            let decides = DECISIONS.contains(&kind) && subresource != Some("approval");
            let what = if now.len() < was.len() {
                "remove"
            } else if decides && was.len() < now.len() {
                "add"
            } else if decides && was != now {
                "modify"
            } else {
                continue;
            };
            let text = format!("updates may not {what} a condition of type {kind:?}");
            errors.push(FieldError::forbidden(at, &text));
        }
        let issued = text(old, "/status/certificate");
        if !issued.is_empty() && text(new, "/status/certificate") != issued {
            let text = "updates may not modify existing certificate content";
            errors.push(FieldError::forbidden("status.certificate", text));
        }
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let signer = text(object, "/spec/signerName");
        if signer == SIGNER {
            return Vec::new();
        }
        vec![format!(
            "spec.signerName: this hub signs for {SIGNER:?} alone; a request to {signer:?} waits for a \
             program of yours that signs it"
        )]
    }

    fn selectable_fields(&self, object: &Value) -> BTreeMap<String, String> {
        let signer = text(object, "/spec/signerName").to_owned();
        BTreeMap::from([("spec.signerName".to_owned(), signer)])
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let signer = text(object, "/spec/signerName");
        let duration = object.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
        vec![
            name(object),
            age(object, now),
            if signer.is_empty() { "<none>" } else { signer }.into(),
            text(object, "/spec/username").into(),
            duration.map_or_else(|| "<none>".to_owned(), time::human).into(),
            decision(object).into(),
        ]
    }
}

fn check_request(encoded: &str) -> Option<FieldError> {
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    let pem = String::from_utf8(bytes).unwrap_or_default();
    if pem.trim_start().starts_with("-----BEGIN CERTIFICATE REQUEST-----") {
        return None;
    }
    let text = "PEM block type must be CERTIFICATE REQUEST";
    Some(FieldError::invalid("spec.request", &json!(encoded), text))
}

fn check_signer(signer: &str) -> Option<String> {
    let Some((domain, path)) = signer.split_once('/') else {
        return Some(
            "must be a fully qualified domain and path of the form 'example.com/signer-name'"
                .to_owned(),
        );
    };
    if path.is_empty() || !domain.contains('.') {
        return Some(
            "should be a domain with at least two segments separated by dots, then '/' and a path"
                .to_owned(),
        );
    }
    names::dns_subdomain(domain).into_iter().next()
}

fn decision(object: &Value) -> String {
    let has = |kind| list(object, "/status/conditions").iter().any(|c| text(c, "/type") == kind);
    let mut decision = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if has("Failed") {
        decision.push_str(",Failed");
    }
    if !text(object, "/status/certificate").is_empty() {
        decision.push_str(",Issued");
    }
    decision
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Value {
        let pem = STANDARD.encode("-----BEGIN CERTIFICATE REQUEST-----\n");
        json!({"metadata": {"name": "pi-7"}, "spec": {
            "request": pem, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
        }})
    }

    #[test]
    fn each_door_changes_its_own() {
        let old = request();
        let approved = json!([{"type": "Approved", "status": "True"}]);

        let mut new = old.clone();
        new["spec"]["signerName"] = json!("other.io/x");
        new["status"] = json!({"conditions": approved, "certificate": "eA=="});
        let mut through = new.clone();
        Rules.prepare_update(None, &mut through, &old);
        assert_eq!(through, old);

        let mut through = new.clone();
        Rules.prepare_update(Some("approval"), &mut through, &old);
        assert_eq!(through["spec"], old["spec"]);
        assert_eq!(through["status"], json!({"conditions": approved}));
        assert_eq!(decision(&through), "Approved");

        let mut issued = new.clone();
        issued["status"]["conditions"][0]["message"] = json!("I say so");
        let old = through;
        Rules.prepare_update(Some("status"), &mut issued, &old);
        assert_eq!(issued["status"], json!({"conditions": approved, "certificate": "eA=="}));
        assert_eq!(decision(&issued), "Approved,Issued");

        let taken_back = json!({"status": {}});
        assert_eq!(Rules.validate_update(Some("approval"), &taken_back, &old).len(), 1);

        let mut other = issued.clone();
        other["status"]["certificate"] = json!("eQ==");
        let errors = Rules.validate_update(Some("status"), &other, &issued);
        assert_eq!(errors[0].field, "status.certificate");
        assert_eq!(Rules.validate_update(Some("status"), &issued, &issued), []);
    }

    #[test]
    fn conditions_are_checked_and_kept() {
        let mut old = request();
        old["status"] = json!({"conditions": [{"type": "Seen", "status": "Unknown"}]});
        let mut new = old.clone();
        new["status"]["conditions"] = json!([
            {"type": "Seen", "status": "True"}, {"type": "Approved", "status": "True"},
        ]);
        let wanted = new["status"].clone();
        Rules.prepare_update(Some("approval"), &mut new, &old);
        assert_eq!(new["status"], wanted);
        assert_eq!(Rules.validate(&new), []);
        assert_eq!(Rules.validate_update(Some("approval"), &new, &old), []);
        // Nobody approves through the door of the signer, or takes it back.
        assert_eq!(
            Rules.validate_update(Some("status"), &new, &old)[0].reason,
            "FieldValueForbidden"
        );
        assert_eq!(Rules.validate_update(Some("status"), &old, &new).len(), 1);
        for (conditions, field) in [
            (json!([{"type": "Approved", "status": "False"}]), "status.conditions[0].status"),
            (json!([{"type": "Failed", "status": "Unknown"}]), "status.conditions[0].status"),
            (json!([{"type": "Seen", "status": "Perhaps"}]), "status.conditions[0].status"),
            (json!([{"type": "Seen"}]), "status.conditions[0].status"),
            (json!([{"status": "True"}]), "status.conditions[0].type"),
            (
                json!([{"type": "Approved", "status": "True"}, {"type": "Approved", "status": "True"}]),
                "status.conditions[1].type",
            ),
            (
                json!([{"type": "Denied", "status": "True"}, {"type": "Approved", "status": "True"}]),
                "status.conditions[1].type",
            ),
        ] {
            new["status"]["conditions"] = conditions;
            let errors = Rules.validate(&new);
            assert_eq!(
                errors.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(),
                [field],
                "{new}"
            );
        }
    }

    #[test]
    fn who_asks_a_signer_that_is_not_here_is_told_at_once() {
        let mut request = request();
        assert!(Rules.warnings(&request).is_empty());
        request["spec"]["signerName"] = json!("kubernetes.io/kubelet-serving");
        assert_eq!(Rules.warnings(&request).len(), 1);
    }

    #[test]
    fn requests_are_checked() {
        assert_eq!(Rules.validate(&request()), []);
        let errors = Rules.validate(&json!({"spec": {"request": "eA==", "usages": ["x"]}}));
        let fields: Vec<_> = errors.into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["spec.request", "spec.signerName", "spec.usages[0]"]);
    }
}
