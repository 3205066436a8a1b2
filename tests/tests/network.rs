//! What a pod reaches, and by which names: pods and Services on its own spoke and on another one.
//!
//! One fleet, two servers: `one` runs on pi-1, `two` on pi-2, in namespace `shop`; who asks is pinned too.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually};

/// A server that says its name, pinned to a node, with a Service of the same name.
fn server(name: &str, node: &str, kind: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: {name}, tier: server}}}}
spec:
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  containers:
    - name: kit
      image: kit:v1
      args: [greet, '0.0.0.0:7000', {name}]
      ports: [{{name: words, containerPort: 7000}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  type: {kind}
  selector: {{app: {name}}}
  ports: [{{port: 70, targetPort: words}}]
"
    )
}

const OTHER_SERVICES: &str = "
---
{apiVersion: v1, kind: Namespace, metadata: {name: street}}
---
apiVersion: v1
kind: Service
metadata: {name: both, namespace: shop}
spec:
  clusterIP: None
  selector: {tier: server}
  ports: [{port: 7000}]
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: shop}
spec:
  selector: {app: nobody}
  ports: [{port: 70}]
---
apiVersion: v1
kind: Service
metadata: {name: nickname, namespace: shop}
spec:
  type: ExternalName
  externalName: two.shop.svc.cluster.local
---
apiVersion: v1
kind: Service
metadata: {name: myself, namespace: shop}
spec:
  publishNotReadyAddresses: true
  selector: {app: first}
  ports: [{port: 72}]
";

/// A pod whose containers each do one thing; none is started again.
fn asker(name: &str, namespace: &str, node: &str, containers: &[(&str, &[&str])]) -> String {
    let containers = containers.iter().map(|(name, words)| {
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        format!("    - {{name: {name}, image: 'kit:v1', args: [{}]}}\n", words.join(", "))
    });
    format!(
        "
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}
spec:
  restartPolicy: Never
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  containers:
{}",
        containers.collect::<String>()
    )
}

#[test]
fn pods_find_each_other_by_address_and_by_name_on_one_spoke_and_across() {
    let fleet = Fleet::with(&["pi-1", "pi-2"]);
    fleet.push("kit", "kit:v1");
    let kubectl = fleet.kubectl();
    kubectl.does(&["create", "namespace", "shop"]);
    let services = [server("one", "pi-1", "ClusterIP"), server("two", "pi-2", "NodePort")];
    kubectl.apply(&format!("{}{OTHER_SERVICES}", services.concat()));
    kubectl.does(&[
        "wait",
        "pod",
        "-n",
        "shop",
        "-l",
        "tier=server",
        "--for=condition=Ready",
        "--timeout=60s",
    ]);

    let [one, two] = ["one", "two"].map(|name| Server::of(&kubectl, name));
    kubectl.apply(&questions(&one, &two));
    names_and_addresses(&kubectl, &one, &two);
    inside_one_pod(&kubectl);
    headless(&kubectl, &one, &two);
    what_is_not_there(&kubectl);
    environment(&kubectl, &one, &two);
    node_ports(&fleet, &kubectl);
}

/// Where a server is.
struct Server {
    pod: String,
    service: String,
}

impl Server {
    fn of(kubectl: &Kubectl, name: &str) -> Self {
        let get = |kind: &str, path: &str| {
            kubectl.run(&["get", kind, name, "-n", "shop", "-o", &format!("jsonpath={path}")])
        };
        Self { pod: get("pod", "{.status.podIP}"), service: get("service", "{.spec.clusterIP}") }
    }

    /// Every way to it from its own namespace.
    fn ways(&self, name: &str) -> Vec<String> {
        vec![
            format!("{}:7000", self.pod),
            format!("{}:70", self.service),
            format!("{name}:70"),
            format!("{name}.shop:70"),
            format!("{name}.shop.svc:70"),
            format!("{name}.shop.svc.cluster.local:70"),
        ]
    }
}

