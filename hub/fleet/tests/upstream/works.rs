//! What is said of what was applied, as the work agent of Open Cluster Management says it: values that are fed back, and
//! conditions that rules make of objects, and all manifests of their work.

use std::sync::Arc;

use freewheel_hub_fleet::work::aggregate::{Aggregate, available, by_rules};
use freewheel_hub_fleet::work::condition_rules::evaluate;
use freewheel_hub_fleet::work::feedback::values;
use freewheel_hub_fleet::work::{ConditionRule, FeedbackRule};
use serde::Deserialize as _;
use serde_json::{Value, json};

static COMMITTED: &[u8] = include_bytes!("works.jsonl.gz");

#[test]
fn works_are_told_what_upstream_tells_them() {
    crate::each("work", COMMITTED, |question, place| {
        let answer = &question["answer"];
        let place = format!("{place}\n{question}");
        fed_back(question, answer, &place);
        made_by_rules(question, answer, &place);
        aggregated(question, answer, &place);
    });
}

fn fed_back(question: &Value, answer: &Value, place: &str) {
    let rules = Vec::<FeedbackRule>::deserialize(&question["feedback"]).unwrap();
    let (found, failed) = values(&question["object"], &rules);
    assert_eq!(json!(found), answer["values"], "{failed:?} {place}");
    assert_eq!(failed.len(), answer["failed"], "{failed:?} {place}");
}

fn made_by_rules(question: &Value, answer: &Value, place: &str) {
    let rules = Vec::<ConditionRule>::deserialize(&question["rules"]).unwrap();
    let object = Arc::new(question["object"].clone());
    let said = evaluate(&[(object, &rules)]).unwrap().remove(0);
    let theirs = answer["conditions"].as_array().unwrap();
    assert_eq!(said.len(), theirs.len(), "{said:?} {place}");
    for (ours, theirs) in said.iter().zip(theirs) {
        let status = if ours.holds { "True" } else { "False" };
        let own = json!([ours.kind, status, ours.reason]);
        assert_eq!(own, json!([theirs["type"], theirs["status"], theirs["reason"]]), "{place}");
        // What is wrong with an expression is told in words of our own.
        let told = rules.iter().any(|rule| !rule.message_expression.is_empty())
            || theirs["message"].as_str().is_some_and(|text| text.starts_with("no such "));
        if ours.reason == "ConditionRuleEvaluated" && !told {
            assert_eq!(ours.message, theirs["message"], "{place}");
        }
    }
}

fn aggregated(question: &Value, answer: &Value, place: &str) {
    let manifests = question["manifests"].as_array().unwrap();
    let mut ours = by_rules(manifests);
    ours.push(available(manifests));
    ours.sort_by(|a, b| a.kind.cmp(&b.kind));
    let theirs = answer["aggregated"].as_array().unwrap();
    let told = |it: &Aggregate| json!([it.kind, it.status, it.reason, it.message.trim_end()]);
    let text = |it: &Value| it.as_str().unwrap().trim_end().to_owned();
    let said = |it: &Value| json!([it["type"], it["status"], it["reason"], text(&it["message"])]);
    assert_eq!(
        ours.iter().map(told).collect::<Vec<_>>(),
        theirs.iter().map(said).collect::<Vec<_>>(),
        "{place}"
    );
}
