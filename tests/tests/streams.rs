//! What a stock kubectl carries to a pod and back: `port-forward`, the proxies and `exec`, over WebSockets and as clients
//! before 1.31 did it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually, has, http};

/// A command that is killed with this.
struct Forward {
    child: std::process::Child,
    /// Its standard error, which it says connections' failures on.
    err: std::path::PathBuf,
    ports: Vec<SocketAddr>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `kubectl port-forward` of these ports, each on one of this machine that is free.
fn forward(fleet: &Fleet, kubectl: &Kubectl, name: &str, ports: &[&str], old: bool) -> Forward {
    let ports: Vec<String> = ports.iter().map(|port| format!(":{port}")).collect();
    let mut arguments = vec!["port-forward", name];
    arguments.extend(ports.iter().map(String::as_str));
    let file = |kind: &str| {
        let path = fleet.path(&format!("{}-{old}.{kind}", name.replace('/', "-")));
        (std::fs::File::create(&path).expect("a file for its output"), path)
    };
    let ((out, said), (err, told)) = (file("out"), file("err"));
    let mut command = kubectl.command(&arguments);
    if old {
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false");
    }
    let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("kubectl");
    let mut forward = Forward { child, err: told, ports: Vec::new() };
    forward.ports = eventually("kubectl forwards", PATIENCE, || {
        let out = std::fs::read_to_string(&said).unwrap_or_default();
        let lines = out.lines().filter_map(|line| {
            line.strip_prefix("Forwarding from ")?.split(" -> ").next()?.parse().ok()
        });
        let found: Vec<SocketAddr> = lines.filter(SocketAddr::is_ipv4).collect();
        if found.len() == ports.len() { Ok(found) } else { Err(out) }
    });
    forward
}

/// Says something, then its end, and hears all of it back, then an end.
fn echoes(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let large = vec![b'x'; 300_000];
    let mut writer = stream.try_clone().expect("a second handle");
    let sent = large.clone();
    let write = std::thread::spawn(move || {
        writer.write_all(&sent).expect("it is taken");
        writer.shutdown(Shutdown::Write).expect("an end");
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("all of it comes back, and an end");
    write.join().expect("it is written");
    assert!(back == large, "{} bytes of {}", back.len(), large.len());
}

#[test]
fn streams_lead_to_pods_and_back() {
    let mut fleet = Fleet::with(&["pi-1"]);
    fleet.push("tcp-echo", "tcp-echo:v1");
    fleet.push("hello-http", "hello-http:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  containers: [{name: echo, image: 'tcp-echo:v1', ports: [{containerPort: 7000}]}]
",
    );
    fleet.push("kit", "kit:v1");
    kubectl.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: kit, labels: {app: kit}}
spec:
  containers:
    - {name: kit, image: 'kit:v1', args: [sleep, '3600'], env: [{name: COLOUR, value: blue}]}
",
    );
    kubectl.does(&["create", "deployment", "web", "--image=hello-http:v1", "--port=8080"]);
    kubectl.does(&["expose", "deployment", "web", "--port=80", "--target-port=8080"]);
    fleet.pods_ready(&kubectl, "app=echo", 1);
    fleet.pods_ready(&kubectl, "app=web", 1);
    fleet.pods_ready(&kubectl, "app=kit", 1);
    for old in [false, true] {
        let echo = forward(&fleet, &kubectl, "pod/echo", &["7000", "7001"], old);
        eventually("the echo listens", PATIENCE, || {
            let mut stream = TcpStream::connect(echo.ports[0]).map_err(|e| e.to_string())?;
            stream.write_all(b"a").map_err(|e| e.to_string())?;
            stream.read_exact(&mut [0]).map_err(|e| e.to_string())
        });
        echoes(echo.ports[0]);
        for (name, port) in [("svc/web", "80"), ("deploy/web", "8080")] {
            let web = forward(&fleet, &kubectl, name, &[port], old);
            let (code, body) = http::get(web.ports[0], "/").expect("an answer");
            assert!(code == 200 && body.contains("hello from web-"), "{code} {body}");
        }
        // Nobody listens there: kubectl says so, and goes.
        let mut refused = TcpStream::connect(echo.ports[1]).expect("a connection");
        let _ = refused.read_to_end(&mut Vec::new());
        let told = eventually("the failure is told", PATIENCE, || {
            let told = std::fs::read_to_string(&echo.err).unwrap_or_default();
            if told.contains("connection refused") { Ok(told) } else { Err(told) }
        });
        has(&told, &["error forwarding port 7001 to pod echo_default, uid "]);
        has(&told, &["dial tcp4 127.0.0.1:7001: connect: connection refused"]);
    }
    proxies(&kubectl);
    commands(&kubectl);
    fleet.stop_spoke("pi-1");
    eventually("the hub knows that pi-1 is away", PATIENCE, || {
        let nodes = kubectl.run(&["get", "nodes"]);
        if nodes.contains("NotReady") { Ok(()) } else { Err(nodes) }
    });
    let told = kubectl.fails(&["port-forward", "pod/echo", ":7000"]);
    has(&told, &["the spoke pi-1 is not connected to the hub"]);
    let told = kubectl.fails(&["exec", "kit", "--", "kit", "env"]);
    has(&told, &["the spoke pi-1 is not connected to the hub"]);
}

fn proxies(kubectl: &Kubectl) {
    let names = kubectl.run(&["get", "pods", "-l", "app=web", "-o", "name"]);
    let pod = names.trim().strip_prefix("pod/").expect("a pod");
    let all = "/api/v1/namespaces/default";
    for path in [
        format!("{all}/pods/{pod}:8080/proxy/"),
        format!("{all}/pods/http:{pod}:/proxy/"),
        format!("{all}/services/web/proxy/"),
        format!("{all}/services/http:web:80/proxy/"),
    ] {
        has(&kubectl.run(&["get", "--raw", &path]), &["hello from web-"]);
    }
    let (address, _proxy) = kubectl.proxy();
    let path = format!("{all}/services/web:80/proxy");
    let answer = http::send(address, "GET", &path, "", b"").expect("an answer");
    assert_eq!(answer.code, 301, "{}", answer.head);
    let told = kubectl.fails(&["get", "--raw", &format!("{all}/services/web:81/proxy/")]);
    has(&told, &["no service port 81 found for service"]);
}

fn commands(kubectl: &Kubectl) {
    for websockets in ["true", "false"] {
        let run = |words: &[&str], input: &str| {
            let mut command = kubectl.command(&[&["exec", "-i", "kit", "--"][..], words].concat());
            command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("kubectl");
            let mut stdin = child.stdin.take().expect("a pipe");
            let input = input.to_owned();
            let feeder = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
            let output = child.wait_with_output().expect("kubectl's end");
            feeder.join().expect("a feeder").expect("it is taken");
            output
        };
        // More than waits anywhere on the way.
        let large = "there and back\n".repeat(40_000);
        let output = run(&["kit", "pass"], &large);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == large.as_bytes(), "{} bytes came back", output.stdout.len());
        let output = run(&["kit", "exit", "7"], "");
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        has(&String::from_utf8_lossy(&output.stderr), &["command terminated with exit code 7"]);
        // Its module alone is there, whatever it is called.
        let output = run(&["tar", "-xmf", "-"], "");
        assert!(!output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        has(&said, &["no such verb", "no shell beside it, and no tar for `kubectl cp`"]);
        let output = run(&["kit", "env"], "");
        has(&String::from_utf8_lossy(&output.stdout), &["COLOUR=blue"]);
    }
    let web = kubectl.fails(&["exec", "deploy/web", "--", "sh"]);
    has(&web, &["the container's module answers HTTP requests and is no program"]);
}
