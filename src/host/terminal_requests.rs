//! The numbers of requests of ioctl(2) on terminals, and of their arguments.

use libc::c_ulong;

use crate::tty::{FlowAction, Queue, SetTermios};

/// The request that makes new settings take effect.
pub(super) fn set_request(when: SetTermios) -> c_ulong {
    match when {
        SetTermios::Now => libc::TCSETS2,
        SetTermios::Flush => libc::TCSETSF2,
    }
}

/// The argument of TCFLSH.
pub(super) fn flush_number(queue: Queue) -> c_ulong {
    let number = match queue {
        Queue::Input => libc::TCIFLUSH,
        Queue::Output => libc::TCOFLUSH,
        Queue::Both => libc::TCIOFLUSH,
    };
    number as c_ulong
}

/// The argument of TCXONC.
pub(super) fn flow_number(action: FlowAction) -> c_ulong {
    let number = match action {
        FlowAction::StopOutput => libc::TCOOFF,
        FlowAction::StartOutput => libc::TCOON,
        FlowAction::SendStop => libc::TCIOFF,
        FlowAction::SendStart => libc::TCION,
    };
    number as c_ulong
}
