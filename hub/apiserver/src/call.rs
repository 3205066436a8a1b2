//! One request for a resource, after its path, caller and options were read.

use std::sync::Arc;

use freewheel_hub_objects::{Actor, Notes, ObjectRef, Person, WriteOptions};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::namespace::NamespaceName;
use freewheel_hub_schema::selector::{FieldSelector, LabelSelector};
use freewheel_hub_schema::table::Include;
use freewheel_hub_store::{Scope, Stored};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use parking_lot::Mutex;

use crate::authn::{self, User};
use crate::authz::{Attributes, Resource, What};
use crate::connection_slots::ConnectionSlot;
use crate::context::Hub;
use crate::encode::{self, Encoder};
use crate::flow::TakenSeat;
use crate::flow::large_writes::{WriteRoom, json_tree_bytes, packed_tree_bytes, tree_bytes};
use crate::flow::shares::Sharer;
use crate::flow::workers::WorkerQueue;
use crate::lease::Renewal;
use crate::media::{self, Shape, Wanted, Wire};
use crate::query::Query;
use crate::tenant::Tenant;
use crate::view::View;

/// One request.
pub(crate) struct Call {
    pub(crate) hub: Arc<Hub>,
    pub(crate) user: Arc<User>,
    pub(crate) tenant: Tenant,
    pub(crate) view: View,
    /// Empty for cluster-scoped resources and for all namespaces.
    pub(crate) namespace: NamespaceName,
    /// Empty for collections.
    pub(crate) name: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
    /// The path behind it, where it leads on.
    pub(crate) rest: String,
    pub(crate) query: Query,
    pub(crate) raw_query: String,
    pub(crate) headers: HeaderMap,
    /// What those who have a say in a write say beside their answer.
    pub(crate) notes: Arc<Notes>,
    /// Where it comes from.
    pub(crate) slot: Arc<ConnectionSlot>,
    /// The seat of what lasts, until it has begun.
    pub(crate) initializing: Mutex<Option<TakenSeat>>,
}

impl Call {
    /// A header that is text.
    pub(crate) fn header(&self, name: &http::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the caller and the cluster are still there, after a wait.
    pub(crate) fn check_still(&self) -> Result<(), ApiError> {
        let objects = &self.hub.server.objects;
        if self.user.has_ended(objects.clock().unix_seconds()) {
            return Err(authn::unauthorized());
        }
        self.tenant.check(&*objects.store().snapshot())
    }

    /// Whether the caller may make such an object, too, where something else was asked for.
    pub(crate) async fn check_may_create(&self) -> Result<(), ApiError> {
        self.check_may("create", "").await
    }

    /// Whether the caller may do this to the object, or to a subresource of it.
    pub(crate) async fn check_may(&self, verb: &str, subresource: &str) -> Result<(), ApiError> {
        let kind = &self.view.served;
        let what = Resource {
            group: kind.group(),
            version: kind.version(),
            plural: kind.plural(),
            subresource,
            namespace: &self.namespace,
            name: &self.name,
            ..Resource::default()
        };
        let (user, cluster, what) = (&*self.user, self.tenant.cluster(), What::Resource(what));
        let asked = Attributes { user, verb, cluster, what };
        self.hub.authorizers.check(&asked).await
    }

    /// A failure as its caller is to see it.
    pub(crate) fn failure(&self, error: ApiError) -> ApiError {
        self.view.error(self.tenant.explained(error))
    }

    /// Ready when the kind is served no more; `None` for one that cannot go.
    pub(crate) fn end_of_kind(&self) -> Option<BoxFuture<'static, ()>> {
        let (view, cluster) = (&self.view, &self.tenant.name);
        let end =
            view.may_go.then(|| self.hub.server.objects.kinds().end_of(cluster, view.served.id()));
        end.map(FutureExt::boxed)
    }

    /// The format of the body.
    pub(crate) fn body_wire(&self) -> Result<Wire, ApiError> {
        media::body_wire(self.header(&CONTENT_TYPE))
    }

    /// The Content-Type without parameters.
    pub(crate) fn content_type(&self) -> &str {
        let media = self.header(&CONTENT_TYPE).unwrap_or_default();
        media.split(';').next().unwrap_or_default().trim()
    }

    /// What the client wants to get.
    pub(crate) fn wanted(&self) -> Result<Wanted, ApiError> {
        let kind = &self.view.served;
        media::negotiate(self.header(&ACCEPT), |wanted| match (wanted.wire, wanted.shape) {
            (Wire::Protobuf, Shape::Table { .. }) => false,
            (Wire::Protobuf, Shape::Object) => encode::has_protobuf(kind),
            (Wire::Protobuf, Shape::Metadata) | (Wire::Json | Wire::Yaml, _) => true,
        })
    }

