//! One compilation for all who ask, and what is remembered of it. Programs of a few lines stand for the compiler.

use std::os::unix::fs::PermissionsExt as _;

use freewheel_hub_api::images::Images as _;
use freewheel_link::profile::Profile;
use futures::future::join_all;
use serde_json::{Value, json};

use super::*;
use crate::compile::{COMPILER_BUILD, Made};
use crate::registry::tests::{call, module, push};

struct Bench {
    dir: tempfile::TempDir,
    modules: Modules,
    stop: CancellationToken,
    tending: tokio::task::JoinHandle<()>,
}

impl Bench {
    /// A registry whose compiler notes each run and then does this.
    async fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let compiler = dir.path().join("compiler");
        // Arguments: compile-module --profile P --component IN --artifact OUT --digest D
        let text = format!(
            "#!/bin/sh\necho \"$5\" >> {}\nout=$7\n{script}\n",
            dir.path().join("runs").display()
        );
        std::fs::write(dir.path().join("text"), text).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path().join("text"), mode).unwrap();
        // Renamed: a program that is open for writing cannot be started.
        std::fs::rename(dir.path().join("text"), &compiler).unwrap();
        let (modules, stop) = (open(dir.path()), CancellationToken::new());
        let tending = tokio::spawn({
            let (modules, stop) = (modules.clone(), stop.clone());
            async move { modules.run_maintenance(stop).await }
        });
        Self { dir, modules, stop, tending }
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.dir.path().join("runs")).unwrap_or_default().lines().count()
    }

    /// The hub starts again.
    async fn restart(self) -> Self {
        self.stop.cancel();
        self.tending.await.unwrap();
        let (modules, stop) = (open(self.dir.path()), CancellationToken::new());
        let tending = tokio::spawn({
            let (modules, stop) = (modules.clone(), stop.clone());
            async move { modules.run_maintenance(stop).await }
        });
        Self { dir: self.dir, modules, stop, tending }
    }
}

fn open(dir: &Path) -> Modules {
    let root = FleetRoot::open(&dir.join("root"), true).unwrap();
    let compiler = dir.join("compiler");
    Modules::open(Options { dir: dir.to_path_buf(), compiler, root, may_make: true }).unwrap()
}

fn profile() -> Profile {
    Profile::candidates()[0]
}

