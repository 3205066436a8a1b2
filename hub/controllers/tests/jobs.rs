//! Jobs and CronJobs from apply to their ends, with every controller running.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::time::Duration;

use crate::hub::{EXITS, Hub, condition, get, list, reason};
use freewheel_hub_controllers::job::backoff::BACKOFF_FIRST;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::time;
use freewheel_hub_store::Snapshot;
use serde_json::{Value, json};
use tokio::time::Instant;

/// A Job whose pods end so; without codes they run on.
fn job(name: &str, codes: &str, spec: &Value) -> Value {
    let mut body = json!({"metadata": {"name": name}, "spec": {"template": {
        "metadata": {"annotations": {EXITS: codes}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}}});
    for (field, value) in spec.as_object().unwrap() {
        body["spec"][field] = value.clone();
    }
    body
}

fn the_job(s: &dyn Snapshot, name: &str) -> Value {
    get(s, "root", "jobs", "default", name).unwrap_or_default()
}

fn pods(s: &dyn Snapshot) -> Vec<Value> {
    list(s, "root", "pods", "default")
}

fn told(s: &dyn Snapshot, reason: &str) -> Vec<String> {
    let events = list(s, "root", "events", "default").into_iter();
    let about = events.filter(|event| event["reason"] == reason);
    about.map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect()
}

fn is_held(pod: &Value) -> bool {
    pod["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty())
}

#[tokio::test(start_paused = true)]
async fn a_job_counts_each_pod_once_and_is_complete() {
    let mut hub = Hub::with_spokes(&["pi-1"]).await;
    hub.always("pods", |s| {
        let running = |pod: &&Value| pod["status"]["phase"] != "Succeeded";
        assert!(pods(s).iter().filter(running).count() <= 2, "more than two at once");
    });
    hub.always("jobs", |s| {
        let status = &the_job(s, "pi")["status"];
        let count =
            |list: &str| status["uncountedTerminatedPods"][list].as_array().map_or(0, Vec::len);
        let all = status["succeeded"].as_u64().unwrap_or_default() + count("succeeded") as u64;
        assert!(all <= 5, "one counts twice: {status}");
    });
    let spec = json!({"completions": 5, "parallelism": 2});
    hub.create("root", "jobs", "default", job("pi", "0", &spec)).await;
    hub.eventually("it is complete", |s| condition(&the_job(s, "pi"), "Complete") == "True").await;
    let status = the_job(&*hub.snapshot(), "pi")["status"].clone();
    assert_eq!(status["succeeded"], 5);
    assert_eq!((&status["ready"], &status["terminating"]), (&json!(0), &json!(0)));
    assert!(status["active"].is_null() && status["completionTime"].is_string());
    let conditions: Vec<_> =
        status["conditions"].as_array().unwrap().iter().map(|c| &c["type"]).collect();
    assert_eq!(conditions, ["SuccessCriteriaMet", "Complete"]);
    let pods = pods(&*hub.snapshot());
    assert_eq!(pods.len(), 5);
    assert!(pods.iter().all(|pod| !is_held(pod)));
    hub.eventually("it is told about", |s| {
        told(s, "SuccessfulCreate").len() == 5 && told(s, "Completed") == ["Job completed"]
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_waits_longer_each_time_until_it_gives_up() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let spec = json!({"backoffLimit": 2, "ttlSecondsAfterFinished": 100});
    hub.create("root", "jobs", "default", job("pi", "3", &spec)).await;
    hub.eventually("it has failed", |s| condition(&the_job(s, "pi"), "Failed") == "True").await;
    let snapshot = hub.snapshot();
    let failed = the_job(&*snapshot, "pi");
    assert_eq!(reason(&failed, "Failed"), "BackoffLimitExceeded");
    assert_eq!(reason(&failed, "FailureTarget"), "BackoffLimitExceeded");
    assert_eq!(failed["status"]["failed"], 3);
    let made = |pod: &Value| time::parse_unix(pod["metadata"]["creationTimestamp"].as_str()?);
    let mut made: Vec<i64> = pods(&*snapshot).iter().filter_map(made).collect();
    made.sort_unstable();
    let waits = [made[1] - made[0], made[2] - made[1]];
    assert!((10..15).contains(&waits[0]) && (20..25).contains(&waits[1]), "{waits:?}");
    hub.eventually("it goes with its pods", |s| {
        get(s, "root", "jobs", "default", "pi").is_none() && pods(s).is_empty()
    })
    .await;
    assert_eq!(
        told(&*hub.snapshot(), "BackoffLimitExceeded"),
        ["Job has reached the specified backoff limit"]
    );
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_indexed_job_tries_each_index_for_itself() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let spec = json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed",
        "backoffLimitPerIndex": 1});
    hub.create("root", "jobs", "default", job("pi", "0,1,0,0", &spec)).await;
    hub.eventually("it has failed", |s| condition(&the_job(s, "pi"), "Failed") == "True").await;
    let snapshot = hub.snapshot();
    let job = the_job(&*snapshot, "pi");
    assert_eq!(reason(&job, "Failed"), "FailedIndexes");
    let status = &job["status"];
    assert_eq!(
        (&status["completedIndexes"], &status["failedIndexes"]),
        (&json!("0,2,3"), &json!("1"))
    );
    assert_eq!((&status["succeeded"], &status["failed"]), (&json!(3), &json!(2)));
    let pods = pods(&*snapshot);
    let of_one =
        |pod: &&Value| pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1";
    let of_one: Vec<&Value> = pods.iter().filter(of_one).collect();
    assert_eq!(of_one.len(), 2, "once more, and no more");
    assert!(of_one.iter().all(|pod| pod["spec"]["hostname"] == "pi-1" && !is_held(pod)));
    let names: Vec<_> =
        of_one.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| name.starts_with("pi-1-")), "{names:?}");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_rests_has_no_pods_and_goes_on_later() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let spec =
        json!({"parallelism": 2, "completions": 2, "suspend": true, "activeDeadlineSeconds": 60});
    hub.create("root", "jobs", "default", job("pi", "", &spec)).await;
    let suspended = |s: &dyn Snapshot| condition(&the_job(s, "pi"), "Suspended").to_owned();
    hub.eventually("it rests", |s| suspended(s) == "True").await;
    assert!(pods(&*hub.snapshot()).is_empty());
    let rest = |rests: bool| move |job: &mut Value| job["spec"]["suspend"] = json!(rests);
    hub.change("root", "jobs", "default", "pi", rest(false)).await;
    hub.eventually("it runs", |s| the_job(s, "pi")["status"]["ready"] == 2).await;
    assert_eq!(suspended(&*hub.snapshot()), "False");
    hub.change("root", "jobs", "default", "pi", rest(true)).await;
    hub.eventually("its pods go", |s| pods(s).is_empty() && suspended(s) == "True").await;
    let status = the_job(&*hub.snapshot(), "pi")["status"].clone();
    assert!(status["failed"].is_null() && status["startTime"].is_null(), "{status}");
    hub.change("root", "jobs", "default", "pi", rest(false)).await;
    hub.eventually("its time runs out", |s| {
        reason(&the_job(s, "pi"), "Failed") == "DeadlineExceeded"
    })
    .await;
    hub.eventually("nobody runs", |s| pods(s).is_empty()).await;
    assert_eq!(the_job(&*hub.snapshot(), "pi")["status"]["failed"], 2);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_a_job_has_sent_away_make_nobody_wait() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let spec = json!({"parallelism": 3, "completions": 3});
    hub.create("root", "jobs", "default", job("pi", "", &spec)).await;
    let ready = |count: u64| move |s: &dyn Snapshot| the_job(s, "pi")["status"]["ready"] == count;
    let put =
        |field: &'static str, to: Value| move |job: &mut Value| job["spec"][field] = to.clone();
    hub.eventually("all run", ready(3)).await;
    for (field, fewer, left, more) in
        [("suspend", json!(true), 0, json!(false)), ("parallelism", json!(1), 1, json!(3))]
    {
        hub.change("root", "jobs", "default", "pi", put(field, fewer)).await;
        hub.eventually("some go", |s| pods(s).len() == left).await;
        let since = Instant::now();
        hub.change("root", "jobs", "default", "pi", put(field, more)).await;
        hub.eventually("all run again", ready(3)).await;
        assert!(since.elapsed() < BACKOFF_FIRST, "{field}: {:?}", since.elapsed());
    }
    assert!(the_job(&*hub.snapshot(), "pi")["status"]["failed"].is_null());
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_job_leaves_behind_is_held_by_nobody() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let runs =
        |name: &'static str| move |s: &dyn Snapshot| the_job(s, name)["status"]["ready"] == 1;
    for (name, propagation) in [("a", Propagation::Background), ("b", Propagation::Foreground)] {
        hub.create("root", "jobs", "default", job(name, "", &json!({}))).await;
        hub.eventually("it runs", runs(name)).await;
        hub.delete("jobs", "default", name, propagation).await;
        hub.eventually("all of it goes", |s| {
            get(s, "root", "jobs", "default", name).is_none() && pods(s).is_empty()
        })
        .await;
    }
    hub.create("root", "jobs", "default", job("c", "", &json!({}))).await;
    hub.eventually("it runs", runs("c")).await;
    hub.delete("jobs", "default", "c", Propagation::Orphan).await;
    hub.eventually("its pod stays and is free", |s| {
        let pods = pods(s);
        get(s, "root", "jobs", "default", "c").is_none() && pods.len() == 1 && !is_held(&pods[0])
    })
    .await;
    hub.create("root", "namespaces", "", json!({"metadata": {"name": "n"}})).await;
    hub.eventually("n stands", |s| get(s, "root", "serviceaccounts", "n", "default").is_some())
        .await;
    hub.create("root", "jobs", "n", job("d", "", &json!({"parallelism": 2}))).await;
    hub.eventually("it runs", |s| list(s, "root", "pods", "n").len() == 2).await;
    hub.delete("namespaces", "", "n", Propagation::Background).await;
    hub.eventually("n goes", |s| get(s, "root", "namespaces", "", "n").is_none()).await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_somebody_ends_is_replaced_when_the_job_wants_that() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    for policy in ["TerminatingOrFailed", "Failed"] {
        let spec = json!({"podReplacementPolicy": policy});
        hub.create("root", "jobs", "default", job("pi", "", &spec)).await;
        let ready = |s: &dyn Snapshot| the_job(s, "pi")["status"]["ready"] == 1;
        hub.eventually("it runs", ready).await;
        let first = pods(&*hub.snapshot())[0]["metadata"]["name"].as_str().unwrap().to_owned();
        hub.delete("pods", "default", &first, Propagation::Background).await;
        hub.eventually("another one runs", |s| {
            let all = pods(s);
            all.len() == 1 && all[0]["metadata"]["name"] != first.as_str() && ready(s)
        })
        .await;
        assert_eq!(the_job(&*hub.snapshot(), "pi")["status"]["failed"], 1, "{policy}");
        hub.delete("jobs", "default", "pi", Propagation::Background).await;
        hub.eventually("all of it goes", |s| {
            get(s, "root", "jobs", "default", "pi").is_none() && pods(s).is_empty()
        })
        .await;
    }
    hub.stop().await;
}

