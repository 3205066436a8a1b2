//! Who gets a place, and who does not.

use futures::FutureExt as _;

use super::*;

fn tunnel(realm: &str) -> Use {
    Use::Tunnel(ClusterName::try_from(realm).unwrap(), None)
}

fn named(name: &str) -> ClusterName {
    ClusterName::try_from(name).unwrap()
}

/// A user whom the hub knows, and a pod of the root.
fn of_root(user: &str) -> PodClient {
    PodClient::new(&ClusterName::root(), Principal::Root(user.into()))
}

/// A user whom a cluster knows, and a pod of its.
fn of(cluster: &str, user: &str) -> PodClient {
    PodClient::new(&named(cluster), Principal::Cluster(named(cluster), user.into()))
}

/// As a device sees it.
fn pods_of(realm: &str) -> PodClient {
    PodClient { realm: Some(named(realm)), principal: None }
}

/// Takes for forty users of somebody's what each of them gets.
fn forty(budget: &Arc<Budget>, by: impl Fn(&str) -> Use) -> Vec<StreamPermit> {
    (0..40).flat_map(|at| all(budget, &by(&format!("user-{at}")))).collect()
}

/// Takes places until there is none.
fn all(budget: &Arc<Budget>, of: &Use) -> Vec<StreamPermit> {
    std::iter::from_fn(|| budget.take(of.clone()).ok()).take(10_000).collect()
}

#[test]
fn idle_connections_of_one_realm_keep_nobody_else_out() {
    let budget = Arc::new(Budget::default());
    let root = all(&budget, &tunnel("root"));
    assert_eq!(root.len(), limits::REALM_TUNNELS_MAX);
    let refused = budget.take(tunnel("root")).unwrap_err();
    assert_eq!(refused.reason, TOO_MANY_REASON);
    assert!(refused.message.contains("connections of root"), "{}", refused.message);
    let own = all(&budget, &tunnel("pi-7"));
    assert_eq!(own.len(), limits::TUNNELS_MAX - limits::REALM_TUNNELS_MAX);
    let logs = ["root", "pi-7"].map(|realm| all(&budget, &Use::Logs(pods_of(realm))));
    let left = limits::LOG_STREAMS_MAX - limits::REALM_LOG_STREAMS_MAX;
    assert_eq!(logs.map(|logs| logs.len()), [limits::REALM_LOG_STREAMS_MAX, left]);
    assert_eq!(all(&budget, &Use::Module).len(), limits::MODULE_STREAMS_MAX);
    assert_eq!(all(&budget, &Use::Figures).len(), limits::FIGURES_ANSWERS_AT_ONCE);
}

#[test]
fn who_asks_for_all_there_is_leaves_places_for_others() {
    let spoke =
        |last: u8| Asker::Spoke(ClusterName::try_from(format!("pi-{last}").as_str()).unwrap());
    let pod = |last: u8| Asker::at([10, 64, 0, last].into());
    let client = |last: u8| Asker::at([192, 168, 1, last].into());
    let askers: [&dyn Fn(u8) -> Asker; 3] = [&spoke, &pod, &client];
    for asker in askers {
        let budget = Arc::new(Budget::default());
        let by = |last| Use::Tunnel(ClusterName::root(), Some(asker(last)));
        let first = all(&budget, &by(1));
        assert!((64..limits::REALM_TUNNELS_MAX).contains(&first.len()), "{}", first.len());
        let refused = budget.take(by(1)).unwrap_err();
        assert!(refused.message.contains(&format!("connections of {}", asker(1))), "{refused}");
        let greedy: Vec<_> = (2..10).map(|last| all(&budget, &by(last))).collect();
        assert!(budget.take(by(10)).is_ok(), "{:?}", budget.0.lock().askers);
        drop((first, greedy));
        assert!(budget.0.lock().askers.is_empty());
    }
    // What one guest may have is less than what its device may have at another one.
    let [device, guest] = [spoke(1), pod(1)].map(|asker| {
        let budget = Arc::new(Budget::default());
        all(&budget, &Use::Tunnel(ClusterName::root(), Some(asker))).len()
    });
    assert!(guest < limits::REALM_TUNNELS_MAX / 2 && 2 * guest < device, "{guest} {device}");
}

