//! Files that say who callers are and what they may do, or who is asked for that.
//!
//! Guarantees:
//! - who decides what callers may do is who the command line names, in its order or that of its file
//!   (`who_decides_is_who_the_command_line_says_in_that_order`); beside its file no flag says what would be left out
//!   (`what_a_file_of_authorizers_says_is_not_said_by_flags_as_well`), nor beside that of OpenID providers
//!   (`a_provider_is_said_by_flags_or_by_a_file`);
//! - a hub that is to keep an audit log and cannot does not start, and says what to do
//!   (`an_audit_log_that_cannot_be_kept_is_told_with_what_to_do`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use freewheel_hub_apiserver::authn::{
    AuthenticationConfiguration, OidcFlags, Provider, TokenFile, TokenWebhookOptions,
};
use freewheel_hub_apiserver::authz::{
    AuthorizationConfiguration, AuthorizerOptions, Member, PolicyFile, WebhookOptions,
};
use freewheel_hub_apiserver::{AccessOptions, Remote};
use freewheel_hub_audit::{Audit, AuditLog, LogDestination, LogOptions, Policy};
use freewheel_hub_pki::read_text;
use tracing::warn;

use super::admission_webhooks::AdmissionWebhooks;
use super::sealing::EncryptionConfiguration;
use super::webhook::{Https, Webhook};
use crate::cli::{AuditOptions, OidcOptions, ServeOptions};
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
    let token_webhook = webhook(
        "--authentication-token-webhook-config-file",
        options.authentication_token_webhook_config_file.as_deref(),
    )?;
    let ttl = options.authentication_token_webhook_cache_ttl;
    Ok(AccessOptions {
        tokens: parsed("--token-auth-file", tokens, TokenFile::read)?.unwrap_or_default(),
        authorizers: authorizers(options)?,
        providers: providers(options)?,
        token_webhook: token_webhook.map(|remote| TokenWebhookOptions { remote, ttl }),
        webhooks: Some(webhooks),
        issuer: issuer.to_owned(),
    })
}

/// Who decides what callers may do, in their order.
fn authorizers(options: &ServeOptions) -> Result<Vec<AuthorizerOptions>, FileError> {
    let policy_path = options.authorization_policy_file.as_deref();
    let policies = parsed(POLICIES, policy_path, PolicyFile::read)?;
    let path = options.authorization_config.as_deref();
    let read = parsed(AUTHORIZERS, path, AuthorizationConfiguration::read)?;
    if let Some(AuthorizationConfiguration(members)) = read {
        // Left out without a word, those would be refused who have their rights from it.
        if let Some(path) = policy_path
            && !members.iter().any(|one| matches!(one, Member::Abac))
        {
            let why = format!("no authorizer of {AUTHORIZERS} has the type ABAC");
            return Err(FileError { flag: POLICIES, path: path.to_path_buf(), why });
        }
        let of = |one| configured(one, path.unwrap_or(Path::new("")), policies.as_ref());
        return members.into_iter().map(of).collect();
    }
    let mut all = vec![AuthorizerOptions::Node, AuthorizerOptions::Rbac];
    all.extend(policies.map(AuthorizerOptions::Abac));
    let remote = webhook(
        "--authorization-webhook-config-file",
        options.authorization_webhook_config_file.as_deref(),
    )?;
    let asked = WebhookOptions::cached_for(
        options.authorization_webhook_cache_authorized_ttl,
        options.authorization_webhook_cache_unauthorized_ttl,
    );
    all.extend(remote.map(|remote| AuthorizerOptions::Webhook(asked, remote)));
    Ok(all)
}

const AUTHORIZERS: &str = "--authorization-config";
const POLICIES: &str = "--authorization-policy-file";

