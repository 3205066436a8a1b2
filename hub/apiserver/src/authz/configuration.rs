//! The file that says who decides what callers may do, and in which order (`AuthorizationConfiguration` of
//! apiserver.config.k8s.io). What cannot be done here is refused, and not left out.
//!
//! Guarantees:
//! - a file is obeyed as kube-apiserver does, or refused with what is wrong with it
//!   (`a_configuration_of_authorizers_is_obeyed_or_refused`).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use freewheel_hub_schema::{duration, name};
use serde::Deserialize;

use super::match_conditions::MatchConditions;
use crate::access::file_versions;

/// How long what is allowed counts where nobody says so, and what is not.
const ALLOWED_TTL: Duration = Duration::from_secs(300);
const OTHER_TTL: Duration = Duration::from_secs(30);
/// How long a webhook may be waited for at most, and without a file.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// Why a configuration is none that can be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AuthorizationConfigurationError(String);

/// One who decides.
#[derive(Clone, Debug)]
pub enum Member {
    /// By which node runs what.
    Node,
    /// By roles.
    Rbac,
    /// By a file of policies.
    Abac,
    /// Allows everything to all who are known.
    AlwaysAllow,
    /// Denies everything.
    AlwaysDeny,
    /// By asking somebody else, whose kubeconfig is in this file.
    Webhook(WebhookOptions, PathBuf),
}

/// How somebody else is asked.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// By what it is known in figures.
    pub name: String,
    /// How long an answer counts that allows; not at all, where there is none.
    pub allowed_ttl: Option<Duration>,
    /// The same of any other answer.
    pub other_ttl: Option<Duration>,
    /// How long it is waited for.
    pub timeout: Duration,
    /// Where they cannot be asked, nobody goes on.
    pub fails_closed: bool,
    /// Under which it is asked.
    pub(super) conditions: MatchConditions,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            allowed_ttl: Some(ALLOWED_TTL),
            other_ttl: Some(OTHER_TTL),
            timeout: TIMEOUT_MAX,
            fails_closed: false,
            conditions: MatchConditions::default(),
        }
    }
}

impl WebhookOptions {
    /// Whose answers count for so long: those that allow, and all others.
    #[must_use]
    pub fn cached_for(allowed: Duration, other: Duration) -> Self {
        Self { allowed_ttl: Some(allowed), other_ttl: Some(other), ..Self::default() }
    }
}

