//! Whoever copies an example has a crate of their own, with nothing but the SDK in it: every example of the
//! README and of the SDK's documentation builds there.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use freewheel_tests::guests::root;

/// The Rust in a text's fences, as their readers see it.
fn examples(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        let Some(fence) = line.trim().strip_prefix("```") else {
            if let Some(code) = &mut open {
                // What rustdoc hides is part of the example.
                let _ = writeln!(code, "{}", line.strip_prefix("# ").unwrap_or(line));
            }
            continue;
        };
        match open.take() {
            Some(code) => found.push(code),
            // `text`, `toml`, `sh` and the like are no Rust; rustdoc's own words after a comma are.
            None if fence.is_empty() || matches!(fence, "rust" | "no_run" | "rust,no_run") => {
                open = Some(String::new());
            }
            None => open = Some("not Rust".to_owned()),
        }
    }
    found.retain(|code| !code.starts_with("not Rust"));
    found
}

/// The text of a file's documentation comments.
fn documentation(source: &str) -> String {
    let comment = |line: &str| {
        let line = line.trim_start();
        let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))?;
        Some(format!("{}\n", text.strip_prefix(' ').unwrap_or(text)))
    };
    source.lines().filter_map(comment).collect()
}

/// Every example with the place it comes from.
fn collect() -> Vec<(String, String)> {
    let sdk = root().join("guest-sdk");
    let mut all = Vec::new();
    let mut take = |place: &Path, text: &str| {
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        all.extend(examples(text).into_iter().map(|code| (name.clone(), code)));
    };
    let read = |path: &Path| std::fs::read_to_string(path).expect("a text of the project");
    let readme = root().join("README.md");
    take(&readme, &read(&readme));
    let mut sources: Vec<_> = std::fs::read_dir(sdk.join("src"))
        .expect("the SDK's sources")
        .map(|entry| entry.expect("a source").path())
        .collect();
    sources.sort();
    for source in sources {
        take(&source, &documentation(&read(&source)));
    }
    all
}

#[test]
fn every_documented_example_builds_in_a_crate_of_its_own() {
    let examples = collect();
    let from = |place: &str| examples.iter().filter(|(from, _)| from == place).count();
    assert!(
        0 < from("README.md")
            && 0 < from("service.rs")
            && 0 < from("exit.rs")
            && 1 < from("stop.rs"),
        "{examples:?}"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let sdk = root().join("guest-sdk");
    let mut members = Vec::new();
    for (number, (place, code)) in examples.iter().enumerate() {
        let name = format!("example-{number}-{}", place.split('.').next().unwrap_or_default())
            .to_lowercase();
        let handler = code.contains("http_handler!");
        let kind = if handler { "[lib]\ncrate-type = [\"cdylib\"]\n" } else { "" };
        let manifest = format!(
            "[package]\nname = \"{name}\"\nedition = \"2024\"\n{kind}[dependencies]\n\
             freewheel-guest = {{ path = {:?} }}\n",
            sdk.display().to_string()
        );
        let source = folder.path().join(&name).join("src");
        std::fs::create_dir_all(&source).expect("a folder");
        std::fs::write(source.join(if handler { "lib.rs" } else { "main.rs" }), code)
            .expect("code");
        std::fs::write(folder.path().join(&name).join("Cargo.toml"), manifest).expect("a manifest");
        members.push(name);
    }
    let workspace = format!("[workspace]\nresolver = \"3\"\nmembers = {members:?}\n");
    std::fs::write(folder.path().join("Cargo.toml"), workspace).expect("a manifest");
    // The same versions as everywhere, and none from the network.
    std::fs::copy(sdk.join("Cargo.lock"), folder.path().join("Cargo.lock")).expect("the lock");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--workspace", "--target", "wasm32-wasip2"])
        .current_dir(folder.path())
        .env_remove("RUSTFLAGS")
        .env("CARGO_TARGET_DIR", root().join("target/guests-documented"))
        .output()
        .expect("cargo");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}\n{examples:#?}");
}
