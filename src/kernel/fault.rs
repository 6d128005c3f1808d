//! Wrong rules, to test that the comparison with the live kernel finds them (feature `faults`).

/// A rule that the model can be made to break.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(not(feature = "faults"), allow(dead_code))]
pub enum Fault {
    /// SIGCONT does not discard pending stop signals (JOB-02).
    ContKeepsStops,
    /// wait returns the youngest ready child (WAIT-30).
    YoungestChildWins,
    /// The end of the parent of a stopped job causes no check for an orphaned group (ORP-07).
    ParentExitOrphansNoGroup,
    /// kill(-1) reports EPERM (KILL-10).
    KillAllReportsEperm,
    /// setpgid does not check whether the child has exec'd (GRP-05).
    SetpgidIgnoresExec,
    /// A fatal signal acts on a stopped process (JOB-06).
    TermActsOnStopped,
    /// Terminal stop signals stop members of orphaned groups (ORP-04).
    OrphansStop,
    /// SA_NOCLDSTOP has no effect (CHLD-03).
    NocldstopIgnored,
    /// SA_RESTART has no effect (SIG-44).
    NeverRestarts,
    /// SA_NODEFER has no effect (SIG-41).
    NodeferIgnored,
    /// Orphans go to the init although there is a subreaper (RPT-02).
    SubreaperForgotten,
    /// A signal of a process goes to its leader, even if the leader blocks it (SIG-26).
    SharedGoesToLeader,
    /// The search for a thread that takes a signal begins after the thread that took the last one
    /// (TG-34).
    SharedSignalsRotate,
    /// A shared signal that a thread blocks is not offered to the other threads (TG-45).
    BlockedSharedIsNotOffered,
    /// EINTR for every sleeping thread when a handler runs in one thread (TG-59).
    HandlerInterruptsAll,
    /// The thread that executes a program keeps its number (EXEC-12).
    ExecKeepsTid,
    /// The end of the leader ends the process (TG-87).
    DeadLeaderEndsProcess,
    /// The parent-death signal is sent when the process of the parent ends (RPT-12, TG-92).
    PdeathAtProcessEnd,
    /// A stop is complete when the thread that took the signal has stopped (TG-126).
    StopCountsLeaderAlone,
    /// A wait of a thread does not include the children of other threads (WAIT-32).
    WaitSeesOwnChildrenOnly,
    /// __WNOTHREAD has no effect (WAIT-16).
    NothreadIgnored,
    /// A process whose last thread is not its leader ends with 0 (TG-89).
    LastThreadsStatusIsLost,
    /// A signal for one thread is pending for the process (SIG-22).
    PrivateIsShared,
    /// SIGCONT continues only the leader (TG-129).
    ContResumesOne,
    /// The target task of SIGCHLD is the leader (TG-60).
    ChildSignalGoesToLeader,
    /// set*uid changes the users of all threads (TG-155).
    UsersAreOfTheProcess,
    /// A process of another session is in the background of a terminal (TTY-34).
    BackgroundOfOtherSessions,
    /// TIOCSPGRP from the background does not check the terminal (TTY-16).
    BackgroundSetsForeground,
    /// A call by an orphaned group in the background signals the group (TTY-17).
    OrphansGetTtin,
    /// A mask that blocks further signals does not count as blocking SIGTTIN (TTY-17).
    BackgroundComparesMask,
    /// The end of a session leader does not signal the foreground group (TTY-10).
    LeaderEndsAlone,
    /// A hang-up sends no SIGCONT (TTY-13).
    HangUpWithoutCont,
    /// O_NOCTTY has no effect (TTY-01).
    NocttyIgnored,
    /// TIOCSCTTY takes the terminal of another session without the argument 1 (TTY-04).
    TerminalNotStolen,
}

#[cfg(feature = "faults")]
impl Fault {
    /// All faults except those of terminals.
    pub const ALL: [Fault; 26] = [
        Fault::ContKeepsStops,
        Fault::YoungestChildWins,
        Fault::ParentExitOrphansNoGroup,
        Fault::KillAllReportsEperm,
        Fault::SetpgidIgnoresExec,
        Fault::TermActsOnStopped,
        Fault::OrphansStop,
        Fault::NocldstopIgnored,
        Fault::NeverRestarts,
        Fault::NodeferIgnored,
        Fault::SubreaperForgotten,
        Fault::SharedGoesToLeader,
        Fault::SharedSignalsRotate,
        Fault::BlockedSharedIsNotOffered,
        Fault::HandlerInterruptsAll,
        Fault::ExecKeepsTid,
        Fault::DeadLeaderEndsProcess,
        Fault::PdeathAtProcessEnd,
        Fault::StopCountsLeaderAlone,
        Fault::WaitSeesOwnChildrenOnly,
        Fault::NothreadIgnored,
        Fault::LastThreadsStatusIsLost,
        Fault::PrivateIsShared,
        Fault::ContResumesOne,
        Fault::ChildSignalGoesToLeader,
        Fault::UsersAreOfTheProcess,
    ];

    /// The faults of terminals that control processes.
    pub const OF_TERMINALS: [Fault; 8] = [
        Fault::BackgroundOfOtherSessions,
        Fault::BackgroundSetsForeground,
        Fault::OrphansGetTtin,
        Fault::BackgroundComparesMask,
        Fault::LeaderEndsAlone,
        Fault::HangUpWithoutCont,
        Fault::NocttyIgnored,
        Fault::TerminalNotStolen,
    ];
}
