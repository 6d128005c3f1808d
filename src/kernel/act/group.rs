//! setpgid, setsid, and the calls that return groups and sessions.

use crate::abi::{Errno, Pgid};
use crate::kernel::Kernel;
use crate::kernel::api::effect::{Effects, refuse};
use crate::kernel::state::arena::Id;
use crate::kernel::state::group::{Group, Session};
use crate::kernel::state::process::Process;
use crate::kernel::state::task::Task;
use crate::rule;

impl Kernel {
    pub(in crate::kernel) fn setpgid(
        &mut self,
        caller: Id<Task>,
        pid: i32,
        pgid: i32,
        fx: &mut Effects,
    ) -> Result<i64, Errno> {
        // GRP-01
        fx.obey(rule!("GRP-01"));
        let own = self.process_of(caller);
        let pid = if pid == 0 { self.pid_of(own).0 as i32 } else { pid };
        let pgid = if pgid == 0 { pid } else { pgid };
        if pgid < 0 {
            return refuse(fx, rule!("GRP-02"), Errno::EINVAL);
        }
        let Some(task) = self.task_named(pid) else {
            return refuse(fx, rule!("GRP-03"), Errno::ESRCH);
        };
        let target = self.process_of(task);
        let process = &self.processes[target];
        if process.leader != task {
            // TG-159: a thread has no group of its own
            fx.obey(rule!("TG-159"));
            return refuse(fx, rule!("GRP-04"), Errno::EINVAL);
        }
        let Group { pid: before, session, .. } = self.groups[process.group];
        self.may_set_group(own, target, session, fx)?;
        if process.flags.session_leader {
            return refuse(fx, rule!("GRP-07"), Errno::EPERM);
        }
        if self.pids[before].pid().0 as i32 == pgid {
            fx.obey(rule!("GRP-10"));
            return Ok(0);
        }
        let group = if pgid == pid {
            // GRP-09: the group with the number of the process, also if other processes are in it
            fx.obey(rule!("GRP-09"));
            let object = self.processes[target].pid;
            let group = self.pids[object].group();
            group.unwrap_or_else(|| self.create_group(object, session))
        } else {
            match self.group_numbered(pgid.unsigned_abs()) {
                Some(group) if self.groups[group].session == session => group,
                _ => return refuse(fx, rule!("GRP-08"), Errno::EPERM),
            }
        };
        self.note_group_move(target, group, fx);
        self.move_to_group(target, group);
        Ok(0)
    }

    /// Checks that `caller` may move `target`, which is in `session`: the caller itself, or a child
    /// in the session of the caller that has not exec'd.
    fn may_set_group(
        &self,
        caller: Id<Process>,
        target: Id<Process>,
        session: Id<Session>,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        let process = &self.processes[target];
        if self.parent_of(target) == Some(caller) {
            if session != self.session_of(caller) {
                return refuse(fx, rule!("GRP-05"), Errno::EPERM);
            }
            if process.flags.executed && !self.has_fault(crate::kernel::Fault::SetpgidIgnoresExec) {
                fx.obey(rule!("EXEC-10"));
                return refuse(fx, rule!("GRP-05"), Errno::EACCES);
            }
            fx.obey(rule!("FORK-15"));
            Ok(())
        } else if target == caller {
            Ok(())
        } else {
            refuse(fx, rule!("GRP-06"), Errno::ESRCH)
        }
    }

    /// Notes the rules of a move that have no effect of their own.
    fn note_group_move(&self, target: Id<Process>, group: Id<Group>, fx: &mut Effects) {
        if !fx.notes_rules() {
            return;
        }
        fx.obey(rule!("GRP-13"));
        fx.obey(rule!("ORP-12"));
        if self.processes[target].is_zombie() {
            fx.obey(rule!("GRP-11"));
            fx.obey(rule!("ZOM-08"));
        }
        let Some(newest) = self.newest_member(group) else { return };
        if self.pids[self.groups[group].pid].task().is_none() {
            fx.obey(rule!("GRP-12"));
        }
        if self.processes[newest].is_zombie() && self.is_only_member(newest) {
            fx.obey(rule!("ZOM-10"));
        }
    }

    pub(in crate::kernel) fn setsid(
        &mut self,
        caller: Id<Task>,
        fx: &mut Effects,
    ) -> Result<i64, Errno> {
        let own = self.process_of(caller);
        let process = &self.processes[own];
        let (pid, number) = (process.pid, self.pid_of(own));
        if process.leader != caller {
            fx.obey(rule!("THR-06"));
            fx.obey(rule!("TG-168"));
        }
        if process.flags.session_leader {
            return refuse(fx, rule!("GRP-17"), Errno::EPERM);
        }
        // GRP-19: as long as the group has a member, dead or alive
        if self.pids[pid].group().is_some() {
            return refuse(fx, rule!("GRP-18"), Errno::EPERM);
        }
        fx.obey(rule!("GRP-16"));
        fx.obey(rule!("GRP-20"));
        if self.pgid_of(process.group) == Pgid(0) {
            fx.obey(rule!("GRP-22"));
        }
        let session = self.create_session(pid);
        let group = self.create_group(pid, session);
        self.processes[own].flags.session_leader = true;
        self.move_to_group(own, group);
        // TTY-07
        self.leave_terminal(own);
        Ok(i64::from(number.0))
    }

    /// getpgid and getpgrp.
    pub(in crate::kernel) fn getpgid(
        &self,
        caller: Id<Task>,
        pid: i32,
        fx: &mut Effects,
    ) -> Result<i64, Errno> {
        let target = self.named_or_self(caller, pid, fx)?;
        let pgid = self.pgid_of(self.processes[target].group);
        self.note_hidden(pgid.0, fx);
        Ok(i64::from(pgid.0))
    }

    pub(in crate::kernel) fn getsid(
        &self,
        caller: Id<Task>,
        pid: i32,
        fx: &mut Effects,
    ) -> Result<i64, Errno> {
        let target = self.named_or_self(caller, pid, fx)?;
        let sid = self.sid_of(self.session_of(target));
        self.note_hidden(sid.0, fx);
        Ok(i64::from(sid.0))
    }

    /// The process `pid`, of any user, or the caller's process for 0 (GRP-14); ESRCH if there is
    /// none.
    fn named_or_self(
        &self,
        caller: Id<Task>,
        pid: i32,
        fx: &mut Effects,
    ) -> Result<Id<Process>, Errno> {
        fx.obey(rule!("GRP-14"));
        fx.obey(rule!("CRED-08"));
        if pid == 0 {
            return Ok(self.process_of(caller));
        }
        let Some(task) = self.task_named(pid) else {
            fx.obey(rule!("ZOM-12"));
            return Err(Errno::ESRCH);
        };
        let target = self.process_of(task);
        if self.processes[target].is_zombie() {
            fx.obey(rule!("ZOM-08"));
        }
        Ok(target)
    }

    fn note_hidden(&self, number: u32, fx: &mut Effects) {
        if number == 0 {
            fx.obey(rule!("GRP-15"));
            fx.obey(rule!("PID-21"));
            fx.obey(rule!("NS-11"));
        }
    }
}
