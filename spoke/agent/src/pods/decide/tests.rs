//! A pod's life as a table: what is seen → what is done and said.

use std::collections::BTreeMap;

use freewheel_link::names::ClusterName;
use freewheel_link::part::Parts;
use freewheel_link::plan::{HttpV1, PodV1};
use freewheel_link::report::{ContainerStateV1, PodStatusV1};

use super::*;
use crate::addresses::{Addresses, Lease};
use crate::ledger::{PodSource, PodStateV1};
use crate::pods::status::status;
use crate::pods::storage::Evicted;
use crate::pods::{Left, Pull};
use crate::ports::Exit;

mod deleted;
mod ended;
mod guards;

const SECOND: Duration = Duration::from_secs(1);

fn digest(image: &str) -> Digest {
    Digest::of(image.as_bytes())
}

fn container(name: &str) -> ContainerV1 {
    ContainerV1 {
        name: name.to_owned(),
        image: format!("{name}:1"),
        module: ModuleV1::Component(digest(name)),
        args: vec![],
        env_from: vec![],
        env: vec![],
        ports: vec![],
        mounts: vec![],
        memory_limit: None,
        cpu_limit_milli: None,
        requests: (None, None),
        sidecar: false,
        working_dir: String::new(),
        http: HttpV1::default(),
    }
}

/// A pod under test, with everything it asks for done at once.
struct Life {
    pod: Pod,
    modules: BTreeMap<Digest, Module>,
    now: Duration,
}

fn spec(init: &[ContainerV1], names: &[&str], restart: RestartPolicy) -> PodV1 {
    PodV1 {
        uid: "u1".to_owned(),
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        node: "pi-7".to_owned(),
        labels: vec![],
        annotations: vec![],
        service_account: "default".to_owned(),
        hostname: "web".to_owned(),
        subdomain: String::new(),
        restart,
        priority: 0,
        grace_seconds: 30,
        deadline_seconds: None,
        deleting: None,
        service_links: true,
        host_aliases: vec![],
        init: init.to_vec(),
        containers: names.iter().map(|name| container(name)).collect(),
        volumes: vec![],
        parts: Parts::default(),
    }
}

fn life(spec: PodV1) -> Life {
    let modules = spec
        .init
        .iter()
        .chain(&spec.containers)
        .map(|c| (digest(&c.name), Module::Ready { path: "/m".into() }));
    let modules = modules.collect();
    let now = SECOND * 1000;
    let pod =
        Pod::new(PodSource::Plan, ClusterName::root(), spec, Left::default(), (now, 1_000_000));
    Life { pod, modules, now }
}

fn lease() -> Option<Lease> {
    let mut addresses = Addresses::default();
    addresses.hold(&ClusterName::root(), std::net::Ipv4Addr::new(10, 64, 3, 2))
}

/// The pod as the agent's next life finds it.
fn reborn(spec: PodV1, state: &PodStateV1, now: Duration) -> Pod {
    let left = Left { state: Some(state), lease: lease(), ..Left::default() };
    Pod::new(PodSource::Plan, ClusterName::root(), spec, left, (now, 2_000_000))
}

impl Life {
    /// Decides and does until nothing is left; what was done, in words.
    fn go(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        for _ in 0..50 {
            let decision =
                decide(&self.pod, DecisionContext { now: self.now, modules: &self.modules });
            if decision.actions.is_empty() || done.last().is_some_and(|last| last == "clean") {
                return done;
            }
            for action in decision.actions {
                let words = self.apply(action);
                done.push(words);
            }
        }
        panic!("never at rest: {done:?}");
    }

