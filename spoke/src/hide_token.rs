//! Takes a join token off the command line, which every user of the machine can read.
//!
//! Guarantees:
//! - a running agent has no token in its arguments, whichever way they were written, or its log says so
//!   (`the_token_is_replaced_in_both_spellings`, `a_join_token_is_for_one_device_and_in_nobodys_sight`);
//! - its process id stays, so that a supervisor sees no difference
//!   (`a_join_token_is_for_one_device_and_in_nobodys_sight`).

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use freewheel_link::join::Token;
use tracing::warn;

use crate::cli::{Run, TokenFrom};

/// Starts this program again in its own place, with the token on standard input. Returns when there is nothing
/// to hide, or when that is not possible.
pub(crate) fn token(options: &Run) {
    if let Some(TokenFrom::Given(token)) = &options.token {
        let error = again(token);
        warn!(%error, "the token stays readable on the command line; give it with --token-file");
    }
}

fn again(token: &Token) -> io::Error {
    let prepared = || -> io::Result<Command> {
        let (reader, mut writer) = io::pipe()?;
        writer.write_all(String::from(token.clone()).as_bytes())?;
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| OsString::from("spoke"));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg0(name).args(hidden(arguments)).stdin(reader);
        Ok(command)
    };
    match prepared() {
        Ok(mut command) => command.exec(),
        Err(error) => error,
    }
}

/// The same arguments with `-` for the token.
fn hidden(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut out: Vec<OsString> = Vec::new();
    for argument in arguments {
        if out.last().map(OsString::as_os_str) == Some(OsStr::new("--token")) {
            out.push("-".into());
        } else if argument.to_string_lossy().starts_with("--token=") {
            out.push("--token=-".into());
        } else {
            out.push(argument);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_replaced_in_both_spellings() {
        for (given, left) in [
            ("run --token abcdef.0123456789abcdef --name pi", "run --token - --name pi"),
            ("run --token=abcdef.0123456789abcdef", "run --token=-"),
            ("run --token-file /t", "run --token-file /t"),
        ] {
            let words = |text: &str| -> Vec<OsString> { text.split(' ').map(Into::into).collect() };
            assert_eq!(hidden(words(given).into_iter()), words(left));
        }
    }
}
