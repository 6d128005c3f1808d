//! Process groups and sessions.

use super::Kernel;
use super::arena::Id;
use super::effect::Effects;
use super::list::List;
use super::process::{Members, Process};
use super::task::Task;
use crate::abi::{Errno, Pgid, Sid};
use crate::rule;

/// A process group. It lives as long as it has a member, dead or alive (GRP-12).
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Group {
    pub pgid: Pgid,
    pub session: Id<Session>,
    /// The member that joined last comes first (FORK-17).
    members: List<Members>,
    /// How many members are stopped: the orphan check scans only where there is one.
    pub stopped: u32,
}

/// A session. It lives as long as it has a group (GRP-23).
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Session {
    pub sid: Sid,
    pub groups: u32,
}

impl Kernel {
    /// A new session without groups.
    pub(super) fn create_session(&mut self, sid: Sid) -> Id<Session> {
        let id = self.sessions.insert(Session { sid, groups: 0 });
        self.numbers.edit(sid.0, |named| named.session = Some(id));
        id
    }

    /// A new group without members.
    pub(super) fn create_group(&mut self, pgid: Pgid, session: Id<Session>) -> Id<Group> {
        let id = self.groups.insert(Group { pgid, session, members: List::new(), stopped: 0 });
        self.sessions[session].groups += 1;
        self.numbers.edit(pgid.0, |named| named.group = Some(id));
        id
    }

    /// Puts `process` at the head of `group`'s members (FORK-17).
    #[inline(always)]
    pub(super) fn join_group(&mut self, process: Id<Process>, id: Id<Group>) {
        let member = &mut self.processes[process];
        member.group = id;
        let group = &mut self.groups[id];
        group.stopped += u32::from(member.is_stopped());
        group.members.push_front(&mut self.processes, process);
    }

    /// Takes `process` out of its group. The group and its session end with the last member, and
    /// their numbers are free again (PID-08, GRP-23).
    #[inline(always)]
    pub(super) fn leave_group(&mut self, process: Id<Process>) {
        let left = self.remove_member(process);
        self.end_empty_group(left);
    }

    #[inline(always)]
    fn remove_member(&mut self, process: Id<Process>) -> Id<Group> {
        let member = &self.processes[process];
        let id = member.group;
        let group = &mut self.groups[id];
        group.stopped -= u32::from(member.is_stopped());
        group.members.remove(&mut self.processes, process);
        id
    }

    #[inline(always)]
    fn end_empty_group(&mut self, group: Id<Group>) {
        if self.groups[group].members.is_empty() {
            self.end_group(group);
        }
    }

    #[cold]
    fn end_group(&mut self, group: Id<Group>) {
        let Group { pgid, session, .. } = self.groups[group];
        self.groups.remove(group);
        self.numbers.edit(pgid.0, |named| named.group = None);
        let Session { sid, ref mut groups } = self.sessions[session];
        *groups -= 1;
        if *groups == 0 {
            self.sessions.remove(session);
            self.numbers.edit(sid.0, |named| named.session = None);
        }
    }

    /// Moves `process` into `group`. The group that it leaves may end.
    #[inline(always)]
    fn move_to_group(&mut self, process: Id<Process>, group: Id<Group>) {
        let indexed = self.is_indexed_by_group(process);
        if indexed {
            self.unindex_child(process);
        }
        let left = self.remove_member(process);
        self.join_group(process, group);
        self.end_empty_group(left);
        if indexed {
            self.index_child(process);
        }
    }

    /// The members of `group`, most recent first. O(1) a member.
    pub(super) fn members(&self, group: Id<Group>) -> impl Iterator<Item = Id<Process>> + '_ {
        self.groups[group].members.iter(&self.processes)
    }

    /// The member that joined `group` last.
    pub(super) fn newest_member(&self, group: Id<Group>) -> Option<Id<Process>> {
        self.groups[group].members.first()
    }

    /// Whether `process` is the only member of its group.
    pub(super) fn is_only_member(&self, process: Id<Process>) -> bool {
        let members = &self.groups[self.processes[process].group].members;
        members.first() == members.last()
    }

    /// The session of `process`.
    #[inline]
    pub(super) fn session_of(&self, process: Id<Process>) -> Id<Session> {
        self.groups[self.processes[process].group].session
    }

    pub(super) fn setpgid(
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
            // GRP-09: the own number, whether or not others still use it
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

    /// Whether `caller` may move `target`, which is in `session`, at all: itself or a child of its
    /// own session that has not exec'd.
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
            if process.flags.executed && !self.faulty(super::Fault::SetpgidIgnoresExec) {
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

    /// Notes the rules that a move shows which have no effect of their own.
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

    pub(super) fn setsid(&mut self, caller: Id<Task>, fx: &mut Effects) -> Result<i64, Errno> {
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
    pub(super) fn getpgid(
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

    pub(super) fn getsid(
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

    /// GRP-14: any process that exists, whoever owns it; else ESRCH.
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

/// Notes the rule and fails.
pub(super) fn refuse<T>(fx: &mut Effects, rule: super::Rule, errno: Errno) -> Result<T, Errno> {
    fx.obey(rule);
    Err(errno)
}
