//! Who calls: each request asks the authenticators, and the first that knows says whose it is.
//!
//! ```text
//! certificate, headers ─▶ spokes ─▶ people ─▶ anonymous ─▶ User { name, uid, groups, extra, until }
//! ```
//!
//! Bearer tokens, OIDC and service accounts are further members of [`Authenticators::default`], before anonymous.
//!
//! Guarantees:
//! - nobody is somebody beyond the end of what they showed, however long their connection lasts
//!   (`a_certificate_that_ends_is_refused_over_its_open_connection_and_ends_what_runs`), by the hub's clock
//!   (`a_certificate_ends_by_the_clock_however_it_is_put_on`, `who_has_ended_is_a_stranger_again`);
//! - the first who knows decides, and who shows something wrong is nobody, not even a stranger
//!   (`the_first_who_knows_decides`, `who_shows_something_wrong_is_nobody`).

mod authenticator;
mod certificate;
mod proven;
mod user;

use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;

pub use authenticator::{Authenticator, Shown, unauthorized};
use certificate::{People, Spokes};
pub use proven::Proven;
pub use user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User};

/// All who know callers, in the order in which they are asked.
pub struct Authenticators {
    members: Vec<Box<dyn Authenticator>>,
    anonymous: Arc<User>,
}

impl Default for Authenticators {
    fn default() -> Self {
        Self::of(vec![Box::new(Spokes), Box::new(People)])
    }
}

impl Authenticators {
    /// These, and then nobody.
    fn of(members: Vec<Box<dyn Authenticator>>) -> Self {
        Self { members, anonymous: Arc::new(User::anonymous()) }
    }

    /// Who makes a request at this second.
    ///
    /// # Errors
    /// 401 for who shows something that is not good.
    pub async fn user(&self, shown: &Shown<'_>, now: i64) -> Result<Arc<User>, ApiError> {
        for member in &self.members {
            // A connection lives on when the certificate that it began with has ended.
            if let Some(user) = member.authenticate(shown).await?
                && !user.has_ended(now)
            {
                return Ok(user);
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
        let shown = Shown { certificate: None, headers: &headers };
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
    async fn who_has_ended_is_a_stranger_again() {
        assert_eq!(user(&[("one", "ann")], 9).await.unwrap(), "ann");
        assert_eq!(user(&[("one", "ann")], 10).await.unwrap(), ANONYMOUS);
    }

    #[tokio::test]
    async fn who_shows_something_wrong_is_nobody() {
        assert_eq!(user(&[("one", "wrong")], 0).await, Err(401));
        assert_eq!(user(&[("one", "wrong"), ("two", "bob")], 0).await, Err(401));
    }
}