/// What makes an artifact with this content.
fn makes(dir: &Path, content: &[u8]) -> String {
    let packed = dir.join("packed");
    std::fs::write(&packed, zstd::encode_all(content, 1).unwrap()).unwrap();
    let (digest, size) = (Digest::of(content).to_string(), content.len() as u64);
    let made = serde_json::to_string(&Made { digest, size, build: COMPILER_BUILD }).unwrap();
    format!("cp {} $out; echo '{made}'", packed.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bomb_is_compiled_once_for_all_who_ask_and_not_again_until_it_is_pushed_again() {
    let bench = Bench::new("sleep 0.2; kill -XCPU $$").await;
    let pushed = push(&bench.modules, "bomb", "v1", module("bomb")).await;
    let profile = profile();
    let ask = |modules: Modules| async move {
        modules.artifact(&pushed.component, profile, &Vec::new).await.unwrap_err()
    };
    let told = join_all((0..20).map(|_| ask(bench.modules.clone()))).await;
    assert!(told.iter().all(|why| why.reason == "ErrImageCompile"), "{told:?}");
    assert!(told.iter().all(|why| why.message.contains("s of CPU time")), "{told:?}");
    assert_eq!(bench.runs(), 1, "one outcome for all");
    ask(bench.modules.clone()).await;
    let bench = bench.restart().await;
    assert!(ask(bench.modules.clone()).await.message.contains("until it is pushed again"));
    assert_eq!(bench.runs(), 1, "the reason is remembered");
    bench.modules.note_profile(profile);
    push(&bench.modules, "bomb", "v2", module("bomb")).await;
    ask(bench.modules.clone()).await;
    assert_eq!(bench.runs(), 2, "a push is a new try");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_users_module_does_not_wait_for_a_slow_one() {
    // The slow one is larger than what the quick lane takes, and ends with the test.
    let script = "if [ $(stat -c %s \"$5\") -gt 2097152 ]; then sleep 600; else exit 1; fi";
    let bench = Bench::new(script).await;
    let slow = push(&bench.modules, "slow", "v1", module(&"x".repeat(3 << 20))).await;
    let quick = push(&bench.modules, "quick", "v1", module("quick")).await;
    let (modules, profile) = (bench.modules.clone(), profile());
    let waits = tokio::spawn({
        let modules = modules.clone();
        async move { modules.artifact(&slow.component, profile, &Vec::new).await }
    });
    modules.note_profile(profile);
    while !modules.progress(&slow.component).contains(&(profile, Progress::Compiling)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = modules.artifact(&quick.component, profile, &Vec::new);
    let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
    assert_eq!(answer.expect("it waits for the slow one").unwrap_err().reason, "ErrImageCompile");
    assert!(!waits.is_finished());
    waits.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_artifact_is_compiled_again() {
    let bench = Bench::new(". $(dirname $0)/makes").await;
    let makes = makes(bench.dir.path(), &[7; 100_000]);
    std::fs::write(bench.dir.path().join("makes"), makes).unwrap();
    let pushed = push(&bench.modules, "app", "v1", module("app")).await;
    let made = bench.modules.artifact(&pushed.component, profile(), &Vec::new).await.unwrap();
    bench.modules.artifact(&pushed.component, profile(), &Vec::new).await.unwrap();
    assert_eq!(bench.runs(), 1);
    let whole = std::fs::read(&made.path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    std::fs::write(&made.path, flipped).unwrap();
    let bench = bench.restart().await;
    let again = bench.modules.artifact(&pushed.component, profile(), &Vec::new).await.unwrap();
    assert_eq!((bench.runs(), std::fs::read(&again.path).unwrap()), (2, whole));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_compiled_is_had_though_its_module_is_lost() {
    let bench = Bench::new(". $(dirname $0)/makes").await;
    std::fs::write(bench.dir.path().join("makes"), makes(bench.dir.path(), b"code")).unwrap();
    let pushed = push(&bench.modules, "app", "v1", module("app")).await;
    bench.modules.artifact(&pushed.component, profile(), &Vec::new).await.unwrap();
    let file = bench.modules.inner.blobs.path(&pushed.component);
    std::fs::remove_file(&file).unwrap();
    let bench = bench.restart().await;
    let made = bench.modules.artifact(&pushed.component, profile(), &Vec::new).await.unwrap();
    assert_eq!(bench.runs(), 1);
    std::fs::remove_file(&made.path).unwrap();
    let bench = bench.restart().await;
    let lost = bench.modules.artifact(&pushed.component, profile(), &Vec::new).await.unwrap_err();
    let told = format!("the module's file {} is missing on the hub: push", file.display());
    assert!(lost.message.starts_with(&told), "{lost}");
    assert_eq!(bench.runs(), 1, "there is nothing to compile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_that_rotted_is_mended_by_the_next_push() {
    // As a compiler that finds other bytes than those that were pushed.
    let bench =
        Bench::new("cmp -s \"$5\" $(dirname $0)/whole || exit 4; . $(dirname $0)/makes").await;
    std::fs::write(bench.dir.path().join("makes"), makes(bench.dir.path(), b"code")).unwrap();
    std::fs::write(bench.dir.path().join("whole"), module("app")).unwrap();
    let pushed = push(&bench.modules, "app", "v1", module("app")).await;
    let file = bench.modules.inner.blobs.path(&pushed.component);
    let mut rotten = module("app");
    *rotten.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &rotten).unwrap();
    let damaged =
        bench.modules.artifact(&pushed.component, profile(), &Vec::new).await.unwrap_err();
    let told = format!("the module's file {} is damaged on the hub: push", file.display());
    assert!(damaged.message.starts_with(&told), "{damaged}");
    // Else clients would find it there and not send it.
    let path = format!("/v2/app/blobs/{}", pushed.component);
    let there = call(&bench.modules, http::Method::HEAD, &path, "").await;
    assert_eq!(there.status, http::StatusCode::NOT_FOUND);
    let aside = file.with_extension("damaged");
    assert_eq!(std::fs::read(&aside).unwrap(), rotten);
    push(&bench.modules, "app", "v1", module("app")).await;
    bench.modules.note_profile(profile());
    bench.modules.artifact(&pushed.component, profile(), &Vec::new).await.unwrap();
    assert!(!aside.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_can_wait_until_its_module_is_compiled() {
    let bench =
        Bench::new("while [ ! -e $(dirname $0)/go ]; do sleep 0.05; done; . $(dirname $0)/makes")
            .await;
    let makes = makes(bench.dir.path(), b"code");
    std::fs::write(bench.dir.path().join("makes"), makes).unwrap();
    bench.modules.note_profile(profile());
    let pushed = push(&bench.modules, "app", "v1", module("app")).await;
    let path = format!("/v2/_freewheel/compiled/{}", pushed.component);
    let state = || async {
        let told = call(&bench.modules, http::Method::GET, &path, "").await;
        let told: Value = serde_json::from_slice(&told.body).unwrap();
        assert_eq!(told["profiles"][0]["profile"], json!(profile().key()));
        told["profiles"][0]["state"].as_str().unwrap().to_owned()
    };
    while state().await != "compiling" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    std::fs::write(bench.dir.path().join("go"), b"").unwrap();
    while state().await == "compiling" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(state().await, "compiled");
    let none =
        call(&bench.modules, http::Method::GET, "/v2/_freewheel/compiled/sha256:0", "").await;
    assert_eq!(none.status, http::StatusCode::NOT_FOUND);
}
