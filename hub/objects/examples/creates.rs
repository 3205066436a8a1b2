//! Durable creates of 1 KiB ConfigMaps through the whole pipeline, at 1 and at 64 writers.
//!
//! `cargo run --release -p freewheel-hub-objects --example creates [DIRECTORY] [SECONDS]`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freewheel_hub_api::kinds;
use freewheel_hub_objects::{Canonical, ObjectRef, Objects, WriteOptions};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::redb::RedbStore;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::task::JoinSet;

fn place(plural: &str, namespace: &str) -> Option<ObjectRef> {
    let kind = kinds::find("", "v1", plural)?;
    let (cluster, name) = (ClusterName::root(), String::new());
    Some(ObjectRef { kind: kind.clone(), cluster, namespace: namespace.into(), name })
}

fn config(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": "bench"}}, "data": {"text": "x".repeat(900)},
    })
}

async fn run(
    objects: &Objects,
    round: &str,
    writers: usize,
    lasts: Duration,
) -> Result<(), ApiError> {
    let Some(at) = place("configmaps", "default") else { return Ok(()) };
    let until = Instant::now() + lasts;
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let (objects, at, round) = (objects.clone(), at.clone(), round.to_owned());
        tasks.spawn(async move {
            let mut times = Vec::new();
            let how = WriteOptions::default();
            while Instant::now() < until {
                let value = config(&format!("{round}-{writer}-{}", times.len()));
                let value = Canonical::from_json(value.to_string().as_bytes(), &*at.kind)?.0;
                let start = Instant::now();
                objects.create(&how, &at, value).await?;
                times.push(start.elapsed());
            }
            Ok::<_, ApiError>(times)
        });
    }
    let mut times = Vec::new();
    for done in tasks.join_all().await {
        times.extend(done?);
    }
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let each = times.len() as f64 / lasts.as_secs_f64();
    println!("{writers:3} writers: {each:8.0} creates/s, p50 {:?}, p99 {:?}", at(50), at(99));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().unwrap_or_else(|| "target/creates".to_owned()));
    let seconds = arguments.next().map_or(Ok(3), |seconds| seconds.parse())?;
    let _ = std::fs::remove_dir_all(&directory);
    let objects = Objects::new(Arc::new(RedbStore::open(&directory)?));
    let Some(at) = place("namespaces", "") else { return Ok(()) };
    objects.create(&WriteOptions::default(), &at, json!({"metadata": {"name": "default"}})).await?;
    for (round, writers) in [("one", 1), ("many", 64), ("more", 64), ("crowd", 512)] {
        run(&objects, round, writers, Duration::from_secs(seconds)).await?;
    }
    drop(objects);
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
