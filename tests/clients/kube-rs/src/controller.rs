//! Each valve has a ConfigMap that it owns, and is closed before it goes.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event as Told;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::finalizer::{Event as Finalizer, finalizer};
use kube::runtime::wait::await_condition;
use kube::runtime::{Controller, conditions, watcher};
use kube::{Api, Client, CustomResourceExt as _, Resource as _, ResourceExt as _};
use serde_json::json;

use crate::valve::{Valve, ValveSpec};
use crate::{NAMESPACE, code, within};

const FINALIZER: &str = "kube-rs.example.com/close";

struct Context {
    client: Client,
    recorder: Recorder,
}

async fn reconcile(
    valve: Arc<Valve>,
    context: Arc<Context>,
) -> Result<Action, kube::runtime::finalizer::Error<kube::Error>> {
    let valves: Api<Valve> = Api::namespaced(context.client.clone(), NAMESPACE);
    finalizer(&valves.clone(), FINALIZER, valve, |event| async move {
        let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), NAMESPACE);
        let by = PatchParams::apply("valves").force();
        match event {
            Finalizer::Apply(valve) => {
                let name = format!("valve-{}", valve.name_any());
                let owner = valve.controller_owner_ref(&()).expect("it has a uid");
                let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
                                 "metadata": {"name": name, "ownerReferences": [owner]},
                                 "data": {"open": valve.spec.open.to_string()}});
                maps.patch(&name, &by, &Patch::Apply(map)).await?;
                let status = json!({"apiVersion": "kube-rs.example.com/v1", "kind": "Valve",
                                    "status": {"open": valve.spec.open}});
                valves.patch_status(&valve.name_any(), &by, &Patch::Apply(status)).await?;
                let told = Event {
                    type_: EventType::Normal,
                    reason: "Moved".to_owned(),
                    note: Some(format!("open by {}", valve.spec.open)),
                    action: "Move".to_owned(),
                    secondary: None,
                };
                context.recorder.publish(&told, &valve.object_ref(&())).await?;
            }
            Finalizer::Cleanup(valve) => {
                let name = format!("closed-{}", valve.name_any());
                let map =
                    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
                maps.patch(&name, &by, &Patch::Apply(map)).await?;
            }
        }
        Ok(Action::await_change())
    })
    .await
}

/// Defines the kind, runs its controller, and is its user.
pub async fn works(client: Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let by = PatchParams::apply("valves").force();
    definitions
        .patch(Valve::crd_name(), &by, &Patch::Apply(Valve::crd()))
        .await
        .expect("a definition");
    let established = conditions::is_crd_established();
    within(
        "it is established",
        await_condition(definitions.clone(), Valve::crd_name(), established),
    )
    .await;
    let valves: Api<Valve> = Api::namespaced(client.clone(), NAMESPACE);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let recorder = Recorder::new(
        client.clone(),
        Reporter { controller: "valves".to_owned(), instance: Some("one".to_owned()) },
    );
    let run = Controller::new(valves.clone(), watcher::Config::default())
        .owns(maps.clone(), watcher::Config::default())
        .run(
            reconcile,
            |_, error, _| {
                eprintln!("again: {error}");
                Action::requeue(Duration::from_millis(200))
            },
            Arc::new(Context { client: client.clone(), recorder }),
        )
        .for_each(|_| async {});
    let run = tokio::spawn(run);
    uses(&valves, &maps, client).await;
    run.abort();
    definitions.delete(Valve::crd_name(), &DeleteParams::default()).await.expect("a delete");
}

async fn uses(valves: &Api<Valve>, maps: &Api<ConfigMap>, client: Client) {
    let post = PostParams::default();
    let valve = |open| Valve::new("main", ValveSpec { open, note: None });
    let refused = valves.create(&post, &valve(101)).await;
    assert_eq!(code(refused), (422, "Invalid".to_owned()));
    valves.create(&post, &valve(10)).await.expect("a valve");
    let shows = |open: &'static str| {
        move |found: Option<&ConfigMap>| {
            found.and_then(|it| it.data.as_ref()).is_some_and(|data| data["open"] == open)
        }
    };
    within("its ConfigMap is there", await_condition(maps.clone(), "valve-main", shows("10")))
        .await;
    let wider = json!({"spec": {"open": 60}});
    valves.patch("main", &PatchParams::default(), &Patch::Merge(wider)).await.expect("a patch");
    within("it follows", await_condition(maps.clone(), "valve-main", shows("60"))).await;
    maps.delete("valve-main", &DeleteParams::default()).await.expect("a delete");
    within("it is made anew", await_condition(maps.clone(), "valve-main", shows("60"))).await;
    let seen = |found: Option<&Valve>| {
        found.and_then(|it| it.status.as_ref()).is_some_and(|status| status.open == 60)
    };
    within("the status tells", await_condition(valves.clone(), "main", seen)).await;
    let found = valves.get("main").await.expect("the valve");
    assert_eq!(
        (found.metadata.generation, found.finalizers()),
        (Some(2), &[FINALIZER.to_owned()][..])
    );
    let events: Api<Told> = Api::namespaced(client, NAMESPACE);
    let told = async {
        while !moved(&events.list(&ListParams::default()).await?.items) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, kube::Error>(())
    };
    within("an event tells", told).await;
    let uid = found.uid().expect("a uid");
    valves.delete("main", &DeleteParams::foreground()).await.expect("a delete");
    within("it goes", await_condition(valves.clone(), "main", conditions::is_deleted(&uid))).await;
    let gone = |found: Option<&ConfigMap>| found.is_none();
    within("what it owned goes", await_condition(maps.clone(), "valve-main", gone)).await;
    assert!(maps.get_opt("closed-main").await.expect("an answer").is_some(), "it was closed first");
}

fn moved(events: &[Told]) -> bool {
    events
        .iter()
        .any(|it| it.reason.as_deref() == Some("Moved") && it.action.as_deref() == Some("Move"))
}
