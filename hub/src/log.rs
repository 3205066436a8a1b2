//! What the hub's process writes on stderr.
//!
//! Guarantees:
//! - no peer writes lines by breaking HTTP/2's rules, unless `RUST_LOG` asks for them (`a_peers_resets_are_no_lines`).

use tracing_subscriber::EnvFilter;

/// Without `RUST_LOG`: changes of state and everything worse. What h2 warns of is what a peer does, a line for each
/// connection that is reset too often: the log would grow as fast as somebody connects. What it comes to is logged with the
/// connection's end, at `debug`.
const UNASKED: &str = "info,h2=error";

/// From here on. `RUST_LOG` decides.
pub(crate) fn begin() {
    let asked = std::env::var("RUST_LOG").ok().filter(|asked| !asked.is_empty());
    let parsed = EnvFilter::builder().parse(asked.as_deref().unwrap_or(UNASKED));
    let (filter, refused) = match parsed {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(UNASKED), Some(error)),
    };
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        // A log on a full disk loses lines. To complain about that on stderr would be the end of the hub.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .init();
    if let Some(error) = refused {
        tracing::warn!("RUST_LOG is not understood ({error}) and left out");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing::Dispatch;
    use tracing::subscriber::{NoSubscriber, with_default};

    use super::*;

    #[derive(Clone, Default)]
    struct Text(Arc<Mutex<Vec<u8>>>);

    impl Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str) -> String {
        let kept = Text::default();
        let to = kept.clone();
        let log = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_ansi(false)
            .with_writer(move || to.clone());
        // With one subscriber alone, whoever comes to a line first decides for all whether anybody listens.
        let _other = Dispatch::new(NoSubscriber::default());
        with_default(log.finish(), || {
            tracing::warn!(target: "h2::proto::streams::recv", "resets reached limit");
            tracing::info!(target: "hub", "serving");
        });
        let text = kept.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_peers_resets_are_no_lines() {
        let unasked = logged(UNASKED);
        assert!(unasked.contains("serving") && !unasked.contains("resets"), "{unasked}");
        assert!(logged("info,h2=warn").contains("resets"));
    }
}
