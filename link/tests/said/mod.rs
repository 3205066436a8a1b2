//! Keeps what is logged on a test's thread.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber};

/// Until it is dropped, what this thread logs from `debug` on.
pub struct Said {
    text: Text,
    _until: DefaultGuard,
    /// While a process has one subscriber alone, the thread that comes to a line first decides for all whether anybody
    /// listens: another test's has none, and the line is lost.
    _other: Dispatch,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// From here on.
    pub fn begin() -> Self {
        let text = Text::default();
        let to = text.clone();
        let log = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || to.clone());
        Self {
            text,
            _until: tracing::subscriber::set_default(log.finish()),
            _other: Dispatch::new(NoSubscriber::default()),
        }
    }

    /// The lines that have this in them.
    pub fn lines(&self, part: &str) -> Vec<String> {
        let text = self.text.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&text);
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