fn questions(one: &Server, two: &Server) -> String {
    let mut all = vec!["ask-each".to_owned()];
    all.extend(one.ways("one"));
    all.extend(two.ways("two"));
    all.push("nickname:70".to_owned());
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let on_first = [
        ("asks", all.as_slice()),
        ("looks", &["lookup-until", "2", "both"]),
        ("inside", &["greet", "127.0.0.1:7001", "only-in-here"]),
        ("beside", &["ask-each", "127.0.0.1:7001", "localhost:7001"]),
        ("outside", &["greet", "0.0.0.0:72", "me"]),
        ("hairpin", &["ask-each", "myself:72"]),
        ("env", &["env"]),
        ("nobody", &["try", "nobody:70"]),
        ("nowhere", &["try", "nowhere:70"]),
        ("wrong-port", &["try", "one:71"]),
    ];
    let two_ip = format!("{}:7000", two.pod);
    let away = ["ask-each", "one.shop:70", "two.shop.svc.cluster.local:70", &two_ip];
    let on_second = [("asks", away.as_slice()), ("short", &["try", "one:70"])];
    let first = asker("first", "shop", "pi-1", &on_first);
    first + &asker("second", "street", "pi-2", &on_second)
}

/// The log of a container as soon as it has this in it.
#[track_caller]
fn told(kubectl: &Kubectl, namespace: &str, pod: &str, container: &str, words: &str) -> String {
    let what = format!("{pod}/{container} tells {words:?}");
    eventually(&what, PATIENCE + Duration::from_secs(10), || {
        let said = kubectl.try_run(&["logs", "-n", namespace, pod, "-c", container]);
        if said.out.contains(words) { Ok(said.out) } else { Err(said.out + &said.err) }
    })
}

fn names_and_addresses(kubectl: &Kubectl, one: &Server, two: &Server) {
    let log = told(kubectl, "shop", "first", "asks", "end of answers");
    for (server, name) in [(one, "one"), (two, "two")] {
        for way in server.ways(name) {
            assert!(log.contains(&format!("{way} says {name}\n")), "{way}:\n{log}");
        }
    }
    assert!(log.contains("nickname:70 says two\n"), "ExternalName:\n{log}");
    assert!(!log.contains("not yet"), "what is Ready answers the first time:\n{log}");
    let log = told(kubectl, "street", "second", "asks", "end of answers");
    assert!(log.contains("one.shop:70 says one\n"), "from the other side:\n{log}");
    let short = told(kubectl, "street", "second", "short", " ms: ");
    assert!(!short.contains("connected"), "a short name is of the pod's own namespace: {short}");
}

fn inside_one_pod(kubectl: &Kubectl) {
    let log = told(kubectl, "shop", "first", "beside", "end of answers");
    assert!(log.contains("127.0.0.1:7001 says only-in-here"), "{log}");
    assert!(log.contains("localhost:7001 says only-in-here"), "{log}");
    // A pod behind a Service may be the one who asks it.
    told(kubectl, "shop", "first", "hairpin", "myself:72 says me");
}

fn headless(kubectl: &Kubectl, one: &Server, two: &Server) {
    let mut ips = [&one.pod, &two.pod].map(|ip| ip.parse::<IpAddr>().expect("a pod IP"));
    ips.sort();
    told(kubectl, "shop", "first", "looks", &format!("both is {ips:?}"));
}

