//! Who calls and who may do what, for everything that is served: made once, over the store that all of it is kept in.

mod acceptance;
mod callers;
mod cluster_sets;
mod executors;
pub(crate) mod file_versions;
mod node_restriction;
pub(crate) mod question_figures;
pub(crate) mod remembered;
pub(crate) mod remote;
mod rights;
mod signers;
mod signing_request;
mod spoke_restriction;

use std::sync::Arc;

use freewheel_hub_admission::Caller;
use freewheel_hub_objects::Objects;
use freewheel_hub_rbac::Index;
use freewheel_hub_store::Store;

use crate::authn::{BearerOptions, Provider, TokenFile, TokenWebhookOptions};
use crate::authz::{AuthorizerOptions, Authorizers, RoleEscalation};
use crate::tokens::Issuer;
use acceptance::Acceptance;
pub use callers::{CallerRights, WantedRight};
use cluster_sets::ClusterSets;
use executors::Executors;
use node_restriction::NodeRestriction;
pub use remote::{Fetch, Remote};
use signers::Signers;
use signing_request::CertificateRequests;
use spoke_restriction::SpokeRestriction;

/// What is known of callers beside what the store holds.
#[derive(Clone, Default)]
pub struct AccessOptions {
    /// Who is known by a token of a file.
    pub tokens: TokenFile,
    /// Who decides what callers may do, after those whom nobody chooses; nobody: nodes and roles.
    pub authorizers: Vec<AuthorizerOptions>,
    /// OpenID providers that are believed.
    pub providers: Vec<Arc<Provider>>,
    /// Who is asked whose a token is that nobody here knows.
    pub token_webhook: Option<TokenWebhookOptions>,
    /// Who calls admission webhooks; none are called where there is nobody.
    pub webhooks: Option<Arc<dyn Caller>>,
    /// `https://HOST:PORT` of the API, which tokens of service accounts are from.
    pub issuer: String,
}

/// Who calls, and who may do what.
#[derive(Clone)]
pub struct Access {
    pub(crate) authorizers: Arc<Authorizers>,
    pub(crate) rights: Arc<Index>,
    pub(crate) bearers: BearerOptions,
    admission: Arc<freewheel_hub_admission::Index>,
    webhooks: Option<Arc<dyn Caller>>,
    issuer: String,
}

impl Access {
    /// By what is in this store. Whatever writes is to write to the second: what it is answered counts then.
    #[must_use]
    pub fn over(store: Arc<dyn Store>, options: AccessOptions) -> (Self, Arc<dyn Store>) {
        let AccessOptions { tokens, providers, token_webhook, webhooks, issuer, .. } = options;
        let bearers = BearerOptions { file: tokens, providers, webhook: token_webhook };
        let mut chosen = options.authorizers;
        if chosen.is_empty() {
            chosen = vec![AuthorizerOptions::Node, AuthorizerOptions::Rbac];
        }
        let below = store.clone();
        let (rights, indexed) = Index::over(store);
        let authorizers = Arc::new(Authorizers::over(&below, &rights, chosen));
        let store = indexed;
        let (admission, store) = freewheel_hub_admission::Index::over(store);
        (Self { authorizers, rights, bearers, admission, webhooks, issuer }, store)
    }

    /// Who signs tokens of service accounts.
    #[must_use]
    pub fn issuer(&self, objects: &Objects) -> Issuer {
        Issuer::new(objects.store().clone(), objects.clock().clone(), &self.issuer)
    }

    /// What callers may do, by what is in this store.
    #[must_use]
    pub fn rights(&self, store: &Arc<dyn Store>) -> CallerRights {
        CallerRights { authorizers: self.authorizers.clone(), store: store.clone() }
    }

    /// The same pipeline with those who have a say in what callers write about rights and identities, and with the rules
    /// about writes that people make.
    #[must_use]
    pub fn guard(&self, objects: Objects) -> Objects {
        let (authorizers, rights) = (self.authorizers.clone(), self.rights.clone());
        let signers = Signers { authorizers: authorizers.clone() };
        let acceptance = Acceptance { authorizers: authorizers.clone() };
        let sets = ClusterSets { authorizers: authorizers.clone() };
        let executors = Executors { authorizers: authorizers.clone() };
        // What others make of what a node writes is not the node's.
        let nodes = NodeRestriction { authorizers: authorizers.clone() };
        let objects = objects.admitting(Arc::new(nodes));
        let escalation = RoleEscalation { authorizers: authorizers.clone(), rights };
        let rights = Arc::new(rights::Rights { authorizers, store: objects.store().clone() });
        let (index, webhooks) = (self.admission.clone(), self.webhooks.clone());
        let converters = Arc::new(freewheel_hub_conversion::Webhooks::over(webhooks.clone()));
        freewheel_hub_admission::add_to(objects, index, rights, webhooks)
            .converting(converters)
            .admitting(Arc::new(CertificateRequests))
            .admitting(Arc::new(signers))
            .admitting(Arc::new(SpokeRestriction))
            .admitting(Arc::new(acceptance))
            .admitting(Arc::new(sets))
            .admitting(Arc::new(executors))
            .admitting(Arc::new(escalation))
    }
}
