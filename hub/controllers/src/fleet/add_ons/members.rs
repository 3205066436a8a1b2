//! An add-on on its clusters, as it is read.

use std::sync::Arc;

use freewheel_hub_api::conditions::ADD_ON_PROGRESSING;
use freewheel_hub_fleet::add_on::configs::Reference;
use freewheel_hub_store::{Snapshot, Stored};
use freewheel_link::names::ClusterName;

use super::catalogue::AddOns;
use super::known::{Known, Member, Touched};
use super::progression::Instance;
use crate::engine::Error;
use crate::index::{ADD_ON_NAME, IndexTerm};

impl AddOns {
    fn instance(&self, stored: &Stored, now: &dyn Snapshot) -> Result<Instance, Error> {
        let object = stored.object.value().map_err(Error::api("read a ManagedClusterAddOn"))?;
        let own =
            self.desired(&object["spec"]["configs"], &object["status"]["configReferences"], now)?;
        let mut references = Reference::all(&object["status"]["configReferences"]);
        for reference in &mut references {
            // Its own are given to it as they are: they are nobody's rollout.
            if let Some(own) = own.iter().find(|own| own.config == reference.desired.config) {
                reference.desired.hash.clone_from(&own.hash);
            }
        }
        let said = ADD_ON_PROGRESSING.find(&object);
        let text = |key: &str| said.and_then(|it| it[key].as_str()).unwrap_or_default();
        let progress = (text("reason").to_owned(), text("lastTransitionTime").parse().ok());
        let (own, references) = (own.into(), references.into());
        Ok(Instance { cluster: stored.key.namespace.to_string(), own, references, progress })
    }

    /// What of an add-on was touched, as it is now.
    pub(super) fn read(
        &self,
        add_on: &Stored,
        known: &mut Known,
        (touched, now): (&Touched, &dyn Snapshot),
    ) -> Result<(), Error> {
        if touched.choice || touched.everything {
            known.choices.clear();
        }
        let name = &add_on.key.name;
        let mut clusters = touched.clusters.clone();
        if touched.everything {
            let root = ClusterName::root();
            let all = self.indexes.add_ons.find(IndexTerm::Label(&root, "", ADD_ON_NAME, name));
            clusters.extend(all.iter().map(|it| it.stored.key.namespace.to_string()));
            clusters.extend(known.members.keys().cloned());
        }
        for cluster in clusters {
            let stored = now.get(&self.instance_key(name, &cluster));
            let member = |stored: Arc<Stored>| -> Result<Member, Error> {
                let header = &stored.object.header;
                let uid = &add_on.object.header.uid;
                Ok(Member {
                    instance: self.instance(&stored, now)?,
                    deleting: header.deleting,
                    is_owned: header.owners.iter().any(|owner| owner.uid == *uid),
                    settled: None,
                })
            };
            let member = stored.map(member).transpose()?;
            known.put(&cluster, member);
        }
        Ok(())
    }
}
