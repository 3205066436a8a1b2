//! Modules that are compiled, and those that are not.

use freewheel_spoke_engine::footprint::Footprint;

use super::*;

const EMPTY: &str = "(component)";

fn write(dir: &Path, bytes: &[u8]) -> (PathBuf, Digest) {
    let component = dir.join("c.wasm");
    std::fs::write(&component, bytes).unwrap();
    (component, Digest::of(bytes))
}

#[test]
fn a_component_is_compiled_for_every_profile_that_a_spoke_may_report() {
    let dir = tempfile::tempdir().unwrap();
    let (component, digest) = write(dir.path(), &wat::parse_str(EMPTY).unwrap());
    let profiles = Profile::candidates();
    assert!(!profiles.is_empty());
    for profile in profiles {
        let (key, artifact) = (profile.key(), dir.path().join(profile.key()));
        let order = Order { profile, component: &component, digest, artifact: &artifact };
        let made = compile_here(order).unwrap();
        let unpacked = zstd::decode_all(std::fs::File::open(&artifact).unwrap()).unwrap();
        assert_eq!(Digest::of(&unpacked).to_string(), made.digest, "{key}");
        assert_eq!(unpacked.len() as u64, made.size, "{key}");
    }
}

#[test]
fn an_artifact_tells_a_core_program_from_a_component() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::candidates()[0];
    for (wat, core) in [(EMPTY, false), ("(module)", true)] {
        let (component, digest) = write(dir.path(), &wat::parse_str(wat).unwrap());
        let artifact = dir.path().join("out");
        let order = Order { profile, component: &component, digest, artifact: &artifact };
        compile_here(order).unwrap();
        let unpacked = zstd::decode_all(std::fs::File::open(&artifact).unwrap()).unwrap();
        let kind = wasmtime::Engine::detect_precompiled(&unpacked).unwrap();
        assert_eq!(matches!(kind, wasmtime::Precompiled::Module), core, "{wat}");
    }
}

/// What each instance of a module takes beside its memories, and its description, for a profile.
fn footing_of(wat: &str, profile: &Profile) -> Result<Footprint, CompileError> {
    let dir = tempfile::tempdir().unwrap();
    let (component, digest) = write(dir.path(), &wat::parse_str(wat).unwrap());
    let (profile, artifact) = (*profile, dir.path().join("out"));
    let order = Order { profile, component: &component, digest, artifact: &artifact };
    compile_here(order)?;
    let unpacked = zstd::decode_all(std::fs::File::open(&artifact).unwrap()).unwrap();
    std::fs::write(&artifact, unpacked).unwrap();
    Ok(footprint::read(&artifact).unwrap())
}

fn globals(count: usize) -> String {
    "(global (mut i32) (i32.const 0))".repeat(count)
}

/// A component that makes so many core instances of one core module.
fn instances(count: usize, body: &str) -> String {
    let each = "(core instance (instantiate $m))".repeat(count);
    format!("(component (core module $m {body}) {each})")
}

