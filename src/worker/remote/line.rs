//! Who waits for which lane, in which order, and what is known of each lane. No time passes here and nothing is
//! asked of the database: see `looker.rs`.

use std::collections::{BTreeMap, HashMap};

/// At so many items a claim asks for no more, over all lanes.
const MOST: i32 = 500;
/// The same of one lane, as long as nothing says that there are more.
const FEW: i32 = 16;

/// Someone who waits.
#[derive(Debug)]
pub(super) struct Waiter<T> {
    /// For whom: the subject of the token.
    pub(super) holder: String,
    /// The most items.
    pub(super) most: i32,
    /// Whether it waits until something comes; if not, until it is certain that there is nothing.
    pub(super) patient: bool,
    /// Where the answer goes.
    pub(super) reply: T,
}

/// What is known of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    /// There is nothing to claim, unless the next look finds some.
    Nothing,
    /// There is nothing above the mark.
    NothingAbove,
    /// There may be something.
    Perhaps,
}

#[derive(Debug)]
struct Line<T> {
    waiting: BTreeMap<u64, Waiter<T>>,
    known: Known,
    /// How many items to ask for: it doubles while claims are filled, and is halved when one takes long.
    batch: i32,
    /// The turn in which it was last asked for.
    turn: u64,
    /// In how many looks nobody has stood here.
    deserted: u32,
}

/// What to ask of one lane.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) lane: i32,
    /// Who stands there, whose it is, and how many items it takes; first come, first served.
    pub(super) shares: Vec<(u64, String, i32)>,
}

impl Wish {
    pub(super) fn room(&self) -> i32 {
        self.shares.iter().map(|(_, _, most)| most).sum()
    }
}

/// The lines of all lanes. A line stays for a while when nobody stands there, since its workers come back.
#[derive(Debug)]
pub(super) struct Lines<T> {
    lanes: HashMap<i32, Line<T>>,
    /// The number of the next who comes.
    next: u64,
    turn: u64,
    closed: bool,
}

/// What became of somebody who came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) number: u64,
    /// Whether the line was opened for it.
    pub(super) is_new: bool,
    /// Whether a claim has to look.
    pub(super) look: bool,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self { lanes: HashMap::new(), next: 0, turn: 0, closed: false }
    }
}

