//! Requests that schemathesis, as PyPI has it, makes of the hub's own OpenAPI v3 documents; its program is
//! `tests/clients/schemathesis/examples.py`.
//!
//! Guarantees:
//! - whatever is sent to an operation is answered, and not with 5xx (`no_example_of_an_operation_is_a_mistake_of_the_hub_s`).

use std::process::Command;

use freewheel_tests::tools::{self, run};
use freewheel_tests::{Fleet, guests, has};

/// Right and wrong ones for each operation: there are some thousand operations.
const EXAMPLES: &str = "2";

#[test]
fn no_example_of_an_operation_is_a_mistake_of_the_hub_s() {
    let python = tools::python_with("schemathesis", "4.32.5");
    let fleet = Fleet::hub();
    let program = guests::root().join("tests/clients/schemathesis/examples.py");
    let mut command = Command::new(python);
    let command = command.arg("-B").arg(program).args([EXAMPLES, "1"]);
    has(&run(command.env("KUBECONFIG", fleet.kubeconfig())), &["every example is answered"]);
}