#[test]
fn what_an_instance_holds_counts_as_often_as_it_is_made() {
    use freewheel_link::profile::{Arch, MemoryProfile};
    let mut profiles = Profile::candidates();
    profiles.push(Profile::current(Arch::Pulley32, MemoryProfile::Bounded));
    for profile in profiles {
        let of = |wat: &str| footing_of(wat, &profile).unwrap().instance;
        let core = |body: &str| of(&format!("(module {body})"));
        let nothing = core("");
        assert!((1..2_000).contains(&nothing), "{nothing}");
        assert_eq!(core(&globals(10_000)) - nothing, 160_000);
        let refs = "(ref.func $f)".repeat(1_000);
        let passive = core(&format!("(func $f) (elem funcref {refs})"));
        assert!(16_000 < passive - nothing, "{passive}");
        let functions: String = (0..1_000).map(|n| format!(r#"(func (export "f{n}"))"#)).collect();
        let escaped = core(&functions) - nothing;
        assert!((20_000..64_000).contains(&escaped), "{escaped}");
        let one = of(&instances(1, &globals(1_000)));
        let fifty = of(&instances(50, &globals(1_000)));
        assert!(49 * 16_000 < fifty - one, "{one} {fifty}");
        let inner = instances(10, &globals(1_000)).replacen("(component", "(component $c", 1);
        let nested =
            of(&format!("(component {inner} {})", "(instance (instantiate $c))".repeat(5)));
        assert!(49 * 16_000 < nested - one, "{one} {nested}");
    }
}

/// So many types of as many parameters, each another.
fn types(count: usize, params: usize) -> String {
    let of = |number: usize| {
        let param = |at: usize| if number >> (at % 16) & 1 == 1 { " i32" } else { " i64" };
        format!("(type (func (param{})))", (0..params).map(param).collect::<String>())
    };
    (0..count).map(of).collect()
}

#[test]
fn a_description_counts_what_it_is_made_of() {
    let of = |wat: &str| {
        let footing = footing_of(wat, &Profile::candidates()[0]).unwrap();
        footing.description
    };
    let core = |body: &str| of(&format!("(module {body})"));
    let nothing = core("");
    assert!((1_000..8_000).contains(&nothing), "{nothing}");
    // What it was measured to take, and not many times that.
    let types_only = core(&types(10_000, 15)) - nothing;
    assert!((12_000_000..24_000_000).contains(&types_only), "{types_only}");
    let exports: String = (0..10_000).map(|n| format!(r#"(func (export "f{n}"))"#)).collect();
    let exported = core(&exports) - nothing;
    assert!((1_800_000..6_000_000).contains(&exported), "{exported}");
    let functions = core(&"(func)".repeat(10_000)) - nothing;
    assert!((280_000..1_000_000).contains(&functions), "{functions}");
    let modules = of(&format!("(component {})", "(core module)".repeat(900)));
    assert!((1_400_000..4_000_000).contains(&modules), "{modules}");
    let refused = footing_of(&format!("(module {})", types(16_000, 60)), &Profile::candidates()[0]);
    let refused = refused.unwrap_err();
    assert!(refused.is_kept(), "{refused}");
    assert!(
        refused.to_string().contains("while it is loaded, and 67108864 is the most"),
        "{refused}"
    );
}

#[test]
fn tables_of_handles_that_a_component_may_fill_by_itself_count() {
    let profile = Profile::candidates()[0];
    let of = |wat: &str| footing_of(wat, &profile).unwrap().instance;
    let full = 24 * footprint::COMPONENT_HANDLES_MAX as u64;
    let (nothing, one) = (of(EMPTY), of("(component (type (resource (rep i32))))"));
    assert!(one - nothing < 1_000, "nothing of it is ever made: {one}");
    let makes = r#"
        (type $own (resource (rep i32))) (core func $new (canon resource.new $own))
        (core module $m (import "" "new" (func (param i32) (result i32)))
            (func (export "run") (result i32) i32.const 0))
        (core instance (instantiate $m (with "" (instance (export "new" (func $new))))))"#;
    let one = of(&format!("(component {makes})"));
    assert!((full..full + 4_000).contains(&(one - nothing)), "{one}");
    let inner = format!("(component $c {makes})");
    let three = of(&format!("(component {inner} {})", "(instance (instantiate $c))".repeat(3)));
    assert!((3 * full..3 * full + 8_000).contains(&(three - nothing)), "{three}");
    // Those of the host are counted one by one, when there are some.
    let host = r#"(component (import "a" (instance $a (export "r" (type (sub resource)))))
        (alias export $a "r" (type $r)) (core func $drop (canon resource.drop $r))
        (core module $m (import "" "drop" (func (param i32))))
        (core instance (instantiate $m (with "" (instance (export "drop" (func $drop)))))))"#;
    assert!(of(host) - nothing < 4_000, "{}", of(host));
    // As does what toolchains put around an export with resources of the host's.
    let around = host.rsplit_once(')').unwrap().0.to_owned()
        + r#"(core module $n (func (export "f") (param i32)))
        (core instance $n (instantiate $n))
        (func $f (param "r" (own $r)) (canon lift (core func $n "f")))
        (component $shim (import "r" (type $r (sub resource))) (import "f" (func $f (param "r" (own $r))))
            (export $e "s" (type $r)) (export "g" (func $f) (func (param "r" (own $e)))))
        (instance $s (instantiate $shim (with "r" (type $r)) (with "f" (func $f))))
        (export "i" (instance $s)))"#;
    assert!(of(&around) - nothing < 8_000, "{}", of(&around));
    // Two components that hand a handle of the host's to each other have a table each.
    let two = host.rsplit_once(')').unwrap().0.to_owned()
        + r#"(component $give (import "r" (type $r (sub resource)))
            (core module $n (func (export "f") (param i32)))
            (core instance $n (instantiate $n))
            (func (export "f") (param "r" (own $r)) (canon lift (core func $n "f"))))
        (instance $give (instantiate $give (with "r" (type $r))))
        (component $take (import "r" (type $r (sub resource))) (import "f" (func $f (param "r" (own $r))))
            (core func $f (canon lower (func $f)))
            (core module $n (import "" "f" (func (param i32))) (func (export "g") (param i32) (call 0 (local.get 0))))
            (core instance $n (instantiate $n (with "" (instance (export "f" (func $f))))))
            (func (export "g") (param "r" (own $r)) (canon lift (core func $n "g"))))
        (instance $take (instantiate $take (with "r" (type $r)) (with "f" (func $give "f"))))
        (func (export "h") (alias export $take "g")))"#;
    let two = of(&two.replace(
        r#"(func (export "h") (alias export $take "g"))"#,
        r#"(export "h" (func $take "g"))"#,
    ));
    assert!((full..2 * full + 8_000).contains(&(two - nothing)), "{two}");
}

