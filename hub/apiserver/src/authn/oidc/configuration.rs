//! Which OpenID providers are believed: those of a file (`AuthenticationConfiguration` of apiserver.config.k8s.io), or the
//! one that flags say (`--oidc-…`). What cannot be done here (CEL expressions among it) is refused, and not left out.
//!
//! Guarantees:
//! - a file is obeyed or refused (`a_configuration_is_obeyed_or_refused`);
//! - flags mean what they mean to kube-apiserver, with its defaults (`flags_are_those_of_kube_apiserver`).

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_pki::JwkSet;
use serde::Deserialize;
use serde_json::Value;

use crate::access::file_versions;
use crate::access::remote::Fetch;

/// Why a configuration is none that can be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigurationError(String);

/// A provider of the configuration, and the way to it.
pub struct Provider {
    pub(super) jwt: Jwt,
    pub(super) fetch: Arc<dyn Fetch>,
}

/// Which providers are believed.
#[derive(Clone, Debug, Default)]
pub struct AuthenticationConfiguration(Vec<Jwt>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    jwt: Vec<Jwt>,
}

/// One provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Jwt {
    pub(super) issuer: JwtIssuer,
    #[serde(default)]
    pub(super) claim_validation_rules: Vec<Rule>,
    pub(super) claim_mappings: Mappings,
    /// What its tokens may be signed by; all that is known here where nothing is said.
    #[serde(skip)]
    pub(super) algorithms: Vec<String>,
}

/// Whose tokens, and for whom.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct JwtIssuer {
    pub(super) url: String,
    #[serde(default, rename = "discoveryURL")]
    discovery_url: String,
    /// PEM; the host's own authorities where it is left out.
    #[serde(default)]
    certificate_authority: String,
    pub(super) audiences: Vec<String>,
    #[serde(default)]
    audience_match_policy: String,
}

/// A claim that has to have a value.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) claim: String,
    #[serde(default)]
    pub(super) required_value: String,
}

/// What claims say of a user.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mappings {
    pub(super) username: Claim,
    #[serde(default)]
    pub(super) groups: Option<Claim>,
    #[serde(default)]
    pub(super) uid: Option<PlainClaim>,
}

/// A claim, and what is put before what it says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Claim {
    pub(super) claim: String,
    /// To be said even where it is empty: names of a provider are not to be anybody else's by mistake.
    prefix: String,
}

/// A claim as it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PlainClaim {
    pub(super) claim: String,
}

impl Claim {
    /// What a claim says. An empty text is one, and so is null, as kube-apiserver reads it.
    pub(super) fn text(&self, claims: &Value) -> Result<String, &'static str> {
        Ok(format!("{}{}", self.prefix, text(claims, &self.claim)?))
    }

    /// The texts of a claim that is one or a list, or is not there; null is none, as kube-apiserver reads it.
    pub(super) fn texts(&self, claims: &Value) -> Result<Vec<String>, &'static str> {
        let texts = match claims.get(&self.claim) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(all)) if !all.iter().all(Value::is_string) => {
                return Err("it is neither a text nor a list of texts");
            }
            Some(list @ Value::Array(_)) => Self::list(list),
            Some(_) => vec![text(claims, &self.claim)?],
        };
        Ok(texts.into_iter().map(|text| format!("{}{text}", self.prefix)).collect())
    }

    /// One text, or a list of them.
    pub(super) fn list(value: &Value) -> Vec<String> {
        let one = value.as_str().map(str::to_owned);
        let more = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        one.into_iter().chain(more.map(str::to_owned)).collect()
    }
}

/// The text of a claim.
pub(super) fn text(claims: &Value, claim: &str) -> Result<String, &'static str> {
    match claims.get(claim) {
        None => Err("claim not present"),
        Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err("it is no text"),
    }
}

impl JwtIssuer {
    /// Where its discovery document is.
    pub(super) fn discovery(&self) -> String {
        if self.discovery_url.is_empty() {
            let url = self.url.trim_end_matches('/');
            format!("{url}/.well-known/openid-configuration")
        } else {
            self.discovery_url.clone()
        }
    }

