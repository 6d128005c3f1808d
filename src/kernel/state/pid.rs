//! Pid objects (the kernel's struct pid): the task, group and session of a number of the namespace.

use alloc::format;
use alloc::string::String;
use core::num::NonZeroU32;
use core::ops::Index;

use crate::abi::{Errno, Pgid, Pid, Sid};
use crate::kernel::api::identity::PidId;
use crate::kernel::state::arena::{Arena, Handle, Id};
use crate::kernel::state::group::{Group, Session};
use crate::kernel::state::pid_namespace::PidNamespace;
use crate::kernel::state::task::Task;

/// A number, which is below 2^22, stored as its successor: no value is zero, so that a slot of an
/// arena needs no tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Number(NonZeroU32);

impl Number {
    fn new(number: u32) -> Number {
        Number(NonZeroU32::MIN.saturating_add(number))
    }

    #[inline]
    fn get(self) -> u32 {
        self.0.get() - 1
    }
}

/// The identity of a number. Tasks, processes, groups and sessions hold the object; the
/// namespace leads from a number to it. The number is free again when the object names nothing
/// (PID-08), and a later object with the number has another identity.
///
/// The model has one pid namespace, so an object has one number.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PidObject {
    number: Number,
    task: Option<Id<Task>>,
    group: Option<Id<Group>>,
    session: Option<Id<Session>>,
}

// Each task has one.
const _: () = assert!(size_of::<Option<PidObject>>() <= 16, "a pid object has grown");

impl PidObject {
    /// The number, as a pid.
    #[inline]
    pub fn pid(&self) -> Pid {
        Pid(self.number.get())
    }

    /// The number, as that of a group.
    #[inline]
    pub fn pgid(&self) -> Pgid {
        Pgid(self.number.get())
    }

    /// The number, as that of a session.
    #[inline]
    pub fn sid(&self) -> Sid {
        Sid(self.number.get())
    }

    /// The task, alive or dead (PIDTYPE_PID). The leader of a process has the object of the
    /// process.
    #[inline]
    pub fn task(&self) -> Option<Id<Task>> {
        self.task
    }

    /// The group (PIDTYPE_PGID).
    #[inline]
    pub fn group(&self) -> Option<Id<Group>> {
        self.group
    }

    /// The session (PIDTYPE_SID).
    #[inline]
    pub fn session(&self) -> Option<Id<Session>> {
        self.session
    }

    fn names_nothing(&self) -> bool {
        self.task.is_none() && self.group.is_none() && self.session.is_none()
    }
}

/// The pid objects and the numbers that lead to them. An object is in both or in none.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Pids {
    objects: Arena<PidObject, true>,
    namespace: PidNamespace,
}

impl Pids {
    /// No object. The search for the first number begins at `cursor`; all are below `max`.
    pub fn new(max: u32, cursor: u32) -> Pids {
        Pids { objects: Arena::new(), namespace: PidNamespace::new(max, cursor) }
    }

    /// The bound of the numbers (pid_max).
    pub fn max(&self) -> u32 {
        self.namespace.max()
    }

    /// Makes the search for the next number begin after `last` (PID-12).
    pub fn set_last(&mut self, last: u32) {
        self.namespace.set_last(last);
    }

    /// The object with that number (find_vpid).
    #[inline]
    pub fn find(&self, number: u32) -> Option<Id<PidObject>> {
        self.namespace.find(number)
    }

    /// A new object with the next number (alloc_pid). It has the number until it is freed, although
    /// it names nothing yet. EAGAIN if there is no number (PID-05).
    ///
    /// Costs a step for each 4,096 numbers in use between the last number and the next free one.
    pub fn allocate(&mut self) -> Result<Id<PidObject>, Errno> {
        let number = self.namespace.next_free()?;
        Ok(self.insert(number))
    }

    /// The object with that number, created if there is none: for the numbers of the first process
    /// in the configuration.
    pub fn get_or_create(&mut self, number: u32) -> Id<PidObject> {
        self.find(number).unwrap_or_else(|| self.insert(number))
    }

