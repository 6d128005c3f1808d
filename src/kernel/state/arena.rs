//! Storage by index: an element keeps its index until it is removed.

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::num::NonZeroU32;
use core::ops::{Index, IndexMut};
use core::{fmt, hash};

/// The place of a `T` in its [`Arena`], for code that knows that the element exists, such as the
/// lists that run through the elements. Places are reused; a [`Handle`] refers to one element only.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound = ""))]
pub struct Id<T>(NonZeroU32, PhantomData<fn() -> T>);

impl<T> Id<T> {
    fn at(place: usize) -> Id<T> {
        // place 0 stays free, and an arena cannot hold 2^32 elements: pids end at 2^22
        Id(NonZeroU32::new(place as u32).unwrap_or(NonZeroU32::MAX), PhantomData)
    }

    fn place(self) -> usize {
        self.0.get() as usize
    }
}

/// The identity of a `T`: its place, and how often the place was vacated before. No identity is
/// used twice: a stale handle refers to no element.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound = ""))]
pub struct Handle<T> {
    id: Id<T>,
    generation: u32,
}

impl<T> Handle<T> {
    /// The place and the generation.
    pub fn parts(self) -> (u32, u32) {
        (self.id.0.get(), self.generation)
    }

    /// The handle with these parts; `None` if there is no such place.
    pub fn from_parts(place: u32, generation: u32) -> Option<Handle<T>> {
        Some(Handle { id: Id(NonZeroU32::new(place)?, PhantomData), generation })
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Handle<T> {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Handle<T>) -> bool {
        (self.id, self.generation) == (other.id, other.generation)
    }
}

impl<T> Eq for Handle<T> {}

impl<T> hash::Hash for Handle<T> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        (self.id, self.generation).hash(state);
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}.{}", self.id, self.generation)
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Id<T> {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Id<T>) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Id<T> {}

impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Id<T>) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Id<T>) -> core::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T> hash::Hash for Id<T> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
enum ArenaSlot<T> {
    Used(T),
    Free(Option<Id<T>>),
}

/// Elements by [`Id`]. Insertion, removal and look-up are O(1). With `IDENTITIES` the elements have
/// identities that outlive them ([`Handle`]), for 4 bytes each.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Arena<T, const IDENTITIES: bool = false> {
    /// The first slot is never used, so that the number of an id is its place.
    slots: Vec<ArenaSlot<T>>,
    /// How often each place was vacated; empty without `IDENTITIES`.
    generations: Vec<u32>,
    free: Option<Id<T>>,
    len: u32,
}

