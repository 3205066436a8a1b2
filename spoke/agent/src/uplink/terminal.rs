//! What a terminal does to a command's input and output: there is none on the device, and a client that has one gives up
//! to it what a kernel does otherwise.
//!
//! ```text
//! keys ─▶ a line, shown as it is typed ─▶ the command          Ctrl-C ends it, Ctrl-D its input
//! the command ─▶ one output, each line from the left edge
//! ```
//!
//! Guarantees:
//! - a line that is typed is bounded (`a_line_has_an_end`).

use bytes::Bytes;
use freewheel_link::message::{ExecEndedV1, ExecOutput};

/// Bytes of a line, as a kernel has it.
const LINE_BYTES_MAX: usize = 4096;
/// How a shell tells that a command was interrupted.
const EXIT_INTERRUPTED: i32 = 130;

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;

/// A line that is being typed.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    line: Vec<u8>,
}

/// What keys come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Typed {
    /// For the command.
    pub(super) input: Vec<u8>,
    /// For the one who types.
    pub(super) echo: Vec<u8>,
    /// No more will come.
    pub(super) ends: bool,
    /// The command is to end.
    pub(super) interrupts: bool,
}

impl Terminal {
    /// Takes keys.
    pub(super) fn type_keys(&mut self, keys: &[u8]) -> Typed {
        let mut typed = Typed::default();
        for key in keys {
            match *key {
                b'\r' | b'\n' => {
                    self.line.push(b'\n');
                    typed.input.append(&mut self.line);
                    typed.echo.extend_from_slice(b"\r\n");
                }
                INTERRUPT => {
                    typed.interrupts = true;
                    return typed;
                }
                END if self.line.is_empty() => typed.ends = true,
                END => typed.input.append(&mut self.line),
                BACKSPACE | DELETE => {
                    let wiped = self.line.pop().map_or(&b""[..], |_| b"\x08 \x08");
                    typed.echo.extend_from_slice(wiped);
                }
                key if self.line.len() < LINE_BYTES_MAX => {
                    self.line.push(key);
                    typed.echo.push(key);
                }
                _ => {}
            }
        }
        typed
    }

    /// The output as it is shown.
    pub(super) fn shown(output: ExecOutput) -> ExecOutput {
        match output {
            ExecOutput::Stdout(bytes) | ExecOutput::Stderr(bytes) => {
                let mut shown = Vec::with_capacity(bytes.len() + 16);
                for byte in &bytes {
                    if *byte == b'\n' {
                        shown.push(b'\r');
                    }
                    shown.push(*byte);
                }
                ExecOutput::Stdout(Bytes::from(shown))
            }
            ended @ ExecOutput::Ended(_) => ended,
        }
    }

    /// How a command that was interrupted has ended.
    pub(super) fn interrupted() -> ExecOutput {
        ExecOutput::Ended(ExecEndedV1 { code: EXIT_INTERRUPTED, message: String::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_as_it_is_typed_and_read_when_it_is_whole() {
        let mut terminal = Terminal::default();
        let typed = terminal.type_keys(b"lx\x7fs");
        assert_eq!(
            (typed.input.as_slice(), typed.echo.as_slice()),
            (&b""[..], &b"lx\x08 \x08s"[..])
        );
        let typed = terminal.type_keys(b"\r");
        assert_eq!((typed.input.as_slice(), typed.echo.as_slice()), (&b"ls\n"[..], &b"\r\n"[..]));
        assert!(terminal.type_keys(b"\x04").ends);
        assert_eq!(terminal.type_keys(b"a\x04").input, b"a");
        assert!(terminal.type_keys(b"ab\x03c").interrupts);
    }

    #[test]
    fn a_line_has_an_end() {
        let mut terminal = Terminal::default();
        terminal.type_keys(&vec![b'x'; 10_000]);
        assert_eq!(terminal.type_keys(b"\n").input.len(), LINE_BYTES_MAX + 1);
    }

    #[test]
    fn lines_of_output_begin_at_the_left_edge() {
        let shown = Terminal::shown(ExecOutput::Stderr(Bytes::from_static(b"a\nb")));
        assert_eq!(shown, ExecOutput::Stdout(Bytes::from_static(b"a\r\nb")));
    }
}
