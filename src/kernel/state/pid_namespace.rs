//! The numbers of a pid namespace: the pid object of each number, and the search for the next free
//! number.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use crate::abi::Errno;
use crate::kernel::state::arena::Id;
use crate::kernel::state::pid::PidObject;

/// Numbers below this are allocated only before the first wrap (PID-03).
const RESERVED: u32 = 300;
const PAGE: usize = 64;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Page {
    used: u64,
    /// The object of each number. The first page is as long as its highest number in use needs;
    /// others have full length.
    objects: Box<[Option<Id<PidObject>>]>,
}

impl Page {
    /// A page of free numbers.
    fn new(is_first: bool) -> Page {
        let len = if is_first { 0 } else { PAGE };
        Page { used: 0, objects: vec![None; len].into() }
    }

    /// The place of a number of this page.
    #[inline]
    fn object_mut(&mut self, bit: usize) -> &mut Option<Id<PidObject>> {
        if self.objects.len() <= bit {
            self.grow(bit);
        }
        &mut self.objects[bit]
    }

    /// Grows the first page to a power of two: a small model needs one page, and fills it from its
    /// beginning.
    #[cold]
    fn grow(&mut self, bit: usize) {
        let mut longer = mem::take(&mut self.objects).into_vec();
        let len = (bit + 1).next_power_of_two();
        longer.reserve_exact(len - longer.len());
        longer.resize(len, None);
        self.objects = longer.into();
    }
}

/// The numbers of a pid namespace: a table of pages, each with a bitmap of the numbers in use.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PidNamespace {
    pages: Vec<Option<Page>>,
    /// One bit a page: all its numbers are in use.
    full: Vec<u64>,
    cursor: u32,
    max: u32,
}

impl PidNamespace {
    pub fn new(max: u32, cursor: u32) -> PidNamespace {
        PidNamespace { pages: Vec::new(), full: Vec::new(), cursor, max }
    }

    pub fn max(&self) -> u32 {
        self.max
    }

    /// Makes the search for the next number begin after `last` (PID-12).
    pub fn set_last(&mut self, last: u32) {
        self.move_cursor(last.saturating_add(1));
    }

    /// The object with that number (find_pid_ns). O(1).
    #[inline]
    pub fn find(&self, number: u32) -> Option<Id<PidObject>> {
        let page = self.pages.get(number as usize / PAGE)?.as_ref()?;
        *page.objects.get(number as usize % PAGE)?
    }

    /// Gives the object that number, which was free.
    pub fn enter(&mut self, number: u32, object: Id<PidObject>) {
        let page = number as usize / PAGE;
        if self.pages.len() <= page {
            if self.pages.is_empty() {
                // most models need no more
                self.pages.reserve_exact(page + 1);
                self.full.reserve_exact(page / 64 + 1);
            }
            self.pages.resize(page + 1, None);
            self.full.resize(page / 64 + 1, 0);
        }
        let bit = number as usize % PAGE;
        let entry = self.pages[page].get_or_insert_with(|| Page::new(page == 0));
        *entry.object_mut(bit) = Some(object);
        entry.used |= 1 << bit;
        self.full[page / 64] |= u64::from(entry.used == u64::MAX) << (page % 64);
    }

    /// Frees that number.
    pub fn free(&mut self, number: u32) {
        let page = number as usize / PAGE;
        let Some(Some(entry)) = self.pages.get_mut(page) else { return };
        let bit = number as usize % PAGE;
        *entry.object_mut(bit) = None;
        entry.used &= !(1 << bit);
        self.full[page / 64] &= !(1 << (page % 64));
        self.release_page(page);
    }

    /// How many numbers are in use. O(pages).
    pub fn used(&self) -> usize {
        let pages = self.pages.iter().flatten();
        pages.map(|page| page.used.count_ones() as usize).sum()
    }

    /// Frees the memory of a page whose numbers are all free, unless the next number is likely to
    /// be in the page.
    fn release_page(&mut self, page: usize) {
        if page != self.cursor as usize / PAGE
            && let Some(place) = self.pages.get_mut(page)
            && place.as_ref().is_some_and(|page| page.used == 0)
        {
            *place = None;
        }
    }

