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
        let pid = if pid == 0 { self.processes[own].pid.0 as i32 } else { pid };
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
        let Group { pgid: before, session, .. } = self.groups[process.group];
        self.may_set_group(own, target, session, fx)?;
        if process.flags.session_leader {
            return refuse(fx, rule!("GRP-07"), Errno::EPERM);
        }
        if before.0 as i32 == pgid {
            fx.obey(rule!("GRP-10"));
            return Ok(0);
        }
        let named = self.numbers.get(pgid as u32);
        let group = if pgid == pid {
            // GRP-09: the group with the number of the process, also if other processes are in it
            fx.obey(rule!("GRP-09"));
            named.group.unwrap_or_else(|| self.create_group(Pgid(pgid as u32), session))
        } else {
            match named.group {
                Some(group) if self.groups[group].session == session => group,
                _ => return refuse(fx, rule!("GRP-08"), Errno::EPERM),
            }
        };
        self.note_group_move(target, group, named.task.is_none(), fx);
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
    fn note_group_move(
        &self,
        target: Id<Process>,
        group: Id<Group>,
        leader_is_gone: bool,
        fx: &mut Effects,
    ) {
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
        if leader_is_gone {
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
        let pid = process.pid;
        if process.leader != caller {
            fx.obey(rule!("THR-06"));
            fx.obey(rule!("TG-168"));
        }
        if process.flags.session_leader {
            return refuse(fx, rule!("GRP-17"), Errno::EPERM);
        }
        // GRP-19: as long as the group has a member, dead or alive
        if self.numbers.get(pid.0).group.is_some() {
            return refuse(fx, rule!("GRP-18"), Errno::EPERM);
        }
        fx.obey(rule!("GRP-16"));
        fx.obey(rule!("GRP-20"));
        if self.groups[process.group].pgid == Pgid(0) {
            fx.obey(rule!("GRP-22"));
        }
        let session = self.create_session(pid.into());
        let group = self.create_group(pid.into(), session);
        self.processes[own].flags.session_leader = true;
        self.move_to_group(own, group);
        Ok(i64::from(pid.0))
    }

    /// getpgid and getpgrp.
    pub(in crate::kernel) fn getpgid(
        &self,
        caller: Id<Task>,
        pid: i32,
        fx: &mut Effects,
    ) -> Result<i64, Errno> {
        let target = self.named_or_self(caller, pid, fx)?;
        let pgid = self.groups[self.processes[target].group].pgid;
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
        let sid = self.sessions[self.session_of(target)].sid;
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