impl<T, const IDENTITIES: bool> Arena<T, IDENTITIES> {
    pub const fn new() -> Arena<T, IDENTITIES> {
        Arena { slots: Vec::new(), generations: Vec::new(), free: None, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn insert(&mut self, element: T) -> Id<T> {
        self.insert_with(|| element)
    }

    /// As [`Arena::insert`], for an element that is constructed in place: a large element is not
    /// moved.
    #[inline(always)]
    pub fn insert_with(&mut self, make: impl FnOnce() -> T) -> Id<T> {
        self.len += 1;
        let id = self.free.unwrap_or_else(|| self.add_slot());
        let slot = &mut self.slots[id.place()];
        if let ArenaSlot::Free(next) = slot {
            self.free = *next;
        }
        *slot = ArenaSlot::Used(make());
        id
    }

    /// Adds a slot, which is then the only free one.
    #[cold]
    fn add_slot(&mut self) -> Id<T> {
        if self.slots.len() == self.slots.capacity() {
            // grows by an eighth and not to twice the size, because most elements stay; a model of
            // one process has no room for eight
            let len = self.slots.len();
            let more = (len / 8).max(len.clamp(2, 8));
            self.slots.reserve_exact(more);
            if IDENTITIES {
                self.generations.reserve_exact(more);
            }
        }
        if self.slots.is_empty() {
            self.slots.push(ArenaSlot::Free(None));
        }
        self.slots.push(ArenaSlot::Free(None));
        if IDENTITIES {
            self.generations.resize(self.slots.len(), 0);
        }
        Id::at(self.slots.len() - 1)
    }

    /// Removes the element. Its place is reused, unless all identities of the place were used.
    pub fn remove(&mut self, id: Id<T>) {
        self.len -= 1;
        if IDENTITIES {
            let generation = &mut self.generations[id.place()];
            *generation = generation.saturating_add(1);
            if *generation == u32::MAX {
                self.slots[id.place()] = ArenaSlot::Free(None);
                return;
            }
        }
        self.slots[id.place()] = ArenaSlot::Free(self.free);
        self.free = Some(id);
    }

    /// The id of the next element, for two elements that refer to each other.
    #[inline]
    pub fn next_id(&self) -> Id<T> {
        self.free.unwrap_or_else(|| Id::at(self.slots.len().max(1)))
    }

    /// The element at that place; `None` if there is none.
    #[inline]
    pub fn get(&self, id: Id<T>) -> Option<&T> {
        match self.slots.get(id.place())? {
            ArenaSlot::Used(element) => Some(element),
            ArenaSlot::Free(_) => None,
        }
    }

    /// The element at that place, mutable; `None` if there is none.
    #[inline]
    pub fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        match self.slots.get_mut(id.place())? {
            ArenaSlot::Used(element) => Some(element),
            ArenaSlot::Free(_) => None,
        }
    }

    /// The elements in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        self.slots.iter().enumerate().filter_map(|(place, slot)| match slot {
            ArenaSlot::Used(element) => Some((Id::at(place), element)),
            ArenaSlot::Free(_) => None,
        })
    }
}

impl<T> Arena<T, true> {
    /// The identity of an element that exists.
    pub fn handle(&self, id: Id<T>) -> Handle<T> {
        Handle { id, generation: self.generations[id.place()] }
    }

    /// The place of the element with that identity; `None` if the element was removed.
    pub fn resolve(&self, handle: Handle<T>) -> Option<Id<T>> {
        let same = self.generations.get(handle.id.place()) == Some(&handle.generation);
        (same && self.get(handle.id).is_some()).then_some(handle.id)
    }
}

impl<T, const IDENTITIES: bool> Index<Id<T>> for Arena<T, IDENTITIES> {
    type Output = T;

    #[inline(always)]
    fn index(&self, id: Id<T>) -> &T {
        match &self.slots[id.place()] {
            ArenaSlot::Used(element) => element,
            ArenaSlot::Free(_) => unreachable!("an id outlived its element"),
        }
    }
}

impl<T, const IDENTITIES: bool> IndexMut<Id<T>> for Arena<T, IDENTITIES> {
    #[inline(always)]
    fn index_mut(&mut self, id: Id<T>) -> &mut T {
        match &mut self.slots[id.place()] {
            ArenaSlot::Used(element) => element,
            ArenaSlot::Free(_) => unreachable!("an id outlived its element"),
        }
    }
}

#[cfg(test)]
impl<T> Id<T> {
    pub fn for_test() -> Id<T> {
        Id::at(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_refers_to_no_element() {
        let mut arena = Arena::<i32, true>::new();
        let id = arena.insert(1);
        let first = arena.handle(id);
        assert_eq!(arena.resolve(first), Some(id));
        arena.remove(id);
        assert_eq!(arena.resolve(first), None);
        assert_eq!(arena.insert(2), id, "the place is used again");
        assert_eq!(arena.resolve(first), None);
        assert_ne!(arena.handle(id), first);
    }

    #[test]
    fn a_place_that_was_vacated_too_often_is_not_reused() {
        let mut arena = Arena::<i32, true>::new();
        let id = arena.insert(1);
        arena.generations[id.place()] = u32::MAX - 1;
        let last = arena.handle(id);
        arena.remove(id);
        assert_ne!(arena.insert(2), id);
        assert_eq!(arena.resolve(last), None);
    }
}
