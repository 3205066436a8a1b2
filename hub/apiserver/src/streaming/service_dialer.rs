//! Connections to Services for parts of the hub that are clients of one: the hub is not in the pod network, and reaches a
//! pod through its device.
//!
//! Guarantees:
//! - a Service leads where requests through its proxy lead (`a_service_leads_to_its_pods_alone`);
//! - connections are the hub's own for the cluster that it is asked for, and of the share of no user, whatever somebody
//!   is called (`nobody_takes_the_places_of_the_hub_itself`).

use std::sync::Arc;

use freewheel_hub_api::streams::SpokeStreams;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::Store;
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::{PodClient, Principal};
use freewheel_link::transport::Stream;

use super::backend::{Backend, NamespaceView};
use crate::tenant::Tenant;

/// Connects to Services.
#[derive(Clone)]
pub struct ServiceDialer {
    store: Arc<dyn Store>,
    streams: Arc<dyn SpokeStreams>,
}

impl ServiceDialer {
    /// To those in this store, by this way to pods.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, streams: Arc<dyn SpokeStreams>) -> Self {
        Self { store, streams }
    }

    /// A connection to a pod that serves this port of a Service.
    ///
    /// # Errors
    /// When there is none that can be reached.
    pub async fn dial(
        &self,
        cluster: &ClusterName,
        (namespace, name): (&str, &str),
        port: u16,
    ) -> Result<Stream, ApiError> {
        let Backend { spoke, uid, port } = {
            let state = self.store.snapshot();
            let tenant = Tenant::find(&*state, Some(cluster.as_str()))?;
            let place = NamespaceView { state: &*state, tenant: &tenant, namespace };
            place.service(name, &port.to_string()).map_err(|error| match error.code {
                // kube-apiserver asks its own cache here, which names the resource in the singular.
                404 => ApiError::not_found("", "service", name),
                _ => error,
            })?
        };
        let client = PodClient::new(cluster, Principal::Hub(cluster.clone()));
        self.streams.port_forward(&spoke, &uid, port, client).await
    }
}
