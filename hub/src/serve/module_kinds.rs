//! What the registry knows of an image, as the controllers see it.

use std::fmt;

use async_trait::async_trait;
use freewheel_hub_controllers::endpoints;
use freewheel_hub_controllers::fleet::{ModuleFacts, ModuleLookup};
use freewheel_hub_modules::Modules;

/// The hub's modules.
pub struct Handlers(pub Modules);

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handlers")
    }
}

impl endpoints::Handlers for Handlers {
    fn is_handler(&self, image: &str) -> Option<bool> {
        self.0.is_handler(image)
    }
}

#[async_trait]
impl ModuleLookup for Handlers {
    async fn facts(&self, image: &str) -> Option<ModuleFacts> {
        let facts = self.0.facts(image).await?;
        Some(ModuleFacts { bytes: facts.bytes, imports: facts.imports })
    }
}
