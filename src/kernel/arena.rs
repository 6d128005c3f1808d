//! Storage by index: what is stored keeps its index until it is taken out.

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::num::NonZeroU32;
use core::ops::{Index, IndexMut};
use core::{fmt, hash};

/// The index of a `T` in its [`Arena`].
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound = ""))]
pub struct Id<T>(NonZeroU32, PhantomData<fn() -> T>);

impl<T> Id<T> {
    fn at(place: usize) -> Id<T> {
        // an arena cannot hold 2^32 elements: pids end at 2^22
        let number = NonZeroU32::new(place as u32 + 1).unwrap_or(NonZeroU32::MAX);
        Id(number, PhantomData)
    }

    fn place(self) -> usize {
        self.0.get() as usize - 1
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

#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
enum Slot<T> {
    Used(T),
    Free(Option<Id<T>>),
}

/// Elements by [`Id`]. Insertion, removal and look-up are O(1).
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Arena<T> {
    slots: Vec<Slot<T>>,
    free: Option<Id<T>>,
    len: u32,
}

impl<T> Arena<T> {
    pub const fn new() -> Arena<T> {
        Arena { slots: Vec::new(), free: None, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn insert(&mut self, element: T) -> Id<T> {
        self.insert_with(|| element)
    }

    /// The same for an element that is written where it stays: one that is large is not moved there.
    #[inline(always)]
    pub fn insert_with(&mut self, make: impl FnOnce() -> T) -> Id<T> {
        self.len += 1;
        let id = self.free.unwrap_or_else(|| self.add_slot());
        let slot = &mut self.slots[id.place()];
        if let Slot::Free(next) = slot {
            self.free = *next;
        }
        *slot = Slot::Used(make());
        id
    }

    /// One more slot, which is free, and the last of those.
    #[cold]
    fn add_slot(&mut self) -> Id<T> {
        if self.slots.len() == self.slots.capacity() {
            // an eighth more and not twice as much: most of what is stored stays; but a world of one
            // process has no room for eight
            let len = self.slots.len();
            self.slots.reserve_exact((len / 8).max(len.clamp(1, 8)));
        }
        self.slots.push(Slot::Free(None));
        Id::at(self.slots.len() - 1)
    }

    /// Takes the element out; its id may be given out again.
    pub fn remove(&mut self, id: Id<T>) {
        self.slots[id.place()] = Slot::Free(self.free);
        self.free = Some(id);
        self.len -= 1;
    }

    /// The elements in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        self.slots.iter().enumerate().filter_map(|(place, slot)| match slot {
            Slot::Used(element) => Some((Id::at(place), element)),
            Slot::Free(_) => None,
        })
    }
}

impl<T> Index<Id<T>> for Arena<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, id: Id<T>) -> &T {
        match &self.slots[id.place()] {
            Slot::Used(element) => element,
            Slot::Free(_) => unreachable!("an id outlived its element"),
        }
    }
}

impl<T> IndexMut<Id<T>> for Arena<T> {
    #[inline(always)]
    fn index_mut(&mut self, id: Id<T>) -> &mut T {
        match &mut self.slots[id.place()] {
            Slot::Used(element) => element,
            Slot::Free(_) => unreachable!("an id outlived its element"),
        }
    }
}

#[cfg(test)]
impl<T> Id<T> {
    pub fn for_test() -> Id<T> {
        Id::at(0)
    }
}