    /// The format of an answer that has no columns.
    pub(crate) fn columnless_wire(&self) -> Result<Wire, ApiError> {
        let wanted = |wanted: Wanted| wanted.shape == Shape::Object;
        Ok(media::negotiate(self.header(&ACCEPT), wanted)?.wire)
    }

    /// What has to be said anew of what is read.
    pub(crate) fn renewal(&self) -> Renewal {
        Renewal::of(&self.view.stored, &self.namespace, &self.hub.server.objects)
    }

    /// How objects are written for this client.
    pub(crate) fn encoder(&self) -> Result<Encoder, ApiError> {
        let text = self.query.include_object.as_str();
        let include = Include::parse(text).ok_or_else(|| {
            ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {text:?}: must be 'Metadata', \
                 'Object', 'None', or empty"
            ))
        })?;
        Ok(Encoder { view: self.view.clone(), wanted: self.wanted()?, include })
    }

    /// The format of a Status.
    pub(crate) fn status_wire(&self) -> Wire {
        media::status_wire(self.header(&ACCEPT))
    }

    /// Waits for room for what a large write is made of: trees of what is there and of what it is to be, of which a change
    /// has one more to change.
    ///
    /// # Errors
    /// 429 when there is none.
    pub(crate) async fn room_to_write(
        &self,
        verb: &str,
        body: &[u8],
    ) -> Result<Option<WriteRoom>, ApiError> {
        let trees_of_old = match verb {
            "create" => 0,
            "update" => 1,
            "patch" => 3,
            _ => return Ok(None),
        };
        let is_packed = matches!(self.body_wire(), Ok(Wire::Protobuf));
        let of_body = if is_packed { packed_tree_bytes(body) } else { tree_bytes(body) };
        let old = (0 < trees_of_old).then(|| self.hub.server.objects.get(&self.object_ref()));
        let of_old = old.and_then(Result::ok).map_or(0, |old| json_tree_bytes(&old.object.body));
        let bytes = of_body + trees_of_old * of_old;
        self.hub.flows.large_writes.room(self.sharer(), bytes).await
    }

    /// Who holds what the hub holds for the caller.
    pub(crate) fn sharer(&self) -> Sharer<'_> {
        Sharer::from(&*self.user)
    }

    /// Who does what takes long for the caller.
    pub(crate) fn worker_queue(&self) -> WorkerQueue<'_> {
        self.hub.flows.workers.of(self.sharer())
    }

    /// Who compresses the answer, when the client takes that.
    pub(crate) fn gzip(&self) -> Option<WorkerQueue<'_>> {
        crate::respond::takes_gzip(&self.headers).then(|| self.worker_queue())
    }

    /// The object, as the pipeline names it.
    pub(crate) fn object_ref(&self) -> ObjectRef {
        ObjectRef {
            kind: self.view.stored.clone(),
            cluster: self.tenant.name.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    /// The collection.
    pub(crate) fn scope(&self) -> Scope {
        Scope {
            resource: self.view.stored.storage().clone(),
            cluster: Some(self.tenant.name.clone()),
            namespace: (!self.namespace.is_empty()).then(|| self.namespace.clone()),
        }
    }

    /// The caller, under this name of a field manager.
    pub(crate) fn actor(&self, manager: String) -> Actor {
        let User { name, uid, groups, extra, .. } = User::clone(&self.user);
        Person { name, uid, groups, extra, manager, by_controller: false }.into()
    }

    /// How to write; `options` is the kind named in errors, such as `CreateOptions`.
    pub(crate) fn how(&self, options: &str) -> Result<WriteOptions, ApiError> {
        let agent = self.header(&USER_AGENT).unwrap_or_default();
        Ok(WriteOptions {
            actor: self.actor(self.query.manager(agent, options)?),
            dry_run: self.query.dry_run(options)?,
            field_validation: self.query.field_validation(options)?,
            makes_nothing: false,
            expect: self.tenant.expect(),
            options: self.query.options(),
            notes: Some(self.notes.clone()),
            ..WriteOptions::default()
        })
    }

    /// Which objects of the collection are meant.
    pub(crate) fn filter(&self) -> Result<Filter, ApiError> {
        let mut fields = FieldSelector::parse(&self.query.field_selector, &self.view.served)?;
        if !self.name.is_empty() {
            // `/watch/` paths name one object.
            let text = format!("metadata.name={}", self.name);
            fields = FieldSelector::parse(&text, &self.view.served)?;
        }
        Ok(Filter { labels: LabelSelector::parse(&self.query.label_selector)?, fields })
    }
}

/// Label and field selector of a list or watch.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Filter {
    /// Whether everything matches.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether an object matches; reads its header only.
    pub(crate) fn matches(&self, stored: &Stored) -> bool {
        let header = &stored.object.header;
        self.labels.matches(&header.labels)
            && self.fields.matches(&stored.key.name, &stored.key.namespace, &header.fields)
    }

    /// The one name that can match.
    pub(crate) fn name(&self) -> Option<&str> {
        self.fields.exact("metadata.name")
    }
}
