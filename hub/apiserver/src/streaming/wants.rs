//! What a client wants of a command, as its query says.

use freewheel_hub_api::streams::ExecOptions;
use freewheel_hub_schema::error::ApiError;

use crate::query::{flag, pairs};

/// What a client wants of a command.
#[derive(Clone, Debug)]
pub(super) struct Wants {
    pub(super) options: ExecOptions,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

impl Wants {
    /// Of a command.
    pub(super) fn read(query: &str) -> Result<Self, ApiError> {
        let wants = Self::read_any(query)?;
        if wants.options.command.is_empty() {
            return Err(ApiError::bad_request("you must specify at least one command"));
        }
        Ok(wants)
    }

    /// Of a program that runs.
    pub(super) fn of_attach(query: &str) -> Result<Self, ApiError> {
        let wants = Self::read_any(query)?;
        if wants.options.stdin || wants.options.tty {
            let text = "a container's program has neither standard input nor a terminal here: attach without -i and -t";
            return Err(ApiError::bad_request(text));
        }
        Ok(wants)
    }

    fn read_any(query: &str) -> Result<Self, ApiError> {
        let mut wants = Self { options: ExecOptions::default(), stdout: true, stderr: true };
        for (name, value) in pairs(query) {
            match &*name {
                "container" => wants.options.container = value.into_owned(),
                "command" => wants.options.command.push(value.into_owned()),
                "stdin" => wants.options.stdin = flag(&value),
                "stdout" => wants.stdout = flag(&value),
                "stderr" => wants.stderr = flag(&value),
                "tty" => wants.options.tty = flag(&value),
                _ => {}
            }
        }
        // A terminal has one output.
        wants.stderr &= !wants.options.tty;
        if !wants.options.stdin && !wants.stdout && !wants.stderr {
            let text = "you must specify at least 1 of stdin, stdout, stderr";
            return Err(ApiError::bad_request(text));
        }
        Ok(wants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_of_a_command_is_read() {
        let wants = Wants::read("command=ls&command=-l&container=c&stdin=true&tty=1").unwrap();
        assert_eq!(wants.options.command, ["ls", "-l"]);
        assert!(wants.options.stdin && wants.options.tty && wants.stdout && !wants.stderr);
        for (query, text) in
            [("stdin=1", "at least one command"), ("command=x&stdout=0&stderr=0", "at least 1 of")]
        {
            let error = Wants::read(query).unwrap_err();
            assert!(error.code == 400 && error.message.contains(text), "{error:?}");
        }
        assert_eq!(Wants::of_attach("stdin=true&stdout=true").unwrap_err().code, 400);
        assert!(Wants::of_attach("stdout=true&stderr=true").unwrap().stdout);
    }
}
