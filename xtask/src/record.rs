//! `cargo xtask record`: plays the scripts of `hub/apiserver/tests/api/data/transcripts` against a real kube-apiserver and
//! writes its answers into them. `cargo xtask test` plays them against the hub and compares.

use freewheel_xtask_kit::child;
use freewheel_xtask_kit::command::{Stop, cargo, empty, run as run_command, target};

use crate::kube::{Kube, Parts, TOKEN};
use crate::kubectl;

/// Records all of them.
pub fn run() -> Result<(), Stop> {
    child::listen()?;
    let dir = target().join("record");
    empty(&dir)?;
    let kube = Kube::start(&dir, &kubectl::find()?, Parts::ApiServer)?;
    run_command(
        cargo()
            .args(["test", "--quiet", "--locked", "--package", "freewheel-hub-apiserver"])
            .args(["--test", "api", "transcripts_are_those_of_kube_apiserver"])
            .env("FREEWHEEL_RECORD_PORT", kube.port.to_string())
            .env("FREEWHEEL_RECORD_TOKEN", TOKEN)
            .env("FREEWHEEL_RECORD_CA", dir.join("certificates/apiserver.crt")),
    )
}
