//! Who gets a place, and who does not.

use super::*;

fn tunnel(realm: &str) -> Use {
    Use::Tunnel(ClusterName::try_from(realm).unwrap(), None)
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
    assert_eq!(all(&budget, &Use::Logs(None)).len(), limits::LOG_STREAMS_MAX);
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
    assert_eq!(proxy.len(), limits::REALM_TUNNELS_MAX - limits::TUNNELS_KEPT_FREE);
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
fn a_user_leaves_streams_to_pods_for_others() {
    let budget = Arc::new(Budget::default());
    let by = |user: &str| Use::PodStream(Some(user.into()));
    let ann = all(&budget, &by("ann"));
    assert_eq!(ann.len(), limits::POD_STREAMS_MAX - limits::POD_STREAMS_KEPT_FREE);
    let refused = budget.take(by("ann")).unwrap_err();
    assert_eq!(refused.reason, TOO_MANY_REASON);
    assert!(refused.message.contains("24 streams to pods"), "{refused}");
    let bob = all(&budget, &by("bob"));
    assert!(3 <= bob.len() && budget.take(by("eve")).is_ok(), "{}", bob.len());
    drop((ann, bob));
    assert!(budget.0.lock().pod_streams.users.is_empty());
    assert_eq!(all(&budget, &Use::PodStream(None)).len(), limits::POD_STREAMS_MAX);
}

#[test]
fn a_user_leaves_commands_of_a_container_for_others() {
    let budget = Arc::new(Budget::default());
    let by = |user: &str, of: &str| Use::Command(Some(user.into()), of.into());
    let ann = all(&budget, &by("ann", "shell"));
    let kept = limits::CONTAINER_COMMANDS_KEPT_FREE;
    assert_eq!(ann.len(), limits::CONTAINER_COMMANDS_MAX - kept);
    let refused = budget.take(by("ann", "shell")).unwrap_err();
    assert_eq!(refused.reason, TOO_MANY_REASON);
    assert!(refused.message.contains("runs 6 commands, 6 of them this user's"), "{refused}");
    assert!(budget.take(by("ann", "other")).is_ok());
    let others = [all(&budget, &by("bob", "shell")), all(&budget, &by("eve", "shell"))];
    assert_eq!(others.each_ref().map(Vec::len), [1, 1]);
    assert_eq!(budget.0.lock().pod_streams.all, limits::CONTAINER_COMMANDS_MAX);
    assert!(budget.take(by("joe", "shell")).is_err());
    drop((ann, others));
    let state = budget.0.lock();
    assert!(state.commands.is_empty() && state.pod_streams.all == 0);
}

#[test]
fn a_user_leaves_logs_for_others() {
    let budget = Arc::new(Budget::default());
    let by = |user: &str| Use::Logs(Some(user.into()));
    let ann = all(&budget, &by("ann"));
    assert_eq!(ann.len(), limits::LOG_STREAMS_MAX - limits::LOG_STREAMS_KEPT_FREE);
    let refused = budget.take(by("ann")).unwrap_err();
    assert_eq!(refused.reason, TOO_MANY_REASON);
    assert!(refused.message.contains("22 logs of this device"), "{refused}");
    let bob = all(&budget, &by("bob"));
    assert!(2 <= bob.len() && budget.take(by("eve")).is_ok(), "{}", bob.len());
    drop((ann, bob));
    assert!(budget.0.lock().logs.users.is_empty() && budget.0.lock().logs.all == 0);
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