    fn insert(&mut self, number: u32) -> Id<PidObject> {
        let id = self.objects.insert(PidObject {
            number: Number::new(number),
            task: None,
            group: None,
            session: None,
        });
        self.namespace.enter(number, id);
        id
    }

    /// Frees an object that names nothing, and its number (free_pid). No effect on an object that
    /// names a task, group or session.
    #[inline]
    pub fn free_unused(&mut self, id: Id<PidObject>) {
        if self.objects[id].names_nothing() {
            self.namespace.free(self.objects[id].number.get());
            self.objects.remove(id);
        }
    }

    /// The object names that task from now on, in place of any other (attach_pid).
    #[inline]
    pub fn attach_task(&mut self, id: Id<PidObject>, task: Id<Task>) {
        self.objects[id].task = Some(task);
    }

    /// The object names no task any more (detach_pid).
    #[inline]
    pub fn detach_task(&mut self, id: Id<PidObject>) {
        self.objects[id].task = None;
        self.free_unused(id);
    }

    /// The object names that group.
    #[inline]
    pub fn attach_group(&mut self, id: Id<PidObject>, group: Id<Group>) {
        self.objects[id].group = Some(group);
    }

    /// The object names no group any more.
    #[inline]
    pub fn detach_group(&mut self, id: Id<PidObject>) {
        self.objects[id].group = None;
        self.free_unused(id);
    }

    /// The object names that session.
    pub fn attach_session(&mut self, id: Id<PidObject>, session: Id<Session>) {
        self.objects[id].session = Some(session);
    }

    /// The object names no session any more.
    pub fn detach_session(&mut self, id: Id<PidObject>) {
        self.objects[id].session = None;
        self.free_unused(id);
    }

    /// Checks that each object has its number, and that each number has an object.
    ///
    /// # Errors
    ///
    /// The first object or number without its counterpart, in words.
    pub fn check(&self) -> Result<(), String> {
        for (id, object) in self.objects.iter() {
            if self.find(object.number.get()) != Some(id) {
                return Err(format!("the number {} does not lead to its object", object.pid()));
            }
        }
        if self.objects.len() == self.namespace.used() {
            Ok(())
        } else {
            Err("a number in use has no object".into())
        }
    }

    /// The identity of an object that exists.
    #[inline]
    pub fn identity(&self, id: Id<PidObject>) -> PidId {
        let (place, generation) = self.objects.handle(id).parts();
        PidId { place, generation }
    }

    /// The object with that identity; `None` if it was freed.
    #[inline]
    pub fn resolve(&self, identity: PidId) -> Option<Id<PidObject>> {
        self.objects.resolve(Handle::from_parts(identity.place, identity.generation)?)
    }
}

impl Index<Id<PidObject>> for Pids {
    type Output = PidObject;

    #[inline(always)]
    fn index(&self, id: Id<PidObject>) -> &PidObject {
        &self.objects[id]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_in_use_until_its_object_names_nothing() {
        let mut pids = Pids::new(400, 1);
        let id = pids.allocate().expect("all numbers are free");
        let identity = pids.identity(id);
        pids.attach_session(id, Id::for_test());
        pids.attach_group(id, Id::for_test());
        pids.detach_group(id);
        assert_eq!(pids.find(1), Some(id)); // PID-08
        pids.detach_session(id);
        assert_eq!((pids.find(1), pids.resolve(identity)), (None, None));
        // the next object with that number has another identity
        let next = pids.get_or_create(1);
        assert_eq!(pids[next].pid(), Pid(1));
        assert_ne!(pids.identity(next), identity);
        assert_eq!(pids.resolve(identity), None);
    }

    #[test]
    fn a_number_of_a_fork_that_was_given_up_is_free() {
        let mut pids = Pids::new(400, 7);
        let id = pids.allocate().expect("all numbers are free");
        assert_eq!(pids.find(7), Some(id));
        pids.free_unused(id);
        assert_eq!(pids.find(7), None);
    }
}
