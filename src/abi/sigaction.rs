//! Dispositions.

use super::SigSet;

/// `sa_handler`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Handler {
    /// SIG_DFL.
    #[default]
    Default,
    /// SIG_IGN.
    Ignore,
    /// A function, by its address: opaque to the model.
    Catch(u64),
}

impl Handler {
    /// The handler from `sa_handler` as a guest passes it: 0 is SIG_DFL, 1 is SIG_IGN.
    pub fn from_raw(address: u64) -> Handler {
        match address {
            0 => Handler::Default,
            1 => Handler::Ignore,
            _ => Handler::Catch(address),
        }
    }

    /// `sa_handler` as a guest reads it.
    pub fn to_raw(self) -> u64 {
        match self {
            Handler::Default => 0,
            Handler::Ignore => 1,
            Handler::Catch(address) => address,
        }
    }
}

/// `sa_flags`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SaFlags(pub u32);

impl SaFlags {
    /// No SIGCHLD when children stop or continue (CHLD-03).
    pub const NOCLDSTOP: SaFlags = SaFlags(1);
    /// Children do not become zombies (ZOM-03).
    pub const NOCLDWAIT: SaFlags = SaFlags(2);
    /// The handler takes three arguments.
    pub const SIGINFO: SaFlags = SaFlags(4);
    /// The handler sees tagged fault addresses.
    pub const EXPOSE_TAGBITS: SaFlags = SaFlags(0x800);
    /// `sa_restorer` is set.
    pub const RESTORER: SaFlags = SaFlags(0x0400_0000);
    /// Run on the alternate stack.
    pub const ONSTACK: SaFlags = SaFlags(0x0800_0000);
    /// Restart the calls that it interrupts (SIG-44).
    pub const RESTART: SaFlags = SaFlags(0x1000_0000);
    /// Do not block the signal while its handler runs (SIG-41).
    pub const NODEFER: SaFlags = SaFlags(0x4000_0000);
    /// Reset the handler to SIG_DFL at delivery (SIG-42).
    pub const RESETHAND: SaFlags = SaFlags(0x8000_0000);
    /// The flags that the kernel keeps; the others read back as 0 (SIG-09).
    pub const KNOWN: SaFlags = SaFlags(0xdc00_0807);
    /// The flags in which x86 kernels note the interface by which a handler was installed
    /// (SA_IA32_ABI, SA_X32_ABI): every kernel overwrites what a program stores there.
    pub const INTERFACE: SaFlags = SaFlags(0x0300_0000);

    /// Whether all of `flags` are set.
    pub const fn contains(self, flags: SaFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// The union of both.
    pub const fn with(self, flags: SaFlags) -> SaFlags {
        SaFlags(self.0 | flags.0)
    }
}

/// The action of a process for a signal: `struct sigaction` of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SigAction {
    /// `sa_handler`.
    pub handler: Handler,
    /// `sa_flags`.
    pub flags: SaFlags,
    /// `sa_mask`: blocked in addition while the handler runs.
    pub mask: SigSet,
    /// `sa_restorer`: opaque to the model.
    pub restorer: u64,
}

impl SigAction {
    /// SIG_DFL without flags.
    pub const DEFAULT: SigAction = SigAction {
        handler: Handler::Default,
        flags: SaFlags(0),
        mask: SigSet::EMPTY,
        restorer: 0,
    };
    /// SIG_IGN without flags.
    pub const IGNORE: SigAction = SigAction { handler: Handler::Ignore, ..SigAction::DEFAULT };
}