fn what_is_not_there(kubectl: &Kubectl) {
    let after = |log: &str| -> u64 {
        let found =
            log.split("after ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        found.unwrap_or_else(|| panic!("no time in {log:?}"))
    };
    for (container, words) in [("nobody", "ConnectionRefused"), ("wrong-port", "ConnectionRefused")]
    {
        let log = told(kubectl, "shop", "first", container, " ms: ");
        assert!(log.contains(words), "{container}: {log}");
        assert!(after(&log) < 1000, "a refusal comes at once: {log}");
    }
    let log = told(kubectl, "shop", "first", "nowhere", " ms: ");
    assert!(log.contains("name") || log.contains("lookup"), "it says that the name is it: {log}");
    assert!(after(&log) < 1000, "{log}");
}

fn environment(kubectl: &Kubectl, one: &Server, two: &Server) {
    let log = told(kubectl, "shop", "first", "env", "end of env");
    let wanted = [
        format!("ONE_SERVICE_HOST={}\n", one.service),
        "ONE_SERVICE_PORT=70\n".to_owned(),
        format!("ONE_PORT_70_TCP_ADDR={}\n", one.service),
        format!("TWO_SERVICE_HOST={}\n", two.service),
        "KUBERNETES_SERVICE_HOST=10.128.0.1\n".to_owned(),
    ];
    for line in wanted {
        assert!(log.contains(&line), "{line} is missing in:\n{log}");
    }
    assert!(!log.contains("BOTH_SERVICE_HOST"), "a headless Service has none:\n{log}");
}

/// A NodePort answers on the node that runs the pod and on the one that does not, as long as there is a pod.
fn node_ports(fleet: &Fleet, kubectl: &Kubectl) {
    let path = "jsonpath={.spec.ports[0].nodePort}";
    let port = kubectl.run(&["get", "service", "two", "-n", "shop", "-o", path]);
    let port = port.parse().unwrap_or_else(|_| panic!("no node port: {port:?}"));
    let on_both = |what: &str, is_so: fn(std::io::Result<String>) -> bool| {
        for node in ["pi-1", "pi-2"] {
            eventually(&format!("the NodePort {what} on {node}"), PATIENCE, || {
                let heard = hear(fleet.node_port(node, port));
                let text = format!("{heard:?}");
                if is_so(heard) { Ok(()) } else { Err(text) }
            });
        }
    };
    let answers = |heard: std::io::Result<String>| heard.is_ok_and(|said| said == "two");
    on_both("answers", answers);
    let label = |app| {
        kubectl.does(&["label", "pod", "two", "-n", "shop", "--overwrite", &format!("app={app}")]);
    };
    label("away");
    on_both("has nobody behind it", |heard| !heard.is_ok_and(|said| !said.is_empty()));
    label("two");
    on_both("answers again", answers);
    kubectl.does(&["delete", "service", "two", "-n", "shop"]);
    on_both("is closed", |heard| {
        heard.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    });
}

/// What a server says to a client outside of the fleet.
fn hear(address: SocketAddr) -> std::io::Result<String> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// A UDP server on one spoke, asked by its Service's name and by its address from the other, and through
/// the NodePort of both.
const DATAGRAMS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  nodeSelector: {kubernetes.io/hostname: pi-2}
  containers:
    - name: kit
      image: kit:v1
      args: [udp-echo, '0.0.0.0:7000']
      ports: [{containerPort: 7000, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  type: NodePort
  selector: {app: echo}
  ports: [{port: 70, targetPort: 7000, protocol: UDP}]
";

#[test]
fn datagrams_reach_a_pod_on_another_spoke_and_come_back() {
    let fleet = Fleet::with(&["pi-1", "pi-2"]);
    fleet.push("kit", "kit:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(DATAGRAMS);
    fleet.pods_ready(&kubectl, "app=echo", 1);
    // First, while pi-1 has no pod yet and so no addresses in the realm.
    udp_node_ports(&fleet, &kubectl);
    let ip = kubectl.run(&["get", "pod", "echo", "-o", "jsonpath={.status.podIP}"]);
    for (name, address) in [("by-name", "echo:70".to_owned()), ("by-address", format!("{ip}:7000"))]
    {
        kubectl.apply(&asker(name, "default", "pi-1", &[("kit", &["udp-ask", &address, name])]));
        eventually(&format!("a datagram came back {name}"), PATIENCE, || {
            let said = kubectl.try_run(&["logs", name]);
            let heard = said.out.contains(&format!("datagram: {name}"));
            if heard { Ok(()) } else { Err(format!("{}{}", said.out, said.err)) }
        });
    }
}

/// A UDP NodePort answers on the node that runs the pod and on the one that does not, and clients do not mix.
fn udp_node_ports(fleet: &Fleet, kubectl: &Kubectl) {
    let path = "jsonpath={.spec.ports[0].nodePort}";
    let port = kubectl.run(&["get", "service", "echo", "-o", path]);
    let port: u16 = port.parse().unwrap_or_else(|_| panic!("no node port: {port:?}"));
    let mut clients = Vec::new();
    for node in ["pi-1", "pi-2"] {
        let first = client("127.0.200.1", 0, fleet.node_port(node, port));
        let same_port = first.local_addr().expect("a bound socket").port();
        clients.push(first);
        clients.push(client("127.0.200.2", same_port, fleet.node_port(node, port)));
    }
    for round in 0..2 {
        for (index, socket) in clients.iter().enumerate() {
            let text = format!("client {index}");
            eventually(&format!("{text} is answered in round {round}"), PATIENCE, || {
                socket.send(text.as_bytes()).map_err(|error| error.to_string())?;
                let mut buffer = [0; 64];
                let length = socket.recv(&mut buffer).map_err(|error| error.to_string())?;
                assert_eq!(String::from_utf8_lossy(&buffer[..length]), text, "somebody else's");
                Ok(())
            });
        }
    }
}

/// A client outside of the fleet that hears nobody but this node's port.
fn client(address: &str, port: u16, node_port: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((address, port)).expect("a UDP port");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a time limit");
    socket.connect(node_port).expect("a peer");
    socket
}