fn cron(name: &str, codes: &str, spec: &Value) -> Value {
    let template = job(name, codes, &json!({}))["spec"].clone();
    let mut body = json!({"metadata": {"name": name}, "spec": {"schedule": "* * * * *",
        "jobTemplate": {"metadata": {"labels": {"made": "by-cron"}}, "spec": template}}});
    for (field, value) in spec.as_object().unwrap() {
        body["spec"][field] = value.clone();
    }
    body
}

fn the_cron(s: &dyn Snapshot, name: &str) -> Value {
    get(s, "root", "cronjobs", "default", name).unwrap_or_default()
}

/// Minutes since the epoch, which end the names of Jobs.
fn minute(text: &str) -> i64 {
    time::parse_unix(text).unwrap() / 60
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_runs_at_its_times() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let spec = json!({"timeZone": "Europe/Vaduz", "successfulJobsHistoryLimit": 2});
    hub.create("root", "cronjobs", "default", cron("tick", "0", &spec)).await;
    hub.eventually("it has run five times", |s| {
        let last = the_cron(s, "tick")["status"]["lastSuccessfulTime"].as_str().map(minute);
        last.is_some_and(|last| minute("2026-01-01T00:05:00Z") <= last)
    })
    .await;
    hub.eventually("it keeps two", |s| list(s, "root", "jobs", "default").len() == 2).await;
    let snapshot = hub.snapshot();
    let jobs = list(&*snapshot, "root", "jobs", "default");
    let last = jobs.last().unwrap();
    let number = minute("2026-01-01T00:05:00Z");
    assert_eq!(last["metadata"]["name"], format!("tick-{number}"));
    assert_eq!(last["metadata"]["labels"]["made"], "by-cron");
    let at = "batch.kubernetes.io/cronjob-scheduled-timestamp";
    assert_eq!(last["metadata"]["annotations"][at], "2026-01-01T01:05:00+01:00");
    let status = &the_cron(&*snapshot, "tick")["status"];
    assert_eq!(status["lastScheduleTime"], "2026-01-01T00:05:00Z");
    assert!(status["active"].is_null(), "{status}");
    hub.eventually("it is told about", |s| {
        let done = format!("Saw completed job: tick-{number}, condition: Complete");
        told(s, "SuccessfulCreate").contains(&format!("Created job tick-{number}"))
            && told(s, "SawCompletedJob").contains(&done)
            && told(s, "SuccessfulDelete").contains(&format!("Deleted job tick-{}", number - 3))
    })
    .await;
    hub.change("root", "cronjobs", "default", "tick", |cron| cron["spec"]["suspend"] = json!(true))
        .await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let rests = the_cron(&*hub.snapshot(), "tick")["status"]["lastScheduleTime"].clone();
    assert_eq!(rests, "2026-01-01T00:05:00Z");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_runs_when_the_next_time_comes_is_joined_waited_for_or_replaced() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    let by = |policy: &str| json!({"concurrencyPolicy": policy});
    for (name, policy) in [("allow", "Allow"), ("forbid", "Forbid"), ("replace", "Replace")] {
        hub.create("root", "cronjobs", "default", cron(name, "", &by(policy))).await;
    }
    let active = |s: &dyn Snapshot, name: &str| {
        let cron = the_cron(s, name);
        let active = cron["status"]["active"].as_array().cloned().unwrap_or_default();
        active.iter().map(|job| job["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    hub.eventually("three have begun", |s| active(s, "allow").len() == 3).await;
    let (first, third) = (minute("2026-01-01T00:01:00Z"), minute("2026-01-01T00:03:00Z"));
    hub.eventually("one waits for the first", |s| {
        active(s, "forbid") == [format!("forbid-{first}")]
    })
    .await;
    hub.eventually("one runs the last", |s| active(s, "replace") == [format!("replace-{third}")])
        .await;
    hub.eventually("it is told about", |s| {
        !told(s, "JobAlreadyActive").is_empty()
            && told(s, "SuccessfulDelete").contains(&format!("Deleted job replace-{first}"))
    })
    .await;
    hub.delete("jobs", "default", &format!("forbid-{first}"), Propagation::Background).await;
    hub.eventually("it goes on", |s| {
        !told(s, "MissingJob").is_empty()
            && !active(s, "forbid").is_empty()
            && active(s, "forbid") != [format!("forbid-{first}")]
    })
    .await;
    hub.delete("cronjobs", "default", "allow", Propagation::Background).await;
    hub.eventually("its Jobs go with it", |s| {
        let jobs = list(s, "root", "jobs", "default");
        jobs.iter().all(|job| !job["metadata"]["name"].as_str().unwrap().starts_with("allow"))
    })
    .await;
    hub.stop().await;
}
