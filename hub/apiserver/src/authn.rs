//! Who calls: each request asks the authenticators, and the first that knows says whose it is.
//!
//! ```text
//! certificate, headers ─▶ agents of clusters and add-ons ─▶ people ─▶ bearers of tokens ─▶ anonymous
//!                         ─▶ User { name, uid, groups, extra, until }
//! ```
//!
//! Guarantees:
//! - nobody is somebody beyond the end of what they showed, however long their connection lasts
//!   (`a_certificate_that_ends_is_refused_over_its_open_connection_and_ends_what_runs`), by the hub's clock
//!   (`a_certificate_ends_by_the_clock_however_it_is_put_on`, `who_has_ended_is_nobody`);
//! - the first who knows decides, and who shows something wrong is nobody, not even a stranger
//!   (`the_first_who_knows_decides`, `who_shows_something_wrong_is_nobody`).

mod agent;
mod agent_ends;
mod authenticator;
mod bearer;
mod bootstrap_tokens;
mod certificate;
pub(crate) mod impersonate;
mod oidc;
mod proven;
mod service_accounts;
mod token_file;
mod user;
mod webhook;

use std::sync::Arc;

use freewheel_hub_metrics::Metrics;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::Store;

use crate::tokens::Issuer;
pub use agent::{Agent, AgentOf};
pub(crate) use agent_ends::AgentEnds;
pub use authenticator::{Authenticator, Shown, unauthorized};
pub(crate) use bearer::Bearers;
use bearer::TokenAuthenticator;
use bootstrap_tokens::BootstrapTokens;
use certificate::{Agents, People};
use oidc::Oidc;
pub use oidc::{AuthenticationConfiguration, ConfigurationError, OidcFlags, Provider};
pub use proven::Proven;
use service_accounts::ServiceAccounts;
pub use token_file::{TokenFile, TokenFileError};
pub use user::{ANONYMOUS, AUTHENTICATED, Home, UNAUTHENTICATED, User};
use webhook::TokenWebhook;
pub use webhook::TokenWebhookOptions;

/// All who know callers, in the order in which they are asked.
pub struct Authenticators {
    members: Vec<Box<dyn Authenticator>>,
    anonymous: Arc<User>,
}

/// Who knows tokens of callers, beside the store.
#[derive(Clone, Default)]
pub(crate) struct BearerOptions {
    pub(crate) file: TokenFile,
    pub(crate) providers: Vec<Arc<Provider>>,
    pub(crate) webhook: Option<TokenWebhookOptions>,
}

/// All who know tokens of callers: those of a file, those that are in a store, and those whom somebody else knows; with
/// figures of what these are asked.
pub(crate) fn bearers(
    BearerOptions { file, providers, webhook }: BearerOptions,
    issuer: &Issuer,
    store: &Arc<dyn Store>,
    metrics: &Metrics,
) -> Arc<Bearers> {
    let (issuer, store) = (issuer.clone(), store.clone());
    let mut members: Vec<Box<dyn TokenAuthenticator>> = vec![
        Box::new(file),
        Box::new(BootstrapTokens { store: store.clone(), issuer: issuer.clone() }),
        Box::new(ServiceAccounts::new(issuer.clone(), store.clone())),
    ];
    for provider in providers {
        members.push(Box::new(Oidc::new(provider, issuer.clone())));
    }
    if let Some(options) = webhook {
        let webhook = TokenWebhook::new(options, issuer.clone());
        webhook.show(metrics);
        members.push(Box::new(webhook));
    }
    Arc::new(Bearers { members, issuer, store })
}

impl Authenticators {
    /// Those who have a certificate, and those who have a token.
    pub(crate) fn with(bearers: Arc<Bearers>) -> Self {
        let agents = Agents { store: bearers.store.clone() };
        Self::of(vec![Box::new(agents), Box::new(People), Box::new(bearers)])
    }

    /// These, and then nobody.
    fn of(members: Vec<Box<dyn Authenticator>>) -> Self {
        Self { members, anonymous: Arc::new(User::anonymous()) }
    }

    /// Who makes a request at this second.
    ///
    /// # Errors
    /// 401 for who shows something that is not good, or is good no more.
    pub async fn user(&self, shown: &Shown<'_>, now: i64) -> Result<Arc<User>, ApiError> {
        for member in &self.members {
            if let Some(user) = member.authenticate(shown).await? {
                // A connection lives on when the certificate that it began with has ended.
                return if user.has_ended(now) { Err(unauthorized()) } else { Ok(user) };
            }
        }
        Ok(self.anonymous.clone())
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use http::HeaderMap;

    use super::*;

    /// Knows whom a header names: until the second 9, and nobody called `wrong`.
    struct Header(&'static str);

    #[async_trait]
    impl Authenticator for Header {
        async fn authenticate(&self, shown: &Shown<'_>) -> Result<Option<Arc<User>>, ApiError> {
            let Some(name) = shown.headers.get(self.0) else { return Ok(None) };
            let name = name.to_str().unwrap().to_owned();
            if name == "wrong" {
                return Err(unauthorized());
            }
            let groups = vec![AUTHENTICATED.to_owned()];
            Ok(Some(Arc::new(User { name, groups, until: Some(9), ..User::default() })))
        }
    }

    async fn user(shown: &[(&'static str, &'static str)], now: i64) -> Result<String, u16> {
        let chain = Authenticators::of(vec![Box::new(Header("one")), Box::new(Header("two"))]);
        let mut headers = HeaderMap::new();
        for (name, value) in shown {
            headers.insert(*name, value.parse().unwrap());
        }
        let shown = Shown { certificate: None, headers: &headers, cluster: None };
        let user = chain.user(&shown, now).await.map_err(|error| error.code)?;
        assert_eq!(user.is_stranger(), user.name == ANONYMOUS);
        Ok(user.name.clone())
    }

    #[tokio::test]
    async fn the_first_who_knows_decides() {
        assert_eq!(user(&[("one", "ann"), ("two", "bob")], 0).await.unwrap(), "ann");
        assert_eq!(user(&[("two", "bob")], 0).await.unwrap(), "bob");
        assert_eq!(user(&[], 0).await.unwrap(), ANONYMOUS);
    }

    #[tokio::test]
    async fn who_has_ended_is_nobody() {
        assert_eq!(user(&[("one", "ann")], 9).await.unwrap(), "ann");
        assert_eq!(user(&[("one", "ann")], 10).await, Err(401));
    }

    #[tokio::test]
    async fn who_shows_something_wrong_is_nobody() {
        assert_eq!(user(&[("one", "wrong")], 0).await, Err(401));
        assert_eq!(user(&[("one", "wrong"), ("two", "bob")], 0).await, Err(401));
    }
}
