//! The command line. Stable: tools and tests rely on it.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use freewheel_link::digest::Digest;
use freewheel_link::join::Token;
use freewheel_link::labels::is_reserved;
use freewheel_link::names::ClusterName;
use freewheel_spoke_agent::eviction::{self, Threshold};

use crate::identity::IdentityError;

/// A token is 23 characters, with room for what editors put around it.
const TOKEN_BYTES_MAX: u64 = 256;

/// Runs pods of WebAssembly modules on this device, with or without its hub.
#[derive(Debug, Parser)]
#[command(name = "spoke", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the agent. Joins a hub first when the data directory has no identity yet.
    Run(Box<Run>),
    /// Check clock, UDP, DNS, disk and certificate, and say what to do.
    Doctor(Doctor),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Where identity, ledger, modules, volumes and logs are kept.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The hub's link address. Needed to join; later it is remembered, and this replaces it.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    pub(crate) hub: Option<String>,
    /// Join token from `hub token create`; `-` reads it from standard input.
    #[arg(long, value_name = "TOKEN|-", value_parser = token, conflicts_with = "token_file")]
    pub(crate) token: Option<TokenFrom>,
    /// File with the join token, for a unit that starts at each boot.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Hash of the hub's CA, as `hub token create` prints it.
    #[arg(long, value_name = "sha256:…")]
    pub(crate) ca_hash: Option<Digest>,
    /// Name of the cluster that this device becomes [default: its host name].
    #[arg(long, value_parser = name)]
    pub(crate) name: Option<ClusterName>,
    /// The node's own address: node ports and host ports listen there [default: the one that reaches the hub; not
    /// remembered].
    #[arg(long, value_name = "IP")]
    pub(crate) address: Option<Ipv4Addr>,
    /// Labels of the node. Of those that it joins with, its cluster follows what a later start says; one that says none
    /// leaves them there as they are [not remembered].
    #[arg(long, value_name = "k=v,…", value_delimiter = ',', value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Where pods are evicted at once [default: memory.available<5% or 100Mi, nodefs.available<10% or 1Gi,
    /// nodefs.inodesFree<5%, imagefs.available as nodefs.available; not remembered].
    #[arg(long, value_name = "SIGNAL<AMOUNT,…", value_delimiter = ',', value_parser = hard)]
    pub(crate) eviction_hard: Vec<Threshold>,
    /// Where pods are evicted after some seconds, with time to end [default: nowhere; not remembered].
    #[arg(long, value_name = "SIGNAL<AMOUNT=SECONDS,…", value_delimiter = ',', value_parser = soft)]
    pub(crate) eviction_soft: Vec<Threshold>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

fn host_port(raw: &str) -> Result<String, String> {
    let (host, port) = raw.rsplit_once(':').ok_or("an address looks like HOST:PORT")?;
    let good = port.parse::<u16>().is_ok_and(|port| 0 < port);
    if host.is_empty() || !good {
        Err("an address looks like HOST:PORT".to_owned())
    } else {
        Ok(raw.to_owned())
    }
}

/// Where the join token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenFrom {
    /// On the command line. Every user of the machine reads that, so it is taken off it: see `hide`.
    Given(Token),
    /// It is read from standard input.
    Stdin,
}

fn token(raw: &str) -> Result<TokenFrom, String> {
    if raw == "-" {
        return Ok(TokenFrom::Stdin);
    }
    Token::try_from(raw.to_owned()).map(TokenFrom::Given).map_err(|error| error.to_string())
}

impl Run {
    /// The join token, from where it is.
    pub(crate) fn join_token(&self) -> Result<Option<Token>, IdentityError> {
        let (from, text) = match (&self.token, &self.token_file) {
            (Some(TokenFrom::Given(token)), _) => return Ok(Some(token.clone())),
            (Some(TokenFrom::Stdin), _) => {
                let mut text = String::new();
                let read = std::io::stdin().lock().take(TOKEN_BYTES_MAX).read_to_string(&mut text);
                ("standard input".to_owned(), read.map(|_| text))
            }
            (None, Some(file)) => {
                let read = std::fs::File::open(file).and_then(|file| {
                    let mut text = String::new();
                    file.take(TOKEN_BYTES_MAX).read_to_string(&mut text).map(|_| text)
                });
                (file.display().to_string(), read)
            }
            (None, None) => return Ok(None),
        };
        let text = match text {
            Ok(text) => text,
            Err(source) => return Err(IdentityError::Token { from, source }),
        };
        let token = Token::try_from(text.trim().to_owned());
        token.map(Some).map_err(|_| IdentityError::NoToken(from))
    }
}

