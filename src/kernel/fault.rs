//! Wrong rules, to prove that the comparison with the live kernel finds them (feature `faults`).

/// A rule that the model can be made to break.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(not(feature = "faults"), allow(dead_code))]
pub enum Fault {
    /// SIGCONT does not discard pending stop signals (JOB-02).
    ContKeepsStops,
    /// wait returns the youngest ready child (WAIT-30).
    YoungestChildWins,
    /// No orphan check when the parent of a stopped job exits (ORP-07).
    ParentExitOrphansNobody,
    /// kill(-1) reports EPERM (KILL-10).
    KillAllReportsEperm,
    /// setpgid does not look whether the child has exec'd (GRP-05).
    SetpgidIgnoresExec,
    /// A deadly signal acts on a stopped process (JOB-06).
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
}

#[cfg(feature = "faults")]
impl Fault {
    /// All of them.
    pub const ALL: [Fault; 11] = [
        Fault::ContKeepsStops,
        Fault::YoungestChildWins,
        Fault::ParentExitOrphansNobody,
        Fault::KillAllReportsEperm,
        Fault::SetpgidIgnoresExec,
        Fault::TermActsOnStopped,
        Fault::OrphansStop,
        Fault::NocldstopIgnored,
        Fault::NeverRestarts,
        Fault::NodeferIgnored,
        Fault::SubreaperForgotten,
    ];
}
