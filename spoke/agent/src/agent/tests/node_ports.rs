//! Ports of the node that somebody else has.

use freewheel_link::plan::Protocol;

use super::*;
use crate::ports::NodePortNews;

fn news(owner: &str, error: Option<&str>) -> Input {
    let error = error.map(str::to_owned);
    let (owner, protocol) = (owner.to_owned(), Protocol::Tcp);
    Input::NodePort(NodePortNews { owner, port: 8080, protocol, error })
}

const TAKEN: Option<&str> = Some("cannot listen on 192.0.2.7:8080: Address already in use");

#[tokio::test(start_paused = true)]
async fn a_pod_whose_host_port_another_program_has_is_told_of_and_not_ready() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    let ready = |run: &Run| {
        let said = run.said("a").unwrap();
        let of = |kind: &str| said.conditions.iter().find(|one| one.kind == kind).cloned().unwrap();
        (of("Ready"), of("ContainersReady").status)
    };
    assert!(ready(&run).0.status);
    run.send(news("pod/uid-a", TAKEN)).await;
    let (condition, containers) = ready(&run);
    assert!(!condition.status && containers, "its containers are well");
    assert_eq!(condition.reason, "PortNotOpened");
    let text = "hostPort 8080: cannot listen on 192.0.2.7:8080: Address already in use";
    assert_eq!(condition.message, text);
    assert_eq!(run.events().pop().unwrap(), format!("Warning PortNotOpened: {text}"));
    run.send(news("pod/uid-a", None)).await;
    assert!(ready(&run).0.status);
    run.send(news("pod/uid-gone", TAKEN)).await;
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_port_that_another_program_has_is_told_of_at_the_node() {
    let run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.send(news(concat!("service/", "root", "/payments/vault"), TAKEN)).await;
    run.send(news(concat!("service/", "root", "/payments/vault"), None)).await;
    let told: Vec<_> = {
        let reports = run.world.uplink.reports.lock();
        let told = reports.iter().filter_map(|(_, report)| match report {
            Report::NodeEvent(event) => Some(format!("{}: {}", event.reason, event.message)),
            _ => None,
        });
        told.collect()
    };
    let text =
        "PortNotOpened: NodePort 8080: cannot listen on 192.0.2.7:8080: Address already in use";
    assert_eq!(told, [text]);
    run.end().await;
}