    fn apply(&mut self, action: Action) -> String {
        let name = |pod: &Pod, which| pod.at(which).unwrap().0.name.clone();
        match action {
            Action::AddNetwork => {
                self.pod.sandbox.bring_up(lease).unwrap();
                "network".to_owned()
            }
            Action::MakeVolumes => {
                self.pod.sandbox.set_volumes(Volumes::Made);
                "volumes".to_owned()
            }
            Action::FetchModule(which, digest) => {
                self.modules.insert(digest, Module::Fetching);
                format!("want {}", name(&self.pod, which))
            }
            Action::ReportPullProblem(which, reason, message) => {
                let words = format!("blame {reason}");
                let since = self.now;
                let pull = Some(Pull { reason, message, since, backing: false });
                self.pod.at_mut(which).unwrap().pull = pull;
                words
            }
            Action::BackOff(which) => {
                self.pod.at_mut(which).unwrap().pull.as_mut().unwrap().backing = true;
                "back off".to_owned()
            }
            Action::Start(which, _) => {
                let image = self.pod.at(which).unwrap().1.image.clone();
                let container = self.pod.at_mut(which).unwrap();
                container.begin(&image, String::new());
                format!("start {}/{}", container.name, container.restarts)
            }
            Action::Stop(which, grace)
            | Action::Replace(which, grace)
            | Action::Unhealthy(which, _, grace) => {
                let (until, container) = (self.now + grace, self.pod.at_mut(which).unwrap());
                container.stop_by = Some(until);
                container.changed |= matches!(action, Action::Replace(..));
                container.unhealthy |= matches!(action, Action::Unhealthy(..));
                format!("stop {} {}s", container.name, grace.as_secs())
            }
            Action::Probe(which, kind) => {
                self.pod.at_mut(which).unwrap().probes.ask(kind).unwrap();
                format!("probe {} {kind:?}", name(&self.pod, which))
            }
            Action::Initialized => {
                self.pod.initializing = false;
                "risen".to_owned()
            }
            Action::Finish(done) => {
                let words = format!("finish {:?} {}", done.phase, done.reason);
                self.pod.finish(done);
                words.trim().to_owned()
            }
            Action::RemoveNetwork => {
                assert!(self.pod.sandbox.take_down().is_some());
                "no network".to_owned()
            }
            Action::Clean => "clean".to_owned(),
        }
    }

    fn started(&mut self, name: &str) -> &mut Self {
        let which = self.pod.find(name).unwrap();
        let (now, container) = (self.now, self.pod.at_mut(which).unwrap());
        assert!(container.started(container.restarts, now, 5), "{name} starts");
        self
    }

    fn exited(&mut self, name: &str, code: i32) -> &mut Self {
        let which = self.pod.find(name).unwrap();
        let reason = if code == 0 { "Completed" } else { "Error" };
        let (reason, message) = (reason.to_owned(), String::new());
        let exit = Exit { code, reason, message, was_asked_to_stop: true };
        let (now, container) = (self.now, self.pod.at_mut(which).unwrap());
        assert!(container.exited(container.restarts, exit, now, 6), "{name} ends");
        self
    }

    fn after(&mut self, seconds: u32) -> &mut Self {
        self.now += SECOND * seconds;
        self
    }

    fn status(&self) -> PodStatusV1 {
        status(&self.pod, DecisionContext { now: self.now, modules: &self.modules }, 7)
    }

    /// `phase web=Running …`, with the reasons of waiting and ended containers.
    fn said(&self) -> String {
        let status = self.status();
        let mut out = format!("{:?}", status.phase);
        for container in status.init.iter().chain(&status.containers) {
            let state = match &container.state {
                ContainerStateV1::Waiting(reason, _) => reason.clone(),
                ContainerStateV1::Running(_) => "Running".to_owned(),
                ContainerStateV1::Terminated(how) => format!("{}/{}", how.reason, how.code),
            };
            out.push_str(&format!(" {}={state}", container.name));
        }
        out
    }

    fn holds(&self, condition: &str) -> bool {
        self.status().conditions.iter().find(|c| c.kind == condition).unwrap().status
    }
}

fn always(names: &[&str]) -> Life {
    life(spec(&[], names, RestartPolicy::Always))
}

fn running(names: &[&str]) -> Life {
    let mut life = always(names);
    life.go();
    for name in names {
        life.started(name);
    }
    life
}

