//! Certificates for people, the documented Kubernetes way: a request made with openssl, approved with
//! kubectl, signed by the hub, used in a kubeconfig.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually, has};

/// `openssl req -new`: a key and a request for it, both in the fleet's folder.
fn openssl_request(fleet: &Fleet, name: &str, key: &[&str], subject: &str) {
    let file = |suffix: &str| fleet.path(&format!("{name}.{suffix}")).display().to_string();
    let (key_file, csr_file) = (file("key"), file("csr"));
    let mut arguments = vec!["req", "-new", "-nodes", "-newkey"];
    arguments.extend(key);
    arguments.extend(["-keyout", &key_file, "-out", &csr_file, "-subj", subject]);
    openssl(&arguments);
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().expect("openssl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
    text
}

fn base64_of(path: &Path) -> String {
    let bytes = std::fs::read(path).expect("the request");
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

fn manifest(fleet: &Fleet, name: &str, more: &str) -> String {
    let request = base64_of(&fleet.path(&format!("{name}.csr")));
    format!(
        "
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {{name: {name}}}
spec:
  request: {request}
  signerName: kubernetes.io/kube-apiserver-client
  {more}
"
    )
}

/// Waits for the certificate and writes it beside the key.
fn take_certificate(fleet: &Fleet, kubectl: &Kubectl, name: &str) {
    let encoded = eventually("the certificate is issued", PATIENCE, || {
        let path = "jsonpath={.status.certificate}";
        let out = kubectl.run(&["get", "csr", name, "-o", path]);
        if out.is_empty() { Err(kubectl.run(&["describe", "csr", name])) } else { Ok(out) }
    });
    let pem = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded);
    std::fs::write(fleet.path(&format!("{name}.crt")), pem.expect("base64")).expect("a file");
}

/// A copy of the administrator's kubeconfig with this user alone, made with kubectl.
fn kubectl_as(fleet: &Fleet, name: &str) -> Kubectl {
    let config = fleet.path(&format!("{name}.kubeconfig"));
    std::fs::copy(fleet.kubeconfig(), &config).expect("a copy");
    let kubectl = Kubectl::new(&config);
    let flag = |flag: &str, suffix: &str| {
        format!("--{flag}={}", fleet.path(&format!("{name}.{suffix}")).display())
    };
    let (certificate, key) = (flag("client-certificate", "crt"), flag("client-key", "key"));
    kubectl.does(&["config", "set-credentials", name, &certificate, &key, "--embed-certs"]);
    kubectl.does(&["config", "set-context", "--current", &format!("--user={name}")]);
    kubectl
}

#[test]
fn a_person_gets_a_certificate_and_is_known_by_it() {
    let fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    openssl_request(&fleet, "jane", &["rsa:2048"], "/O=dev/O=ops/CN=jane");
    kubectl.apply(&manifest(&fleet, "jane", "expirationSeconds: 3600\n  usages: [client auth]"));
    let table = kubectl.run(&["get", "csr", "jane"]);
    has(&table, &["kubernetes.io/kube-apiserver-client", "kubernetes-admin", "60m", "Pending"]);
    kubectl.does(&["certificate", "approve", "jane"]);
    take_certificate(&fleet, &kubectl, "jane");
    has(&kubectl.run(&["get", "csr", "jane"]), &["Approved,Issued"]);
    kubectl.does(&["label", "csr/jane", "colour=blue"]);
    let named = kubectl.run(&["get", "csr", "-l", "colour=blue", "-o", "name"]);
    assert_eq!(named.trim(), "certificatesigningrequest.certificates.k8s.io/jane");

    let file = fleet.path("jane.crt").display().to_string();
    let text = openssl(&["x509", "-in", &file, "-noout", "-text"]);
    has(&text, &["O = dev, O = ops, CN = jane", "TLS Web Client Authentication", "CA:FALSE"]);
    let (soon, late) = ("3500", "3700");
    let ends_in = |seconds| ["x509", "-in", &file, "-noout", "-checkend", seconds];
    openssl(&ends_in(soon));
    let late = Command::new("openssl").args(ends_in(late)).output().expect("openssl");
    assert!(!late.status.success(), "it lives an hour and no longer");
    let ca = fleet.path("hub/pki/ca.crt").display().to_string();
    openssl(&["verify", "-purpose", "sslclient", "-CAfile", &ca, &file]);

    let jane = kubectl_as(&fleet, "jane");
    has(&jane.run(&["auth", "whoami"]), &["jane", "dev", "ops", "system:authenticated"]);
    let refused = jane.fails(&["get", "pods"]);
    let forbidden = "Error from server (Forbidden): pods is forbidden: User \"jane\" cannot list \
                     resource \"pods\" in API group \"\" in the namespace \"default\"";
    has(&refused, &[forbidden]);
    has(&jane.try_run(&["auth", "can-i", "get", "pods"]).out, &["no"]);
    assert_eq!(jane.run(&["get", "--raw", "/readyz"]), "ok");
}

#[test]
fn keys_of_every_usual_kind_are_signed() {
    let fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    let p256 = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let p384 = ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
    for (name, key) in [("p256", &p256[..]), ("p384", &p384), ("edwards", &["ed25519"])] {
        openssl_request(&fleet, name, key, &format!("/CN={name}"));
        kubectl.apply(&manifest(&fleet, name, "usages: [client auth, digital signature]"));
        kubectl.does(&["certificate", "approve", name]);
        take_certificate(&fleet, &kubectl, name);
        let user = kubectl_as(&fleet, name).run(&["auth", "whoami"]);
        has(&user, &[name]);
    }
    openssl_request(&fleet, "weak", &["rsa:1024"], "/CN=weak");
    let weak = manifest(&fleet, "weak", "usages: [client auth]");
    has(
        &kubectl.try_apply(&["apply", "-f", "-"], &weak).err,
        &["spec.request", "2048 to 8192 bits"],
    );
    let p521 = ["ec", "-pkeyopt", "ec_paramgen_curve:P-521"];
    openssl_request(&fleet, "p521", &p521, "/CN=p521");
    kubectl.apply(&manifest(&fleet, "p521", "usages: [client auth]"));
    kubectl.does(&["certificate", "approve", "p521"]);
    eventually("a key that is not taken is named", PATIENCE, || {
        let out = kubectl.run(&["get", "csr", "p521", "-o", "jsonpath={.status.conditions}"]);
        if out.contains("of a kind that is not taken") { Ok(()) } else { Err(out) }
    });
}

#[test]
fn what_must_not_be_signed_says_so() {
    let fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    openssl_request(&fleet, "root", &["ed25519"], "/O=system:masters/CN=root");
    let master = manifest(&fleet, "root", "usages: [client auth]");
    let refused = kubectl.try_apply(&["apply", "-f", "-"], &master).err;
    has(
        &refused,
        &["forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters"],
    );

    let condition = |name: &str| {
        let path = "jsonpath={range .status.conditions[*]}{.type}:{.reason}:{.message} {end}";
        kubectl.run(&["get", "csr", name, "-o", path])
    };
    let failed = |name: &str, why: &str| {
        kubectl.does(&["certificate", "approve", name]);
        eventually("the request has failed", PATIENCE, || {
            let out = condition(name);
            let failed = format!("Failed:SignerValidationFailure:{why}");
            if out.contains(&failed) { Ok(()) } else { Err(out) }
        });
        has(&kubectl.run(&["get", "csr", name]), &["Approved,Failed"]);
    };
    openssl_request(&fleet, "web", &["ed25519"], "/CN=web");
    kubectl.apply(&manifest(&fleet, "web", "usages: [client auth, server auth]"));
    failed("web", "invalid usage for client certificate: server auth");
    let spoke = "system:open-cluster-management:pi-7";
    openssl_request(&fleet, "pi", &["ed25519"], &format!("/O={spoke}/CN={spoke}:agent"));
    kubectl.apply(&manifest(&fleet, "pi", "usages: [client auth]"));
    failed("pi", "\"system:open-cluster-management:pi-7:agent\" is the name of a spoke");

    openssl_request(&fleet, "nobody", &["ed25519"], "/CN=nobody");
    kubectl.apply(&manifest(&fleet, "nobody", "usages: [client auth]"));
    kubectl.does(&["certificate", "deny", "nobody"]);
    openssl_request(&fleet, "other", &["ed25519"], "/CN=other");
    let other = manifest(&fleet, "other", "usages: [client auth]")
        .replace("kubernetes.io/kube-apiserver-client", "kubernetes.io/kubelet-serving");
    let said = kubectl.try_apply(&["apply", "-f", "-"], &other);
    has(&said.err, &["Warning: spec.signerName: this hub signs for"]);
    kubectl.does(&["certificate", "approve", "other"]);
    eventually("an event says that nobody signs", PATIENCE, || {
        let out = kubectl.run(&["describe", "csr", "other"]);
        if out.contains("NoSigner") { Ok(()) } else { Err(out) }
    });
    for name in ["nobody", "other"] {
        let certificate = "jsonpath={.status.certificate}";
        assert_eq!(kubectl.run(&["get", "csr", name, "-o", certificate]), "", "{name}");
    }
}

#[test]
fn a_device_that_is_accepted_by_hand_still_joins() {
    let mut fleet = Fleet::hub();
    let [token, ca_hash] = fleet.token(&[]);
    fleet.join_with("pi-7", &token, &ca_hash);
    let kubectl = fleet.kubectl();
    let label = "open-cluster-management.io/cluster-name=pi-7";
    let pending = eventually("the device has asked", PATIENCE, || {
        let out = kubectl.run(&["get", "csr", "-l", label, "-o", "name"]);
        if out.is_empty() { Err(fleet.spoke_log("pi-7")) } else { Ok(out.trim().to_owned()) }
    });
    // Approved, but not accepted: the signer of people's requests must not step in.
    let name = pending.rsplit('/').next().expect("a name");
    kubectl.does(&["certificate", "approve", name]);
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        let table = kubectl.run(&["get", "csr", name]);
        assert!(!table.contains("Issued") && !table.contains("Failed"), "{table}");
    }
    let _ = fleet.hub_cli(&["accept", "pi-7"]);
    fleet.node_ready("pi-7");
    has(&kubectl.run(&["get", "csr", name]), &["Approved,Issued"]);
}
