//! Storage by index: what is stored keeps its index until it is taken out.

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::num::NonZeroU32;
use core::ops::{Index, IndexMut};
use core::{fmt, hash};

/// The identity of a `T` in its [`Arena`]: a place, and how often that place had been given up
/// when the element came there. An identity is never given out twice, so that a stale one names
/// nobody.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound = ""))]
pub struct Id<T> {
    place: NonZeroU32,
    generation: u32,
    #[cfg_attr(feature = "serde", serde(skip))]
    element: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    fn at(place: usize, generation: u32) -> Id<T> {
        // an arena cannot hold 2^32 elements: pids end at 2^22
        let place = NonZeroU32::new(place as u32 + 1).unwrap_or(NonZeroU32::MAX);
        Id { place, generation, element: PhantomData }
    }

    fn place(self) -> usize {
        self.place.get() as usize - 1
    }

    fn key(self) -> (NonZeroU32, u32) {
        (self.place, self.generation)
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
        self.key() == other.key()
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
        self.key().cmp(&other.key())
    }
}

impl<T> hash::Hash for Id<T> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.place, self.generation)
    }
}

/// One place of an arena.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Slot<T> {
    /// How often the place was given up.
    generation: u32,
    /// The place that was given up before this one, while this one is free.
    next_free: Option<NonZeroU32>,
    element: Option<T>,
}

/// Elements by [`Id`]. Insertion, removal and look-up are O(1).
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Arena<T> {
    slots: Vec<Slot<T>>,
    /// The place, counted from 1, that was given up last.
    free: Option<NonZeroU32>,
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

    /// The id that the next element gets: for two that name each other.
    #[inline]
    pub fn next_id(&self) -> Id<T> {
        match self.free {
            Some(place) => {
                let place = place.get() as usize - 1;
                Id::at(place, self.slots[place].generation)
            }
            None => Id::at(self.slots.len(), 0),
        }
    }

    /// As [`Arena::insert`], for an element that is written where it stays: one that is large is not moved there.
    #[inline(always)]
    pub fn insert_with(&mut self, make: impl FnOnce() -> T) -> Id<T> {
        self.len += 1;
        let place = match self.free {
            Some(place) => place.get() as usize - 1,
            None => self.add_slot(),
        };
        let slot = &mut self.slots[place];
        self.free = slot.next_free.take();
        slot.element = Some(make());
        Id::at(place, slot.generation)
    }

    /// One more slot, which is free, and the last of those.
    #[cold]
    fn add_slot(&mut self) -> usize {
        if self.slots.len() == self.slots.capacity() {
            // an eighth more and not twice as much: most of what is stored stays; but a world of one
            // process has no room for eight
            let len = self.slots.len();
            self.slots.reserve_exact((len / 8).max(len.clamp(1, 8)));
        }
        self.slots.push(Slot { generation: 0, next_free: None, element: None });
        self.slots.len() - 1
    }

    /// Takes the element out. Its place may be given out again, its id is not, but for a place that
    /// was given up 2^32 times: that one is left unused.
    pub fn remove(&mut self, id: Id<T>) {
        let slot = &mut self.slots[id.place()];
        debug_assert!(slot.generation == id.generation && slot.element.is_some());
        slot.element = None;
        self.len -= 1;
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            slot.next_free = self.free;
            self.free = Some(id.place);
        }
    }

    /// The element of that id; `None` if it was taken out.
    #[inline]
    pub fn get(&self, id: Id<T>) -> Option<&T> {
        let slot = self.slots.get(id.place())?;
        slot.element.as_ref().filter(|_| slot.generation == id.generation)
    }

    /// The element of that id, to be changed; `None` if it was taken out.
    #[inline]
    pub fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.place())?;
        slot.element.as_mut().filter(|_| slot.generation == id.generation)
    }

    /// The elements in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        self.slots.iter().enumerate().filter_map(|(place, slot)| {
            slot.element.as_ref().map(|element| (Id::at(place, slot.generation), element))
        })
    }
}

impl<T> Index<Id<T>> for Arena<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, id: Id<T>) -> &T {
        let slot = &self.slots[id.place()];
        match &slot.element {
            Some(element) if slot.generation == id.generation => element,
            _ => unreachable!("an id outlived its element"),
        }
    }
}

impl<T> IndexMut<Id<T>> for Arena<T> {
    #[inline(always)]
    fn index_mut(&mut self, id: Id<T>) -> &mut T {
        let slot = &mut self.slots[id.place()];
        match &mut slot.element {
            Some(element) if slot.generation == id.generation => element,
            _ => unreachable!("an id outlived its element"),
        }
    }
}

#[cfg(test)]
impl<T> Id<T> {
    pub fn for_test() -> Id<T> {
        Id::at(0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_names_nobody() {
        let mut arena = Arena::new();
        let first = arena.insert(1);
        arena.remove(first);
        let second = arena.insert(2);
        assert_eq!((arena.get(first), arena.get(second)), (None, Some(&2)));
        assert_ne!(first, second);
        assert_eq!(arena.slots.len(), 1, "the place is used again");
    }
}
