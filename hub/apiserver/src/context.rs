//! What every request shares, and what one has.

use std::sync::Arc;

use freewheel_hub_api::streams::SpokeStreams;
use freewheel_hub_audit::Audit;
use freewheel_hub_fairness::Class;
use freewheel_hub_metrics::Metrics;
use freewheel_hub_objects::Objects;
use freewheel_hub_schema::error::ApiError;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, Method, Request, Response, Uri};

use crate::access::Access;
use crate::audit::{self, Auditing};
use crate::authn::{self, AgentEnds, Authenticators, Bearers, User};
use crate::authz::Authorizers;
use crate::body::Body;
use crate::converted::Converted;
use crate::flow::asked::Asked;
use crate::flow::shares::Sharer;
use crate::flow::workers::WorkerQueue;
use crate::flow::{Flows, Passage};
use crate::frame_cache::FrameCache;
use crate::health::Check;
use crate::memory_account::TotalMemory;
use crate::openapi::Packed;
use crate::request_body::RequestBody;
use crate::request_metrics::{RequestMetrics, Seen};
use crate::respond;
use crate::shutdown::Shutdown;
use crate::tenant::{Tenant, Tenants};
use crate::tokens::Issuer;
use crate::trail::{FailureLog, Trail};
use crate::usage::Usage;

/// A handler for `/v2/…`, the image registry's paths. It gets the caller, when the hub knows who that is, with
/// [`Permitted`](crate::Permitted) among the request's extensions when they have the right to do that. It decides
/// itself what others may do, and when a caller has to stop: a certificate may end before a body does. Of whom it lets
/// in by a login, it says so with [`LoggedIn`](crate::LoggedIn) among the answer's extensions.
pub type Extra = Arc<
    dyn Fn(Option<User>, Request<RequestBody>) -> BoxFuture<'static, Response<Body>> + Send + Sync,
>;

/// What the API serves.
#[derive(Clone)]
pub struct Server {
    /// The commit pipeline, and the store beneath it.
    pub objects: Objects,
    /// Who may do what. The store beneath the pipeline is the one that it was made with.
    pub access: Access,
    /// The way to pods.
    pub streams: Arc<dyn SpokeStreams>,
    /// What nodes and pods take.
    pub usage: Usage,
    /// Serves `/v2/…`.
    pub extra: Option<Extra>,
    /// What `/readyz` asks beside itself.
    pub checks: Vec<Check>,
    /// Who is told what was done, and by whom.
    pub audit: Option<Arc<Audit>>,
    /// What `/metrics` shows; what the server counts itself, it adds.
    pub metrics: Metrics,
}

/// What every request shares.
pub(crate) struct Hub {
    pub(crate) server: Server,
    pub(crate) authenticators: Authenticators,
    pub(crate) bearers: Arc<Bearers>,
    pub(crate) issuer: Issuer,
    pub(crate) authorizers: Arc<Authorizers>,
    pub(crate) frames: FrameCache,
    pub(crate) converted: Converted,
    pub(crate) stop: Arc<Shutdown>,
    pub(crate) flows: Flows,
    pub(crate) tenants: Tenants,
    pub(crate) agents: AgentEnds,
    pub(crate) packed: Packed,
    pub(crate) meters: Arc<RequestMetrics>,
    pub(crate) auditing: Option<Auditing>,
    pub(crate) failures: FailureLog,
}

impl Hub {
    /// Serves this. What all connections hold of its answers, `all` counts.
    pub(crate) fn new(server: Server, flows: Flows, all: Arc<TotalMemory>) -> Self {
        let objects = &server.objects;
        let issuer = server.access.issuer(objects);
        let (options, metrics) = (server.access.bearers.clone(), &server.metrics);
        let bearers = authn::bearers(options, &issuer, objects.store(), metrics);
        server.access.authorizers.show(metrics);
        Self {
            authenticators: Authenticators::with(bearers.clone()),
            bearers,
            issuer,
            authorizers: server.access.authorizers.clone(),
            frames: FrameCache::new(all),
            converted: Converted::default(),
            stop: Arc::default(),
            flows,
            tenants: Tenants::default(),
            agents: AgentEnds::default(),
            packed: Packed::default(),
            failures: FailureLog::default(),
            meters: RequestMetrics::shown_in(&server.metrics),
            auditing: audit::begin(server.audit.as_ref(), objects.clock(), &server.metrics),
            server,
        }
    }

    /// Whose a request is.
    pub(crate) fn classify(&self, tenant: &Tenant, asked: &Asked<'_>, user: &User) -> Class {
        self.flows.classify(&tenant.name, &asked.by(user))
    }

    /// Waits for a passage, at whose end the caller may be known no more.
    pub(crate) async fn pass(
        &self,
        tenant: &Tenant,
        asked: &Asked<'_>,
        (user, class): (&User, &Class),
    ) -> Result<Passage, ApiError> {
        let objects = &self.server.objects;
        let width = || asked.width(objects, &tenant.name);
        let passage = self.flows.pass(&tenant.name, (user, class), width).await?;
        self.check_known(user)?;
        Ok(passage)
    }

    /// Waits for a place for what lasts, at whose end the caller may be known no more.
    pub(crate) async fn last(&self, user: &User) -> Result<Passage, ApiError> {
        let passage = self.flows.last(user).await?;
        self.check_known(user)?;
        Ok(passage)
    }

    fn check_known(&self, user: &User) -> Result<(), ApiError> {
        let ended = user.has_ended(self.server.objects.clock().unix_seconds());
        if ended { Err(authn::unauthorized()) } else { Ok(()) }
    }
}

/// One request, before it is known what of.
pub(crate) struct Context<'a> {
    pub(crate) hub: Arc<Hub>,
    pub(crate) user: Arc<User>,
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) incoming: &'a mut RequestBody,
    pub(crate) seen: &'a mut Seen,
    pub(crate) trail: &'a mut Trail,
    /// Goes along with the answer; health has none.
    pub(crate) passage: Option<Passage>,
    /// Whose the request is; of health, and of sessions, nobody asks.
    pub(crate) class: Option<Class>,
}

impl Context<'_> {
    /// Who does what takes long for the caller.
    pub(crate) fn worker_queue(&self) -> WorkerQueue<'_> {
        self.hub.flows.workers.of(Sharer::from(&*self.user))
    }

    /// Who compresses the answer, when the client takes that.
    pub(crate) fn gzip(&self) -> Option<WorkerQueue<'_>> {
        respond::takes_gzip(&self.headers).then(|| self.worker_queue())
    }

    /// A header that is text.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
