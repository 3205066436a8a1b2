//! Callers by a bearer token (RFC 6750): of those who know tokens the first that knows this one says whose it is.
//!
//! ```text
//! Authorization: Bearer … ─▶ token file ─▶ bootstrap tokens ─▶ service accounts ─▶ OpenID ─▶ webhook ─▶ User
//! ```
//!
//! Guarantees:
//! - who shows a token that nobody knows is nobody (`a_token_that_nobody_knows_is_nobodys`).

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_schema::error::ApiError;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::authenticator::{Authenticator, Shown, unauthorized};
use super::user::User;
use crate::authz::Cluster;
use crate::tokens::Issuer;
use freewheel_hub_store::Store;

/// A token, as those who know tokens are asked about it.
#[derive(Clone, Copy)]
pub(crate) struct AskedToken<'a> {
    /// The token.
    pub(crate) token: &'a str,
    /// Where it is shown.
    pub(crate) cluster: Cluster<'a>,
    /// For whom it has to be.
    pub(crate) audiences: &'a [String],
    /// For whom one is that says nothing of that: the API.
    pub(crate) own: &'a [String],
}

/// Whose a token is.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) user: Arc<User>,
    /// For which of those that were asked for.
    pub(crate) audiences: Vec<String>,
}

impl AskedToken<'_> {
    /// Whose it is, when it is for somebody who was asked for; of a token that says nothing, for the API.
    pub(crate) fn known(&self, user: Arc<User>, says: Option<&[String]>) -> Option<Known> {
        let says = says.unwrap_or(self.own);
        let audiences: Vec<String> =
            self.audiences.iter().filter(|one| says.contains(one)).cloned().collect();
        (!audiences.is_empty()).then_some(Known { user, audiences })
    }
}

/// Knows callers by one kind of token.
#[async_trait]
pub(crate) trait TokenAuthenticator: Send + Sync {
    /// Whose it is; `None` for what is not of this kind.
    ///
    /// # Errors
    /// Why it is good no more, when it was.
    async fn token(&self, asked: AskedToken<'_>) -> Result<Option<Known>, String>;
}

/// Knows callers by their tokens.
pub(crate) struct Bearers {
    pub(crate) members: Vec<Box<dyn TokenAuthenticator>>,
    pub(crate) issuer: Issuer,
    pub(crate) store: Arc<dyn Store>,
}

impl Bearers {
    /// Whose a token is, for these audiences, or for the API where none are named.
    ///
    /// # Errors
    /// Why it is nobody's.
    pub(crate) async fn known(
        &self,
        token: &str,
        cluster: Cluster<'_>,
        audiences: &[String],
    ) -> Result<Known, String> {
        let own = self.issuer.audiences(&*self.store.snapshot(), cluster.name);
        let audiences = if audiences.is_empty() { &own } else { audiences };
        let asked = AskedToken { token, cluster, audiences, own: &own };
        let mut errors = vec!["invalid bearer token".to_owned()];
        for member in &self.members {
            match member.token(asked).await {
                Ok(Some(known)) => return Ok(known),
                Ok(None) => {}
                Err(why) => errors.push(why),
            }
        }
        Err(match errors.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        })
    }
}

#[async_trait]
impl Authenticator for Arc<Bearers> {
    async fn authenticate(&self, shown: &Shown<'_>) -> Result<Option<Arc<User>>, ApiError> {
        let Some(token) = token(shown.headers) else { return Ok(None) };
        // Where there is no cluster, nobody knows its tokens.
        let cluster = shown.cluster.ok_or_else(unauthorized)?;
        match self.known(token, cluster, &[]).await {
            Ok(known) => Ok(Some(known.user)),
            Err(why) => {
                tracing::debug!(why, "a token is not taken");
                Err(unauthorized())
            }
        }
    }
}

/// The token of a request.
fn token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
