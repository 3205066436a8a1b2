//! What every program is given, component or core: arguments, environment, output, clocks and randomness.

use freewheel_spoke_logs::{LINE_BYTES_MAX, LogSink, PROMISED_BYTES_MAX, Source};
use wasmtime_wasi::WasiCtxBuilder;

use super::output::Output;

/// Bytes that one call may hand to the host. Guests write in pieces of at most 1 MiB.
pub(crate) const CALL_BYTES_MAX: usize = 4 << 20;

/// Most bytes of a path: of a longer one the kernel would take none.
pub(crate) const PATH_BYTES_MAX: usize = 4096;

/// Most random bytes of one call.
pub(crate) const RANDOM_BYTES_PER_CALL_MAX: u64 = 1 << 20;

/// A world with these things in it, and nothing else.
pub(crate) fn give(args: &[String], env: &[(String, String)], log: &LogSink) -> WasiCtxBuilder {
    let mut wasi = WasiCtxBuilder::new();
    wasi.args(args)
        .envs(env)
        .stdout(Output(log.stream(Source::Stdout)))
        .stderr(Output(log.stream(Source::Stderr)))
        .max_random_size(RANDOM_BYTES_PER_CALL_MAX);
    wasi
}

/// Bytes of the arguments and of the environment, once more for a call that asks for them, of two lines without an end
/// and what its two streams were promised, which every store has for itself.
pub(crate) fn size(args: &[String], env: &[(String, String)]) -> usize {
    let args = args.iter().map(String::len);
    let env = env.iter().map(|(name, value)| name.len() + value.len());
    args.chain(env).map(|bytes| 2 * (bytes + 2 * size_of::<String>())).sum::<usize>()
        + 2 * (LINE_BYTES_MAX + PROMISED_BYTES_MAX)
}