impl<T> Lines<T> {
    /// Stands somebody in a line; `None` once all are closed. `hurried` is who cannot stay until the next look.
    pub(super) fn join(&mut self, lane: i32, waiter: Waiter<T>, hurried: bool) -> Option<Joined> {
        if self.closed {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let is_new = !self.lanes.contains_key(&lane);
        let its = self.lanes.entry(lane).or_insert_with(|| Line {
            waiting: BTreeMap::new(),
            known: Known::Perhaps,
            batch: FEW,
            turn: 0,
            deserted: 0,
        });
        if hurried {
            its.known = Known::Perhaps;
        }
        its.deserted = 0;
        its.waiting.insert(number, waiter);
        Some(Joined { number, is_new, look: its.known != Known::Nothing })
    }

    /// Takes somebody out of its line, if it still stands there.
    pub(super) fn leave(&mut self, lane: i32, number: u64) -> Option<Waiter<T>> {
        self.lanes.get_mut(&lane)?.waiting.remove(&number)
    }

    /// There may be something in this lane.
    pub(super) fn ready(&mut self, lane: i32) {
        if let Some(line) = self.lanes.get_mut(&lane) {
            line.known = Known::Perhaps;
        }
    }

    /// The lanes to look at. Those at which nobody has stood for longer than `patience` looks are let go, and come
    /// second.
    pub(super) fn watched(&mut self, patience: u32) -> (Vec<i32>, Vec<i32>) {
        for line in self.lanes.values_mut().filter(|line| line.waiting.is_empty()) {
            line.deserted += 1;
        }
        let gone: Vec<i32> =
            self.lanes.iter().filter(|(_, line)| line.deserted > patience).map(|(lane, _)| *lane).collect();
        for lane in &gone {
            self.lanes.remove(lane);
        }
        (self.lanes.keys().copied().collect(), gone)
    }

    /// The lanes for which somebody waits, and who stands first in each.
    pub(super) fn who_wait(&self) -> impl Iterator<Item = (i32, &str)> {
        self.lanes.iter().filter_map(|(lane, line)| {
            let (_, first) = line.waiting.first_key_value()?;
            Some((*lane, first.holder.as_str()))
        })
    }

    /// Whether there is any line.
    pub(super) fn is_any(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// Whether somebody waits for a claim that looks below the marks.
    pub(super) fn awaits_sweep(&self) -> bool {
        self.lanes.values().any(|line| line.known == Known::NothingAbove && !line.waiting.is_empty())
    }

    /// What to ask for now, of at most so many lanes: those that were not asked for longest come first. From here on
    /// nothing is thought to be there, until something says otherwise. With it the number of the next who comes.
    pub(super) fn wishes(&mut self, sweep: bool, lanes: usize) -> (Vec<Wish>, u64) {
        let least = if sweep { Known::NothingAbove } else { Known::Perhaps };
        let mut asked: Vec<(&i32, &mut Line<T>)> = self
            .lanes
            .iter_mut()
            .filter(|(_, line)| line.known >= least && !line.waiting.is_empty())
            .collect();
        asked.sort_unstable_by_key(|(_, line)| line.turn);
        asked.truncate(lanes);
        self.turn += 1;
        let (mut wishes, mut left) = (Vec::new(), MOST);
        for (lane, line) in asked {
            let mut room = 0;
            let mut shares = Vec::new();
            for (number, waiter) in &line.waiting {
                if room >= line.batch.min(left) {
                    break;
                }
                shares.push((*number, waiter.holder.clone(), waiter.most));
                room += waiter.most;
            }
            if shares.is_empty() {
                break;
            }
            left -= room;
            (line.known, line.turn) = (Known::Nothing, self.turn);
            wishes.push(Wish { lane: *lane, shares });
        }
        (wishes, self.next)
    }

    /// A claim found all that it asked for in this lane, and there may be more. `slow` is one that took long.
    pub(super) fn filled(&mut self, lane: i32, slow: bool) {
        if let Some(its) = self.lanes.get_mut(&lane) {
            its.batch = if slow { (its.batch / 2).max(1) } else { (its.batch * 2).min(MOST) };
            its.known = Known::Perhaps;
        }
    }

    /// A claim found less than it asked for; `sweep` is one that looked below the mark. Then those who do not wait for
    /// more, and came before the number `before`, leave: for them there is nothing.
    pub(super) fn emptied(&mut self, lane: i32, sweep: bool, before: u64) -> Vec<Waiter<T>> {
        let Some(its) = self.lanes.get_mut(&lane) else { return Vec::new() };
        its.batch = its.batch.min(FEW);
        if sweep {
            return self.refuse(lane, before);
        }
        its.known = its.known.max(Known::NothingAbove);
        Vec::new()
    }

    /// Nothing can be claimed of this lane now: who does not wait, leaves.
    pub(super) fn refuse(&mut self, lane: i32, before: u64) -> Vec<Waiter<T>> {
        let Some(its) = self.lanes.get_mut(&lane) else { return Vec::new() };
        its.waiting.extract_if(..before, |_, waiter| !waiter.patient).map(|(_, waiter)| waiter).collect()
    }

    /// Closes one line: all who stand there leave.
    pub(super) fn dissolve(&mut self, lane: i32) -> Vec<Waiter<T>> {
        self.lanes.remove(&lane).map(|line| line.waiting.into_values().collect()).unwrap_or_default()
    }

    /// Closes all lines, for good.
    pub(super) fn close(&mut self) -> Vec<Waiter<T>> {
        self.closed = true;
        self.lanes.drain().flat_map(|(_, line)| line.waiting.into_values()).collect()
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