    fn check(&self) -> Result<(), ConfigurationError> {
        let wrong = |why: &str| Err(ConfigurationError(format!("issuer {:?} {why}", self.url)));
        if !self.url.starts_with("https://") || !self.discovery().starts_with("https://") {
            return wrong("has to be https://");
        }
        if self.audiences.is_empty() {
            return wrong("needs audiences");
        }
        if !matches!(&*self.audience_match_policy, "" | "MatchAny") {
            return wrong("may have the audienceMatchPolicy MatchAny alone");
        }
        Ok(())
    }
}

/// What flags say of one provider.
#[derive(Clone, Debug, Default)]
pub struct OidcFlags {
    /// `--oidc-issuer-url`
    pub issuer_url: String,
    /// `--oidc-client-id`
    pub client_id: String,
    /// What is in the file of `--oidc-ca-file`, where there is one.
    pub certificate_authority: String,
    /// `--oidc-username-claim`
    pub username_claim: Option<String>,
    /// `--oidc-username-prefix`
    pub username_prefix: Option<String>,
    /// `--oidc-groups-claim`
    pub groups_claim: Option<String>,
    /// `--oidc-groups-prefix`
    pub groups_prefix: Option<String>,
    /// `--oidc-required-claim`
    pub required_claims: BTreeMap<String, String>,
    /// `--oidc-signing-algs`
    pub signing_algorithms: Vec<String>,
}

impl OidcFlags {
    /// What is put before names: a provider's name nobody else, unless somebody says so.
    fn username_prefix(&self, claim: &str) -> String {
        match self.username_prefix.as_deref().unwrap_or_default() {
            "" if claim == "email" => String::new(),
            "" => format!("{}#", self.issuer_url),
            "-" => String::new(),
            said => said.to_owned(),
        }
    }

    fn jwt(self) -> Jwt {
        let said = |claim: Option<String>| claim.filter(|claim| !claim.is_empty());
        let claim = said(self.username_claim.clone()).unwrap_or_else(|| "sub".to_owned());
        let username = Claim { prefix: self.username_prefix(&claim), claim };
        let prefix = self.groups_prefix.unwrap_or_default();
        let groups = said(self.groups_claim).map(|claim| Claim { claim, prefix });
        let rule = |(claim, required_value)| Rule { claim, required_value };
        let algorithms = match self.signing_algorithms {
            none if none.is_empty() => vec!["RS256".to_owned()],
            some => some,
        };
        Jwt {
            issuer: JwtIssuer {
                url: self.issuer_url,
                discovery_url: String::new(),
                certificate_authority: self.certificate_authority,
                audiences: vec![self.client_id],
                audience_match_policy: String::new(),
            },
            claim_validation_rules: self.required_claims.into_iter().map(rule).collect(),
            claim_mappings: Mappings { username, groups, uid: None },
            algorithms,
        }
    }
}

impl AuthenticationConfiguration {
    /// Of the provider that flags say.
    ///
    /// # Errors
    /// When they ask for what is not done here.
    pub fn of_flags(flags: OidcFlags) -> Result<Self, ConfigurationError> {
        let jwt = flags.jwt();
        jwt.issuer.check()?;
        if let Some(unknown) = jwt.algorithms.iter().find(|one| !JwkSet::knows(one)) {
            let why = format!("oidc: unsupported signing alg: {unknown:?}");
            return Err(ConfigurationError(why));
        }
        Ok(Self(vec![jwt]))
    }

    /// Reads its text, YAML or JSON.
    ///
    /// # Errors
    /// When it is none, or asks for what is not done here.
    pub fn read(text: &str) -> Result<Self, ConfigurationError> {
        let File { api_version, kind, jwt } =
            serde_saphyr::from_str(text).map_err(|error| ConfigurationError(error.to_string()))?;
        file_versions::check(&api_version, &kind, "AuthenticationConfiguration")
            .map_err(ConfigurationError)?;
        for (at, one) in jwt.iter().enumerate() {
            one.issuer.check()?;
            if jwt.iter().take(at).any(|other| other.issuer.url == one.issuer.url) {
                return Err(ConfigurationError(format!(
                    "issuer {:?} is there twice",
                    one.issuer.url
                )));
            }
        }
        Ok(Self(jwt))
    }

