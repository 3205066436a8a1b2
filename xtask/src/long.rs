//! The long tier of `cargo xtask test --all`.

use std::path::Path;
use std::process::Command;

use freewheel_xtask_kit::command::{Stop, cargo, empty, output, root, run as run_command, target};
use freewheel_xtask_kit::{dist, guests};

use crate::test::Tally;
use crate::{elf, kubectl, schema};

/// Largest spoke that ships, in bytes (goal P02).
const SPOKE_BYTES: usize = 8_000_000;

/// Runs all of it.
pub fn run(tally: &mut Tally) {
    tally.check("doc", doc);
    tally.check("deny", deny);
    tally.check("spoke size, symbols and needs", spoke);
    match shipped_tests() {
        Ok(mut command) => tally.harness("the shipped spoke in a fleet", &mut command),
        Err(why) => tally.check("the shipped spoke in a fleet", || Err(why)),
    }
    tally.check("up, first start", || forget_up().and_then(|()| up()));
    tally.check("up, from the kept data", up);
    // What held must hold, whichever form clients speak.
    for content in ["protobuf", "json"] {
        tally.check(&format!("conformance, class a1, in {content}"), || conformance(content));
    }
    // Seeds that the short tier does not have.
    tally.harness(
        "simulation of the fleet, more seeds",
        cargo()
            .args(["test", "--quiet", "--locked", "--package", "freewheel-tests"])
            .args(["--test", "wheel"])
            .env("FREEWHEEL_SEEDS", "200..1200"),
    );
    tally.harness(
        "crash tests of the store, more seeds and rounds",
        cargo()
            .args(["test", "--quiet", "--locked", "--package", "freewheel-hub-store"])
            .args(["--test", "store", "--", "kill::", "simulated_disk::"])
            .env("FREEWHEEL_SEEDS", "150..1500")
            .env("FREEWHEEL_ROUNDS", "100"),
    );
    tally.harness(
        "costs of an add-on, on more clusters",
        cargo()
            .args(["test", "--quiet", "--locked", "--package", "freewheel-hub-controllers"])
            .args(["--test", "controllers", "--", "add_on_costs::"])
            .env("FREEWHEEL_CLUSTERS", "1000"),
    );
    tally.harness("toolchains, clients and soak", &mut long_tests(None));
    merges(tally);
    decisions_of_ocm(tally);
    tally.harness(
        "damage to the store, more bits",
        cargo()
            .args(["test", "--quiet", "--locked", "--package", "freewheel-hub-store"])
            .args(["--test", "store", "--", "damage::"])
            .env("FREEWHEEL_SEEDS", "1..40"),
    );
}

/// What the API server alone holds of upstream's specs.
fn conformance(content: &str) -> Result<(), Stop> {
    run_command(cargo().args(["xtask", "conformance", "a1", "--content", content]))
}

/// Sequences of writes that are not committed, of built-in kinds and of random schemas.
fn merges(tally: &mut Tally) {
    match merge_sequences() {
        Ok(command) => tally.harness(
            "server-side apply beside upstream's, more seeds",
            cargo()
                .args([
                    "test",
                    "--quiet",
                    "--locked",
                    "--package",
                    "freewheel-hub-structured-merge",
                ])
                .args(["--test", "upstream"])
                .env("FREEWHEEL_MERGE_SEQUENCES", command),
        ),
        Err(why) => tally.check("server-side apply beside upstream's", || Err(why)),
    }
}

/// So many seeds are played in the long tier.
const MERGE_SEEDS: u64 = 100_000;

/// The command that writes sequences of writes and what upstream makes of them; its program is built first.
fn merge_sequences() -> Result<String, Stop> {
    let program = target().join("merge-sequences");
    let documents = schema::build("./merge-sequences", &program)?;
    let widget = root().join("hub/structured-merge/tests/widget.json");
    let (program, documents, widget) = (program.display(), documents.display(), widget.display());
    // Behind those that are committed.
    Ok(format!(
        "{program} -openapi {documents} -widget {widget} -from 1000 -to {}",
        1000 + MERGE_SEEDS
    ))
}

/// Questions that are not committed, and what Open Cluster Management's own code answers.
fn decisions_of_ocm(tally: &mut Tally) {
    let name = "placements, rollouts and works beside Open Cluster Management's, more seeds";
    match ocm_oracle() {
        Ok(command) => tally.harness(
            name,
            cargo()
                .args(["test", "--quiet", "--locked", "--package", "freewheel-hub-fleet"])
                .args(["--test", "upstream"])
                .env("FREEWHEEL_OCM_ORACLE", command),
        ),
        Err(why) => tally.check(name, || Err(why)),
    }
}

/// So many questions of each kind are asked in the long tier.
const OCM_QUESTIONS: u64 = 20_000;

