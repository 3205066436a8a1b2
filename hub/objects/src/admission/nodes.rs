//! TaintNodesByCondition: nothing is scheduled to a Node before the node controller has looked at it. What its maker says
//! of its conditions frees it as little as upstream; the controller takes the taint off what is ready.
//!
//! Guarantees:
//! - a Node that is made is tainted, once (`a_node_that_is_made_is_tainted_whatever_it_says_of_itself`).

use async_trait::async_trait;
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
    if !taints.iter().any(same) {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        node["spec"]["taints"] = taints.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_made_is_tainted_whatever_it_says_of_itself() {
        let bare = json!({"metadata": {"name": "n"}});
        let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let ready = json!({"metadata": {"name": "n"}, "status": status});
        let taints = json!([{"key": NOT_READY, "effect": "NoSchedule"}]);
        for mut node in [bare, ready] {
            for _ in 0..2 {
                taint(&mut node);
                assert_eq!(node["spec"]["taints"], taints, "{node}");
            }
        }
        let mut other = json!({"spec": {"taints": [{"key": NOT_READY, "effect": "NoExecute"}]}});
        taint(&mut other);
        assert_eq!(other["spec"]["taints"].as_array().unwrap().len(), 2, "that is another one");
    }
}
