//! Mutants: rules of the protocol that the model can leave out. A simulation that does not notice is no test.

/// One rule left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::tests) enum Broken {
    /// A flush is accepted under any epoch.
    FenceNotChecked,
    /// A new owner takes over although a flush of the old one may still be committed.
    TakeoverDoesNotWait,
    /// A new owner folds the journal by job alone, not by job and put.
    FoldByJobId,
    /// The journal is emptied when its time has come, not when the low-water mark has passed it.
    JournalRotatedByTime,
    /// A heartbeat is answered before its extension is committed.
    ExtensionAnsweredEarly,
    /// A lease in the waiting room is extended for the worker only: the row keeps its end.
    WaitingLeaseNotExtended,
    /// A flush of unknown outcome is sent again instead of taking the queue over.
    UnknownFlushResent,
    /// The low-water mark moves over results that are not committed.
    LowWaterOverUncommitted,
    /// A result counts for whatever lease its job has now.
    OlderLeaseAccepted,
    /// A commit that grants leases may be lost when the database crashes.
    GrantNotSynchronous,
    /// The ticker puts a job back into the log although a worker's open transaction completes it.
    PromoteIgnoresLocks,
    /// A job put again keeps its put.
    PutNotCounted,
    /// A job put again begins with no attempts.
    AttemptsForgotten,
    /// A lease that moves to the waiting room is due there at once, not at its end.
    MovedLeaseEndsAtOnce,
    /// An entry that moves to the waiting room loses its lease.
    MovedLeaseForgotten,
    /// The low-water mark passes a parked entry without a row in the waiting room.
    ParkedPassed,
    /// A new owner does not know what is parked.
    ParkedForgotten,
    /// A streamed replace is committed under any epoch.
    StreamNotFenced,
    /// A streamed replace does not look whether its lease is still live.
    StreamIgnoresItsLease,
    /// A new owner does not know of cancellations.
    CancellationsForgotten,
    /// A cancellation by key hits jobs that were inserted after its answer.
    CancelHitsLater,
    /// That a leased job is to end is only in the owner's memory.
    ToldNotKept,
    /// A cancellation passes over rows of the waiting room that somebody holds.
    HeldRowsForgotten,
    /// Cancellations are forgotten before the mark has passed what they could hit.
    CancelPrunedEarly,
    /// The end of an entry of the log does not free its job's unique key.
    KeyKept,
    /// A heartbeat extends a lease in the window beyond the time of its attempt.
    HeartbeatIgnoresTimeout,
    /// A new owner does not know the timeouts of the jobs that it finds leased.
    TimeoutForgottenByFold,
    /// A heartbeat extends a lease in the waiting room beyond the time of its attempt.
    WaitingTimeoutIgnored,
    /// A lease that moves to the waiting room is without its bound there.
    MovedTimeoutForgotten,
    /// All jobs have the same priority to an owner.
    PriorityIgnored,
    /// A higher priority goes later.
    PriorityInverted,
    /// A new owner does not count the leases of the waiting room.
    LentForgotten,
    /// A new owner does not count the leases of entries that it has not read.
    UnreadForgotten,
    /// Leases of the waiting room are taken for ended.
    SurveyBlind,
    /// A lease is not counted from when it is picked.
    GrantNotCounted,
    /// A lease that ends by its time is counted for ever.
    EndNotCounted,
}

impl Broken {
    pub(in crate::engine::tests) const ALL: [Self; 36] = [
        Self::FenceNotChecked,
        Self::TakeoverDoesNotWait,
        Self::FoldByJobId,
        Self::JournalRotatedByTime,
        Self::ExtensionAnsweredEarly,
        Self::WaitingLeaseNotExtended,
        Self::UnknownFlushResent,
        Self::LowWaterOverUncommitted,
        Self::OlderLeaseAccepted,
        Self::GrantNotSynchronous,
        Self::PromoteIgnoresLocks,
        Self::PutNotCounted,
        Self::AttemptsForgotten,
        Self::MovedLeaseEndsAtOnce,
        Self::MovedLeaseForgotten,
        Self::ParkedPassed,
        Self::ParkedForgotten,
        Self::StreamNotFenced,
        Self::StreamIgnoresItsLease,
        Self::CancellationsForgotten,
        Self::CancelHitsLater,
        Self::ToldNotKept,
        Self::HeldRowsForgotten,
        Self::CancelPrunedEarly,
        Self::KeyKept,
        Self::HeartbeatIgnoresTimeout,
        Self::TimeoutForgottenByFold,
        Self::WaitingTimeoutIgnored,
        Self::MovedTimeoutForgotten,
        Self::PriorityIgnored,
        Self::PriorityInverted,
        Self::LentForgotten,
        Self::UnreadForgotten,
        Self::SurveyBlind,
        Self::GrantNotCounted,
        Self::EndNotCounted,
    ];
}
