//! Lines for the log about what a transaction writes, and what else is to be told of it. They are written once it has
//! committed: what was rolled back did not happen.

use std::fmt;

/// A line that waits for the commit. Who knows the item has the words for it.
type Line = Box<dyn FnOnce() + Send>;

/// Lines that wait for the commit.
#[derive(Default)]
pub struct Lines(Vec<Line>);

impl Lines {
    /// Adds a line.
    pub fn push(&mut self, line: impl FnOnce() + Send + 'static) {
        self.0.push(Box::new(line));
    }

    /// Adds those of another settlement in the same transaction.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Writes them: the transaction has committed.
    pub(super) fn write(self) {
        for line in self.0 {
            line();
        }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lines").field(&self.0.len()).finish()
    }
}
