//! Kinds of one's own: a stock kubectl defines one, uses it, and finds it again after a restart. It needs no device.

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually, has};

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: robots.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: robots, kind: Robot, shortNames: [rb], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.arms, statusReplicasPath: .status.arms}
    additionalPrinterColumns:
    - {name: Arms, type: integer, jsonPath: .spec.arms}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    schema:
      openAPIV3Schema:
        type: object
        description: A robot of ours.
        properties:
          spec:
            type: object
            required: [arms]
            x-kubernetes-validations:
            - {rule: 'self.arms >= oldSelf.arms', message: arms stay}
            properties:
              arms: {type: integer, minimum: 1, maximum: 8, description: How many arms it has.}
              color: {type: string, enum: [red, blue], default: red}
          status:
            type: object
            properties:
              arms: {type: integer}
              conditions:
                type: array
                items: {type: object, properties: {type: {type: string}, status: {type: string}}}
"#;

const ROBOT: &str = "
apiVersion: example.com/v1
kind: Robot
metadata: {name: one}
spec: {arms: 2}
";

#[test]
fn a_stock_kubectl_defines_a_kind_and_uses_it() {
    let mut fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    kubectl.apply(DEFINITION);
    kubectl.does(&["wait", "--for=condition=Established", "crd/robots.example.com"]);
    kubectl.apply(ROBOT);
    has(&kubectl.run(&["get", "robots"]), &["NAME", "ARMS", "READY", "one", "2"]);
    has(&kubectl.run(&["get", "all"]), &["robot.example.com/one"]);
    assert_eq!(kubectl.run(&["get", "rb", "one", "-o", "jsonpath={.spec.color}"]), "red");
    has(
        &kubectl.run(&["explain", "robot.spec.arms"]),
        &["FIELD: arms <integer>", "How many arms it has."],
    );
    kubectl.apply(&ROBOT.replace("arms: 2", "arms: 2, color: blue"));
    assert_eq!(kubectl.run(&["get", "rb", "one", "-o", "jsonpath={.spec.color}"]), "blue");
    refusals(&kubectl);
    kubectl.does(&["scale", "robot", "one", "--replicas=3"]);
    let status = r#"{"status": {"conditions": [{"type": "Ready", "status": "True"}]}}"#;
    kubectl.does(&["patch", "robot", "one", "--subresource=status", "--type=merge", "-p", status]);
    has(&kubectl.run(&["get", "robots"]), &["3", "True"]);
    let fails = kubectl.fails(&["scale", "robot", "one", "--replicas=2"]);
    has(&fails, &["arms stay"]);
    fleet.kill_hub();
    fleet.start_hub();
    has(&kubectl.run(&["get", "robots"]), &["one"]);
    kubectl.does(&["delete", "crd", "robots.example.com"]);
    eventually("nobody knows robots any more", PATIENCE, || {
        let said = kubectl.try_run(&["get", "robots.example.com"]);
        let gone = ["doesn't have a resource type", "could not find the requested resource"];
        if gone.iter().any(|it| said.err.contains(it)) { Ok(()) } else { Err(said.err) }
    });
}

fn refusals(kubectl: &Kubectl) {
    let wrong = ROBOT.replace("arms: 2", "arms: 9, legs: 2");
    let said = kubectl.try_apply(&["apply", "-f", "-"], &wrong);
    has(&said.err, &[r#"unknown field "spec.legs""#]);
    let said = kubectl.try_apply(&["apply", "--validate=warn", "-f", "-"], &wrong);
    has(&said.err, &["spec.arms in body should be less than or equal to 8"]);
    let said =
        kubectl.try_apply(&["apply", "-f", "-"], &DEFINITION.replace("kind: Robot,", "kind: '',"));
    has(&said.err, &["spec.names.kind: Required value"]);
}
