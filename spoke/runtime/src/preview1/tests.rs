//! What is given to core programs, without one.

use super::*;

#[test]
fn all_of_preview_1_is_given() {
    let linker = linker(&Engine::default()).unwrap();
    let types = |all: &str| -> String {
        all.chars().map(|one| if one == 'I' { " i64" } else { " i32" }).collect()
    };
    for (name, ty) in freewheel_spoke_engine::preview_1() {
        let (takes, gives) = ty.split_once(':').unwrap();
        let (takes, gives) = (types(takes), types(gives));
        let text = format!(
            r#"(module (import "{PREVIEW_1}" "{name}" (func (param{takes}) (result{gives}))))"#
        );
        let module = wat::parse_str(text).unwrap();
        let module = wasmtime::Module::new(linker.engine(), module).unwrap();
        let outcome = linker.instantiate_pre(&module).map(|_| ());
        assert!(outcome.is_ok(), "{name}: {outcome:?}");
    }
}

#[test]
fn a_place_for_what_upstream_writes_is_aligned() {
    let mut wasi = WasiCtxBuilder::new();
    let mut wasi =
        wasi.preopened_dir("/", "/", wasmtime_wasi::FsPerms::ReadOnly).unwrap().build_p1();
    let mut get = |place: &mut [u8]| {
        upstream::fd_prestat_get(&mut wasi, &mut GuestMemory::Unshared(place), FIRST_MOUNT, 0)
    };
    let mut places = [Prestat::default(), Prestat::default()];
    for place in &mut places {
        assert_eq!(get(&mut place.0).unwrap(), errno(Errno::Success));
    }
    // What a plain array could be.
    let mut wide = Prestat12::default();
    assert!(get(&mut wide.0[1..9]).is_err());
}

#[repr(align(8))]
#[derive(Default)]
struct Prestat12([u8; 12]);

/// Remembers who opens spans in one thread that a log at INFO sees.
#[derive(Clone)]
struct Spans {
    of: std::thread::ThreadId,
    targets: Arc<parking_lot::Mutex<Vec<&'static str>>>,
}

impl tracing::Subscriber for Spans {
    fn enabled(&self, of: &tracing::Metadata<'_>) -> bool {
        *of.level() <= tracing::Level::INFO
    }
    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        if std::thread::current().id() == self.of {
            self.targets.lock().push(span.metadata().target());
        }
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn what_upstream_says_of_each_call_is_what_is_kept_quiet() {
    let (quiet, level) = QUIET.split_once('=').unwrap();
    assert_eq!(level, "warn");
    let spans = Spans { of: std::thread::current().id(), targets: Arc::default() };
    // One of this thread's own is not asked where another thread is the first to open a span.
    tracing::subscriber::set_global_default(spans.clone()).unwrap();
    let mut wasi = WasiCtxBuilder::new().build_p1();
    let mut memory = [0; 64];
    let mut memory = GuestMemory::Unshared(&mut memory);
    upstream::args_sizes_get(&mut wasi, &mut memory, 0, 8).unwrap();
    upstream::clock_time_get(&mut wasi, &mut memory, 1, 0, 16).unwrap();
    let spans = spans.targets.lock();
    assert!(!spans.is_empty(), "upstream says nothing any more: the filter can go");
    let quiet = |target: &str| target == quiet || target.starts_with(&format!("{quiet}::"));
    assert!(spans.iter().all(|target| quiet(target)), "{spans:?}");
}

#[test]
fn the_first_buffer_that_is_not_empty_is_found() {
    let list = |lengths: &[u32]| -> Vec<u8> {
        let pairs = lengths.iter().flat_map(|len| [7, *len]);
        [0; 4].into_iter().chain(pairs.flat_map(u32::to_le_bytes)).collect()
    };
    let found = |lengths: &[u32], count| {
        let first = first_buffer(&list(lengths), 4, count);
        first.map(|(at, len)| (at, u32::from_le_bytes(len)))
    };
    assert_eq!(found(&[0, 5, 9], 3), Some((4 + 12, 5)));
    assert_eq!(found(&[0, 0, 9], 2), None);
    assert_eq!(found(&[0, 0], -1), None);
    assert_eq!(first_buffer(&[], 4, 1), None);
}