#[test]
fn volumes_that_fail_again_are_tried_less_and_less_often() {
    let mut life = always(&["web"]);
    life.pod.sandbox.bring_up(lease).unwrap();
    for (tries, wait) in [(1, 1), (2, 10), (3, 20), (40, 300)] {
        let failed = Volumes::Failed { message: "full".to_owned(), at: life.now, tries };
        life.pod.sandbox.set_volumes(failed);
        let ctx = |now| decide(&life.pod, DecisionContext { now, modules: &life.modules });
        let due = life.now + SECOND * wait;
        assert_eq!(ctx(due - SECOND), Decision { actions: vec![], wake: Some(due) });
        assert_eq!(ctx(due).actions, [Action::MakeVolumes]);
    }
}

#[test]
fn a_pod_comes_up() {
    let mut life = always(&["web", "log"]);
    assert_eq!(life.said(), "Pending web=ContainerCreating log=ContainerCreating");
    assert!(!life.holds("PodReadyToStartContainers"));
    assert_eq!(life.go(), ["network", "volumes", "risen", "start web/0", "start log/0"]);
    assert!(life.holds("PodReadyToStartContainers") && life.holds("Initialized"));
    life.started("web");
    assert_eq!(life.said(), "Pending web=Running log=ContainerCreating");
    life.started("log");
    assert_eq!(life.said(), "Running web=Running log=Running");
    assert!(life.holds("Ready") && life.holds("ContainersReady"));
    assert_eq!(life.go(), [""; 0], "and nothing is left to do");
}

#[test]
fn a_module_is_wanted_before_its_container_starts() {
    let mut life = always(&["web"]);
    life.modules.clear();
    assert_eq!(life.go(), ["network", "volumes", "risen", "want web"]);
    assert_eq!(life.go(), [""; 0]);
    let problem =
        Module::Problem { reason: "ErrImagePull".to_owned(), message: "nobody has it".to_owned() };
    life.modules.insert(digest("web"), problem.clone());
    assert_eq!(life.go(), ["blame ErrImagePull"]);
    assert_eq!(life.said(), "Pending web=ErrImagePull");
    // Tried again in vain: told already.
    life.modules.insert(digest("web"), problem);
    assert_eq!(life.go(), [""; 0]);
    life.after(10);
    assert_eq!(life.go(), ["back off"]);
    assert_eq!(life.said(), "Pending web=ImagePullBackOff");
    assert_eq!(life.go(), [""; 0]);
    let ready = Module::Ready { path: "/m".into() };
    life.modules.insert(digest("web"), ready);
    assert_eq!(life.go(), ["start web/0"]);
}

#[test]
fn an_image_the_hub_does_not_know_waits_in_its_words() {
    let mut spec = spec(&[], &["web"], RestartPolicy::Always);
    spec.containers[0].module = ModuleV1::Missing("InvalidImageName".to_owned(), "no".to_owned());
    let mut life = life(spec);
    assert_eq!(life.go(), ["network", "volumes", "risen", "blame InvalidImageName"]);
    life.after(60);
    assert_eq!(life.go(), [""; 0]);
    assert_eq!(life.said(), "Pending web=InvalidImageName");
}

#[test]
fn crashes_wait_longer_each_time_and_are_forgiven() {
    let mut life = running(&["web"]);
    for (wait, attempt) in
        [(0, 1), (10, 2), (20, 3), (40, 4), (80, 5), (160, 6), (300, 7), (300, 8)]
    {
        life.exited("web", 1);
        if 0 < wait {
            assert_eq!(life.go(), [""; 0], "attempt {attempt} waits");
            assert_eq!(life.said(), "Running web=CrashLoopBackOff");
            assert!(!life.holds("Ready"));
            let ctx = DecisionContext { now: life.now, modules: &life.modules };
            assert_eq!(decide(&life.pod, ctx).wake, Some(life.now + SECOND * wait));
            life.after(wait);
        }
        assert_eq!(life.go(), [format!("start web/{attempt}")]);
        life.started("web");
    }
    let web = &life.status().containers[0];
    assert_eq!((web.restarts, web.last.as_ref().map(|l| l.code)), (8, Some(1)));
    life.after(600).exited("web", 1);
    assert_eq!(life.go(), ["start web/9"], "ten good minutes and it starts at once");
}

#[test]
fn a_crash_loop_is_told_in_kubelets_words() {
    let mut life = running(&["web"]);
    life.exited("web", 1).go();
    life.started("web").exited("web", 1).go();
    let ContainerStateV1::Waiting(_, message) = &life.status().containers[0].state else {
        panic!("{}", life.said())
    };
    assert_eq!(message, "back-off 10s restarting failed container=web pod=web_default(u1)");
}