    /// Makes the search for the next number begin at `to`.
    fn move_cursor(&mut self, to: u32) {
        let before = mem::replace(&mut self.cursor, to);
        if before as usize / PAGE != to as usize / PAGE {
            self.release_page(before as usize / PAGE);
        }
    }

    /// The next number (PID-01), which is free until an object is entered with it. EAGAIN if there
    /// is none (PID-05).
    ///
    /// Costs a step for each 4,096 numbers in use between the cursor and the next free one.
    pub fn next_free(&mut self) -> Result<u32, Errno> {
        // PID-04: the restart base depends on the cursor, not on the numbers in use
        let base = if self.cursor > RESERVED { RESERVED } else { 1 };
        let start = self.cursor.max(base);
        let number = self
            .first_free(start)
            // PID-03: from the base again, inclusive
            .or_else(|| if start > base { self.first_free(base) } else { None })
            .ok_or(Errno::EAGAIN)?;
        self.move_cursor(number + 1);
        Ok(number)
    }

    /// The smallest free number from `start` on, below the maximum (PID-02).
    fn first_free(&self, start: u32) -> Option<u32> {
        let mut page = start as usize / PAGE;
        let mut skip = (1u64 << (start as usize % PAGE)) - 1;
        loop {
            let used = match self.pages.get(page) {
                Some(Some(entry)) => entry.used,
                _ => 0,
            } | skip;
            if used != u64::MAX {
                let number = (page * PAGE) as u32 + used.trailing_ones();
                return (number < self.max).then_some(number);
            }
            skip = 0;
            page = self.next_page_with_room(page + 1);
            if page * PAGE >= self.max as usize {
                return None;
            }
        }
    }

    /// The first page from `page` on that is not full.
    fn next_page_with_room(&self, page: usize) -> usize {
        let mut word = page / 64;
        let mut skip = (1u64 << (page % 64)) - 1;
        while let Some(full) = self.full.get(word) {
            let taken = full | skip;
            if taken != u64::MAX {
                return word * 64 + taken.trailing_ones() as usize;
            }
            skip = 0;
            word += 1;
        }
        page.max(word * 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(numbers: &mut PidNamespace) -> Result<u32, Errno> {
        let number = numbers.next_free()?;
        numbers.enter(number, Id::for_test());
        Ok(number)
    }

    fn give(numbers: &mut PidNamespace, number: u32) {
        numbers.free(number);
    }

    #[test]
    fn numbers_ascend_wrap_to_300_and_run_out() {
        let mut numbers = PidNamespace::new(330, 1);
        for expected in 1..330 {
            assert_eq!(take(&mut numbers), Ok(expected)); // PID-01, PID-02
        }
        assert_eq!(take(&mut numbers), Err(Errno::EAGAIN));
        give(&mut numbers, 7);
        assert_eq!(take(&mut numbers), Err(Errno::EAGAIN)); // PID-05
        give(&mut numbers, 300);
        assert_eq!(take(&mut numbers), Ok(300)); // PID-03
        give(&mut numbers, 320);
        give(&mut numbers, 305);
        assert_eq!(take(&mut numbers), Ok(305));
        assert_eq!(take(&mut numbers), Ok(320));
    }

    #[test]
    fn a_free_number_is_found_after_full_pages() {
        let mut numbers = PidNamespace::new(100_000, 1);
        for _ in 1..50_000 {
            take(&mut numbers).expect("there is room");
        }
        assert_eq!(numbers.first_free(1), Some(50_000));
        give(&mut numbers, 20_480);
        assert_eq!(numbers.first_free(1), Some(20_480));
        assert_eq!(numbers.first_free(20_481), Some(50_000));
    }

    #[test]
    fn the_base_is_1_until_the_cursor_has_passed_300() {
        let mut numbers = PidNamespace::new(301, 299);
        assert_eq!(take(&mut numbers), Ok(299));
        assert_eq!(take(&mut numbers), Ok(300));
        // the cursor is 301 now: only 300 is left to look at, and that is taken
        assert_eq!(take(&mut numbers), Err(Errno::EAGAIN)); // PID-04
    }
}
