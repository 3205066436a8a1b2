//! What the instances of an HTTP container are made from.
//!
//! Guarantees:
//! - a module that says how many requests its instances may serve is asked, instance by instance, and only where the
//!   pod does not say it (`a_module_says_how_often_an_instance_is_used_and_the_pod_goes_before_it`);
//! - one that says it in another form does not start
//!   (`a_module_whose_word_on_its_instances_has_another_type_does_not_start`).

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Type};
use wasmtime::{Result, Store, ensure};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyIndices};

use crate::world::StoreData;

/// The interface in which a module says how its instances are to be used: `wit/handler`.
const INSTANCE: &str = "freewheel:handler/instance@0.1.0";

/// A linked HTTP module.
pub(crate) struct Handler {
    pre: InstancePre<StoreData>,
    indices: ProxyIndices,
    /// `requests` of [`INSTANCE`], if the module has it.
    requests: Option<ComponentExportIndex>,
}

impl Handler {
    /// # Errors
    /// When the module is no HTTP handler.
    pub(crate) fn new(pre: InstancePre<StoreData>) -> Result<Self> {
        let requests = requests(pre.component())?;
        let indices = ProxyIndices::new(&pre)?;
        Ok(Self { pre, indices, requests })
    }

    /// An instance, and how many requests it may serve. `reuse`: what the pod says of that.
    pub(crate) async fn instance(
        &self,
        store: &mut Store<StoreData>,
        reuse: Option<u16>,
    ) -> Result<(Proxy, u16)> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let proxy = self.indices.load(&mut *store, &instance)?;
        let requests = match (reuse, self.requests) {
            (Some(reuse), _) => reuse,
            (None, Some(requests)) => {
                let requests = instance.get_typed_func::<(), (u16,)>(&mut *store, requests)?;
                requests.call_async(&mut *store, ()).await?.0
            }
            (None, None) => 1,
        };
        Ok((proxy, requests.max(1)))
    }
}

/// `requests` of [`INSTANCE`], if the module has it.
fn requests(component: &Component) -> Result<Option<ComponentExportIndex>> {
    let instance = component.get_export_index(None, INSTANCE);
    let export = instance.and_then(|instance| component.get_export(Some(&instance), "requests"));
    let Some((item, index)) = export else { return Ok(None) };
    let fits = match &item {
        ComponentItem::ComponentFunc(func) => {
            func.params().len() == 0 && func.results().eq([Type::U16])
        }
        _ => false,
    };
    ensure!(fits, "`requests` of {INSTANCE} is no function without parameters that gives a u16");
    Ok(Some(index))
}
