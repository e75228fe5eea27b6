//! The one error of the toolbox: a sentence for the person at the terminal.

use std::fmt;

/// What went wrong, about what, and what to do next, as one text.
#[derive(Debug)]
pub(crate) struct Failure(String);

/// What every step of the toolbox returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The person has been told already; only the exit status is left to say it.
    pub(crate) fn told() -> Self {
        Self(String::new())
    }

    /// Whether there is anything left to say.
    pub(crate) fn is_told(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what was being done when somebody else's error arrived.
pub(crate) trait Context<T> {
    /// Turns any error into a [`Failure`] that begins with `what`.
    fn doing(self, what: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }
}