#[test]
fn a_proxy_has_hundreds_and_leaves_places_for_others() {
    let budget = Arc::new(Budget::default());
    let by = |address: [u8; 4]| Use::Tunnel(ClusterName::root(), Some(Asker::at(address.into())));
    let proxy = all(&budget, &by([192, 168, 1, 9]));
    assert_eq!(proxy.len(), limits::REALM_TUNNELS_MAX - limits::CLIENT_TUNNELS_KEPT_FREE);
    assert!(200 <= proxy.len());
    // In IPv6's clothes it is no other one.
    let dressed = Asker::at("::ffff:192.168.1.9".parse().unwrap());
    assert!(budget.take(Use::Tunnel(ClusterName::root(), Some(dressed))).is_err());
    let pod = all(&budget, &by([10, 64, 0, 2]));
    let client = all(&budget, &by([192, 168, 1, 10]));
    assert!(16 <= pod.len() && 8 <= client.len(), "{} {}", pod.len(), client.len());
    drop(client);
    assert!(budget.take(by([192, 168, 1, 11])).is_ok());
}

#[test]
fn a_client_leaves_its_spoke_places_at_another_one() {
    let (here, at_hub) = (Arc::new(Budget::default()), Arc::new(Budget::default()));
    let first = |from: [u8; 4]| Use::Tunnel(ClusterName::root(), Some(Asker::at(from.into())));
    let second = Use::Tunnel(ClusterName::root(), Some(Asker::Spoke(named("pi-1"))));
    let by =
        |from: [u8; 4]| Some((here.take(first(from)).ok()?, at_hub.take(second.clone()).ok()?));
    let _stranger: Vec<_> = std::iter::from_fn(|| by([192, 168, 1, 9])).collect();
    let others = (10..30).filter_map(|last| by([192, 168, 1, last])).collect::<Vec<_>>();
    assert_eq!(others.len(), 20);
    assert!(by([10, 64, 0, 2]).is_some(), "a pod of the spoke");
    let other = Use::Tunnel(ClusterName::root(), Some(Asker::Spoke(named("pi-2"))));
    assert!(16 <= all(&at_hub, &other).len());
}

#[test]
fn a_network_of_ipv6_is_one_client() {
    let budget = Arc::new(Budget::default());
    let by = |host: usize| {
        let address: IpAddr = format!("2001:db8:1:2::{host:x}").parse().unwrap();
        Use::Tunnel(ClusterName::root(), Some(Asker::at(address)))
    };
    let held: Vec<_> = (1..1000).map_while(|host| budget.take(by(host)).ok()).collect();
    assert_eq!(held.len(), limits::REALM_TUNNELS_MAX - limits::CLIENT_TUNNELS_KEPT_FREE);
    let other = Asker::at("2001:db8:1:3::1".parse().unwrap());
    assert!(budget.take(Use::Tunnel(ClusterName::root(), Some(other))).is_ok());
}

#[test]
fn a_user_leaves_streams_to_pods_for_others() {
    let budget = Arc::new(Budget::default());
    let by = |user: &str| Use::PodStream(of_root(user));
    let ann = all(&budget, &by("ann"));
    assert_eq!(ann.len(), 24);
    let bob = all(&budget, &by("bob"));
    assert!(2 <= bob.len() && budget.take(by("eve")).is_ok(), "{}", bob.len());
    assert!(budget.take(Use::PodStream(of("pi-7", "joe"))).is_ok());
    drop((ann, bob));
    let state = budget.0.lock();
    assert!(state.pod_streams.principals.is_empty() && state.pod_streams.realms.is_empty());
}

#[test]
fn a_user_leaves_commands_of_a_container_for_others() {
    let budget = Arc::new(Budget::default());
    let by = |user: &str, of: &str| Use::Command(of_root(user), of.into());
    let ann = all(&budget, &by("ann", "shell"));
    assert_eq!(ann.len(), 6);
    let refused = budget.take(by("ann", "shell")).unwrap_err();
    assert_eq!(refused.reason, TOO_MANY_REASON);
    assert!(refused.message.contains("runs 6 commands, 6 of them for \"ann\""), "{refused}");
    assert!(budget.take(by("ann", "other")).is_ok());
    let bob = all(&budget, &by("bob", "shell"));
    assert_eq!(bob.len(), 1);
    // The last one is a probe's.
    assert_eq!(budget.0.lock().pod_streams.all, limits::CONTAINER_COMMANDS_MAX - 1);
    assert!(budget.take(by("joe", "shell")).is_err());
    drop((ann, bob));
    let state = budget.0.lock();
    assert!(state.commands.is_empty() && state.pod_streams.all == 0);
}

#[test]
fn a_user_leaves_logs_for_others() {
    let budget = Arc::new(Budget::default());
    let by = |user: &str| Use::Logs(of_root(user));
    let ann = all(&budget, &by("ann"));
    assert_eq!(ann.len(), 22);
    let bob = all(&budget, &by("bob"));
    assert!(2 <= bob.len() && budget.take(by("eve")).is_ok(), "{}", bob.len());
    drop((ann, bob));
    let state = budget.0.lock();
    assert!(state.logs.principals.is_empty() && state.logs.realms.is_empty());
    assert_eq!(state.logs.all, 0);
}

