//! Impersonation (`kubectl --as`): a request that runs as somebody else, by whom its caller may be.
//!
//! ```text
//! Impersonate-User, -Uid, -Group…, -Extra-KEY… ─▶ "impersonate" on each of them, as the caller ─▶ the other User
//! ```
//!
//! Guarantees:
//! - a request that asks to run as somebody else never runs as its caller
//!   (`nobody_runs_as_somebody_else_without_the_right`);
//! - it ends when its caller is known no more (`who_runs_as_somebody_else_ends_with_their_certificate`).

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_rbac::split_service_account_name;
use freewheel_hub_schema::error::ApiError;
use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::user::{ANONYMOUS, AUTHENTICATED, Home, UNAUTHENTICATED, User};
use crate::authz::{Attributes, Authorizers, Cluster, Resource, What};

const PREFIX: &str = "impersonate-";
const EXTRA: &str = "impersonate-extra-";
/// The group of all service accounts, and how that of a namespace's begins.
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Whether a request asks to run as somebody else.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(PREFIX))
}

/// Whom a request asks to run as.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut wanted = Self::default();
        for (name, value) in headers {
            let Some(part) = name.as_str().strip_prefix(PREFIX) else { continue };
            let value = std::str::from_utf8(value.as_bytes())
                .map_err(|_| ApiError::bad_request(format!("the header {name} is no text")))?
                .to_owned();
            match part {
                "user" => wanted.user = value,
                "uid" => wanted.uid = value,
                "group" => wanted.groups.push(value),
                _ => match name.as_str().strip_prefix(EXTRA) {
                    Some(key) => wanted.extra.entry(decoded(key)).or_default().push(value),
                    // kube-apiserver knows no such header either, but would run as the caller.
                    None => {
                        let text =
                            format!("the header {name} is not one that can be impersonated by");
                        return Err(ApiError::bad_request(text));
                    }
                },
            }
        }
        // kube-apiserver answers 500 to all that is wrong with these headers: clients try that again, and people look for
        // a fault of the server. It is the request's, and stays so.
        if wanted.user.is_empty() {
            let text = "requested a group, a UID or an extra field without impersonating a user";
            return Err(ApiError::bad_request(text));
        }
        Ok(wanted)
    }

    /// Everything that the caller has to have the right to.
    fn asks(&self) -> Vec<Resource<'_>> {
        let core = |plural, name| Resource { version: "v1", plural, name, ..Resource::default() };
        let mut asks = vec![match split_service_account_name(&self.user) {
            Some((namespace, name)) => Resource { namespace, ..core("serviceaccounts", name) },
            None => core("users", &self.user),
        }];
        asks.extend(self.groups.iter().map(|group| core("groups", group)));
        for (key, values) in &self.extra {
            let of_key = |value| Resource {
                group: AUTHENTICATION,
                subresource: key,
                ..core("userextras", value)
            };
            asks.extend(values.iter().map(|value| of_key(value)));
        }
        if !self.uid.is_empty() {
            asks.push(Resource { group: AUTHENTICATION, ..core("uids", &self.uid) });
        }
        asks
    }

    /// That user, as long as the caller is one, who answers for them.
    fn user(self, caller: &Arc<User>) -> User {
        let mut groups = self.groups;
        if let (true, Some((namespace, _))) =
            (groups.is_empty(), split_service_account_name(&self.user))
        {
            groups = vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
        }
        let has = |group: &str| groups.iter().any(|own| own == group);
        let implied = if self.user == ANONYMOUS {
            (!has(UNAUTHENTICATED)).then_some(UNAUTHENTICATED)
        } else {
            (!has(AUTHENTICATED) && !has(UNAUTHENTICATED)).then_some(AUTHENTICATED)
        };
        groups.extend(implied.map(str::to_owned));
        let (home, until) = (Home::RunBy(caller.clone()), caller.until);
        let agent = caller.agent.clone();
        User { name: self.user, uid: self.uid, groups, extra: self.extra, home, until, agent }
    }
}

/// The other user, when the caller may be them.
///
/// # Errors
/// 400 for what names nobody, 403 for whom the caller may not be.
pub(crate) async fn run_as(
    authorizers: &Authorizers,
    caller: &Arc<User>,
    cluster: Cluster<'_>,
    headers: &HeaderMap,
) -> Result<User, ApiError> {
    let wanted = Wanted::read(headers)?;
    for ask in wanted.asks() {
        let what = What::Resource(ask);
        let asked = Attributes { user: caller, verb: "impersonate", cluster, what };
        authorizers.check(&asked).await?;
    }
    Ok(wanted.user(caller))
}

/// What is no encoding stands for itself.
fn decoded(key: &str) -> String {
    percent_decode_str(key).decode_utf8().map_or_else(|_| key.to_owned(), |text| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(headers: &[(&'static str, &'static str)]) -> Result<User, u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Ok(Wanted::read(&map).map_err(|error| error.code)?.user(&Arc::default()))
    }

    #[test]
    fn groups_follow_from_the_user_where_none_are_given() {
        let groups = |headers: &[(&'static str, &'static str)]| user(headers).unwrap().groups;
        let user = ("impersonate-user", "jane");
        assert_eq!(groups(&[user]), [AUTHENTICATED]);
        assert_eq!(groups(&[user, ("impersonate-group", "a")]), ["a", AUTHENTICATED]);
        let none = ("impersonate-group", UNAUTHENTICATED);
        assert_eq!(groups(&[user, none]), [UNAUTHENTICATED]);
        let account = ("impersonate-user", "system:serviceaccount:n:a");
        let all = [SERVICE_ACCOUNTS, "system:serviceaccounts:n", AUTHENTICATED];
        assert_eq!(groups(&[account]), all);
        assert_eq!(groups(&[("impersonate-user", ANONYMOUS)]), [UNAUTHENTICATED]);
    }

    #[test]
    fn who_names_nobody_runs_as_nobody() {
        assert_eq!(user(&[("impersonate-group", "a")]), Err(400));
        assert_eq!(user(&[("impersonate-user", "")]), Err(400));
        let unknown = [("impersonate-user", "jane"), ("impersonate-soul", "x")];
        assert_eq!(user(&unknown), Err(400));
        let extra = [
            ("impersonate-user", "jane"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-acme.com%2fscope", "a"),
            ("impersonate-extra-acme.com%2fscope", "b"),
        ];
        let jane = user(&extra).unwrap();
        assert_eq!(jane.uid, "7");
        assert_eq!(jane.extra["acme.com/scope"], ["a", "b"]);
    }
}
