//! P01, P02: the spoke on a device: its memory at rest, its size on disk.

use std::process::Command;
use std::time::Duration;

use freewheel_xtask_kit::child;
use freewheel_xtask_kit::command::{Stop, cargo, output};
use serde_json::json;

use crate::hub::{Hub, spoke_program};
use crate::plan::Plan;
use crate::report::Report;
use crate::row::{Row, Verdict};
use crate::{load, proc};

/// Words that only a compiler brings along; panics name their crate's path.
const COMPILER: [&str; 4] =
    ["cranelift_codegen", "cranelift-codegen", "regalloc2", "wasmtime_cranelift"];

/// Crates of the compiler. Others whose names begin with cranelift are data structures that the loader shares.
const COMPILER_CRATES: [&str; 4] =
    ["cranelift-codegen", "cranelift-frontend", "regalloc2", "wasmtime-internal-cranelift"];

/// P01: proportional set size and private dirty memory, connected, no pods, after a rest.
pub fn memory(plan: Plan, report: &mut Report) -> Result<(), Stop> {
    load::program()?;
    let hub = Hub::start(plan, "memory")?;
    let spoke = hub.spoke(plan, "info")?;
    let rest = Duration::from_secs(if plan.quick { 15 } else { 60 });
    println!("resting {} s …", rest.as_secs());
    child::rest(rest)?;
    let (pss, dirty) =
        proc::memory(spoke.id()).ok_or_else(|| Stop("the spoke has no smaps_rollup".into()))?;
    let mib = |kib: u64| f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0;
    // One spoke at rest is one figure; rounds would say nothing more.
    let verdict = |holds: bool| {
        if plan.quick {
            Verdict::None("the rest was 15 s, not 60 s".into())
        } else {
            Verdict::once(holds)
        }
    };
    report.add(Row {
        id: "P01",
        what: "memory of the spoke that ships: connected, no pods, at rest",
        measured: vec![format!(
            "after {} s: PSS {:.2} MiB, private dirty {:.2} MiB",
            rest.as_secs(),
            mib(pss),
            mib(dirty)
        )],
        gate: ("PSS ≤ 8 MiB, private dirty ≤ 4 MiB", verdict(pss <= 8 << 10 && dirty <= 4 << 10)),
        stretch: ("PSS ≤ 6 MiB", verdict(pss <= 6 << 10)),
        raw: proc::rollup(spoke.id()),
    })
}

/// P02: bytes of the stripped binary, and whether a compiler is inside.
pub fn size(plan: Plan, report: &mut Report) -> Result<(), Stop> {
    let built = spoke_program(plan)?;
    let bytes = std::fs::read(&built).map_err(|e| Stop(format!("{}: {e}", built.display())))?;
    let found: Vec<&str> = COMPILER.into_iter().filter(|word| holds_word(&bytes, word)).collect();
    let tree = output(cargo().args([
        "tree",
        "--package",
        "freewheel-spoke",
        "--edges",
        "normal",
        "--prefix",
        "none",
    ]))?;
    let linked: Vec<&str> = tree
        .lines()
        .filter(|line| COMPILER_CRATES.iter().any(|name| line.split(' ').next() == Some(name)))
        .collect();
    let stripped =
        !output(Command::new("nm").arg(&built)).is_ok_and(|symbols| !symbols.trim().is_empty());
    let size = bytes.len();
    let clean = found.is_empty() && linked.is_empty();
    let inside = if clean {
        "no Cranelift in its strings or its dependencies".to_owned()
    } else {
        format!("inside: {} {}", found.join(" "), linked.join(" "))
    };
    report.add(Row {
        id: "P02",
        what: "size of the spoke that ships (profile dist)",
        measured: vec![
            format!(
                "{} {size} bytes, {}; {inside}",
                std::env::consts::ARCH,
                if stripped { "stripped" } else { "NOT stripped" }
            ),
            "aarch64: not built here".to_owned(),
        ],
        gate: ("≤ 8 MB, no Cranelift", Verdict::once(size <= 8_000_000 && clean && stripped)),
        stretch: ("≤ 5 MB", Verdict::once(size <= 5_000_000 && clean && stripped)),
        raw: json!({"bytes": size, "found": found, "linked": linked}),
    })
}

fn holds_word(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_found_by_its_name() {
        assert!(holds_word(b"/cranelift-codegen-0.1/src/lib.rs", COMPILER[1]));
        assert!(!holds_word(b"/cranelift-entity-0.1/src/lib.rs", COMPILER[1]));
    }
}
