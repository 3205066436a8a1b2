//! Sources of volumes that no spoke mounts: what a valid one is, as the API keeps them all.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use serde_json::json;

use super::super::field_value::FieldValue;
use super::super::volume_claim_spec;
use super::super::volume_words::{HOST_PATH_TYPES, check_driver};

const PARTITION: &str = "must be between 1 and 255, inclusive";
const DISK_ID: &str = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
const BLOB_ID: &str =
    "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";

/// What has to be said of a source, beside what is looked at one by one.
fn needs(kind: &str) -> &'static [&'static str] {
    match kind {
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => &["volumeID"],
        "azureDisk" => &["diskName", "diskURI"],
        "azureFile" => &["secretName", "shareName"],
        "cephfs" => &["monitors"],
        "flexVolume" => &["driver"],
        "gcePersistentDisk" => &["pdName"],
        "gitRepo" => &["repository"],
        "glusterfs" => &["endpoints", "path"],
        "iscsi" => &["targetPortal", "iqn"],
        "nfs" => &["server", "path"],
        "persistentVolumeClaim" => &["claimName"],
        "photonPersistentDisk" => &["pdID"],
        "rbd" => &["monitors", "image"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "vsphereVolume" => &["volumePath"],
        _ => &[],
    }
}

/// Every mistake of the source `kind` of a volume. A template may leave open which image it is.
pub(super) fn check(volume: &FieldValue<'_>, kind: &str, is_pod: bool) -> Vec<FieldError> {
    let mut source = volume.child(kind);
    if kind == "gcePersistentDisk" {
        // So upstream calls it.
        source.path = format!("{}.persistentDisk", volume.path);
    }
    let mut errors: Vec<_> =
        needs(kind).iter().filter_map(|field| source.child(field).must_be()).collect();
    match kind {
        "awsElasticBlockStore" | "gcePersistentDisk" => errors.extend(check_partition(&source)),
        "azureDisk" => errors.extend(check_azure_disk(&source)),
        "cinder" => errors.extend(check_secret(&source)),
        "csi" => errors.extend(check_csi(&source)),
        "ephemeral" => errors.extend(check_ephemeral(&source)),
        "fc" => errors.extend(check_fibre_channel(&source)),
        "flexVolume" => errors.extend(check_options(&source.child("options"))),
        "flocker" => errors.extend(check_flocker(&source)),
        "gitRepo" => errors.extend(check_descending(&source.child("directory"))),
        "hostPath" => errors.extend(check_host_path(&source)),
        "image" => errors.extend(check_image(&source, is_pod)),
        "iscsi" => errors.extend(check_iscsi(volume, &source)),
        "nfs" => {
            let path = source.child("path");
            let is_absolute = path.text().starts_with('/');
            errors.extend((!is_absolute).then(|| {
                FieldError::invalid(&*path.path, &json!(path.text()), "must be an absolute path")
            }));
        }
        "quobyte" => errors.extend(check_quobyte(&source)),
        "storageos" => errors.extend(check_storageos(&source)),
        _ => {}
    }
    errors
}

fn check_partition(source: &FieldValue<'_>) -> Option<FieldError> {
    let partition = source.child("partition");
    let number = partition.int().unwrap_or_default();
    (!(0..=255).contains(&number)).then(|| partition.invalid(PARTITION))
}

fn check_azure_disk(source: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(source.child("cachingMode").one_of(&["None", "ReadOnly", "ReadWrite"]));
    let kind = source.child("kind");
    errors.extend(kind.one_of(&["Dedicated", "Managed", "Shared"]));
    let uri = source.child("diskURI");
    if kind.is_there() {
        let (start, id) = if kind.text() == "Managed" {
            ("/subscriptions/", DISK_ID)
        } else {
            ("https://", BLOB_ID)
        };
        let text = json!(uri.text());
        let shown = FieldValue { value: &text, path: uri.path.clone() };
        errors.extend((!uri.text().starts_with(start)).then(|| shown.not_supported(&[id])));
    }
    errors
}

/// A reference to a Secret, where there is one, names it.
fn check_secret(source: &FieldValue<'_>) -> Option<FieldError> {
    let secret = source.child("secretRef");
    if secret.is_there() { secret.child("name").must_be() } else { None }
}

fn check_csi(source: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = check_driver(&source.child("driver"));
    let secret = source.child("nodePublishSecretRef");
    if secret.is_there() {
        let name = secret.child("name");
        if name.is_empty() {
            errors.push(name.required(""));
        } else {
            // So upstream calls it.
            let name = FieldValue { path: format!("{}.name", source.path), ..name };
            errors.extend(name.follows(names::dns_subdomain));
        }
    }
    errors
}

fn check_ephemeral(source: &FieldValue<'_>) -> Vec<FieldError> {
    let template = source.child("volumeClaimTemplate");
    if !template.is_there() {
        return vec![template.required("")];
    }
    let mut errors = template.child("metadata").child("labels").labels();
    errors.extend(volume_claim_spec::check(&template.child("spec")));
    errors
}

fn check_fibre_channel(source: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (names, ids) = (source.child("targetWWNs"), source.child("wwids"));
    if names.is_empty() && ids.is_empty() {
        errors.push(names.required("must specify either targetWWNs or wwids, but not both"));
    }
    if !names.is_empty() && !ids.is_empty() {
        let text = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(names.invalid(text));
    }
    let lun = source.child("lun");
    if !names.is_empty() && !lun.is_there() {
        errors.push(lun.required("lun is required if targetWWNs is specified"));
    } else if !names.is_empty() {
        errors.extend(lun.within(0, 255));
    }
    errors
}

fn check_options(options: &FieldValue<'_>) -> Vec<FieldError> {
    let wrong = options.entries().filter(|(key, _)| {
        let domain = format!(".{}", key.split('/').next().unwrap_or(key).to_lowercase());
        key.contains('/') && (domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io"))
    });
    let text = "kubernetes.io and k8s.io namespaces are reserved";
    wrong.map(|(key, at)| FieldError::invalid(&*at.path, &json!(key), text)).collect()
}

fn check_flocker(source: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (name, uuid) = (source.child("datasetName"), source.child("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.push(source.required("one of datasetName and datasetUUID is required"));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let text = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(FieldError::invalid(&*source.path, &json!("resource"), text));
    }
    if name.text().contains('/') {
        errors.push(name.invalid("must not contain '/'"));
    }
    errors
}

fn check_descending(path: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if path.text().starts_with('/') {
        errors.push(path.invalid("must be a relative path"));
    }
    errors.extend(check_no_backsteps(path));
    errors
}

fn check_no_backsteps(path: &FieldValue<'_>) -> Option<FieldError> {
    let back = path.text().split('/').any(|part| part == "..");
    back.then(|| path.invalid("must not contain '..'"))
}

fn check_host_path(source: &FieldValue<'_>) -> Vec<FieldError> {
    let path = source.child("path");
    if path.is_empty() {
        return vec![path.required("")];
    }
    let wrong = check_no_backsteps(&path).into_iter();
    wrong.chain(source.child("type").one_of(HOST_PATH_TYPES)).collect()
}

fn check_image(source: &FieldValue<'_>, is_pod: bool) -> Vec<FieldError> {
    let reference = source.child("reference").must_be().filter(|_| is_pod);
    let policy = source.child("pullPolicy");
    let policies = ["Always", "IfNotPresent", "Never"];
    let wrong =
        if policy.is_empty() { Some(policy.required("")) } else { policy.one_of(&policies) };
    reference.into_iter().chain(wrong).collect()
}

fn check_iscsi(volume: &FieldValue<'_>, source: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (iqn, initiator) = (source.child("iqn"), source.child("initiatorName"));
    if !iqn.is_empty() {
        let form = (!is_iscsi_kind(iqn.text()))
            .then_some("must be valid format starting with iqn, eui, or naa");
        let form = form.or_else(|| (!is_iscsi_name(iqn.text())).then_some("must be valid format"));
        errors.extend(form.map(|text| iqn.invalid(text)));
    }
    errors.extend(source.child("lun").within(0, 255));
    let asks =
        ["chapAuthDiscovery", "chapAuthSession"].map(|key| source.child(key).value == &json!(true));
    if asks.contains(&true) {
        errors.extend(source.child("secretRef").must_be());
    }
    if initiator.is_there() {
        let at = FieldValue { path: format!("{}.initiatorname", source.path), ..initiator };
        let form = (!is_iscsi_kind(at.text()))
            .then_some("must be valid format starting with iqn, eui, or naa");
        let form = form.or_else(|| (!is_iscsi_name(at.text())).then_some("must be valid format"));
        errors.extend(form.map(|text| at.invalid(text)));
        let name = volume.child("name");
        if 64 < name.text().len() + 1 + source.child("targetPortal").text().len() {
            let text = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                        iscsi.initiatorName is specified.";
            errors.push(name.invalid(text));
        }
    }
    errors
}

fn is_iscsi_kind(name: &str) -> bool {
    ["iqn", "eui", "naa"].iter().any(|kind| name.starts_with(kind))
}

/// `iqn.2001-04.com.example:storage`, `eui.` and 16 or `naa.` and 16 or 32 hexadecimal digits.
fn is_iscsi_name(name: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(rest) = name.strip_prefix("eui.") {
        return rest.len() == 16 && hex(rest);
    }
    if let Some(rest) = name.strip_prefix("naa.") {
        return matches!(rest.len(), 16 | 32) && hex(rest);
    }
    let Some(rest) = name.strip_prefix("iqn.") else { return false };
    let Some((date, rest)) = rest.split_once('.') else { return false };
    let month = date.split_once('-').is_some_and(|(year, month)| {
        let digits =
            |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        digits(year, 4) && digits(month, 2)
    });
    let (domain, tail) =
        rest.split_once(':').map_or((rest, None), |(domain, tail)| (domain, Some(tail)));
    let plain = |text: &str, more: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    month && plain(domain, b".-") && tail.is_none_or(|tail| plain(tail, b"-.:_"))
}

fn check_quobyte(source: &FieldValue<'_>) -> Vec<FieldError> {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let mut errors = Vec::new();
    let (registry, tenant) = (source.child("registry"), source.child("tenant"));
    if registry.is_empty() {
        errors.push(registry.required(PAIRS));
    } else if 65 <= tenant.text().len() {
        let text = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(tenant.required(text));
    } else {
        let pairs = registry.text().split(',');
        let wrong = pairs.filter(|pair| pair.rsplit_once(':').is_none());
        errors.extend(wrong.map(|_| registry.invalid(PAIRS)));
    }
    errors.extend(source.child("volume").must_be());
    errors
}

fn check_storageos(source: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = source.child("volumeName").named(names::dns_label);
    let namespace = source.child("volumeNamespace");
    if !namespace.is_empty() {
        errors.extend(namespace.follows(names::dns_label));
    }
    errors.extend(check_secret(source));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "objects are written where they are used")]
    fn wrong(kind: &str, source: Value, expected: &[&str]) {
        let volume = json!({"name": "v", kind: source});
        let errors = check(&FieldValue::at(&volume, "v"), kind, true);
        let texts: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        assert_eq!(texts, expected, "{kind}");
    }

    #[test]
    fn every_source_says_what_it_lacks() {
        wrong("csi", json!({"driver": "Inline.Example.com", "volumeAttributes": {"a": "b"}}), &[]);
        wrong("csi", json!({}), &["v.csi.driver: Required value"]);
        wrong("hostPath", json!({"path": "/a", "type": "Directory"}), &[]);
        wrong("hostPath", json!({}), &["v.hostPath.path: Required value"]);
        wrong(
            "hostPath",
            json!({"path": "/a/../b"}),
            &["v.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
        );
        wrong(
            "nfs",
            json!({"path": "a"}),
            &[
                "v.nfs.server: Required value",
                "v.nfs.path: Invalid value: \"a\": must be an absolute path",
            ],
        );
        wrong(
            "gcePersistentDisk",
            json!({"partition": 256}),
            &[
                "v.persistentDisk.pdName: Required value",
                "v.persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive",
            ],
        );
        wrong("persistentVolumeClaim", json!({"claimName": "c"}), &[]);
        wrong(
            "flexVolume",
            json!({"driver": "d", "options": {"x.k8s.io/a": "b"}}),
            &[
                "v.flexVolume.options[x.k8s.io/a]: Invalid value: \"x.k8s.io/a\": kubernetes.io and k8s.io namespaces are \
             reserved",
            ],
        );
        let iqn = "iqn.2001-04.com.example:storage.disk1";
        wrong("iscsi", json!({"targetPortal": "1.2.3.4", "iqn": iqn, "lun": 0}), &[]);
        wrong(
            "iscsi",
            json!({"targetPortal": "1.2.3.4", "iqn": "eui.1", "lun": 256}),
            &[
                "v.iscsi.iqn: Invalid value: \"eui.1\": must be valid format",
                "v.iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
            ],
        );
        wrong("ephemeral", json!({}), &["v.ephemeral.volumeClaimTemplate: Required value"]);
        wrong("image", json!({"pullPolicy": "Always"}), &["v.image.reference: Required value"]);
        wrong("fc", json!({"wwids": ["a"]}), &[]);
        wrong(
            "storageos",
            json!({"volumeName": "a", "secretRef": {}}),
            &["v.storageos.secretRef.name: Required value"],
        );
    }
}
