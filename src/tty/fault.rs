//! Wrong rules of terminals, to test that the comparison with the live kernel finds them (feature
//! `faults`).

/// A rule of terminals that the model can be made to break.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(not(feature = "faults"), allow(dead_code))]
pub enum TerminalFault {
    /// NOFLSH has no effect (LD-82).
    NoflshIgnored,
    /// Signal characters need ICANON (LD-79).
    SignalsNeedCanonical,
    /// SUSP generates no signal (LD-79).
    NoSuspend,
    /// A signal character is stored as well (LD-79).
    SignalIsStored,
    /// A signal flushes the input and keeps the output that waits (LD-80).
    FlushKeepsOutput,
    /// VMIN counts what is in the queue, not what the read has collected (LD-109).
    VminCountsTheQueue,
    /// KILL without ECHOKE echoes no NL with ECHOK (LD-66).
    EchokIgnored,
    /// ECHOCTL prints the byte plus 0x41 (LD-56).
    EchoctlOffByOne,
    /// The close of the last slave is no error for the master (LD-180).
    LastCloseIsNoHangUp,
    /// ERASE removes a byte also with IUTF8 (LD-40).
    EraseByBytes,
    /// EOF after data is an end of file of its own (LD-37).
    EofIsAlwaysAnEnd,
    /// An end-of-file mark after exactly the bytes of a read remains (LD-95).
    EofIsNotSkipped,
    /// A tab is erased as one character (LD-63).
    TabIsOneColumn,
    /// START and STOP are echoed (LD-72).
    FlowIsEchoed,
    /// IXANY has no effect (LD-151).
    IxanyIgnored,
    /// The end of ICANON drops the unfinished line (LD-117).
    ModeChangeDropsLine,
    /// A status of packet mode comes after the data (LD-171).
    StatusAfterData,
    /// The column continues over NL (LD-139).
    ColumnIgnoresNewline,
    /// A signal does not restart the output (LD-86).
    SignalDoesNotRestart,
    /// WERASE stops at `_` (LD-42).
    UnderscoreEndsWord,
}

impl TerminalFault {
    /// All faults.
    #[cfg(feature = "faults")]
    pub const ALL: [TerminalFault; 20] = [
        TerminalFault::NoflshIgnored,
        TerminalFault::SignalsNeedCanonical,
        TerminalFault::NoSuspend,
        TerminalFault::SignalIsStored,
        TerminalFault::FlushKeepsOutput,
        TerminalFault::VminCountsTheQueue,
        TerminalFault::EchokIgnored,
        TerminalFault::EchoctlOffByOne,
        TerminalFault::LastCloseIsNoHangUp,
        TerminalFault::EraseByBytes,
        TerminalFault::EofIsAlwaysAnEnd,
        TerminalFault::EofIsNotSkipped,
        TerminalFault::TabIsOneColumn,
        TerminalFault::FlowIsEchoed,
        TerminalFault::IxanyIgnored,
        TerminalFault::ModeChangeDropsLine,
        TerminalFault::StatusAfterData,
        TerminalFault::ColumnIgnoresNewline,
        TerminalFault::SignalDoesNotRestart,
        TerminalFault::UnderscoreEndsWord,
    ];
}
