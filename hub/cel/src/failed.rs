//! Why an expression has no value.

/// Bytes of the values that an evaluation has made and still holds: many are evaluated at a time.
pub(crate) const MADE_BYTES_MAX: u64 = 16 << 20;

/// Why there is no value.
#[derive(Clone, Debug, PartialEq)]
pub enum Failed {
    /// It used up what it may use.
    TooMuchWork,
    /// Its values take more memory than they may, or are nested too deeply.
    TooMuchMade,
    /// In the words of kube-apiserver.
    Because(String),
}

impl Failed {
    /// What is told of it, where running out of work is told like this.
    #[must_use]
    pub fn into_message(self, out_of_work: &str) -> String {
        match self {
            Self::TooMuchWork => out_of_work.to_owned(),
            Self::TooMuchMade => format!(
                "the values of an expression may take {MADE_BYTES_MAX} bytes at a time, and some hundred levels; make less of them"
            ),
            Self::Because(why) => why,
        }
    }
}
