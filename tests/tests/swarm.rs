//! A hundred simulated spokes before one hub.

use freewheel_tests::Fleet;
use freewheel_tests::swarm::{FleetSwarm, outlives_its_hub};

#[test]
fn a_hundred_spokes_are_back_in_sync_with_a_hub_that_was_killed() {
    outlives_its_hub(100, 1);
}

#[test]
fn spokes_whose_links_flap_and_lose_packets_are_all_in_session_in_the_end() {
    let fleet = Fleet::hub();
    let mut swarm = FleetSwarm::join(&fleet, 40);
    swarm.hears_of_a_change(&fleet.kubectl(), "first");
    swarm.tell("mark");
    swarm.tell("loss 5%");
    swarm.tell("flap 100%/min");
    swarm.tell("report 100%/min");
    swarm.tell("silent 50%");
    swarm.tell("wait 4s");
    let said = swarm.tell("say");
    let least = |field: &str, least: u64| {
        let seen = said[field].as_u64().expect("a count");
        assert!(least <= seen, "{field}: {said}");
    };
    least("silent", 20);
    least("lost_packets", 1);
    least("reports", 1);
    for line in ["loss 0%", "flap 0%/min", "report 0%/min", "silent 0%", "until up within 30s"] {
        swarm.tell(line);
    }
    swarm.hears_of_a_change(&fleet.kubectl(), "second");
    let said = swarm.tell("say");
    assert!(said["silent"] == 0 && said["up"] == 40, "{said}");
    assert!(1 <= said["greetings"].as_u64().expect("a count"), "nobody came again: {said}");
}
