//! Callers by a bearer token (RFC 6750): of those who know tokens the first that knows this one says whose it is.
//!
//! ```text
//! Authorization: Bearer … ─▶ token file ─▶ bootstrap tokens ─▶ service accounts ─▶ OpenID ─▶ webhook ─▶ User
//! ```
//!
//! Guarantees:
//! - who shows a token that nobody knows is nobody (`a_token_that_nobody_knows_is_nobodys`);
//! - who shows one of which somebody who may know it has not said anything is told to ask again, and not that it is bad
//!   (`who_is_not_answered_is_not_refused`).

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_schema::error::{ApiError, Details};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::authenticator::{Authenticator, Shown, unauthorized};
use super::user::User;
use crate::access::remote::NoAnswer;
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
    /// Why it is good no more, when it was, or why there is nothing to say.
    async fn token(&self, asked: AskedToken<'_>) -> Result<Option<Known>, NotTaken>;
}

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    /// It is good no more, or never was.
    #[error("{0}")]
    Refused(String),
    /// Somebody who may know it has not said.
    #[error("{0}")]
    Unanswered(NoAnswer),
}

impl From<String> for NotTaken {
    fn from(why: String) -> Self {
        Self::Refused(why)
    }
}

impl From<NoAnswer> for NotTaken {
    fn from(why: NoAnswer) -> Self {
        Self::Unanswered(why)
    }
}

impl From<NotTaken> for ApiError {
    /// Clients take a 401 for the end of what they have, and ask again after both others.
    fn from(why: NotTaken) -> Self {
        let (mut error, seconds) = match why {
            NotTaken::Refused(_) => return unauthorized(),
            NotTaken::Unanswered(NoAnswer::Crowded) => {
                let text = "Too many requests, please try again later.";
                (Self::new(429, "TooManyRequests", text), 1)
            }
            NotTaken::Unanswered(NoAnswer::Failed(_)) => {
                let text = "who knows whose this token is does not answer at the moment";
                (Self::new(503, "ServiceUnavailable", text), 5)
            }
        };
        let details = Details { retry_after_seconds: Some(seconds), ..Details::default() };
        error.details = Some(Box::new(details));
        error
    }
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
    ) -> Result<Known, NotTaken> {
        let own = self.issuer.audiences(&*self.store.snapshot(), cluster.name);
        let audiences = if audiences.is_empty() { &own } else { audiences };
        let asked = AskedToken { token, cluster, audiences, own: &own };
        let (mut errors, mut unanswered) = (vec!["invalid bearer token".to_owned()], None);
        for member in &self.members {
            match member.token(asked).await {
                Ok(Some(known)) => return Ok(known),
                Ok(None) => {}
                Err(NotTaken::Refused(why)) => errors.push(why),
                Err(NotTaken::Unanswered(why)) => unanswered = Some(why),
            }
        }
        // Whatever others say: it may be theirs who say nothing.
        if let Some(why) = unanswered {
            return Err(why.into());
        }
        Err(match errors.as_slice() {
            [one] => one.clone().into(),
            many => format!("[{}]", many.join(", ")).into(),
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
                tracing::debug!(%why, "a token is not taken");
                Err(why.into())
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

#[cfg(test)]
mod tests {
    use freewheel_hub_objects::clock::SystemClock;
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_link::names::ClusterName;

    use super::*;

    /// Says this of every token.
    struct Says(Result<(), NotTaken>);

    #[async_trait]
    impl TokenAuthenticator for Says {
        async fn token(&self, asked: AskedToken<'_>) -> Result<Option<Known>, NotTaken> {
            let user = self.0.clone().map(|()| Arc::new(User::default()))?;
            Ok(asked.known(user, None))
        }
    }

    #[tokio::test]
    async fn who_is_not_answered_is_not_refused() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let refused = || Err(NotTaken::Refused("it is old".to_owned()));
        let away = || Err(NotTaken::Unanswered(NoAnswer::Failed("it is away".to_owned())));
        let crowded = || Err(NotTaken::Unanswered(NoAnswer::Crowded));
        for (says, code, after) in [
            (vec![refused()], 401, None),
            (vec![away(), refused()], 503, Some(5)),
            (vec![refused(), crowded()], 429, Some(1)),
            (vec![away(), Ok(())], 200, None),
        ] {
            let members =
                says.into_iter().map(|it| -> Box<dyn TokenAuthenticator> { Box::new(Says(it)) });
            let members = members.collect();
            let issuer = Issuer::new(store.clone(), Arc::new(SystemClock), "https://hub");
            let bearers = Arc::new(Bearers { members, issuer, store: store.clone() });
            let headers = HeaderMap::from_iter([(AUTHORIZATION, "Bearer t".parse().unwrap())]);
            let cluster = Cluster { name: &ClusterName::root(), uid: None };
            let shown = Shown { certificate: None, headers: &headers, cluster: Some(cluster) };
            let said = bearers.authenticate(&shown).await.map(|_| ());
            let error = said.err();
            assert_eq!(error.as_ref().map_or(200, |error| error.code), code);
            let details = error.and_then(|error| error.details);
            assert_eq!(details.and_then(|it| it.retry_after_seconds), after);
        }
    }
}