/// One who decides, as the file in `path` says.
fn configured(
    one: Member,
    path: &Path,
    policies: Option<&PolicyFile>,
) -> Result<AuthorizerOptions, FileError> {
    let unusable =
        |why: &str| FileError { flag: AUTHORIZERS, path: path.to_path_buf(), why: why.to_owned() };
    Ok(match one {
        Member::Node => AuthorizerOptions::Node,
        Member::Rbac => AuthorizerOptions::Rbac,
        Member::Abac => {
            let why = "authorizer of type ABAC needs --authorization-policy-file";
            AuthorizerOptions::Abac(policies.ok_or_else(|| unusable(why))?.clone())
        }
        Member::AlwaysAllow => AuthorizerOptions::Always(true),
        Member::AlwaysDeny => AuthorizerOptions::Always(false),
        Member::Webhook(options, kubeconfig) => {
            let remote = webhook(AUTHORIZERS, Some(&kubeconfig))?;
            let remote = remote.ok_or_else(|| unusable("it names no kubeconfig"))?;
            AuthorizerOptions::Webhook(options, remote)
        }
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
        destination: if is_stdout {
            LogDestination::Stdout
        } else {
            LogDestination::File(path.to_path_buf())
        },
        bytes_max: u64::from(options.audit_log_maxsize) << 20,
        age_days_max: options.audit_log_maxage,
        backups_max: options.audit_log_maxbackup,
    });
    let unusable = |error: io::Error| FileError {
        flag: "--audit-log-path",
        path: path.to_path_buf(),
        why: unkept(&error),
    };
    let log = log.map_err(unusable)?;
    Ok(Some(Arc::new(Audit { policy, log })))
}

