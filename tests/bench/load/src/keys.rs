//! A CA and the certificates of a server on 127.0.0.1 and of its administrator: ECDSA P-256, as the hub makes its own.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde::Deserialize;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::LoadError;

/// Where they go.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    dir: PathBuf,
}

/// A benchmark does not run longer than this.
const VALID: Duration = Duration::days(2);

pub fn make(order: &Order) -> Result<Value, LoadError> {
    std::fs::create_dir_all(&order.dir).map_err(LoadError::io(order.dir.display().to_string()))?;
    let mut ca = params("bench-ca");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let ca_key = KeyPair::generate()?;
    write(&order.dir, "ca.crt", &ca.self_signed(&ca_key)?.pem())?;
    let issuer = Issuer::new(ca, ca_key);

    let mut server = params("kube-apiserver");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
    sign(&order.dir, "serving", server, &issuer)?;

    let mut admin = params("kubernetes-admin");
    admin.distinguished_name.push(DnType::OrganizationName, "system:masters");
    admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign(&order.dir, "admin", admin, &issuer)?;

    let accounts = KeyPair::generate()?;
    write(&order.dir, "sa.key", &accounts.serialize_pem())?;
    write(&order.dir, "sa.pub", &accounts.public_key_pem())?;
    Ok(json!({"dir": order.dir}))
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::HOUR;
    params.not_after = now + VALID;
    params
}

fn sign(
    dir: &Path,
    name: &str,
    mut params: CertificateParams,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(), LoadError> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    write(dir, &format!("{name}.crt"), &params.signed_by(&key, issuer)?.pem())?;
    write(dir, &format!("{name}.key"), &key.serialize_pem())
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), LoadError> {
    let path = dir.join(name);
    std::fs::write(&path, text).map_err(LoadError::io(path.display().to_string()))
}
