//! A stock kubectl and what it printed.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;

use crate::eventually::eventually;
use crate::fleet::PATIENCE;

/// kubectl with one kubeconfig.
#[derive(Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    server: Option<String>,
    home: PathBuf,
}

/// What a call came to.
#[derive(Clone, Debug)]
pub struct Said {
    /// Exit code 0.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Kubectl {
    /// With this kubeconfig; its caches live beside it.
    #[must_use]
    pub fn new(kubeconfig: &Path) -> Self {
        let program =
            std::env::var_os("FREEWHEEL_KUBECTL").map_or_else(|| "kubectl".into(), PathBuf::from);
        let home = kubeconfig.parent().unwrap_or(Path::new(".")).join("home");
        std::fs::create_dir_all(&home).expect("a home for kubectl");
        Self { program, kubeconfig: kubeconfig.to_path_buf(), server: None, home }
    }

    /// The same user at another server, for `/clusters/NAME`.
    #[must_use]
    pub fn at(&self, server: &str) -> Self {
        Self { server: Some(server.to_owned()), ..self.clone() }
    }

    /// The same user with another kubectl.
    #[must_use]
    pub fn by(&self, program: &Path) -> Self {
        Self { program: program.to_path_buf(), ..self.clone() }
    }

    /// The command, not started.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(server) = &self.server {
            command.args(["--server", server]);
        }
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", &self.home)
            .current_dir(&self.home);
        command
    }

    /// Runs it to its end.
    #[must_use]
    pub fn try_run(&self, arguments: &[&str]) -> Said {
        self.try_apply(arguments, "")
    }

    /// Runs it with something on standard input.
    #[must_use]
    pub fn try_apply(&self, arguments: &[&str], input: &str) -> Said {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let mut stdin = child.stdin.take().expect("a pipe");
        // kubectl takes everything that starts with a brace for JSON; flow YAML needs a document mark.
        let input = if input.starts_with('{') { format!("---\n{input}") } else { input.to_owned() };
        // kubectl may answer before it has read everything; a broken pipe is its right.
        let feeder = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("kubectl's end");
        let _ = feeder.join();
        Said {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs it; it must succeed. Gives standard output.
    #[track_caller]
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> String {
        let said = self.try_run(arguments);
        assert!(said.ok, "kubectl {arguments:?} failed:\n{}{}", said.out, said.err);
        said.out
    }

    /// Runs what a user types after `kubectl`, without quotes; it must succeed. Gives standard output.
    #[track_caller]
    #[must_use]
    pub fn typed(&self, line: &str) -> String {
        self.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs it; it must succeed, whatever it prints.
    #[track_caller]
    pub fn does(&self, arguments: &[&str]) {
        let _ = self.run(arguments);
    }

    /// Runs it; it must fail. Gives standard error.
    #[track_caller]
    #[must_use]
    pub fn fails(&self, arguments: &[&str]) -> String {
        let said = self.try_run(arguments);
        assert!(!said.ok, "kubectl {arguments:?} should have failed but said:\n{}", said.out);
        said.err
    }

    /// `kubectl apply -f -` of this YAML; it must succeed.
    #[track_caller]
    pub fn apply(&self, yaml: &str) {
        let said = self.try_apply(&["apply", "-f", "-"], yaml);
        assert!(said.ok, "apply failed:\n{}{}", said.out, said.err);
    }

    /// `kubectl … -o json`, parsed.
    #[track_caller]
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        serde_json::from_str(&self.run(&all)).expect("kubectl's JSON")
    }

    /// Starts it and leaves it running, for `-w` and `-f`.
    #[must_use]
    pub fn start(&self, arguments: &[&str], out: &Path) -> Running {
        let file = std::fs::File::create(out).expect("a file for its output");
        let mut command = self.command(arguments);
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(Stdio::null())
            .spawn()
            .expect("kubectl");
        Running { child, out: out.to_path_buf() }
    }

    /// `kubectl proxy`: the API over plain HTTP at this address, for as long as the second part lives.
    #[must_use]
    pub fn proxy(&self) -> (SocketAddr, Running) {
        let running = self.start(&["proxy", "--port=0"], &self.home.join("proxy.out"));
        let address = eventually("kubectl proxy serves", PATIENCE, || {
            let out = running.out();
            let address = out.trim().strip_prefix("Starting to serve on ");
            address.and_then(|address| address.parse().ok()).ok_or(out)
        });
        (address, running)
    }
}

/// A kubectl that is still running.
pub struct Running {
    child: Child,
    out: PathBuf,
}

impl Running {
    /// What it has printed so far.
    #[must_use]
    pub fn out(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// How it ended, when it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("kubectl's state")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
