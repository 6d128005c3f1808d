//! The children of a task, and their events.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use crate::abi::Pid;
use crate::kernel::Kernel;
use crate::kernel::state::arena::Id;
use crate::kernel::state::group::Group;
use crate::kernel::state::list::List;
use crate::kernel::state::process::{JobControl, Life, Process, Siblings};
use crate::kernel::state::task::Task;

/// An event of a child that a wait can report.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum WaitEvent {
    /// It ended.
    Exited,
    /// It stopped.
    Stopped,
    /// It continued.
    Continued,
}

/// An event, and the class of the child that has it (WAIT-14, WAIT-15).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Report {
    pub event: WaitEvent,
    pub clone_child: bool,
}

/// The children that a wait scans: all, or those in one group.
pub type Scope = Option<Id<Group>>;

/// The children in list order (WAIT-30), with an index of those that have an event, so that a wait
/// costs O(log children) and not a scan.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Children {
    list: List<Siblings>,
    next_order: u64,
    /// The number of living children, by class.
    alive: [u32; 2],
    /// Children with an event.
    #[cfg_attr(feature = "serde", serde(with = "crate::kernel::api::snapshot::pairs"))]
    ready: BTreeMap<(Report, u64), Id<Process>>,
    /// The same by group; built by the first wait for a group.
    by_group: Option<Box<ByGroup>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct ByGroup {
    #[cfg_attr(feature = "serde", serde(with = "crate::kernel::api::snapshot::pairs"))]
    alive: BTreeMap<(Id<Group>, bool), u32>,
    #[cfg_attr(feature = "serde", serde(with = "crate::kernel::api::snapshot::pairs"))]
    ready: BTreeMap<(Id<Group>, Report, u64), Id<Process>>,
}

impl ByGroup {
    fn count(&mut self, group: Id<Group>, clone_child: bool, change: i32) {
        let count = self.alive.entry((group, clone_child)).or_default();
        *count = count.wrapping_add_signed(change);
        if *count == 0 {
            self.alive.remove(&(group, clone_child));
        }
    }
}

impl Children {
    /// The earliest child in `scope` with that report.
    fn earliest(&self, scope: Scope, report: Report) -> Option<(u64, Id<Process>)> {
        match scope {
            None => {
                let range = (report, 0)..=(report, u64::MAX);
                self.ready.range(range).next().map(|(key, child)| (key.1, *child))
            }
            Some(group) => {
                let range = (group, report, 0)..=(group, report, u64::MAX);
                let ready = &self.by_group.as_ref()?.ready;
                ready.range(range).next().map(|(key, child)| (key.2, *child))
            }
        }
    }

    fn has_alive(&self, scope: Scope, clone_child: bool) -> bool {
        match scope {
            None => self.alive[usize::from(clone_child)] > 0,
            Some(group) => self
                .by_group
                .as_ref()
                .is_some_and(|by_group| by_group.alive.contains_key(&(group, clone_child))),
        }
    }

    fn note(&mut self, group: Id<Group>, report: Report, order: u64, child: Id<Process>) {
        self.ready.insert((report, order), child);
        if let Some(by_group) = &mut self.by_group {
            by_group.ready.insert((group, report, order), child);
        }
    }

    fn forget(&mut self, group: Id<Group>, report: Report, order: u64) {
        self.ready.remove(&(report, order));
        if let Some(by_group) = &mut self.by_group {
            by_group.ready.remove(&(group, report, order));
        }
    }

    fn count_alive(&mut self, group: Id<Group>, clone_child: bool, change: i32) {
        let count = &mut self.alive[usize::from(clone_child)];
        *count = count.wrapping_add_signed(change);
        if let Some(by_group) = &mut self.by_group {
            by_group.count(group, clone_child, change);
        }
    }
}

/// The event that `process` has to report, computed from its state.
pub(in crate::kernel) fn report_of(process: &Process) -> Option<Report> {
    let event = match process.life {
        Life::Zombie(_) if !process.flags.unwanted => WaitEvent::Exited,
        Life::Alive(JobControl::Stopped { unreported: true, .. }) => WaitEvent::Stopped,
        Life::Alive(JobControl::Continued { unreported: true, .. }) => WaitEvent::Continued,
        _ => return None,
    };
    Some(Report { event, clone_child: process.is_clone_child() })
}

impl Kernel {
    /// Appends `child` to `parent`'s children (FORK-16, RPT-07) and indexes it.
    pub(in crate::kernel) fn adopt(&mut self, parent: Id<Task>, child: Id<Process>) {
        let children = self.tasks[parent].children.get_or_insert_default();
        let order = children.next_order;
        children.next_order += 1;
        children.list.push_back(&mut self.processes, child);
        let process = &mut self.processes[child];
        process.parent = Some(parent);
        process.order = order;
        self.index_child(child);
    }

    /// Removes `child` from the children of its parent. The field `parent` of `child` stays.
    pub(in crate::kernel) fn disown(&mut self, child: Id<Process>) {
        self.unindex_child(child);
        let Some(parent) = self.processes[child].parent else { return };
        if let Some(children) = &mut self.tasks[parent].children {
            children.list.remove(&mut self.processes, child);
        }
    }