/// Why there is no audit log, and the way out. To serve without one that was asked for would be noticed when it is needed.
fn unkept(error: &io::Error) -> String {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let remedy = if is_full {
        "make room on its disk, or name a file on another one"
    } else {
        "let the hub write there, or name another file"
    };
    format!("{error}; the hub does not start without the audit log that it is to keep: {remedy}")
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

const PROVIDERS: &str = "--authentication-config";
const PROVIDER: &str = "--oidc-issuer-url";

/// The OpenID providers that a file says, or flags one.
fn providers(options: &ServeOptions) -> Result<Vec<Arc<Provider>>, FileError> {
    let path = options.authentication_config.as_deref();
    let file = parsed(PROVIDERS, path, AuthenticationConfiguration::read)?;
    let (flag, path, said) = match (file, path, &options.oidc.oidc_issuer_url) {
        (Some(file), Some(path), _) => (PROVIDERS, path, file),
        (_, _, Some(url)) => (PROVIDER, Path::new(url), provider(&options.oidc, url)?),
        (_, _, None) => return Ok(Vec::new()),
    };
    let reached = said.providers(|authorities| Https::trusting(authorities).map(Arc::new));
    let unusable = |why: io::Error| FileError {
        flag,
        path: path.to_path_buf(),
        why: format!("the authorities of this host are not found: {why}"),
    };
    reached.map_err(unusable)
}

/// The one that flags say.
fn provider(options: &OidcOptions, url: &str) -> Result<AuthenticationConfiguration, FileError> {
    // Not when the first token comes.
    let vouches = |text: &str| {
        let https = Https::trusting(text).map_err(|error| error.to_string())?;
        https.client("https://localhost").map(|_| text.to_owned())
    };
    let authority = parsed("--oidc-ca-file", options.oidc_ca_file.as_deref(), vouches)?;
    let flags = OidcFlags {
        issuer_url: url.to_owned(),
        client_id: options.oidc_client_id.clone().unwrap_or_default(),
        certificate_authority: authority.unwrap_or_default(),
        username_claim: options.oidc_username_claim.clone(),
        username_prefix: options.oidc_username_prefix.clone(),
        groups_claim: options.oidc_groups_claim.clone(),
        groups_prefix: options.oidc_groups_prefix.clone(),
        required_claims: options.oidc_required_claims.iter().cloned().collect(),
        signing_algorithms: options.oidc_signing_algs.clone(),
    };
    let unusable = |why| FileError { flag: PROVIDER, path: url.into(), why };
    AuthenticationConfiguration::of_flags(flags).map_err(|error| unusable(error.to_string()))
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

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use clap::Parser as _;
    use freewheel_hub_pki::Pki;

    use super::*;
    use crate::cli::{Cli, Verb};

    /// Who decides where the hub is started like this.
    fn chosen(more: &[&str]) -> Result<Vec<AuthorizerOptions>, FileError> {
        let line = ["hub", "serve", "--data", "/data"].iter().chain(more);
        let Verb::Serve(options) = Cli::try_parse_from(line).unwrap().verb else { unreachable!() };
        authorizers(&options)
    }

    #[test]
    fn what_a_file_of_authorizers_says_is_not_said_by_flags_as_well() {
        for flag in [
            ["--authorization-webhook-config-file", "/opa"],
            ["--authorization-webhook-cache-authorized-ttl", "0s"],
            ["--authorization-webhook-cache-unauthorized-ttl", "0s"],
        ] {
            let line = ["hub", "serve", "--data", "/data", "--authorization-config", "/file"];
            assert!(Cli::try_parse_from(line).is_ok());
            let error = Cli::try_parse_from([&line[..], &flag[..]].concat()).err();
            let kind = error.map(|error| error.kind());
            assert_eq!(kind, Some(clap::error::ErrorKind::ArgumentConflict), "{flag:?}");
        }
    }

    /// What is said of providers where the hub is started like this.
    fn known(more: &[&str]) -> Result<usize, String> {
        let line = ["hub", "serve", "--data", "/data"].iter().chain(more);
        let Verb::Serve(options) =
            Cli::try_parse_from(line).map_err(|error| error.to_string())?.verb
        else {
            unreachable!()
        };
        providers(&options).map(|all| all.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_provider_is_said_by_flags_or_by_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, Pki::open(folder.path(), false).unwrap().ca_pem).unwrap();
        let issuer = ["--oidc-issuer-url=https://issuer", "--oidc-client-id=hub"];
        let of = |more: &[&str]| {
            let ca = format!("--oidc-ca-file={}", ca.display());
            known(&[&issuer[..], &[ca.as_str()][..], more].concat())
        };
        assert_eq!((known(&[]), of(&[])), (Ok(0), Ok(1)));
        let all = [
            "--oidc-username-claim=email",
            "--oidc-username-prefix",
            "-",
            "--oidc-groups-claim=groups",
            "--oidc-groups-prefix=oidc:",
            "--oidc-required-claim=hd=example.com",
            "--oidc-required-claim=a=b=c",
            "--oidc-signing-algs=RS256,ES256",
        ];
        assert_eq!(of(&all), Ok(1));
        for (more, why) in [
            (
                "--oidc-signing-algs=RS256,HS256",
                "https://issuer: oidc: unsupported signing alg: \"HS256\"",
            ),
            ("--oidc-required-claim=hd", "malformed pair, expect string=string"),
            ("--authentication-config=/file", "cannot be used with"),
        ] {
            let said = of(&[more]).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        for alone in [issuer[0], issuer[1], all[0], all[3], all[5], all[7]] {
            let said = known(&[alone]).unwrap_err();
            assert!(said.contains("required arguments"), "{alone}: {said}");
        }
        std::fs::write(&ca, "no certificate").unwrap();
        assert!(of(&[]).unwrap_err().starts_with("cannot use --oidc-ca-file"));
        let missing = known(&[&issuer[..], &["--oidc-ca-file=/none"][..]].concat()).unwrap_err();
        assert!(missing.starts_with("cannot use --oidc-ca-file /none"), "{missing}");
    }

    #[test]
    fn an_audit_log_that_cannot_be_kept_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy");
        let rules = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n";
        std::fs::write(&policy, rules).unwrap();
        // A file is no folder, whoever asks.
        let log = policy.join("audit.log");
        let flags = [("--audit-policy-file", &policy), ("--audit-log-path", &log)];
        let flags = flags.map(|(flag, path)| format!("{flag}={}", path.display()));
        let line = ["hub", "serve", "--data", "/data", &flags[0], &flags[1]];
        let Verb::Serve(options) = Cli::try_parse_from(line).unwrap().verb else { unreachable!() };
        let why = audit(&options.audit).err().unwrap().to_string();
        let begin = format!("cannot use --audit-log-path {}: ", log.display());
        assert!(why.starts_with(&begin), "{why}");
        assert!(why.ends_with("let the hub write there, or name another file"), "{why}");
        let full = unkept(&io::ErrorKind::StorageFull.into());
        assert!(full.ends_with("make room on its disk, or name a file on another one"), "{full}");
    }

    fn word(one: &AuthorizerOptions) -> String {
        match one {
            AuthorizerOptions::Node => "node".to_owned(),
            AuthorizerOptions::Rbac => "roles".to_owned(),
            AuthorizerOptions::Abac(_) => "policies".to_owned(),
            AuthorizerOptions::Always(may) => format!("always {may}"),
            AuthorizerOptions::Webhook(options, _) => {
                let seconds = options.allowed_ttl.map(|ttl| ttl.as_secs());
                format!("webhook {} {seconds:?}", options.name)
            }
        }
    }

    #[test]
    fn who_decides_is_who_the_command_line_says_in_that_order() {
        let folder = tempfile::tempdir().unwrap();
        let ca = STANDARD.encode(Pki::open(folder.path(), false).unwrap().ca_pem);
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let kubeconfig = write(
            "opa",
            format!(
                "{{clusters: [{{name: a, cluster: {{server: 'https://opa', certificate-authority-data: {ca}}}}}], \
                 users: [{{name: u, user: {{}}}}], contexts: [{{name: c, context: {{cluster: a, user: u}}}}], \
                 current-context: c}}"
            ),
        );
        let told = |more: &[&str]| {
            let words = chosen(more).map(|all| all.iter().map(word).collect::<Vec<_>>());
            words.map_err(|error| error.to_string())
        };
        assert_eq!(told(&[]).unwrap(), ["node", "roles"]);
        let policies = write("policies", String::new());
        let flags = ["--authorization-policy-file", &policies];
        let asked = ["--authorization-webhook-config-file", &kubeconfig];
        let ttl = ["--authorization-webhook-cache-authorized-ttl", "10s"];
        let all = [flags, asked, ttl].concat();
        let words = ["node", "roles", "policies", "webhook default Some(10)"];
        assert_eq!(told(&all).unwrap(), words);
        let config = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n\
             - {{type: Webhook, name: opa, webhook: {{timeout: 3s, subjectAccessReviewVersion: v1, failurePolicy: Deny, \
             connectionInfo: {{type: KubeConfigFile, kubeConfigFile: '{kubeconfig}'}}}}}}\n\
             - {{type: RBAC, name: rbac}}\n"
        );
        let path = write("config", config.clone());
        let flag = ["--authorization-config", &path];
        assert_eq!(told(&flag).unwrap(), ["webhook opa Some(300)", "roles"]);
        let why = told(&[&flags[..], &flag[..]].concat()).unwrap_err();
        assert!(why.starts_with("cannot use --authorization-policy-file"), "{why}");
        let path = write("more", format!("{config}- {{type: ABAC, name: abac}}\n"));
        let flag = ["--authorization-config", &path];
        let why = told(&flag).unwrap_err();
        assert!(
            why.ends_with("authorizer of type ABAC needs --authorization-policy-file"),
            "{why}"
        );
        assert!(told(&[&flags[..], &flag[..]].concat()).is_ok());
        let conditions = "failurePolicy: Deny, matchConditionSubjectAccessReviewVersion: v1, \
            matchConditions: [{expression: 'request.usr == 1'}]";
        let path = write("odd", config.replace("failurePolicy: Deny", conditions));
        let why = told(&["--authorization-config", &path]).unwrap_err();
        let begin = format!(
            "cannot use --authorization-config {path}: webhook \"opa\": matchConditions[0].expression: Invalid value: \
             \"request.usr == 1\": compilation failed: ERROR: <input>:1:8: undefined field 'usr'"
        );
        assert!(why.starts_with(&begin), "{why}");
        std::fs::remove_file(&kubeconfig).unwrap();
        assert!(told(&flag).unwrap_err().contains("/opa"), "the kubeconfig is looked for");
    }
}
