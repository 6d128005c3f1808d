//! The list of the model: its links are in its elements, which stay in their arena.

use core::fmt;
use core::hash::{Hash, Hasher};

use crate::kernel::state::arena::{Arena, Id};

/// An element's neighbours in a list.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound = ""))]
pub struct Links<T> {
    previous: Option<Id<T>>,
    next: Option<Id<T>>,
}

impl<T> Links<T> {
    /// The element after this one.
    pub fn next(&self) -> Option<Id<T>> {
        self.next
    }

    /// The element before this one.
    pub fn previous(&self) -> Option<Id<T>> {
        self.previous
    }
}

/// A list that elements can be in. An element can be in several, each with its own field for the
/// links.
pub trait Linked: Sized {
    /// The type of the elements.
    type Element;

    /// The links of an element in this list.
    fn links(element: &Self::Element) -> &Links<Self::Element>;

    /// The links of an element in this list, mutable.
    fn links_mut(element: &mut Self::Element) -> &mut Links<Self::Element>;
}

/// The ends of a list. A change is O(1), and so is a step from one element to the next.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound = ""))]
pub struct List<L: Linked> {
    first: Option<Id<L::Element>>,
    last: Option<Id<L::Element>>,
}

impl<L: Linked> List<L> {
    /// A list without elements.
    pub const fn new() -> List<L> {
        List { first: None, last: None }
    }

    /// A list of one element, whose links are empty.
    pub const fn of(only: Id<L::Element>) -> List<L> {
        List { first: Some(only), last: Some(only) }
    }

    pub fn first(&self) -> Option<Id<L::Element>> {
        self.first
    }

    pub fn last(&self) -> Option<Id<L::Element>> {
        self.last
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Adds an element that is in no such list at the front.
    #[inline(always)]
    pub fn push_front<const I: bool>(
        &mut self,
        arena: &mut Arena<L::Element, I>,
        id: Id<L::Element>,
    ) {
        let next = self.first.replace(id);
        *L::links_mut(&mut arena[id]) = Links { previous: None, next };
        match next {
            Some(next) => L::links_mut(&mut arena[next]).previous = Some(id),
            None => self.last = Some(id),
        }
    }

    /// Adds an element that is in no such list at the end.
    #[inline(always)]
    pub fn push_back<const I: bool>(
        &mut self,
        arena: &mut Arena<L::Element, I>,
        id: Id<L::Element>,
    ) {
        let previous = self.last.replace(id);
        *L::links_mut(&mut arena[id]) = Links { previous, next: None };
        match previous {
            Some(previous) => L::links_mut(&mut arena[previous]).next = Some(id),
            None => self.first = Some(id),
        }
    }

    /// Removes an element. Its links keep their values until it is added to a list again.
    #[inline(always)]
    pub fn remove<const I: bool>(&mut self, arena: &mut Arena<L::Element, I>, id: Id<L::Element>) {
        let Links { previous, next } = *L::links(&arena[id]);
        match previous {
            Some(previous) => L::links_mut(&mut arena[previous]).next = next,
            None => self.first = next,
        }
        match next {
            Some(next) => L::links_mut(&mut arena[next]).previous = previous,
            None => self.last = previous,
        }
    }

    /// The elements, from the first to the last.
    pub fn iter<'a>(
        &self,
        arena: &'a Arena<L::Element>,
    ) -> impl Iterator<Item = Id<L::Element>> + use<'a, L> {
        core::iter::successors(self.first, |id| L::links(&arena[*id]).next)
    }
}

impl<T> Clone for Links<T> {
    fn clone(&self) -> Links<T> {
        *self
    }
}

impl<T> Copy for Links<T> {}

impl<T> Default for Links<T> {
    fn default() -> Links<T> {
        Links { previous: None, next: None }
    }
}

impl<T> PartialEq for Links<T> {
    fn eq(&self, other: &Links<T>) -> bool {
        (self.previous, self.next) == (other.previous, other.next)
    }
}

impl<T> Eq for Links<T> {}

impl<T> Hash for Links<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.previous, self.next).hash(state);
    }
}

impl<T> fmt::Debug for Links<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}..{:?}", self.previous, self.next)
    }
}

impl<L: Linked> Clone for List<L> {
    fn clone(&self) -> List<L> {
        List { first: self.first, last: self.last }
    }
}

impl<L: Linked> Default for List<L> {
    fn default() -> List<L> {
        List::new()
    }
}

impl<L: Linked> PartialEq for List<L> {
    fn eq(&self, other: &List<L>) -> bool {
        (self.first, self.last) == (other.first, other.last)
    }
}

impl<L: Linked> Eq for List<L> {}

impl<L: Linked> Hash for List<L> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.first, self.last).hash(state);
    }
}

impl<L: Linked> fmt::Debug for List<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}..{:?}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    struct Node(Links<Node>);

    enum Nodes {}

    impl Linked for Nodes {
        type Element = Node;

        fn links(node: &Node) -> &Links<Node> {
            &node.0
        }

        fn links_mut(node: &mut Node) -> &mut Links<Node> {
            &mut node.0
        }
    }

    #[test]
    fn elements_are_added_at_both_ends_and_removed_anywhere() {
        let mut arena = Arena::new();
        let [a, b, c] = [(); 3].map(|()| arena.insert(Node(Links::default())));
        for gone in [a, b, c] {
            let mut list = List::<Nodes>::new();
            list.push_back(&mut arena, b);
            list.push_front(&mut arena, a);
            list.push_back(&mut arena, c);
            assert_eq!((list.first(), list.last()), (Some(a), Some(c)));
            list.remove(&mut arena, gone);
            let left: Vec<_> = [a, b, c].into_iter().filter(|id| *id != gone).collect();
            assert_eq!(list.iter(&arena).collect::<Vec<_>>(), left);
            assert_eq!((list.first(), list.last()), (Some(left[0]), Some(left[1])));
            for id in left {
                list.remove(&mut arena, id);
            }
            assert!(list.is_empty() && list == List::new());
        }
    }
}
