//! All figures as text.
//!
//! Guarantees:
//! - both texts are what their formats allow, and say the same
//!   (`both_texts_say_the_same_in_the_words_of_their_formats`).

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use crate::MetricFamily;

/// How the figures are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own text, which everything reads.
    Prometheus,
    /// OpenMetrics' text.
    OpenMetrics,
}

impl Format {
    /// The Content-Type, without which Prometheus 3 takes nothing.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The registry. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<RwLock<Registry>>);

impl Metrics {
    /// Shows these figures, too. Each name is shown once.
    pub fn show(&self, reading: MetricFamily) {
        self.0.write().register_collector(Box::new(reading));
    }

    /// All of them, as they are now.
    ///
    /// # Errors
    /// When a figure is not what it was said to be.
    pub fn text(&self, format: Format) -> Result<String, fmt::Error> {
        let mut out = String::new();
        match format {
            Format::Prometheus => prometheus_text::encode(&mut out, &self.0.read())?,
            Format::OpenMetrics => text::encode(&mut out, &self.0.read())?,
        }
        Ok(out)
    }
}
