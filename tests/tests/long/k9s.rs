//! k9s in a terminal: what its user sees and types. tmux is that terminal, and has to be there (Debian: `tmux`).

use std::path::PathBuf;
use std::process::Command;

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::tools::{self, run};
use freewheel_tests::{Fleet, eventually};

/// A terminal with one program; it ends with it.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    fn start(fleet: &Fleet, line: &str) -> Self {
        let it = Self { socket: fleet.path("tmux") };
        let home = fleet.path("k9s");
        std::fs::create_dir_all(&home).expect("a home");
        let mut command = it.command(&["new-session", "-d", "-x", "180", "-y", "50", line]);
        let _ = run(command
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", &home)
            .env("XDG_STATE_HOME", &home)
            .env("XDG_DATA_HOME", &home)
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env("KUBECONFIG", fleet.kubeconfig()));
        it
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(["-f", "/dev/null"]).args(words);
        command
    }

    fn types(&self, keys: &[&str]) {
        let _ = run(self.command(&["send-keys"]).args(keys));
    }

    fn screen(&self) -> String {
        run(&mut self.command(&["capture-pane", "-p"]))
    }

    /// Goes back to where this is shown: a key that comes too early is one of the view that is left.
    #[track_caller]
    fn leaves(&self, to: &str) {
        self.types(&["Escape"]);
        self.shows(&[to]);
    }

    /// Waits until all of it is on the screen.
    #[track_caller]
    fn shows(&self, parts: &[&str]) {
        eventually(&format!("the screen shows {parts:?}"), PATIENCE, || {
            let screen = self.screen();
            if parts.iter().all(|part| screen.contains(part)) { Ok(()) } else { Err(screen) }
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.command(&["kill-server"]).output();
    }
}

#[test]
fn k9s_shows_pods_their_logs_and_what_is_asked_for() {
    let k9s = tools::from_go("github.com/derailed/k9s", "v0.50.16");
    let fleet = Fleet::with(&["pi-1"]);
    fleet.push("kit", "kit:v1");
    fleet.push("hello-http", "hello-http:v1");
    let kubectl = fleet.kubectl();
    let _ = kubectl.typed("run ticker --image=kit:v1 -- tick");
    let _ = kubectl.typed("create deployment web --image=hello-http:v1 --port=8080");
    fleet.pods_ready(&kubectl, "run=ticker", 1);
    fleet.pods_ready(&kubectl, "app=web", 1);
    let terminal = Terminal::start(&fleet, &format!("{} -c pods --logoless", k9s.display()));
    terminal.shows(&["pods(", "ticker", "web-", "Running", "pi-1"]);
    terminal.types(&["/", "ticker", "Enter"]);
    terminal.shows(&["</ticker>"]);
    terminal.types(&["Enter"]);
    terminal.shows(&["containers(", "kit:v1"]);
    terminal.types(&["l"]);
    terminal.shows(&["Logs(", "tick "]);
    terminal.leaves("containers(");
    terminal.types(&[":nodes", "Enter"]);
    terminal.shows(&["nodes(", "pi-1", "Ready", "spoke"]);
    terminal.types(&["d"]);
    terminal.shows(&["Describe(", "kubernetes.io/hostname=pi-1"]);
    terminal.leaves("nodes(");
    terminal.types(&[":managedclusters", "Enter"]);
    terminal.shows(&["managedclusters(", "pi-1", "true"]);
    terminal.types(&["y"]);
    terminal.shows(&["hubAcceptsClient: true"]);
    terminal.leaves("managedclusters(");
    terminal.types(&[":deployments", "Enter"]);
    terminal.shows(&["deployments(", "web", "1/1"]);
    terminal.types(&["s"]);
    terminal.shows(&["Scale", "Replicas"]);
    terminal.types(&["Escape"]);
}
