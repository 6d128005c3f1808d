//! The identity that outlives a number.

/// The identity of a pid object, as pidfd_open(2) takes hold of one. It outlives the number: an
/// object that has the number later is not equal to it. The identity of a process stays the same
/// from its creation until it is reaped, also when another thread than the leader executes a
/// program (EXEC-12).
///
/// ```
/// # use proctable::abi::Pid;
/// # use proctable::kernel::{Canonical, Config, Effects, Kernel};
/// # use proctable::syscall::{Ptr, Syscall};
/// let mut kernel = Kernel::new(Config { pid_max: 301, last_pid: 299, ..Config::default() });
/// let mut fx = Effects::new();
/// let _ = kernel.call(Pid(1), &Syscall::Fork, &mut fx);
/// let child = fx.list()[0].id;
/// assert_eq!((kernel.pid_id(Pid(300)), kernel.pid(child)), (Some(child), Some(Pid(300))));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PidId {
    pub(in crate::kernel) place: u32,
    pub(in crate::kernel) generation: u32,
}