#[test]
fn forty_names_of_a_cluster_leave_the_root_a_log_a_stream_and_a_command() {
    let budget = Arc::new(Budget::default());
    let logs = forty(&budget, |user| Use::Logs(of("pi-7", user)));
    let commands = forty(&budget, |user| Use::Command(of("pi-7", user), "theirs".into()));
    let streams = forty(&budget, |user| Use::PodStream(of("pi-7", user)));
    assert!(20 < logs.len() && 3 < commands.len() && 15 < streams.len());
    // In its own pods, where each of the forty is refused.
    let there = |user: &str| PodClient::new(&named("pi-7"), Principal::Root(user.into()));
    let is_free = |of: Use| budget.take(of).is_ok();
    assert!(is_free(Use::Logs(there("ann"))) && is_free(Use::PodStream(there("ann"))));
    assert!(is_free(Use::Command(there("ann"), "theirs".into())));
    // And others beside these.
    let held =
        [Use::Logs(there("ann")), Use::PodStream(there("ann")), Use::PodStream(there("bob"))];
    let held = held.map(|of| budget.take(of).unwrap());
    assert!(is_free(Use::Logs(of_root("ann"))) && is_free(Use::Logs(of_root("bob"))));
    assert!(is_free(Use::PodStream(of_root("ann"))) && is_free(Use::PodStream(of_root("bob"))));
    assert!(is_free(Use::Command(of_root("ann"), "own".into())));
    drop((logs, commands, streams, held));
    let state = budget.0.lock();
    assert!(state.logs.all == 0 && state.pod_streams.all == 0 && state.commands.is_empty());
}

#[test]
fn forty_names_of_the_root_leave_others_some() {
    let budget = Arc::new(Budget::default());
    let _logs = forty(&budget, |user| Use::Logs(of_root(user)));
    let _streams = forty(&budget, |user| Use::PodStream(of_root(user)));
    assert!(budget.take(Use::Logs(of_root("ann"))).is_err());
    assert!(budget.take(Use::PodStream(of_root("ann"))).is_err());
    assert!(budget.take(Use::Logs(of("pi-7", "site"))).is_ok());
    assert!(budget.take(Use::PodStream(of("pi-7", "site"))).is_ok());
}

#[test]
fn nobody_takes_the_places_of_the_hub_itself() {
    let budget = Arc::new(Budget::default());
    let hub = |of: &str| Use::PodStream(PodClient::new(&named(of), Principal::Hub(named(of))));
    // Whatever they are called.
    let name = "system:apiserver";
    let theirs = all(&budget, &Use::PodStream(of("pi-7", name)));
    let more = forty(&budget, |user| Use::PodStream(of("pi-7", user)));
    let there = all(&budget, &hub("pi-7"));
    assert_eq!(there.len(), limits::POD_STREAMS_KEPT_FOR_FIRST);
    let at_root = all(&budget, &hub("root"));
    assert!(3 < at_root.len(), "{}", at_root.len());
    drop((theirs, more, there, at_root));
    let of_root = forty(&budget, |user| Use::PodStream(of_root(user)));
    let also = all(&budget, &Use::PodStream(self::of_root(name)));
    assert_eq!((of_root.len(), also.len()), (28, 0));
    assert_eq!(all(&budget, &hub("root")).len(), limits::POD_STREAMS_KEPT_FOR_FIRST);
}

#[test]
fn a_user_is_one_of_their_cluster() {
    let budget = Arc::new(Budget::default());
    let name = "kubernetes-admin";
    let theirs = all(&budget, &Use::Logs(of("pi-7", name)));
    assert!(20 < theirs.len());
    // Of what they leave, the root's one has as much as anybody else.
    let own = all(&budget, &Use::Logs(of_root(name))).len();
    let other = all(&budget, &Use::Logs(of_root("ann"))).len();
    assert!(3 < own && own == other, "{own} {other}");
}

#[test]
fn who_looks_into_several_clusters_has_one_share() {
    let budget = Arc::new(Budget::default());
    let ann = |realm: &str| Use::Logs(PodClient::new(&named(realm), Principal::Root("ann".into())));
    let first = all(&budget, &ann("root"));
    assert_eq!(first.len(), 22);
    assert!(budget.take(ann("pi-7")).is_err());
    drop(first);
    assert_eq!(all(&budget, &ann("pi-7")).len(), 22);
}

