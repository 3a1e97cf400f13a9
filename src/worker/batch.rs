//! Where a batch ends: at so many items, at so many bytes, and sooner while batches take long.

use std::time::Duration;

/// After a batch that took longer than this the next is half as large; ...
const SLOW: Duration = Duration::from_secs(1);
/// ... after one that was quicker than this it is twice as large, up to the most.
const QUICK: Duration = Duration::from_millis(250);
/// Down to a thousandth.
const MOST_HALVINGS: u32 = 10;

/// How large a batch may be at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    items: usize,
    bytes: usize,
    halvings: u32,
}

impl Size {
    /// Batches of at most so many items and bytes.
    pub const fn new(items: usize, bytes: usize) -> Self {
        Self { items, bytes, halvings: 0 }
    }

    /// Whether an item of this weight may join a batch of so many items and bytes. The first one always may.
    pub const fn has_room(&self, items: usize, bytes: usize, weight: usize) -> bool {
        items == 0 || (items < self.items >> self.halvings && bytes + weight <= self.bytes >> self.halvings)
    }

    /// A batch was written in this time.
    pub const fn took(&mut self, time: Duration) {
        if time.as_nanos() > SLOW.as_nanos() {
            self.failed();
        } else if time.as_nanos() < QUICK.as_nanos() {
            self.halvings = self.halvings.saturating_sub(1);
        }
    }

    /// A batch could not be written in the time that it had.
    pub const fn failed(&mut self) {
        if self.halvings < MOST_HALVINGS {
            self.halvings += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_at_items_or_bytes_and_one_item_always_fits() {
        let size = Size::new(3, 100);
        assert!(size.has_room(0, 0, 1000));
        assert!(size.has_room(2, 50, 50) && !size.has_room(2, 50, 51) && !size.has_room(3, 0, 0));
    }

    #[test]
    fn time_makes_batches_smaller_and_larger_again() {
        let mut size = Size::new(1000, 1 << 20);
        size.took(Duration::from_secs(2));
        assert!(size.has_room(499, 0, 1 << 19) && !size.has_room(500, 0, 0) && !size.has_room(1, 1, 1 << 19));
        size.took(Duration::from_millis(500));
        assert!(!size.has_room(500, 0, 0));
        for _ in 0..20 {
            size.failed();
        }
        assert!(size.has_room(0, 0, 1) && !size.has_room(1, 0, 0));
        for _ in 0..10 {
            size.took(Duration::from_millis(1));
        }
        assert!(size.has_room(999, 0, 0) && !size.has_room(1000, 0, 0));
    }
}
