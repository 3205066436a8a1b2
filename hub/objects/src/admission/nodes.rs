//! TaintNodesByCondition: nothing is scheduled to what has never said that it is ready.

use async_trait::async_trait;
use freewheel_hub_api::conditions::NODE_READY;
use freewheel_hub_api::kinds::node::NOT_READY;
use freewheel_hub_schema::kind::Trait;
use serde_json::{Value, json};

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;

pub(super) struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.creates() && review.target.kind.has(Trait::RunsPods)
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn mutate(&self, _: &Review<'_>, node: &mut Value) -> Result<(), Refusal> {
        taint(node);
        Ok(())
    }
}

fn taint(node: &mut Value) {
    let taints = node.pointer("/spec/taints").and_then(Value::as_array);
    let mut taints = taints.cloned().unwrap_or_default();
    let same = |taint: &Value| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule";
    if !NODE_READY.holds(node) && !taints.iter().any(same) {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        node["spec"]["taints"] = taints.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_never_said_that_it_is_ready_is_tainted() {
        let mut node = json!({"metadata": {"name": "n"}});
        taint(&mut node);
        let taints = json!([{"key": NOT_READY, "effect": "NoSchedule"}]);
        assert_eq!(node["spec"]["taints"], taints);
        taint(&mut node);
        assert_eq!(node["spec"]["taints"], taints);
        // A spoke registers itself together with its status.
        let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let mut ready = json!({"metadata": {"name": "n"}, "status": status});
        taint(&mut ready);
        assert!(ready.get("spec").is_none());
    }
}
