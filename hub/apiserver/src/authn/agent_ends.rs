//! The ends of agents of clusters and of add-ons, for what runs on for them: a watch has asked once who its client is.
//!
//! Guarantees:
//! - what an agent watches ends with its add-on, with its registration, and when its cluster is not accepted any more
//!   (`what_an_agent_watches_ends_with_its_add_on`), what a cluster's agent watches when that is taken back
//!   (`what_a_device_watches_ends_with_its_acceptance`) and when its device is to be wiped
//!   (`a_device_that_is_to_be_wiped_is_known_no_more`).

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_api::device_orders::DEVICE_LABEL;
use freewheel_hub_store::{Event, Snapshot, Store};
use parking_lot::Mutex;

use super::agent::{Agent, ORDERS};
use super::user::User;
use crate::shutdown::{Begun, Shutdown};

/// A cluster and an add-on on it, or none for the agent of the cluster itself.
type AddOnKey = (String, String);

/// One signal for each agent that has ever begun something which runs on, and is known still.
#[derive(Default)]
pub(crate) struct AgentEnds(Mutex<BTreeMap<AddOnKey, Vec<Known>>>);

struct Known {
    agent: Arc<Agent>,
    end: Arc<Shutdown>,
}

impl AgentEnds {
    /// Ready when the caller is known no more; `None` for whoever is no agent.
    pub(crate) fn end_of(&self, user: &User, store: &dyn Store) -> Option<Begun> {
        let agent = user.agent.as_ref()?;
        let place = agent.place();
        let end = self.signal(&place, agent);
        // Had it gone before it stood in the table, nobody would say so.
        self.end_unknown(&place, &*store.snapshot());
        Some(end.begun())
    }

    fn signal(&self, place: &AddOnKey, agent: &Arc<Agent>) -> Arc<Shutdown> {
        let mut all = self.0.lock();
        let known = all.entry(place.clone()).or_default();
        if let Some(own) = known.iter().find(|it| it.agent == *agent) {
            return own.end.clone();
        }
        let end = Arc::<Shutdown>::default();
        known.push(Known { agent: agent.clone(), end: end.clone() });
        end
    }

    /// Gives the signals of those for whom nothing goes on any more.
    fn end_unknown(&self, place: &AddOnKey, now: &dyn Snapshot) {
        let known: Vec<Arc<Agent>> = {
            let all = self.0.lock();
            all.get(place).into_iter().flatten().map(|it| it.agent.clone()).collect()
        };
        let gone: Vec<_> = known.into_iter().filter(|it| !it.may_go_on(now)).collect();
        if gone.is_empty() {
            return;
        }
        let mut all = self.0.lock();
        let Some(known) = all.get_mut(place) else { return };
        let all_known = std::mem::take(known).into_iter();
        let (ended, left): (Vec<Known>, Vec<Known>) =
            all_known.partition(|it| gone.contains(&it.agent));
        *known = left;
        if known.is_empty() {
            all.remove(place);
        }
        drop(all);
        ended.iter().for_each(|it| it.end.begin());
    }

    /// Those that an event is about: of a ManagedClusterAddOn, a ManagedCluster, or an order to a device.
    fn keys_of(&self, event: &Event) -> Vec<AddOnKey> {
        let Some(stored) = event.now.as_ref().or(event.before.as_ref()) else { return Vec::new() };
        let key = &stored.key;
        let (cluster, add_on) = if key.resource.as_str() == ORDERS.1 {
            let device = stored.object.header.labels.get(DEVICE_LABEL);
            (device.map_or("", String::as_str), None)
        } else if key.namespace.is_empty() {
            (&*key.name, None)
        } else {
            (&*key.namespace, Some(&*key.name))
        };
        let all = self.0.lock();
        let own = all.range((cluster.to_owned(), String::new())..);
        own.map(|(place, _)| place)
            .take_while(|(it, _)| it == cluster)
            .filter(|(_, it)| add_on.is_none_or(|name| name == it))
            .cloned()
            .collect()
    }

    /// Gives the signals, for ever.
    pub(crate) async fn follow(&self, store: &dyn Store) {
        loop {
            let snapshot = store.snapshot();
            let places: Vec<AddOnKey> = self.0.lock().keys().cloned().collect();
            places.iter().for_each(|place| self.end_unknown(place, &*snapshot));
            let Ok(mut watch) = store.watch(Agent::scopes(), snapshot.revision()) else { continue };
            drop(snapshot);
            // Who falls behind looks at all of them again.
            while let Ok(events) = watch.next().await {
                for place in events.iter().flat_map(|event| self.keys_of(event)) {
                    self.end_unknown(&place, &*store.snapshot());
                }
            }
        }
    }
}
