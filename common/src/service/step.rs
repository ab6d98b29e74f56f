//! What a service does, cut into passes.

use std::time::Duration;

use crate::db::{Class, DbError};

/// One pass over the work that is due now. Repeating it is always safe.
pub trait Step: Send {
    /// The name in logs and metrics: a verb of the flow, such as `tick` or `move`.
    const NAME: &'static str;

    /// One pass. It is never cancelled half-way: each await in it has its own deadline.
    ///
    /// # Errors
    /// [`StepError`]: logged once by the loop, then waited out.
    fn step(&mut self) -> impl Future<Output = Result<Progress, StepError>> + Send;

    /// What tells two loops of the same step apart in logs, such as the database's name.
    fn label(&self) -> String {
        String::new()
    }
}

/// What a pass found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many things were done, and there may be more: another pass follows at once.
    Worked(u32),
    /// Nothing (more) is due: wait for a wake-up or the pace.
    Idle,
    /// Nothing (more) is due for so long, whatever the pace says. A wake-up ends it.
    Rest(Duration),
}

impl Progress {
    /// `Worked` if the number is not zero.
    #[must_use]
    pub fn of(count: usize) -> Self {
        match u32::try_from(count).unwrap_or(u32::MAX) {
            0 => Progress::Idle,
            count => Progress::Worked(count),
        }
    }
}

/// Errors that know what should be done about them. Implement it for a service's own error type, and `?`
/// turns that into a [`StepError`].
pub trait Classified: std::error::Error + Send + Sync + 'static {
    /// Retry, reject or stop.
    fn class(&self) -> Class;
}

impl Classified for DbError {
    fn class(&self) -> Class {
        DbError::class(self)
    }
}

/// A failed pass: the error, and what the loop does about it.
///
/// `Retry` and `Reject` are logged as `warn` and waited out with growing back-off; `Stop` means that a person
/// must act: logged as `error` and tried again slowly.
#[derive(Debug)]
pub struct StepError {
    class: Class,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl StepError {
    /// An error with its class.
    pub fn new(class: Class, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { class, source: source.into() }
    }

    /// It may well work next time.
    pub fn retry(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Class::Retry, source)
    }

    /// A person must act.
    pub fn stop(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Class::Stop, source)
    }

    /// What the loop does about it.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// The error itself.
    #[must_use]
    pub fn source(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self.source.as_ref()
    }
}

// Not an `Error` itself, so that `?` can take every classified one.
impl<E: Classified> From<E> for StepError {
    fn from(error: E) -> Self {
        Self { class: error.class(), source: Box::new(error) }
    }
}

impl std::fmt::Display for StepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.source.fmt(f)
    }
}