#[test]
fn a_module_whose_instances_take_much_beside_their_memories_is_refused() {
    let refused = |wat: &str, text: &str| {
        let refused = footing_of(wat, &Profile::candidates()[0]).unwrap_err();
        assert!(refused.is_kept(), "{refused}");
        assert!(refused.to_string().contains(text), "{refused}");
    };
    refused(&instances(101, ""), "it is made of 101 core instances, and 100 is the most");
    let text = "bytes beside its memories and tables, and 16777216 is the most";
    refused(&instances(90, &globals(20_000)), text);
}

#[test]
fn an_unknown_profile_a_broken_module_and_a_damaged_one_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (component, digest) = write(dir.path(), b"\0asm\x0d\0\x01\0nonsense");
    let out = dir.path().join("out");
    let order = |profile, digest| {
        compile_here(Order { profile, component: &component, digest, artifact: &out })
    };
    let old = Profile { major: 1, ..Profile::candidates()[0] };
    assert!(matches!(order(old, digest), Err(CompileError::Profile(_))));
    let known = Profile::candidates()[0];
    assert!(matches!(order(known, digest), Err(CompileError::Refused(_))));
    let damaged = order(known, Digest::of(b"what was pushed")).unwrap_err();
    assert!(damaged.to_string().contains("c.wasm is damaged"), "{damaged}");
    assert_eq!(damaged.exit_code(), EXIT_DAMAGED);
    assert!(!damaged.is_kept(), "the next push mends it");
    assert!(!out.exists());
}

#[test]
fn a_full_disk_is_no_refusal_of_the_module() {
    let dir = tempfile::tempdir().unwrap();
    let (component, digest) = write(dir.path(), &wat::parse_str(EMPTY).unwrap());
    std::os::unix::fs::symlink("/dev/full", dir.path().join("out.new")).unwrap();
    let known = Profile::candidates()[0];
    let artifact = dir.path().join("out.zst");
    let order = Order { profile: known, component: &component, digest, artifact: &artifact };
    let outcome = compile_here(order).unwrap_err();
    assert_eq!(outcome.exit_code(), EXIT_TROUBLE, "{outcome}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of it");
}

#[test]
fn a_compiler_leaves_the_store_its_room() {
    let dir = tempfile::tempdir().unwrap();
    let artifact = dir.path().join("out.zst");
    let mut room = DiskReserve::new(dir.path());
    room.reserve = u64::MAX;
    let full = store(&artifact, &[7; 1000], room.clone()).unwrap_err();
    assert!(matches!(full, CompileError::Full), "{full}");
    assert_eq!(full.exit_code(), EXIT_TROUBLE);
    assert!(!full.is_kept(), "it passes");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left of it");
    room.reserve = 0;
    store(&artifact, &[7; 1000], room).unwrap();
    assert!(artifact.exists());
}