/// Policy, exit codes → what becomes of the pod.
#[test]
fn restart_policies() {
    use RestartPolicy::{Never, OnFailure};
    for (policy, codes, expected) in [
        (OnFailure, [0, 0], "Succeeded a=Completed/0 b=Completed/0"),
        (Never, [0, 0], "Succeeded a=Completed/0 b=Completed/0"),
        (Never, [0, 3], "Failed a=Completed/0 b=Error/3"),
        (OnFailure, [0, 3], "Running a=Completed/0 b=ContainerCreating"),
    ] {
        let mut life = life(spec(&[], &["a", "b"], policy));
        life.go();
        life.started("a").started("b").exited("a", codes[0]).exited("b", codes[1]).go();
        assert_eq!(life.said(), expected, "{policy:?}");
        assert_eq!(life.pod.sandbox.is_up(), expected.starts_with("Running"));
    }
}

#[test]
fn init_containers_run_one_after_the_other_and_sidecars_stay() {
    let side = ContainerV1 { sidecar: true, ..container("side") };
    let init = [container("one"), side, container("two")];
    let mut life = life(spec(&init, &["web"], RestartPolicy::Always));
    assert_eq!(life.go(), ["network", "volumes", "start one/0"]);
    life.started("one");
    assert_eq!(
        life.said(),
        "Pending one=Running side=PodInitializing two=PodInitializing web=PodInitializing"
    );
    life.exited("one", 0);
    assert_eq!(life.go(), ["start side/0"]);
    life.started("side");
    assert_eq!(life.go(), ["start two/0"]);
    life.started("two").exited("two", 1);
    assert_eq!(life.go(), ["start two/1"], "a failed one is run again");
    assert!(!life.holds("Initialized"));
    life.started("two").exited("two", 0);
    assert_eq!(life.go(), ["risen", "start web/0"]);
    life.started("web");
    assert!(life.holds("Initialized") && life.holds("Ready"));
    life.exited("side", 0);
    assert_eq!(life.go(), ["start side/1"], "a sidecar that ends is started again");
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let mut life = life(spec(&[container("one")], &["web"], RestartPolicy::Never));
    life.go();
    life.started("one").exited("one", 2);
    assert_eq!(life.go(), ["finish Failed", "no network"]);
    assert_eq!(life.said(), "Failed one=Error/2 web=PodInitializing");
}

#[test]
fn sidecars_end_after_the_containers_the_last_one_first() {
    let side = |name| ContainerV1 { sidecar: true, ..container(name) };
    let mut life = life(spec(&[side("s1"), side("s2")], &["job"], RestartPolicy::Never));
    life.go();
    life.started("s1").go();
    life.started("s2").go();
    life.started("job").exited("job", 0);
    assert_eq!(life.go(), ["stop s2 30s"]);
    life.exited("s2", 143);
    assert_eq!(life.go(), ["stop s1 30s"]);
    life.exited("s1", 143);
    assert_eq!(life.go(), ["finish Succeeded", "no network"]);
}

#[test]
fn a_deadline_fails_the_pod() {
    let mut spec = spec(&[], &["web"], RestartPolicy::Always);
    spec.deadline_seconds = Some(60);
    let mut life = life(spec);
    life.go();
    life.started("web").after(60);
    assert_eq!(life.go(), ["stop web 30s"]);
    life.exited("web", 143);
    assert_eq!(life.go(), ["finish Failed DeadlineExceeded", "no network"]);
    assert_eq!(life.status().reason, "DeadlineExceeded");
}