    fn children_mut(&mut self, parent: Id<Task>) -> &mut Children {
        self.tasks[parent].children.get_or_insert_default()
    }

    /// Adds `child` to the index of its parent: to the count of the living, and with its report.
    pub(in crate::kernel) fn index_child(&mut self, child: Id<Process>) {
        let process = &mut self.processes[child];
        let Some(parent) = process.parent else { return };
        let (group, order, clone_child) = (process.group, process.order, process.is_clone_child());
        let alive = !process.is_zombie();
        let report = report_of(process);
        process.report = report;
        let children = self.children_mut(parent);
        if alive {
            children.count_alive(group, clone_child, 1);
        }
        if let Some(report) = report {
            children.note(group, report, order, child);
        }
    }

    /// Removes `child` from the index of its parent. Everything that the index depends on (life,
    /// group, exit signal, parent) may change between this call and [`Kernel::index_child`].
    pub(in crate::kernel) fn unindex_child(&mut self, child: Id<Process>) {
        let process = &mut self.processes[child];
        let Some(parent) = process.parent else { return };
        let (group, order, clone_child) = (process.group, process.order, process.is_clone_child());
        let alive = !process.is_zombie();
        let report = process.report.take();
        let children = self.children_mut(parent);
        if alive {
            children.count_alive(group, clone_child, -1);
        }
        if let Some(report) = report {
            children.forget(group, report, order);
        }
    }

    /// Whether the parent's index depends on the group of `child`.
    pub(in crate::kernel) fn is_indexed_by_group(&self, child: Id<Process>) -> bool {
        let parent = self.processes[child].parent;
        let children = parent.and_then(|parent| self.tasks[parent].children.as_ref());
        children.is_some_and(|children| children.by_group.is_some())
    }

    /// Changes the life of a process, and updates the index of its parent and the count of its
    /// group.
    pub(in crate::kernel) fn set_life(&mut self, id: Id<Process>, life: Life) {
        let process = &mut self.processes[id];
        let was_stopped = process.is_stopped();
        let before = (process.is_zombie(), process.report);
        let old = core::mem::replace(&mut process.life, life);
        if before != (process.is_zombie(), report_of(process)) {
            process.life = old;
            self.unindex_child(id);
            self.processes[id].life = life;
            self.index_child(id);
        }
        let process = &self.processes[id];
        let (group, is_stopped) = (process.group, process.is_stopped());
        if was_stopped != is_stopped {
            let stopped = &mut self.groups[group].stopped;
            *stopped = stopped.wrapping_add_signed(if is_stopped { 1 } else { -1 });
        }
    }

    /// The earliest child of `parent` in `scope` that has one of `events` to report and is of one
    /// of the `classes` (WAIT-30, WAIT-31). O(log children).
    pub(in crate::kernel) fn earliest_child(
        &mut self,
        parent: Id<Task>,
        scope: Scope,
        events: &[WaitEvent],
        classes: &[bool],
    ) -> Option<Id<Process>> {
        self.index_groups(parent, scope);
        let youngest_wins = self.has_fault(crate::kernel::Fault::YoungestChildWins);
        let children = self.tasks[parent].children.as_deref()?;
        let reports = events.iter().flat_map(|event| {
            classes.iter().map(|clone_child| Report { event: *event, clone_child: *clone_child })
        });
        let ready = reports.filter_map(|report| children.earliest(scope, report));
        let found = if youngest_wins { ready.max() } else { ready.min() };
        found.map(|(_, child)| child)
    }

    /// Whether `parent` has a living child in `scope` of one of the `classes`.
    pub(in crate::kernel) fn has_living_child(
        &mut self,
        parent: Id<Task>,
        scope: Scope,
        classes: &[bool],
    ) -> bool {
        self.index_groups(parent, scope);
        let Some(children) = &self.tasks[parent].children else { return false };
        classes.iter().any(|clone_child| children.has_alive(scope, *clone_child))
    }

    /// Builds the index by group at the first wait for a group. Costs O(children) once; later
    /// changes update the index.
    fn index_groups(&mut self, parent: Id<Task>, scope: Scope) {
        let Some(children) = &self.tasks[parent].children else { return };
        if scope.is_none() || children.by_group.is_some() {
            return;
        }
        let mut by_group = ByGroup::default();
        for child in children.list.iter(&self.processes) {
            let process = &self.processes[child];
            if !process.is_zombie() {
                by_group.count(process.group, process.is_clone_child(), 1);
            }
            if let Some(report) = process.report {
                by_group.ready.insert((process.group, report, process.order), child);
            }
        }
        self.children_mut(parent).by_group = Some(Box::new(by_group));
    }

    /// The children of `parent` in list order.
    pub(in crate::kernel) fn children(
        &self,
        parent: Id<Task>,
    ) -> impl Iterator<Item = Id<Process>> + '_ {
        let first = self.tasks[parent].children.as_ref().and_then(|children| children.list.first());
        core::iter::successors(first, |child| self.processes[*child].sibling_links.next())
    }

    /// The number of the parent, as getppid shows it (PID-20).
    pub(in crate::kernel) fn ppid(&self, id: Id<Process>) -> Pid {
        let process = &self.processes[id];
        process.parent.map_or(process.outside, |parent| self.pid_of(self.process_of(parent)))
    }
}
