//! Process groups and sessions.

use crate::abi::{Pgid, Sid};
use crate::kernel::Kernel;
use crate::kernel::state::arena::Id;
use crate::kernel::state::list::List;
use crate::kernel::state::pid::PidObject;
use crate::kernel::state::process::{Members, Process};
use crate::kernel::state::terminal::SessionTerminal;

/// A process group. It lives as long as it has a member, dead or alive (GRP-12).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Group {
    /// The object that has its number.
    pub pid: Id<PidObject>,
    pub session: Id<Session>,
    /// The member that joined last is first (FORK-17).
    members: List<Members>,
    /// How many members are stopped: only a group with a stopped member needs a check for orphans.
    pub stopped: u32,
}

/// A session. It lives as long as it has a group (GRP-23).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Session {
    /// The object that has its number.
    pub pid: Id<PidObject>,
    pub groups: u32,
    /// The terminal that controls it.
    pub terminal: SessionTerminal,
}

impl Kernel {
    /// A new session without groups.
    pub(in crate::kernel) fn create_session(&mut self, pid: Id<PidObject>) -> Id<Session> {
        let id =
            self.sessions.insert(Session { pid, groups: 0, terminal: SessionTerminal::default() });
        self.pids.attach_session(pid, id);
        id
    }

    /// A new group without members.
    pub(in crate::kernel) fn create_group(
        &mut self,
        pid: Id<PidObject>,
        session: Id<Session>,
    ) -> Id<Group> {
        let id = self.groups.insert(Group { pid, session, members: List::new(), stopped: 0 });
        self.sessions[session].groups += 1;
        self.pids.attach_group(pid, id);
        id
    }

    /// Puts `process` at the head of `group`'s members (FORK-17).
    #[inline(always)]
    pub(in crate::kernel) fn join_group(&mut self, process: Id<Process>, id: Id<Group>) {
        let member = &mut self.processes[process];
        member.group = id;
        let group = &mut self.groups[id];
        group.stopped += u32::from(member.is_stopped());
        group.members.push_front(&mut self.processes, process);
    }

    /// Removes `process` from its group. The group and its session end with their last member, and
    /// their numbers are free again (PID-08, GRP-23).
    #[inline(always)]
    pub(in crate::kernel) fn leave_group(&mut self, process: Id<Process>) {
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
        let Group { pid, session, .. } = self.groups[group];
        self.groups.remove(group);
        self.pids.detach_group(pid);
        let Session { pid, ref mut groups, .. } = self.sessions[session];
        *groups -= 1;
        if *groups == 0 {
            self.sessions.remove(session);
            self.pids.detach_session(pid);
        }
    }

    /// Moves `process` into `group`. The old group may end.
    #[inline(always)]
    pub(in crate::kernel) fn move_to_group(&mut self, process: Id<Process>, group: Id<Group>) {
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

    /// The members of `group`, the most recent member first. O(1) a member.
    pub(in crate::kernel) fn members(
        &self,
        group: Id<Group>,
    ) -> impl Iterator<Item = Id<Process>> + '_ {
        self.groups[group].members.iter(&self.processes)
    }

    /// The member that joined `group` last.
    pub(in crate::kernel) fn newest_member(&self, group: Id<Group>) -> Option<Id<Process>> {
        self.groups[group].members.first()
    }

    /// Whether `process` is the only member of its group.
    pub(in crate::kernel) fn is_only_member(&self, process: Id<Process>) -> bool {
        let members = &self.groups[self.processes[process].group].members;
        members.first() == members.last()
    }

    /// The number of `group`.
    #[inline]
    pub(in crate::kernel) fn pgid_of(&self, group: Id<Group>) -> Pgid {
        self.pids[self.groups[group].pid].pgid()
    }

    /// The number of `session`.
    #[inline]
    pub(in crate::kernel) fn sid_of(&self, session: Id<Session>) -> Sid {
        self.pids[self.sessions[session].pid].sid()
    }

    /// The session of `process`.
    #[inline]
    pub(in crate::kernel) fn session_of(&self, process: Id<Process>) -> Id<Session> {
        self.groups[self.processes[process].group].session
    }
}
