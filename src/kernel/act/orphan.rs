//! Orphaned process groups.

use alloc::vec::Vec;

use crate::abi::{SigInfo, Signal};
use crate::kernel::Kernel;
use crate::kernel::api::effect::{Consequence, Effects};
use crate::kernel::signal::Origin;
use crate::kernel::state::arena::Id;
use crate::kernel::state::group::Group;
use crate::kernel::state::process::Process;
use crate::rule;

impl Kernel {
    /// Whether no living member of `group` except `ignored` has a parent in another group of the
    /// same session (ORP-01). The group of a session leader has no such member (ORP-03). Computed
    /// at each call (ORP-18). Costs a scan of the members up to the first such member.
    pub(in crate::kernel) fn is_orphaned(
        &self,
        group: Id<Group>,
        ignored: Option<Id<Process>>,
    ) -> bool {
        !self.members(group).any(|member| Some(member) != ignored && self.is_link(member))
    }

    /// Whether `process` is the only member of an orphaned group. O(1), for rules that the model
    /// notes without an effect.
    pub(in crate::kernel) fn is_orphaned_alone(&self, process: Id<Process>) -> bool {
        self.is_only_member(process) && !self.is_link(process)
    }

    /// Whether `member` keeps its group from being orphaned.
    fn is_link(&self, member: Id<Process>) -> bool {
        let process = &self.processes[member];
        // ORP-15: a zombie does not count
        if process.is_zombie() {
            return false;
        }
        // ORP-02: a child of the global init is no link
        let parent = process.parent.map(|parent| self.process_of(parent));
        if self.config.global_init && parent.is_some() && self.init_process() == parent {
            return false;
        }
        self.is_linked_to(member, parent)
    }

    /// Whether `parent` is in another group than `process`, and in the same session.
    fn is_linked_to(&self, process: Id<Process>, parent: Option<Id<Process>>) -> bool {
        let session = self.session_of(process);
        let child = &self.processes[process];
        match parent {
            Some(parent) => {
                self.processes[parent].group != child.group && self.session_of(parent) == session
            }
            None => {
                self.config.linked
                    && child.outside == self.config.parent
                    && self.sid_of(session) == self.config.sid
            }
        }
    }

    /// Checks whether the group of `process` has become orphaned: by the end of `process` (`father`
    /// is `None`, ORP-08), or by the end of its parent `father` (ORP-07).
    pub(in crate::kernel) fn check_orphaned(
        &mut self,
        process: Id<Process>,
        father: Option<Id<Process>>,
        fx: &mut Effects,
    ) {
        let group = self.processes[process].group;
        if !self.is_linked_to(process, father.or(self.parent_of(process))) {
            return;
        }
        if self.groups[group].stopped == 0 {
            fx.obey(rule!("ORP-10"));
            return;
        }
        fx.obey(rule!("ORP-01"));
        fx.obey(rule!("ORP-18"));
        let ignored = if father.is_none() { Some(process) } else { None };
        if !self.is_orphaned(group, ignored) {
            fx.obey(rule!("ORP-16"));
            if father.is_some() && self.is_adopted_by_subreaper(process) {
                fx.obey(rule!("ORP-13"));
            }
            return;
        }
        let cause = if father.is_none() { rule!("ORP-08") } else { rule!("ORP-07") };
        let pgid = self.pgid_of(group);
        fx.push(self.subject(process), Consequence::Orphaned(pgid), cause);
        fx.obey_all(&[rule!("ORP-11"), rule!("ORP-19"), rule!("KILL-20")]);
        self.note_adopter(process, father, fx);
        self.signal_orphans(group, Signal::HUP, fx);
        self.signal_orphans(group, Signal::CONT, fx);
    }

    /// Notes the rule about a new parent that is a subreaper in the same group, and so no link.
    fn note_adopter(&self, process: Id<Process>, father: Option<Id<Process>>, fx: &mut Effects) {
        let parent = self.parent_of(process);
        let same = parent
            .is_some_and(|parent| self.processes[parent].group == self.processes[process].group);
        if father.is_some() && same && self.is_adopted_by_subreaper(process) {
            fx.obey(rule!("ORP-14"));
        }
    }

    fn is_adopted_by_subreaper(&self, process: Id<Process>) -> bool {
        let parent = self.parent_of(process);
        parent.is_some_and(|parent| self.processes[parent].flags.subreaper)
    }

    /// ORP-09: sends a signal to every member, stopped or not.
    fn signal_orphans(&mut self, group: Id<Group>, signal: Signal, fx: &mut Effects) {
        let members: Vec<Id<Process>> = self.members(group).collect();
        for member in members {
            let leader = self.leader(member);
            let origin = Origin::kernel(rule!("ORP-09"));
            self.generate_kernel(leader, SigInfo::kernel(signal), origin, fx);
        }
    }
}
