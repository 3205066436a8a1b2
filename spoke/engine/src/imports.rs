//! What pods are given to import: the hub refuses anything else at push, the spoke's linker has all of it.

/// Interfaces and the versions of them that fit: every one that begins so.
const GIVEN: [(&str, &str); 30] = [
    ("freewheel:lifecycle/lifecycle", "0.1"),
    ("wasi:cli/environment", "0.2"),
    ("wasi:cli/exit", "0.2"),
    ("wasi:cli/stderr", "0.2"),
    ("wasi:cli/stdin", "0.2"),
    ("wasi:cli/stdout", "0.2"),
    ("wasi:cli/terminal-input", "0.2"),
    ("wasi:cli/terminal-output", "0.2"),
    ("wasi:cli/terminal-stderr", "0.2"),
    ("wasi:cli/terminal-stdin", "0.2"),
    ("wasi:cli/terminal-stdout", "0.2"),
    ("wasi:clocks/monotonic-clock", "0.2"),
    ("wasi:clocks/wall-clock", "0.2"),
    ("wasi:filesystem/preopens", "0.2"),
    ("wasi:filesystem/types", "0.2"),
    ("wasi:http/outgoing-handler", "0.2"),
    ("wasi:http/types", "0.2"),
    ("wasi:io/error", "0.2"),
    ("wasi:io/poll", "0.2"),
    ("wasi:io/streams", "0.2"),
    ("wasi:random/insecure", "0.2"),
    ("wasi:random/insecure-seed", "0.2"),
    ("wasi:random/random", "0.2"),
    ("wasi:sockets/instance-network", "0.2"),
    ("wasi:sockets/ip-name-lookup", "0.2"),
    ("wasi:sockets/network", "0.2"),
    ("wasi:sockets/tcp", "0.2"),
    ("wasi:sockets/tcp-create-socket", "0.2"),
    ("wasi:sockets/udp", "0.2"),
    ("wasi:sockets/udp-create-socket", "0.2"),
];

/// The module that core programs import from.
pub const PREVIEW_1: &str = "wasi_snapshot_preview1";

/// The functions of WASI preview 1, all of which core programs are given, with their types: parameters before the colon
/// and results behind it, `i` of 32 bits and `I` of 64.
const PREVIEW_1_GIVEN: [(&str, &str); 46] = [
    ("args_get", "ii:i"),
    ("args_sizes_get", "ii:i"),
    ("clock_res_get", "ii:i"),
    ("clock_time_get", "iIi:i"),
    ("environ_get", "ii:i"),
    ("environ_sizes_get", "ii:i"),
    ("fd_advise", "iIIi:i"),
    ("fd_allocate", "iII:i"),
    ("fd_close", "i:i"),
    ("fd_datasync", "i:i"),
    ("fd_fdstat_get", "ii:i"),
    ("fd_fdstat_set_flags", "ii:i"),
    ("fd_fdstat_set_rights", "iII:i"),
    ("fd_filestat_get", "ii:i"),
    ("fd_filestat_set_size", "iI:i"),
    ("fd_filestat_set_times", "iIIi:i"),
    ("fd_pread", "iiiIi:i"),
    ("fd_prestat_dir_name", "iii:i"),
    ("fd_prestat_get", "ii:i"),
    ("fd_pwrite", "iiiIi:i"),
    ("fd_read", "iiii:i"),
    ("fd_readdir", "iiiIi:i"),
    ("fd_renumber", "ii:i"),
    ("fd_seek", "iIii:i"),
    ("fd_sync", "i:i"),
    ("fd_tell", "ii:i"),
    ("fd_write", "iiii:i"),
    ("path_create_directory", "iii:i"),
    ("path_filestat_get", "iiiii:i"),
    ("path_filestat_set_times", "iiiiIIi:i"),
    ("path_link", "iiiiiii:i"),
    ("path_open", "iiiiiIIii:i"),
    ("path_readlink", "iiiiii:i"),
    ("path_remove_directory", "iii:i"),
    ("path_rename", "iiiiii:i"),
    ("path_symlink", "iiiii:i"),
    ("path_unlink_file", "iii:i"),
    ("poll_oneoff", "iiii:i"),
    ("proc_exit", "i:"),
    ("proc_raise", "i:i"),
    ("random_get", "ii:i"),
    ("sched_yield", ":i"),
    ("sock_accept", "iii:i"),
    ("sock_recv", "iiiiii:i"),
    ("sock_send", "iiiii:i"),
    ("sock_shutdown", "ii:i"),
];

/// Every function of [`PREVIEW_1`] that core programs are given, and its type: `iI:i` takes an i32 and an i64 and gives
/// an i32.
pub fn preview_1() -> impl Iterator<Item = (&'static str, &'static str)> {
    PREVIEW_1_GIVEN.into_iter()
}

/// Every interface that pods are given, with the version whose patches all fit.
pub fn given() -> impl Iterator<Item = (&'static str, &'static str)> {
    GIVEN.into_iter()
}

/// Whether an import of this name is one that pods are given, in the version that they are given.
#[must_use]
pub fn is_given(import: &str) -> bool {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    GIVEN.iter().any(|(interface, given)| {
        let patch = version.strip_prefix(given);
        *interface == name && patch.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_given_by_its_interface_and_version() {
        for given in ["wasi:cli/run@0.2.0", "wasi:http/types@0.2.12", "wasi:io/poll@0.2"] {
            let known = given != "wasi:cli/run@0.2.0";
            assert_eq!(is_given(given), known, "{given}");
        }
        for not in [
            "wasi:io/poll@0.3.0",
            "wasi:io/poll@0.20.1",
            "wasi:io/poll",
            "wasi:keyvalue/store@0.2.0",
        ] {
            assert!(!is_given(not), "{not}");
        }
    }
}
