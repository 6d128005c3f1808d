//! Determines whether the oracle can run here, and how.

use std::fmt;

use super::os;

/// The privilege with which namespaces are created.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// User 0 with CAP_SYS_ADMIN. Agents are user 0 and may become any other user.
    Root,
    /// A user namespace in which the caller is user 0, and the only user.
    User,
}

/// The reason why the oracle cannot run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unavailable {
    reason: String,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Unavailable {}

/// Determines whether this process may create pid namespaces, as root or as a user.
pub fn probe() -> Result<Mode, Unavailable> {
    check_proc()?;
    if os::users().0 == 0 && os::try_namespaces(0, libc::CLONE_NEWPID).is_ok() {
        return Ok(Mode::Root);
    }
    match os::try_namespaces(libc::CLONE_NEWUSER, libc::CLONE_NEWPID) {
        Ok(()) => Ok(Mode::User),
        Err(error) => {
            Err(Unavailable { reason: format!("no pid namespace, no user namespace: {error}") })
        }
    }
}

/// Checks that /proc exists and shows the numbers of inner namespaces.
fn check_proc() -> Result<(), Unavailable> {
    let reason = match std::fs::read_to_string("/proc/self/status") {
        Ok(text) if text.contains("\nNSpid:") => return Ok(()),
        Ok(_) => "/proc/self/status has no NSpid line".to_owned(),
        Err(error) => format!("/proc/self/status: {error}"),
    };
    Err(Unavailable { reason })
}