#[test]
fn a_refusal_says_whose_share_is_full() {
    let refused = |budget: &Arc<Budget>, of: Use| {
        let refused = budget.take(of).unwrap_err();
        assert_eq!(refused.reason, TOO_MANY_REASON);
        refused.message
    };
    let budget = Arc::new(Budget::default());
    let _own = all(&budget, &Use::Logs(of_root("ann")));
    let told = "the link carries 22 logs of this device, 22 of them for \"ann\": as many as \"ann\" may have by now";
    assert_eq!(refused(&budget, Use::Logs(of_root("ann"))), told);
    let budget = Arc::new(Budget::default());
    let _theirs = forty(&budget, |user| Use::PodStream(of("pi-7", user)));
    let told = "the link carries 26 streams to pods of this device, 26 of them of pods of pi-7: as many as there may be \
                by now for users of pi-7";
    assert_eq!(refused(&budget, Use::PodStream(of("pi-7", "eve"))), told);
    let budget = Arc::new(Budget::default());
    let _logs = all(&budget, &Use::Logs(pods_of("pi-7")));
    let told = "the link carries 28 logs of this device, 28 of them of pods of pi-7: as many as there may be by now";
    assert_eq!(refused(&budget, Use::Logs(pods_of("pi-7"))), told);
    let _others = all(&budget, &Use::Logs(PodClient::default()));
    let told = "the link carries 32 logs of this device, as many as there may be";
    assert_eq!(refused(&budget, Use::Logs(pods_of("root"))), told);
    let budget = Arc::new(Budget::default());
    let _most = all(&budget, &Use::PodStream(pods_of("pi-7")));
    let _two = [(); 2].map(|()| budget.take(Use::PodStream(pods_of("pi-8"))).unwrap());
    let told = "the link carries 32 streams to pods of this device, as many as there may be by now for users of pi-9";
    assert_eq!(refused(&budget, Use::PodStream(of("pi-9", "eve"))), told);
}

#[test]
fn pods_that_are_here_no_more_share_no_realm() {
    let budget = Arc::new(Budget::default());
    let gone = all(&budget, &Use::Logs(PodClient::default()));
    assert_eq!(gone.len(), limits::LOG_STREAMS_MAX);
}

#[test]
fn a_place_comes_back_with_its_stream() {
    let budget = Arc::new(Budget::default());
    let places = all(&budget, &Use::Module);
    assert!(budget.take(Use::Module).is_err());
    drop(places);
    assert!(budget.take(Use::Module).is_ok());
    assert_eq!(budget.0.lock().modules, 0);
    drop(all(&budget, &tunnel("root")));
    assert!(budget.0.lock().tunnels.is_empty());
}

/// A device's pod of the root.
fn pod_stream() -> Use {
    Use::PodStream(pods_of("root"))
}

#[tokio::test]
async fn who_waits_has_the_next_place_in_the_order_of_coming() {
    let budget = Arc::new(Budget::default());
    let mut taken = all(&budget, &pod_stream());
    assert_eq!(taken.len(), limits::REALM_POD_STREAMS_MAX);
    let mut first = Box::pin(budget.wait(pod_stream()));
    let mut second = Box::pin(budget.wait(pod_stream()));
    assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
    // Another realm's are for nobody of these.
    let other = budget.wait(Use::PodStream(pods_of("pi-7"))).now_or_never().unwrap().unwrap();
    drop(other);
    assert!(first.as_mut().now_or_never().is_none());
    drop(taken.pop());
    // Who comes now does not come before them.
    let mut third = Box::pin(budget.wait(pod_stream()));
    assert!(third.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    let served = first.await.unwrap();
    drop(served);
    let served = second.await.unwrap();
    drop((served, taken));
    drop(third.await.unwrap());
    let state = budget.0.lock();
    assert!(state.waiting.is_empty() && state.pod_streams.all == 0);
}

#[tokio::test]
async fn few_wait_and_who_gives_up_takes_nothing_along() {
    let budget = Arc::new(Budget::default());
    let mut taken = all(&budget, &pod_stream());
    let lines_up = |_| {
        let mut waiting = Box::pin(budget.wait(pod_stream()));
        let answered = waiting.as_mut().now_or_never();
        (waiting, answered)
    };
    let mut waiting: Vec<_> = (0..=WAITING_MAX).map(lines_up).collect();
    let refused = waiting.pop().and_then(|(_, answered)| answered).unwrap().unwrap_err();
    assert_eq!(refused.reason, TOO_MANY_REASON);
    assert!(waiting.iter().all(|(_, answered)| answered.is_none()));
    // The first is granted one and never looks.
    drop(taken.pop());
    drop(waiting);
    assert!(budget.0.lock().waiting.is_empty());
    assert!(budget.take(pod_stream()).is_ok(), "it has come back");
}
