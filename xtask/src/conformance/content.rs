//! In which form the suite's clients write what they send, and ask for what they read.
//!
//! Guarantees:
//! - the suite is told it always, so that its own default says nothing (`the_suite_is_told_the_form`).

use clap::ValueEnum;

/// The form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Content {
    /// What most components of Kubernetes speak
    Protobuf,
    /// What people and most other programs speak
    Json,
}

/// All of them, as the table has them.
pub const CONTENTS: [Content; 2] = [Content::Protobuf, Content::Json];

impl Content {
    /// What the table calls it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Protobuf => "protobuf",
            Self::Json => "JSON",
        }
    }

    /// The suite's own flag. Its clients of kinds that have no protobuf (dynamic ones, custom resources) speak JSON in
    /// both.
    pub fn flag(self) -> String {
        let media_type = match self {
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
            Self::Json => "application/json",
        };
        format!("--kube-api-content-type={media_type}")
    }
}

#[cfg(test)]
mod tests {
    use super::{CONTENTS, Content};

    #[test]
    fn the_suite_is_told_the_form() {
        assert_eq!(
            CONTENTS.map(Content::flag),
            [
                "--kube-api-content-type=application/vnd.kubernetes.protobuf",
                "--kube-api-content-type=application/json",
            ]
        );
    }
}