/// A program that says and does what it is told stands for the compiler.
#[tokio::test]
async fn a_refusal_and_what_is_beyond_its_size_are_kept_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("compiler");
    let (component, digest) = write(dir.path(), b"c");
    let artifact = dir.path().join("out.zst");
    let ends = [
        ("exit 1", true),
        ("exit 3", false),
        ("exit 101", true),
        ("kill -XCPU $$", true),
        ("kill -ABRT $$", true),
        ("kill -KILL $$", false),
    ];
    for (end, kept) in ends {
        let half = artifact.with_extension("new");
        let text = format!("#!/bin/sh\ntouch {}\necho no >&2\n{end}\n", half.display());
        let copy = dir.path().join("text");
        std::fs::write(&copy, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&copy, mode).unwrap();
        std::fs::rename(&copy, &program).unwrap();
        let profile = Profile::candidates()[0];
        let order = Order { profile, component: &component, digest, artifact: &artifact };
        let outcome = compile(&program, order).await.unwrap_err();
        assert_eq!(outcome.is_kept(), kept, "{end}: {outcome}");
        assert!(!half.exists(), "what the child left is removed");
    }
}

#[tokio::test]
async fn a_child_that_finds_no_thread_is_no_word_about_its_module() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("compiler");
    let (component, digest) = write(dir.path(), b"c");
    let said = "failed to spawn thread: Os { code: 11, kind: WouldBlock, message: \"Resource temporarily unavailable\" }";
    std::fs::write(dir.path().join("text"), format!("#!/bin/sh\necho '{said}' >&2\nexit 101\n"))
        .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path().join("text"), mode).unwrap();
    std::fs::rename(dir.path().join("text"), &program).unwrap();
    let artifact = dir.path().join("out.zst");
    let profile = Profile::candidates()[0];
    let order = Order { profile, component: &component, digest, artifact: &artifact };
    let outcome = compile(&program, order).await.unwrap_err();
    assert!(!outcome.is_kept(), "{outcome}");
    assert!(outcome.to_string().contains("Resource temporarily unavailable"), "{outcome}");
    // It does not come to that: the threads are begun first. No machine has room for such stacks.
    let pool = rayon::ThreadPoolBuilder::new().stack_size(1 << 60).build();
    let outcome = no_threads(&pool.map(drop).unwrap_err());
    assert_eq!(outcome.exit_code(), EXIT_TROUBLE, "{outcome}");
    assert!(!outcome.is_kept(), "{outcome}");
}

#[tokio::test]
async fn a_child_that_talks_without_end_is_heard_to_a_bound() {
    let said = read_output(Some(tokio::io::repeat(b'x').take(100 << 20))).await.unwrap();
    assert_eq!(said.len() as u64, CHILD_OUTPUT_BYTES_MAX);
    let dir = tempfile::tempdir().unwrap();
    let (component, digest) = write(dir.path(), b"c");
    let program = dir.path().join("compiler");
    let copy = dir.path().join("text");
    std::fs::write(&copy, "#!/bin/sh\nhead -c 3000000 /dev/zero >&2\necho x >&2\nexit 3\n")
        .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&copy, mode).unwrap();
    std::fs::rename(&copy, &program).unwrap();
    let artifact = dir.path().join("out.zst");
    let profile = Profile::candidates()[0];
    let order = Order { profile, component: &component, digest, artifact: &artifact };
    let outcome = compile(&program, order).await.unwrap_err();
    assert_eq!(outcome.exit_code(), EXIT_TROUBLE, "it came to its own end");
    assert!(outcome.to_string().chars().count() < MESSAGE_CHARS_MAX + 100);
}

#[test]
fn what_a_child_may_use_follows_the_modules_size() {
    let of = |mib: u64| Allowance::of(mib << 20);
    assert!(of(0).cpu <= 30 && of(2).cpu <= 60, "small ones are stopped soon");
    assert!(250 <= of(18).cpu && 3 << 30 <= of(18).memory, "a Python interpreter passes");
    assert_eq!(of(256), of(10_000), "there is an end to it");
    assert!(of(256).memory <= 4 << 30);
}
