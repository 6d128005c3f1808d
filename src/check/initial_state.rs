//! The initial state of the first process, which the log shows only in part.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::step::{Step, Steps};
use crate::abi::{Pgid, Pid, Resource, Rlimit, Sid, SigAction, SigInfo, SigSet, Signal, Uid};
use crate::kernel::{Canonical, Config, Effects, Kernel, Version};
use crate::syscall::{Ptr, QueuedInfo, SIGSET_SIZE, Syscall, how};

/// The initial state. The log has not shown yet the values that are `None`.
#[derive(Clone, PartialEq, Debug)]
pub struct InitialState {
    version: Version,
    pub first: Pid,
    pub parent: Option<Pid>,
    pub adopter: Option<Pid>,
    pub pgid: Option<Pgid>,
    pub sid: Option<Sid>,
    pub user: Option<Uid>,
    /// Its parent keeps its group from being orphaned.
    pub linked: bool,
    pub umask: Option<u32>,
    pub cwd: Option<Arc<str>>,
    pub limits: BTreeMap<u32, Rlimit>,
    /// Its dispositions, by signal.
    pub actions: BTreeMap<u8, SigAction>,
    pub mask: Option<SigSet>,
    /// Its pending signals.
    pub pending: Vec<SigInfo>,
    /// The log shows the siginfo of rt_sigqueueinfo without the sender. The recorder saw the
    /// siginfo before another layer added the sender; the kernel itself never changes it (KILL-31).
    pub filled: bool,
    /// Numbers that do not appear in the log, used for the values that the log does not show.
    pub placeholders: Placeholders,
}

/// Placeholders. A line that shows a number where the model has a placeholder shows the real value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placeholders {
    pub parent: u32,
    pub adopter: u32,
    pub pgid: u32,
    pub sid: u32,
    pub user: u32,
}

impl InitialState {
    /// The initial state of which only the number of the first process is known. `None` for a log
    /// without a process.
    pub fn of(steps: &Steps<'_>, version: Version) -> Option<InitialState> {
        let first = steps.first?;
        let mut unused = (2..).filter(|number| !steps.numbers.contains(number));
        let mut next = || unused.next().unwrap_or(0);
        let placeholders = Placeholders {
            parent: next(),
            adopter: next(),
            pgid: next(),
            sid: next(),
            // the id that the kernel shows for a user that it cannot map
            user: 65_534,
        };
        let init = first == Pid(1);
        Some(InitialState {
            version,
            first,
            // the init of a namespace sees neither parent nor adopter (PID-20, PID-21)
            parent: init.then_some(Pid(0)),
            adopter: init.then_some(Pid(1)),
            pgid: None,
            sid: None,
            user: None,
            linked: false,
            umask: None,
            cwd: None,
            limits: BTreeMap::new(),
            actions: BTreeMap::new(),
            mask: init.then_some(SigSet::EMPTY),
            pending: Vec::new(),
            filled: false,
            placeholders,
        })
    }

    /// The first process is the init of its namespace.
    pub fn is_init(&self) -> bool {
        self.first == Pid(1)
    }

    /// The group of the first process in the model: outside of the namespace until a line shows it.
    pub fn pgid(&self) -> Pgid {
        self.pgid.unwrap_or(if self.is_init() { Pgid(0) } else { Pgid(self.placeholders.pgid) })
    }

    pub fn sid(&self) -> Sid {
        self.sid.unwrap_or(if self.is_init() { Sid(0) } else { Sid(self.placeholders.sid) })
    }

    pub fn user(&self) -> Uid {
        self.user.unwrap_or(if self.is_init() { Uid::ROOT } else { Uid(self.placeholders.user) })
    }

    pub fn parent(&self) -> Pid {
        self.parent.unwrap_or(Pid(self.placeholders.parent))
    }

    pub fn adopter(&self) -> Pid {
        self.adopter.unwrap_or(Pid(self.placeholders.adopter))
    }

    /// The model at the beginning.
    pub fn kernel(&self) -> Kernel {
        let mut config = Config {
            version: self.version,
            first: self.first,
            parent: self.parent(),
            pgid: self.pgid(),
            sid: self.sid(),
            linked: self.linked,
            adopter: self.adopter(),
            last_pid: self.first.0,
            user: self.user(),
            ..Config::default()
        };
        if let Some(umask) = self.umask {
            config.umask = umask;
        }
        if let Some(cwd) = &self.cwd {
            config.cwd = cwd.clone();
        }
        config.limits =
            self.limits.iter().map(|(resource, limit)| (Resource(*resource), *limit)).collect();
        let mut kernel = Kernel::new(config);
        self.prepare(&mut kernel);
        kernel
    }

    /// Makes the calls that give the first process its state at the beginning of the log.
    fn prepare(&self, kernel: &mut Kernel) {
        for (signal, action) in &self.actions {
            self.call(
                kernel,
                Syscall::RtSigaction {
                    sig: i32::from(*signal),
                    act: Some(*action),
                    old: Ptr::Null,
                    size: SIGSET_SIZE,
                },
            );
        }
        let mask = self.mask.unwrap_or_default();
        if mask.is_empty() {
            return;
        }
        let set = Some(mask);
        let size = SIGSET_SIZE;
        self.call(kernel, Syscall::RtSigprocmask { how: how::SETMASK, set, old: Ptr::Null, size });
        for info in &self.pending {
            let SigInfo { signal, code, pid, uid, value } = *info;
            let info = Some(QueuedInfo { code: code.0, pid: pid.0, uid: uid.0, value });
            let (pid, sig) = (self.first.0 as i32, i32::from(signal.number()));
            self.call(kernel, Syscall::RtSigqueueinfo { pid, sig, info });
        }
    }

    fn call(&self, kernel: &mut Kernel, call: Syscall) {
        let mut fx = Effects::new();
        // the first process cannot have set a value that the model refuses: the log will differ
        let _ = kernel.call(self.first, &call, &mut fx);
        kernel.settle(&mut Canonical, &mut fx);
    }

    /// The call with the siginfo that the kernel got.
    pub fn filled<'c>(
        &self,
        step: &Step<'_>,
        call: &'c Syscall,
        kernel: &Kernel,
    ) -> Cow<'c, Syscall> {
        match *call {
            Syscall::RtSigqueueinfo {
                pid,
                sig,
                info: Some(info @ QueuedInfo { pid: 0, uid: 0, .. }),
            } if self.filled => {
                let uid = kernel.real_user(step.pid).unwrap_or_default();
                let info = Some(QueuedInfo { pid: step.pid.0, uid: uid.0, ..info });
                Cow::Owned(Syscall::RtSigqueueinfo { pid, sig, info })
            }
            _ => Cow::Borrowed(call),
        }
    }

    /// The disposition of `signal` may be an inherited one that the log has not shown yet.
    pub fn may_inherit(&self, signal: Signal) -> bool {
        !self.is_init()
            && !SigSet::KERNEL_ONLY.contains(signal)
            && !self.actions.contains_key(&signal.number())
    }
}