#[test]
fn a_refused_or_held_pod_reaches_its_deadline() {
    for held in [false, true] {
        let mut spec = spec(&[], &["web"], RestartPolicy::Always);
        spec.deadline_seconds = Some(60);
        let mut life = life(spec);
        if held {
            life.pod.held = Some(3);
        } else {
            life.pod.refused = Some(("InvalidPod".to_owned(), String::new()));
        }
        let decision = decide(&life.pod, DecisionContext { now: life.now, modules: &life.modules });
        let due = Decision { actions: vec![], wake: Some(life.now + SECOND * 60) };
        assert_eq!(decision, due, "nothing is started, and the deadline is not slept through");
        life.after(60);
        assert_eq!(life.go(), ["finish Failed DeadlineExceeded"], "held: {held}");
        let said = life.status();
        assert_eq!((said.phase, said.reason.as_str()), (PhaseV1::Failed, "DeadlineExceeded"));
    }
}

#[test]
fn what_was_asked_for_is_not_asked_for_again() {
    let mut life = life(spec(&[], &["web"], RestartPolicy::Always));
    assert!(!life.go().is_empty());
    assert_eq!(life.go(), [""; 0], "it is starting");
    life.started("web");
    assert_eq!(life.go(), [""; 0]);
    life.pod.dropped(life.now);
    assert_eq!(life.go(), ["stop web 30s"]);
    assert_eq!(life.go(), [""; 0], "it is stopping");
}

#[test]
fn another_image_replaces_the_container_in_place() {
    let mut life = running(&["web", "log"]);
    let mut changed = life.pod.spec.clone();
    changed.containers[0].image = "web:2".to_owned();
    life.pod.update(changed, life.now);
    assert_eq!(life.go(), ["stop web 30s"]);
    life.exited("web", 143);
    assert_eq!(life.go(), ["start web/1"], "at once, and the other one is left alone");
}

#[test]
fn after_the_agents_restart_pods_go_on_with_their_counts() {
    let side = ContainerV1 { sidecar: true, ..container("side") };
    let mut life = life(spec(&[container("one"), side], &["web"], RestartPolicy::Always));
    life.go();
    life.started("one").exited("one", 0).go();
    life.started("side").go();
    life.started("web").exited("web", 1).go();
    life.started("web");
    let state = life.pod.state();
    let spec = life.pod.spec.clone();
    life.pod = reborn(spec, &state, life.now);
    assert_eq!(life.go(), ["network", "volumes", "start side/1"], "what `one` did is still there");
    life.started("side");
    assert_eq!(life.go(), ["risen", "start web/2"], "at once");
    let web = &life.started("web").status().containers[0];
    assert_eq!((web.restarts, web.last.as_ref().map(|l| l.code)), (2, Some(137)));
}

#[test]
fn a_pod_that_ended_stays_ended_after_the_agents_restart() {
    let mut life = life(spec(&[], &["job"], RestartPolicy::Never));
    life.go();
    life.started("job").exited("job", 0).go();
    let state = life.pod.state();
    let spec = life.pod.spec.clone();
    life.pod = reborn(spec, &state, life.now);
    assert_eq!(life.go(), [""; 0]);
    assert_eq!(life.said(), "Succeeded job=Completed/0");
}

#[test]
fn news_about_an_older_start_changes_nothing() {
    let mut life = running(&["web"]);
    life.exited("web", 1).go();
    let web = &mut life.pod.containers[0];
    let (reason, message) = ("Error".to_owned(), String::new());
    let exit = Exit { code: 9, reason, message, was_asked_to_stop: false };
    assert!(!web.started(0, SECOND, 1));
    assert!(!web.exited(0, exit, SECOND, 1));
}

#[test]
fn conditions_keep_their_time_until_they_change() {
    let mut life = running(&["web"]);
    let first = life.status();
    life.pod.reported = Some(first.clone());
    let later = status(&life.pod, DecisionContext { now: life.now, modules: &life.modules }, 99);
    assert_eq!(later, first);
}

#[test]
fn a_pod_that_may_not_start_any_more_is_evicted_all_the_same() {
    let mut life = always(&["web"]);
    life.go();
    life.started("web");
    life.pod.refused = Some(("NodeTooOld".to_owned(), "needs a newer agent".to_owned()));
    let message = "The node was low on resource: memory.".to_owned();
    let until = life.now + SECOND;
    life.pod.fate = Fate::Evicted(Evicted { message, until });
    assert_eq!(life.go(), ["stop web 1s"]);
    life.exited("web", 137);
    assert_eq!(life.go(), ["finish Failed Evicted", "no network"]);
}