fn name(raw: &str) -> Result<ClusterName, String> {
    match ClusterName::try_from(raw) {
        Ok(name) if name.is_root() => Err("`root` is the hub's own cluster".to_owned()),
        Ok(name) => Ok(name),
        Err(error) => Err(error.to_string()),
    }
}

fn hard(raw: &str) -> Result<Threshold, String> {
    let threshold = eviction::parse(raw)?;
    if threshold.grace.is_zero() {
        Ok(threshold)
    } else {
        Err("a hard threshold has no seconds".into())
    }
}

fn soft(raw: &str) -> Result<Threshold, String> {
    let threshold = eviction::parse(raw)?;
    if threshold.grace.is_zero() {
        Err("a soft threshold ends in =SECONDS".into())
    } else {
        Ok(threshold)
    }
}

fn label(raw: &str) -> Result<(String, String), String> {
    let (key, value) = raw.split_once('=').ok_or("a label looks like key=value")?;
    let clean = |text: &str, extra: &str| {
        text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
    };
    if is_reserved(key) {
        return Err(format!(
            "a device may not give itself the label {key:?}: label its ManagedCluster on the hub"
        ));
    }
    if key.is_empty()
        || 317 < key.len()
        || 63 < value.len()
        || !clean(key, "-_./")
        || !clean(value, "-_.")
    {
        return Err(format!("{raw:?} is no label (key=value of letters, digits, '-', '_', '.')"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(args: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("spoke").chain(args.split_whitespace()))
    }

    #[test]
    fn the_pasted_line_is_understood() {
        let hash = Digest::of(b"ca");
        let line = format!(
            "run --data /d --hub hub.example:6444 --token abcdef.0123456789abcdef --ca-hash {hash} \
             --name pi-7 --address 127.0.0.11 --labels site=attic,example.com/tier=1"
        );
        let Verb::Run(run) = parse(&line).unwrap().verb else { panic!("run") };
        assert_eq!(run.ca_hash, Some(hash));
        assert_eq!(run.labels.len(), 2);
        assert_eq!(run.name.unwrap().as_str(), "pi-7");
        assert!(parse("run --data /d").is_ok(), "a spoke that has joined needs no more");
        assert!(parse("doctor --data /d").is_ok());
    }

    #[test]
    fn what_each_start_has_to_be_told_anew_says_so() {
        let all = Cli::command();
        let run = all.find_subcommand("run").unwrap();
        for flag in ["address", "labels", "eviction_hard", "eviction_soft"] {
            let flag = run.get_arguments().find(|known| known.get_id().as_str() == flag).unwrap();
            let help = flag.get_help().unwrap().to_string();
            assert!(help.contains("not remembered]"), "{help}");
        }
    }

    #[test]
    fn a_token_comes_from_a_file_or_from_standard_input() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let run = |args: &str| match parse(&format!("run --data /d {args}")).unwrap().verb {
            Verb::Run(run) => run,
            Verb::Doctor(_) => panic!("run"),
        };
        assert_eq!(run("--token -").token, Some(TokenFrom::Stdin));
        let from_file = run(&format!("--token-file {}", file.display()));
        assert!(matches!(from_file.join_token(), Err(IdentityError::Token { .. })));
        std::fs::write(&file, "abcdef.0123456789abcdef\n").unwrap();
        assert_eq!(from_file.join_token().unwrap().unwrap().id(), "abcdef");
        std::fs::write(&file, "no token").unwrap();
        assert!(matches!(from_file.join_token(), Err(IdentityError::NoToken(_))));
        assert_eq!(run("").join_token().unwrap(), None);
    }

    #[test]
    fn mistakes_are_named_before_anything_is_done() {
        for line in [
            "run",
            "run --data /d --hub hub.example",
            "run --data /d --hub :6444",
            "run --data /d --token secret",
            "run --data /d --ca-hash sha256:12",
            "run --data /d --name Pi_7",
            "run --data /d --name root",
            "run --data /d --address here",
            "run --data /d --labels site",
            "run --data /d --labels si%te=x",
            "run --data /d --labels node-role.kubernetes.io/master=",
            "run --data /d --token abcdef.0123456789abcdef --token-file /t",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
