//! A thousand simulated spokes before one hub.

use freewheel_tests::swarm::outlives_its_hub;

#[test]
fn a_thousand_spokes_are_back_in_sync_with_a_hub_that_was_killed() {
    outlives_its_hub(1000, 3);
}
