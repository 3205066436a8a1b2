//! Callers by the token of a service account.
//!
//! A signature costs more than an answer, so what was verified is remembered; that the account and what the token is
//! bound to are there is looked at with each request.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::Store;
use freewheel_link::names::ClusterName;
use sha2::{Digest as _, Sha256};

use super::bearer::{AskedToken, Known, NotTaken, TokenAuthenticator};
use super::user::{Home, User};
use crate::access::remembered::Remembered;
use crate::tokens::{AccountToken, Issuer};

/// So many are remembered.
const REMEMBERED_MAX: usize = 4_096;

/// A token, and the very cluster that signed it.
type TokenKey = (ClusterName, Option<Uid>, [u8; 32]);

/// Knows service accounts.
pub(super) struct ServiceAccounts {
    issuer: Issuer,
    store: Arc<dyn Store>,
    verified: Remembered<TokenKey, Arc<AccountToken>>,
}

impl ServiceAccounts {
    /// Those in this store.
    pub(super) fn new(issuer: Issuer, store: Arc<dyn Store>) -> Self {
        Self { issuer, store, verified: Remembered::new(REMEMBERED_MAX) }
    }

    /// What the cluster has signed.
    fn verified(&self, asked: &AskedToken<'_>) -> Option<Arc<AccountToken>> {
        let cluster = asked.cluster;
        let digest = Sha256::digest(asked.token).into();
        let place = (cluster.name.clone(), cluster.uid.cloned(), digest);
        // A signature holds for ever; whether what it says does is looked at each time.
        if let Some(token) = self.verified.get(&place, i64::MAX) {
            return Some(token);
        }
        let signed = self.issuer.signed(&*self.store.snapshot(), cluster.name, asked.token)?;
        let token = Arc::new(AccountToken::read(&signed.claims, asked.token)?);
        self.verified.put(&place, &token, 0, i64::MAX);
        Some(token)
    }
}

#[async_trait]
impl TokenAuthenticator for ServiceAccounts {
    async fn token(&self, asked: AskedToken<'_>) -> Result<Option<Known>, NotTaken> {
        let Some(token) = self.verified(&asked) else { return Ok(None) };
        let (snapshot, now) = (self.store.snapshot(), self.issuer.now());
        let user = token.user(&*snapshot, asked.cluster.name, now);
        let home = Home::Cluster(asked.cluster.name.clone());
        let user = User { home, ..user.map_err(|why| why.to_string())? };
        let says = token.audiences();
        let known = asked.known(Arc::new(user), (!says.is_empty()).then_some(says));
        known.map(Some).ok_or_else(|| {
            let asked = asked.audiences;
            format!("token audiences {says:?} is invalid for the target audiences {asked:?}").into()
        })
    }
}