/// The command that writes questions and answers; its program is built first.
fn ocm_oracle() -> Result<String, Stop> {
    let program = target().join("ocm-oracle");
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-o"]).arg(&program).arg(".");
    go.current_dir(root().join("tests/clients/ocm-oracle"));
    run_command(go.env("GOFLAGS", "-mod=readonly -buildvcs=false"))?;
    // Behind those that are committed.
    Ok(format!("{} -from 1000 -to {}", program.display(), 1000 + OCM_QUESTIONS))
}

/// The tests that take minutes, or install tools first; one after the other, since each keeps the machine busy.
fn long_tests(filter: Option<&str>) -> Command {
    let mut command = cargo();
    command
        .args(["test", "--locked", "--package", "freewheel-tests", "--test", "long", "--"])
        .args(["--nocapture", "--test-threads=1"])
        .args(filter)
        .env("FREEWHEEL_BIN", target().join("debug"))
        .env("FREEWHEEL_GUESTS", target().join("guests"))
        .env("FREEWHEEL_SHIPPED", target().join("dist"));
    if let Ok(kubectl) = kubectl::find() {
        command.env("FREEWHEEL_KUBECTL", kubectl);
    }
    command
}

/// Guests that misbehave beside good neighbours, for as long as it is told.
pub fn soak(minutes: f64) -> Result<(), Stop> {
    guests::build()?;
    kubectl::find()?;
    freewheel_xtask_kit::binaries::build()?;
    run_command(long_tests(Some("soak")).env("FREEWHEEL_SOAK_MINUTES", minutes.to_string()))
}

/// Documentation builds without a warning.
pub fn doc() -> Result<(), Stop> {
    run_command(
        cargo()
            .args(["doc", "--quiet", "--locked", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// Licences, sources and known advisories, by cargo-deny (installed when it is missing).
pub fn deny() -> Result<(), Stop> {
    let present = output(Command::new("cargo-deny").arg("--version")).is_ok();
    if !present {
        run_command(cargo().args(["install", "--quiet", "--locked", "cargo-deny"]))?;
    }
    // Advisories need a database that closed networks cannot fetch: what is checked here needs none.
    run_command(cargo().args(["deny", "--workspace", "check", "bans", "licenses", "sources"]))
}

/// What the README promises of `cargo xtask up`, on ports, addresses and data that a running demo does not have.
fn up() -> Result<(), Stop> {
    let place = ["--port", "16443", "--first", "127.0.116.11", "--data"];
    run_command(cargo().args(["xtask", "up", "--once"]).args(place).arg(target().join("up-tested")))
}

/// A first start has no data.
fn forget_up() -> Result<(), Stop> {
    let data = target().join("up-tested");
    match std::fs::remove_dir_all(&data) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Stop(format!("cannot remove {}: {e}", data.display())))
        }
        _ => Ok(()),
    }
}

/// The shipped spoke starts with nothing around it.
fn spoke() -> Result<(), Stop> {
    let built = dist::spoke()?;
    examine(&built)?;
    let said = output(Command::new(&built).arg("--version").env_clear())?;
    println!("{}", said.trim());
    Ok(())
}

/// A spoke that ships is small, has no compiler inside, and runs on any Linux: it asks for nothing of the system's.
fn examine(built: &Path) -> Result<(), Stop> {
    let bytes = std::fs::read(built).map_err(|e| Stop(format!("{}: {e}", built.display())))?;
    let size = bytes.len();
    println!("{}: {size} bytes", built.display());
    if SPOKE_BYTES < size {
        return Err(Stop(format!("the spoke has {size} bytes; {SPOKE_BYTES} are the most")));
    }
    for word in ["cranelift_codegen", "regalloc2"] {
        if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
            return Err(Stop(format!("the spoke has {word} inside")));
        }
    }
    let needs = elf::needs(&bytes)?;
    if needs != elf::IS_STATIC {
        return Err(Stop(format!("the spoke does not run on any Linux: {needs:?}")));
    }
    Ok(())
}

/// Tests of the fleet that lean on what the shipped spoke has of its own: C library, allocator, stacks and traps. The hub
/// is the one of all other tests.
fn shipped_tests() -> Result<Command, Stop> {
    let folder = target().join("shipped");
    empty(&folder)?;
    for (program, name) in [("debug/hub", "hub"), ("dist/spoke", "spoke")] {
        let program = target().join(program);
        std::fs::hard_link(&program, folder.join(name))
            .map_err(|e| Stop(format!("cannot link {} to a folder: {e}", program.display())))?;
    }
    let mut command = cargo();
    command
        .args(["test", "--quiet", "--locked", "--package", "freewheel-tests", "--test", "fleet"])
        .args(["--", "autonomy::", "bad_modules::", "network::", "pods::", "streams::"])
        .env("FREEWHEEL_BIN", folder)
        .env("FREEWHEEL_GUESTS", target().join("guests"))
        .env("FREEWHEEL_KUBECTL", kubectl::find()?);
    Ok(command)
}
