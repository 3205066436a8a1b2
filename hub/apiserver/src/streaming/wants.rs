//! What a client wants of a command: what its query says, as options that others may change.

use freewheel_hub_api::streams::ExecOptions;
use freewheel_hub_schema::error::ApiError;
use serde_json::{Map, Value, json};

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
    pub(super) fn of_exec(options: &Value) -> Result<Self, ApiError> {
        let wants = Self::read(options)?;
        if wants.options.command.is_empty() {
            return Err(ApiError::bad_request("you must specify at least one command"));
        }
        Ok(wants)
    }

    /// Of a program that runs.
    pub(super) fn of_attach(options: &Value) -> Result<Self, ApiError> {
        let wants = Self::read(options)?;
        if wants.options.stdin || wants.options.tty {
            let text = "a container's program has neither standard input nor a terminal here: attach without -i and -t";
            return Err(ApiError::bad_request(text));
        }
        Ok(wants)
    }

    fn read(options: &Value) -> Result<Self, ApiError> {
        let is = |key: &str| options[key] == true;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let command = options["command"].as_array().into_iter().flatten().map(text).collect();
        let (container, stdin, tty) = (text(&options["container"]), is("stdin"), is("tty"));
        // A terminal has one output.
        let (stdout, stderr) = (is("stdout"), is("stderr") && !tty);
        if !stdin && !stdout && !stderr {
            let text = "you must specify at least 1 of stdin, stdout, stderr";
            return Err(ApiError::bad_request(text));
        }
        Ok(Self { options: ExecOptions { container, command, stdin, tty }, stdout, stderr })
    }
}

/// core/v1 PodExecOptions, or PodAttachOptions, which have no command, as a query says them.
pub(super) fn options(query: &str) -> Value {
    let mut options = Map::from_iter(["stdout", "stderr"].map(|key| (key.to_owned(), json!(true))));
    let mut command = Vec::new();
    for (name, value) in pairs(query) {
        match &*name {
            "command" => command.push(value.into_owned()),
            "container" => {
                options.insert("container".to_owned(), json!(value));
            }
            "stdin" | "stdout" | "stderr" | "tty" => {
                options.insert(name.into_owned(), json!(flag(&value)));
            }
            _ => {}
        }
    }
    options.insert("command".to_owned(), json!(command));
    // As it is written: what is empty, or off, is not said.
    options.retain(|_, value| *value != json!(false) && *value != json!([]) && *value != json!(""));
    options.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_of_a_command_is_read() {
        let said = options("command=ls&command=-l&container=c&stdin=true&tty=1");
        let shown = json!({"command": ["ls", "-l"], "container": "c", "stdin": true, "tty": true,
            "stdout": true, "stderr": true});
        assert_eq!(said, shown);
        let wants = Wants::of_exec(&said).unwrap();
        assert_eq!(wants.options.command, ["ls", "-l"]);
        assert!(wants.options.stdin && wants.options.tty && wants.stdout && !wants.stderr);
        for (query, text) in
            [("stdin=1", "at least one command"), ("command=x&stdout=0&stderr=0", "at least 1 of")]
        {
            let error = Wants::of_exec(&options(query)).unwrap_err();
            assert!(error.code == 400 && error.message.contains(text), "{error:?}");
        }
        assert_eq!(Wants::of_attach(&options("stdin=true&stdout=true")).unwrap_err().code, 400);
        assert!(Wants::of_attach(&options("stdout=true&stderr=true")).unwrap().stdout);
    }
}
