//! Fates: what becomes of something that went wrong. The only place that decides between retry and dead letter.
//!
//! Owns: the causes every error names, and the fate of each. Refuses to carry out what it decides. Neighbours: every
//! error enum names its cause; pipeline, inbox and courier carry out the fate.

/// Why something failed, as the error that reports it names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The bytes, the schema or the template are at fault: trying again gives the same.
    Poison,
    /// The broker or the database is away or slow, or a later release is needed: trying again later may help, and nothing else will.
    Dependency,
    /// A schema is not there yet: it may come in a moment. Whoever has waited long enough says that it is poison.
    UnknownSchema,
    /// Who we are is not known, or not enough: nothing can be done until somebody changes that.
    Forbidden,
    /// The receiver did not take it: absent, silent, or its sink said no.
    Recipient,
    /// A limit or a rule of ours, or the broker's, says no for good.
    Refused,
    /// A promise of our own code is broken.
    Bug,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Pause, keep polling, try the same again with backoff; nothing is burnt, nothing is dead-lettered.
    RetryInPlace,
    /// Try again later, on the next rung of the ladder.
    RetryLater,
    /// Bury it in `dlq` with its bytes and the reason, and go on.
    DeadLetter,
    /// Stop the process: going on could lose or corrupt.
    Stop,
}

impl Fate {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RetryInPlace => "retry_in_place",
            Self::RetryLater => "retry_later",
            Self::DeadLetter => "dead_letter",
            Self::Stop => "stop",
        }
    }
}

impl Cause {
    /// The fate of this cause.
    #[must_use]
    pub fn fate(self) -> Fate {
        match self {
            Self::Poison | Self::Refused => Fate::DeadLetter,
            Self::Dependency | Self::UnknownSchema => Fate::RetryInPlace,
            Self::Recipient => Fate::RetryLater,
            Self::Bug | Self::Forbidden => Fate::Stop,
        }
    }

    /// The name in headers, metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Dependency => "dependency",
            Self::UnknownSchema => "unknown_schema",
            Self::Forbidden => "forbidden",
            Self::Recipient => "recipient",
            Self::Refused => "refused",
            Self::Bug => "bug",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_get_better_is_dead_lettered() {
        assert_eq!(Cause::Poison.fate(), Fate::DeadLetter);
        assert_eq!(Cause::Refused.fate(), Fate::DeadLetter);
        assert_eq!(Cause::Dependency.fate(), Fate::RetryInPlace);
        assert_eq!(Cause::Recipient.fate(), Fate::RetryLater);
        assert_eq!(Cause::Bug.fate(), Fate::Stop);
        assert_eq!((Cause::UnknownSchema.fate(), Cause::Forbidden.fate()), (Fate::RetryInPlace, Fate::Stop));
    }

    #[test]
    fn the_names_in_headers_and_metrics_never_change() {
        let causes = [
            Cause::Poison,
            Cause::Dependency,
            Cause::UnknownSchema,
            Cause::Forbidden,
            Cause::Recipient,
            Cause::Refused,
            Cause::Bug,
        ];
        insta::assert_snapshot!(causes.map(|cause| format!("{}: {}", cause.name(), cause.fate().name())).join("\n"), @r"
        poison: dead_letter
        dependency: retry_in_place
        unknown_schema: retry_in_place
        forbidden: stop
        recipient: retry_later
        refused: dead_letter
        bug: stop
        ");
    }
}