/// Who decides, in their order.
#[derive(Clone, Debug)]
pub struct AuthorizationConfiguration(pub Vec<Member>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    authorizers: Vec<Authorizer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Authorizer {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    #[serde(default)]
    webhook: Option<Webhook>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Webhook {
    #[serde(default, rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    #[serde(default = "yes")]
    cache_authorized_requests: bool,
    #[serde(default, rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    #[serde(default = "yes")]
    cache_unauthorized_requests: bool,
    timeout: String,
    subject_access_review_version: String,
    #[serde(default)]
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: Connection,
    #[serde(default)]
    match_conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Connection {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    kube_config_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    expression: String,
}

const fn yes() -> bool {
    true
}

fn wrong<T>(why: impl Into<String>) -> Result<T, AuthorizationConfigurationError> {
    Err(AuthorizationConfigurationError(why.into()))
}

impl AuthorizationConfiguration {
    /// Reads its text, YAML or JSON.
    ///
    /// # Errors
    /// When it is none, or asks for what is not done here.
    pub fn read(text: &str) -> Result<Self, AuthorizationConfigurationError> {
        let File { api_version, kind, authorizers } = serde_saphyr::from_str(text)
            .map_err(|error| AuthorizationConfigurationError(error.to_string()))?;
        file_versions::check(&api_version, &kind, "AuthorizationConfiguration").or_else(wrong)?;
        if authorizers.is_empty() {
            return wrong("at least one authorization mode must be defined");
        }
        let (mut names, mut kinds) = (BTreeSet::new(), BTreeSet::new());
        for one in &authorizers {
            if !name::dns_subdomain(&one.name).is_empty() {
                return wrong(format!(
                    "the name {:?} of an authorizer is no DNS subdomain",
                    one.name
                ));
            }
            let is_new = one.kind == "Webhook" || kinds.insert(&one.kind);
            if !names.insert(&one.name) || !is_new {
                return wrong(format!(
                    "authorizer {:?} of type {} is there twice",
                    one.name, one.kind
                ));
            }
        }
        authorizers.into_iter().map(member).collect::<Result<_, _>>().map(Self)
    }
}

fn member(one: Authorizer) -> Result<Member, AuthorizationConfigurationError> {
    let Authorizer { kind, name, webhook } = one;
    let plain = match (&*kind, webhook) {
        ("Webhook", Some(webhook)) => return asked(&name, webhook),
        ("Webhook", None) => return wrong(format!("authorizer {name:?} needs a webhook")),
        (_, Some(_)) => return wrong(format!("authorizer {name:?} of type {kind} has no webhook")),
        ("Node", None) => Member::Node,
        ("RBAC", None) => Member::Rbac,
        ("ABAC", None) => Member::Abac,
        ("AlwaysAllow", None) => Member::AlwaysAllow,
        ("AlwaysDeny", None) => Member::AlwaysDeny,
        (_, None) => return wrong(format!("authorizer {name:?} has the unknown type {kind:?}")),
    };
    Ok(plain)
}

/// What is wrong with a field of a webhook.
fn of(name: &str, what: &str, why: &str) -> AuthorizationConfigurationError {
    AuthorizationConfigurationError(format!("webhook {name:?}: {what} {why}"))
}

fn asked(name: &str, webhook: Webhook) -> Result<Member, AuthorizationConfigurationError> {
    let fails_closed = check_words(name, &webhook)?;
    let path = webhook.connection_info.kube_config_file;
    if !path.is_absolute() {
        return Err(of(name, "connectionInfo.kubeConfigFile", "must be an absolute path"));
    }
    let timeout = time(name, "timeout", &webhook.timeout)?;
    if timeout.is_zero() || TIMEOUT_MAX < timeout {
        let why = format!("must be > 0s and <= {} s", TIMEOUT_MAX.as_secs());
        return Err(of(name, "timeout", &why));
    }
    let ttl = |what: &str, text: Option<String>, default, is_kept: bool| {
        let given = text.map_or(Ok(Duration::ZERO), |text| time(name, what, &text))?;
        // Not to keep answers is said by the fields beside.
        let ttl = if given.is_zero() { default } else { given };
        Ok::<_, AuthorizationConfigurationError>(is_kept.then_some(ttl))
    };
    let kept = (webhook.cache_authorized_requests, webhook.cache_unauthorized_requests);
    let texts = webhook.match_conditions.into_iter().map(|one| one.expression).collect();
    let options = WebhookOptions {
        allowed_ttl: ttl("authorizedTTL", webhook.authorized_ttl, ALLOWED_TTL, kept.0)?,
        other_ttl: ttl("unauthorizedTTL", webhook.unauthorized_ttl, OTHER_TTL, kept.1)?,
        timeout,
        fails_closed,
        conditions: MatchConditions::read(texts)
            .map_err(|why| AuthorizationConfigurationError(format!("webhook {name:?}: {why}")))?,
        name: name.to_owned(),
    };
    Ok(Member::Webhook(options, path))
}

/// Whether who cannot be asked denies, where all words are such as are known here.
fn check_words(name: &str, webhook: &Webhook) -> Result<bool, AuthorizationConfigurationError> {
    let not = |what: &str, said: &str, known: &str| {
        Err(of(name, what, &format!("{said:?} is none of {known}")))
    };
    let version = &*webhook.subject_access_review_version;
    if version != "v1" {
        return not("subjectAccessReviewVersion", version, "v1");
    }
    let version = &*webhook.match_condition_subject_access_review_version;
    if version != "v1" && !(version.is_empty() && webhook.match_conditions.is_empty()) {
        return not("matchConditionSubjectAccessReviewVersion", version, "v1");
    }
    let kind = &*webhook.connection_info.kind;
    if kind != "KubeConfigFile" {
        return not("connectionInfo.type", kind, "KubeConfigFile");
    }
    match &*webhook.failure_policy {
        "NoOpinion" => Ok(false),
        "Deny" => Ok(true),
        other => not("failurePolicy", other, "Deny, NoOpinion"),
    }
}

fn time(name: &str, what: &str, text: &str) -> Result<Duration, AuthorizationConfigurationError> {
    let time = duration::read(text);
    let time = time.map_err(|error| of(name, what, &format!("is no duration: {error}")))?;
    Duration::try_from(time).map_err(|_| of(name, what, "must not be negative"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOK: &str = "type: Webhook, name: opa, webhook: {timeout: 3s, subjectAccessReviewVersion: v1, \
        matchConditionSubjectAccessReviewVersion: v1, failurePolicy: Deny, authorizedTTL: 1m30s, \
        cacheUnauthorizedRequests: false, connectionInfo: {type: KubeConfigFile, kubeConfigFile: /opa}, \
        matchConditions: [{expression: \"request.user == 'jane'\"}]}";

    fn read(authorizers: &str) -> Result<Vec<Member>, String> {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: [{authorizers}]"
        );
        let read = AuthorizationConfiguration::read(&text);
        read.map(|it| it.0).map_err(|error| error.to_string())
    }

    #[test]
    fn a_configuration_of_authorizers_is_obeyed_or_refused() {
        let all =
            read(&format!("{{{HOOK}}}, {{type: Node, name: node}}, {{type: RBAC, name: rbac}}"));
        let all = all.unwrap();
        let [Member::Webhook(hook, path), Member::Node, Member::Rbac] = &*all else {
            panic!("{all:?}");
        };
        assert_eq!((&*hook.name, path.to_str()), ("opa", Some("/opa")));
        assert_eq!(hook.allowed_ttl, Some(Duration::from_secs(90)));
        assert_eq!((hook.other_ttl, hook.timeout), (None, Duration::from_secs(3)));
        assert!(hook.fails_closed);
        for (change, why) in [
            (("timeout: 3s", "timeout: 31s"), "timeout must be > 0s"),
            (("timeout: 3s", "timeout: soon"), "is no duration"),
            (("timeout: 3s", "timeout: PT3S"), "is no duration"),
            (("failurePolicy: Deny", "failurePolicy: Ignore"), "failurePolicy"),
            (("kubeConfigFile: /opa", "kubeConfigFile: opa"), "must be an absolute path"),
            (("type: KubeConfigFile", "type: InClusterConfig"), "connectionInfo.type"),
            (("SubjectAccessReviewVersion: v1,", "SubjectAccessReviewVersion: v2,"), "none of v1"),
            (("request.user == 'jane'", "request.user =="), "matchConditions"),
            (("request.user == 'jane'", "user == 'jane'"), "matchConditions"),
            (("request.user == 'jane'", "request.usr == 'jane'"), {
                "webhook \"opa\": matchConditions[0].expression: Invalid value: \"request.usr == 'jane'\": compilation \
                 failed: ERROR: <input>:1:8: undefined field 'usr'"
            }),
            (("request.user == 'jane'", "request.user"), "must evaluate to bool but got string"),
            (("name: opa", "name: Opa"), "DNS subdomain"),
        ] {
            let wrong = HOOK.replace(change.0, change.1);
            assert!(read(&format!("{{{wrong}}}")).unwrap_err().contains(why), "{wrong}");
        }
        for (wrong, why) in [
            ("", "at least one"),
            ("{type: RBAC, name: a}, {type: RBAC, name: b}", "twice"),
            ("{type: RBAC, name: a}, {type: Node, name: a}", "twice"),
            ("{type: Webhook, name: a}", "needs a webhook"),
            ("{type: Guess, name: a}", "unknown type"),
        ] {
            assert!(read(wrong).unwrap_err().contains(why), "{wrong}");
        }
        let plain = WebhookOptions::default();
        assert_eq!(plain.allowed_ttl, Some(Duration::from_secs(300)));
        let zero = read(&format!("{{{}}}", HOOK.replace("1m30s", "0s"))).unwrap();
        let [Member::Webhook(hook, _)] = &*zero else { panic!("{zero:?}") };
        assert_eq!(hook.allowed_ttl, plain.allowed_ttl, "as if nothing were said");
        let text = |version: &str| {
            let rbac = "authorizers: [{type: RBAC, name: rbac}]";
            format!(
                "apiVersion: apiserver.config.k8s.io/{version}\nkind: AuthorizationConfiguration\n{rbac}"
            )
        };
        for (version, is_known) in
            [("v1", true), ("v1beta1", true), ("anything", false), ("", false)]
        {
            let read = AuthorizationConfiguration::read(&text(version));
            assert_eq!(read.is_ok(), is_known, "{version}");
        }
    }
}