    /// Its providers. `reach` makes the way to one, which is known by these authorities (PEM), or by those of the host
    /// where there are none.
    ///
    /// # Errors
    /// What `reach` answers.
    pub fn providers<F: Fetch + 'static, E>(
        self,
        reach: impl Fn(&str) -> Result<Arc<F>, E>,
    ) -> Result<Vec<Arc<Provider>>, E> {
        let provider = |jwt: Jwt| {
            let fetch = reach(&jwt.issuer.certificate_authority)?;
            Ok(Arc::new(Provider { jwt, fetch }))
        };
        self.0.into_iter().map(provider).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> OidcFlags {
        let (issuer_url, client_id) = ("https://a/b".to_owned(), "hub".to_owned());
        OidcFlags { issuer_url, client_id, ..OidcFlags::default() }
    }

    #[test]
    fn flags_are_those_of_kube_apiserver() {
        let of = |flags| AuthenticationConfiguration::of_flags(flags).unwrap().0.remove(0);
        let Jwt { issuer, claim_validation_rules, claim_mappings, algorithms } = of(flags());
        assert_eq!((&*issuer.url, issuer.audiences), ("https://a/b", vec!["hub".to_owned()]));
        assert_eq!((claim_validation_rules.len(), algorithms), (0, vec!["RS256".to_owned()]));
        assert_eq!(claim_mappings.username.claim, "sub");
        assert!(claim_mappings.groups.is_none() && claim_mappings.uid.is_none());
        for (claim, prefix, put) in [
            (None, None, "https://a/b#"),
            (None, Some(""), "https://a/b#"),
            (Some("name"), None, "https://a/b#"),
            (Some("email"), None, ""),
            (Some("email"), Some("oidc:"), "oidc:"),
            (None, Some("-"), ""),
        ] {
            let [username_claim, username_prefix] = [claim, prefix].map(|it| it.map(str::to_owned));
            let said = of(OidcFlags { username_claim, username_prefix, ..flags() });
            assert_eq!(said.claim_mappings.username.prefix, put, "{claim:?} {prefix:?}");
        }
        let all = of(OidcFlags {
            groups_claim: Some("roles".to_owned()),
            groups_prefix: Some("oidc:".to_owned()),
            required_claims: [("hd".to_owned(), "example.com".to_owned())].into(),
            signing_algorithms: vec!["ES256".to_owned(), "RS512".to_owned()],
            ..flags()
        });
        let groups = all.claim_mappings.groups.unwrap();
        assert_eq!((&*groups.claim, &*groups.prefix), ("roles", "oidc:"));
        assert_eq!(all.claim_validation_rules[0].required_value, "example.com");
        assert_eq!(all.algorithms, ["ES256", "RS512"]);
        let why = |flags| AuthenticationConfiguration::of_flags(flags).unwrap_err().to_string();
        let none = OidcFlags { signing_algorithms: vec!["none".to_owned()], ..flags() };
        assert_eq!(why(none), "oidc: unsupported signing alg: \"none\"");
        let plain = OidcFlags { issuer_url: "http://a".to_owned(), ..flags() };
        assert!(why(plain).contains("has to be https://"));
    }

    #[test]
    fn a_configuration_is_obeyed_or_refused() {
        let file = |jwt: &str| {
            format!(
                "apiVersion: apiserver.config.k8s.io/v1beta1\nkind: AuthenticationConfiguration\njwt: [{jwt}]"
            )
        };
        let plain = "{issuer: {url: 'https://a', audiences: [b]}, claimMappings: {username: {claim: sub, prefix: ''}}}";
        let read = AuthenticationConfiguration::read(&file(plain)).unwrap();
        assert_eq!(read.0[0].issuer.discovery(), "https://a/.well-known/openid-configuration");
        for (jwt, why) in [
            (format!("{plain}, {plain}"), "is there twice"),
            (plain.replace("https", "http"), "has to be https://"),
            (plain.replace("[b]", "[]"), "needs audiences"),
            (plain.replace(", prefix: ''", ""), "prefix"),
            (plain.replace("claim: sub", "expression: claims.sub"), "expression"),
            (plain.replace("{issuer:", "{userValidationRules: [], issuer:"), "userValidationRules"),
        ] {
            let said = AuthenticationConfiguration::read(&file(&jwt)).unwrap_err().to_string();
            assert!(said.contains(why), "{why}: {said}");
        }
        assert!(AuthenticationConfiguration::read("kind: Pod\napiVersion: v1").is_err());
        let of_no_version = file(plain).replace("v1beta1", "v2");
        assert!(AuthenticationConfiguration::read(&of_no_version).is_err());
    }
}
