//! Files that say who callers are and what they may do, or who is asked for that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use freewheel_hub_apiserver::authn::{AuthenticationConfiguration, Provider, TokenFile};
use freewheel_hub_apiserver::authz::PolicyFile;
use freewheel_hub_apiserver::{AccessOptions, Remote};
use freewheel_hub_audit::{Audit, AuditLog, LogOptions, Place, Policy};
use freewheel_hub_pki::read_text;
use tracing::warn;

use super::admission_webhooks::AdmissionWebhooks;
use super::sealing::EncryptionConfiguration;
use super::webhook::{Https, Webhook};
use crate::cli::{AuditOptions, ServeOptions};
use crate::client::{Client, ClientError};
use crate::kubeconfig;

/// A file that says who callers are, or what they may do, cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {flag} {path}: {why}")]
pub struct FileError {
    flag: &'static str,
    path: PathBuf,
    why: String,
}

/// What the files of these options say.
pub(super) fn read(
    options: &ServeOptions,
    issuer: &str,
    webhooks: Arc<AdmissionWebhooks>,
) -> Result<AccessOptions, FileError> {
    let tokens = options.token_auth_file.as_deref();
    let policies = options.authorization_policy_file.as_deref();
    Ok(AccessOptions {
        tokens: parsed("--token-auth-file", tokens, TokenFile::read)?.unwrap_or_default(),
        policies: parsed("--authorization-policy-file", policies, PolicyFile::read)?
            .unwrap_or_default(),
        providers: providers(options.authentication_config.as_deref())?,
        token_webhook: webhook(
            "--authentication-token-webhook-config-file",
            options.authentication_token_webhook_config_file.as_deref(),
        )?,
        access_webhook: webhook(
            "--authorization-webhook-config-file",
            options.authorization_webhook_config_file.as_deref(),
        )?,
        webhooks: Some(webhooks),
        issuer: issuer.to_owned(),
    })
}

/// What is to be sealed in the store, beside what always is.
pub(super) fn encryption(options: &ServeOptions) -> Result<EncryptionConfiguration, FileError> {
    let path = options.encryption_provider_config.as_deref();
    let read = parsed("--encryption-provider-config", path, EncryptionConfiguration::read)?;
    Ok(read.unwrap_or_default())
}

/// Who is told of requests, where somebody is to be.
pub(super) fn audit(options: &AuditOptions) -> Result<Option<Arc<Audit>>, FileError> {
    let path = options.audit_log_path.as_deref();
    let policy = parsed("--audit-policy-file", options.audit_policy_file.as_deref(), Policy::read)?;
    let (policy, path) = match (policy, path) {
        (Some(policy), Some(path)) => (policy, path),
        (Some(_), None) => {
            warn!("there is a policy for an audit log and no --audit-log-path: nothing is written");
            return Ok(None);
        }
        (None, Some(_)) => {
            warn!("there is an audit log and no --audit-policy-file: nothing is written to it");
            return Ok(None);
        }
        (None, None) => return Ok(None),
    };
    let is_stdout = path == Path::new("-");
    let log = AuditLog::open(LogOptions {
        place: if is_stdout { Place::Stdout } else { Place::File(path.to_path_buf()) },
        bytes_max: u64::from(options.audit_log_maxsize) << 20,
        age_days_max: options.audit_log_maxage,
        backups_max: options.audit_log_maxbackup,
    });
    let unusable = |error: std::io::Error| FileError {
        flag: "--audit-log-path",
        path: path.to_path_buf(),
        why: error.to_string(),
    };
    let log = log.map_err(unusable)?;
    Ok(Some(Arc::new(Audit { policy, log })))
}

fn parsed<T, E: std::fmt::Display>(
    flag: &'static str,
    path: Option<&Path>,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, FileError> {
    let Some(path) = path else { return Ok(None) };
    let unusable = |why| FileError { flag, path: path.to_path_buf(), why };
    let text = read_text(path).map_err(|error| unusable(error.to_string()))?;
    read(&text).map(Some).map_err(|error| unusable(error.to_string()))
}

fn providers(path: Option<&Path>) -> Result<Vec<Arc<Provider>>, FileError> {
    const FLAG: &str = "--authentication-config";
    let Some(path) = path else { return Ok(Vec::new()) };
    let read = parsed(FLAG, Some(path), AuthenticationConfiguration::read)?.unwrap_or_default();
    let reached = read.providers(|authorities| Https::trusting(authorities).map(Arc::new));
    let unusable = |why: std::io::Error| FileError {
        flag: FLAG,
        path: path.to_path_buf(),
        why: format!("the authorities of this host are not found: {why}"),
    };
    reached.map_err(unusable)
}

fn webhook(flag: &'static str, path: Option<&Path>) -> Result<Option<Arc<dyn Remote>>, FileError> {
    let Some(path) = path else { return Ok(None) };
    let client = kubeconfig::of_webhook(path).map_err(ClientError::from).and_then(Client::with);
    let unusable = |error| {
        let (path, why) = (path.to_path_buf(), crate::chain(&error));
        FileError { flag, path, why }
    };
    Ok(Some(Arc::new(Webhook(client.map_err(unusable)?))))
}
