//! What can be found again of a request: its number, and what is logged of it.

use crate::said::Said;
use crate::support::{Answer, Hub};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn number(answer: &Answer) -> &str {
    answer.headers["audit-id"].to_str().unwrap()
}

#[tokio::test]
async fn every_answer_has_the_number_of_its_request() {
    let hub = Hub::start().await;
    let (admin, stranger) = (hub.admin(), hub.client(None));
    let drawn = [
        admin.get(PODS).await,
        admin.get(PODS).await,
        admin.get_over_h2(PODS).await,
        admin.get("/api/v1/made-up").await,
        stranger.get(PODS).await,
        stranger.get("/readyz").await,
    ];
    let numbers: std::collections::BTreeSet<&str> = drawn.iter().map(number).collect();
    assert_eq!(numbers.len(), drawn.len());
    assert!(numbers.iter().all(|number| number.len() == 36), "{numbers:?}");
    for (own, is_taken) in [("mine-1", true), (&*"x".repeat(4000), true), ("", false)] {
        let answer = admin.send("GET", PODS, &[("audit-id", own)], "").await;
        assert_eq!((answer.code, number(&answer) == own), (200, is_taken), "{own}");
    }
}

#[tokio::test]
async fn what_is_logged_of_a_request_says_which_it_is() {
    let said = Said::begin();
    let hub = Hub::start().await;
    let path = format!("{PODS}/web/log?follow=true");
    let answer = hub.admin().send("GET", &path, &[("audit-id", "mine-1")], "").await;
    assert_eq!(answer.code, 404, "{}", answer.text());
    let lines = said.lines("answered");
    let [line] = &lines[..] else { panic!("{lines:?}") };
    for part in [
        "request{id=\"mine-1\" method=GET path=\"/api/v1/namespaces/default/pods/web/log\"",
        "user=\"admin\"",
        "cluster=\"root\"",
        "verb=\"get\"",
        "resource=\"pods/log\"",
        "code=404",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    hub.admin().send("GET", PODS, &[("audit-id", &"x".repeat(65))], "").await;
    let line = said.lines("answered").pop().unwrap();
    assert!(line.contains(&format!("id=\"{}\"", "x".repeat(64))), "{line}");
}
