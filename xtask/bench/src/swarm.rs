//! `cargo xtask swarm`: simulated spokes before a hub that is started for them, or before one that runs.
//!
//! What happens is a script (`tests/swarm/src/command.rs`), from a file or made of flags.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use freewheel_xtask_kit::child;
use freewheel_xtask_kit::command::{Stop, empty, target};
use serde_json::{Value, json};

use crate::hub::{self, Hub};
use crate::load;
use crate::swarm_process::{self, SwarmProcess};

/// What `swarm` can be told.
#[derive(Args)]
pub struct Options {
    /// How many spokes
    #[arg(long, default_value_t = 100)]
    spokes: u32,
    /// Pods on each, of DaemonSets of the hub that is started for them
    #[arg(long, default_value_t = 2)]
    pods: u32,
    /// HOST:PORT of the link of a hub that runs; without it one is started, with its data under target/swarm
    #[arg(long, requires_all = ["token", "ca_hash"])]
    hub: Option<String>,
    /// Of that hub, made with `hub token create --accept --reusable`; a hub lets ten devices a second join with each
    #[arg(long)]
    token: Vec<String>,
    /// Of that hub's CA
    #[arg(long)]
    ca_hash: Option<String>,
    /// Spokes are called this, `-` and a number
    #[arg(long, default_value = "swarm")]
    name: String,
    /// They join evenly over this time
    #[arg(long, default_value = "0s")]
    over: String,
    /// Sessions that end and come again, for example 1%/min
    #[arg(long)]
    flap: Option<String>,
    /// Spokes that tell something new of themselves, for example 10%/min
    #[arg(long)]
    report: Option<String>,
    /// Spokes that fall silent once all are there, for example 5%
    #[arg(long)]
    silent: Option<String>,
    /// Packets that are lost in both directions once all are there, for example 1%
    #[arg(long)]
    loss: Option<String>,
    /// How long it goes on once all are there
    #[arg(long = "for", default_value = "60s")]
    lasting: String,
    /// File with lines such as `join 100 over 10s`, `silent 5%`, `until up within 1m`, in place of the flags above
    #[arg(long, conflicts_with_all = ["over", "flap", "report", "silent", "loss", "lasting"])]
    script: Option<PathBuf>,
    /// UDP sockets are shared by so many spokes
    #[arg(long, default_value_t = 20)]
    per_socket: u32,
    /// Run the programs that are there instead of building what the checkout holds now
    #[arg(long)]
    built: bool,
}

/// Nothing that a script waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Runs it to its end.
pub fn run(options: &Options) -> Result<(), Stop> {
    let script = options.lines()?;
    child::listen()?;
    if !options.built {
        swarm_process::build()?;
    }
    let dir = target().join("swarm");
    empty(&dir)?;
    // It ends with its swarm.
    let own = options.hub.is_none().then(|| own_hub(options, &dir)).transpose()?;
    let mut order = match &own {
        Some(hub) => hub.swarm_order(&options.name)?,
        None => json!({
            "hub": options.hub, "ca_hash": options.ca_hash, "tokens": options.token,
            "prefix": options.name,
        }),
    };
    order["per_socket"] = json!(options.per_socket);
    if let Some(hub) = &own {
        println!("export KUBECONFIG={}", hub.dir.join("hub/admin.kubeconfig").display());
    }
    let mut swarm = SwarmProcess::start(&order, &script, false, &dir.join("swarm.log"))?;
    while let Some(answer) = swarm.answer(PATIENCE)? {
        println!("{}", told(&answer));
    }
    Ok(())
}

impl Options {
    /// The script.
    fn lines(&self) -> Result<Vec<String>, Stop> {
        if let Some(path) = &self.script {
            let text = std::fs::read_to_string(path)
                .map_err(|e| Stop(format!("cannot read {}: {e}", path.display())))?;
            let lines = text.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            return Ok(lines.map(str::to_owned).collect());
        }
        let mut lines = vec![format!("join {} over {}", self.spokes, self.over)];
        lines.push("until up within 10m".to_owned());
        if self.hub.is_none() && 0 < self.pods {
            let all = u64::from(self.spokes) * u64::from(self.pods);
            lines.push(format!("until running {all} within 1h"));
        }
        lines.extend(["say".to_owned(), "mark".to_owned()]);
        for (word, value) in [
            ("flap", &self.flap),
            ("report", &self.report),
            ("silent", &self.silent),
            ("loss", &self.loss),
        ] {
            lines.extend(value.as_ref().map(|value| format!("{word} {value}")));
        }
        lines.extend([format!("wait {}", self.lasting), "say".to_owned()]);
        Ok(lines)
    }
}

/// A hub for this swarm alone, with what its spokes are to run.
fn own_hub(options: &Options, dir: &Path) -> Result<Hub, Stop> {
    load::program()?;
    if !options.built {
        hub::build()?;
    }
    let (hub, _) = Hub::launch(dir.to_owned())?;
    hub.daemon_sets(0..options.pods)?;
    Ok(hub)
}

/// An answer for people: what was done, then its figures.
fn told(answer: &Value) -> String {
    let mut words = Vec::new();
    flatten(&answer["answer"], "", &mut words);
    format!("{}: {}", answer["did"].as_str().unwrap_or_default(), words.join(", "))
}

fn flatten(value: &Value, name: &str, words: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let dot = if name.is_empty() { "" } else { "." };
                flatten(value, &format!("{name}{dot}{field}"), words);
            }
        }
        Value::Null => {}
        Value::Number(number) if !number.is_u64() => {
            words.push(format!("{name} {:.3}", number.as_f64().unwrap_or(f64::NAN)));
        }
        other => words.push(format!("{name} {other}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(words: &[&str]) -> Result<Options, clap::Error> {
        let words = std::iter::once("swarm").chain(words.iter().copied());
        Ok(Cli::try_parse_from(words)?.options)
    }

    #[test]
    fn flags_make_a_script() {
        let all =
            ["--spokes", "7", "--pods", "3", "--flap", "1%/min", "--silent", "5%", "--for", "1s"];
        let lines = options(&all).unwrap().lines().unwrap();
        let expected = [
            "join 7 over 0s",
            "until up within 10m",
            "until running 21 within 1h",
            "say",
            "mark",
            "flap 1%/min",
            "silent 5%",
            "wait 1s",
            "say",
        ];
        assert_eq!(lines, expected);
        let elsewhere = ["--hub", "h:1", "--token", "t", "--ca-hash", "c"];
        let lines = options(&elsewhere).unwrap().lines().unwrap();
        assert!(!lines.iter().any(|line| line.contains("running")), "its pods are others' to say");
        assert!(options(&elsewhere[..2]).is_err(), "who joins needs a token");
        assert!(options(&["--script", "f", "--flap", "1%/min"]).is_err());
    }

    #[test]
    fn answers_are_told_as_names_and_figures() {
        let answer = json!({"did": "say", "answer": {"seconds": 0.5, "up": 3, "wire": {"up": {"bytes": 7}}}});
        assert_eq!(told(&answer), "say: seconds 0.500, up 3, wire.up.bytes 7");
    }
}
