//! Writing a program backwards: jumps go forward only, so whatever is jumped to is there already.

use super::{Instruction, low};
use std::collections::BTreeMap;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

/// Pieces that are told apart one after the other: four single numbers at most, between five pieces of the background.
const CHAIN: usize = 9;

/// A comparison of the accumulator with a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Equal = 0x15,
    Greater = 0x25,
    AtLeast = 0x35,
    AnyBit = 0x45,
}

/// An instruction of the program, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label(usize);

/// Numbers from `first` to `last` and where they lead to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) to: Label,
}

#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<Instruction>,
    returns: BTreeMap<u32, Label>,
    /// The last copy of what was out of reach: the same return, or a jump.
    newest: BTreeMap<Label, Label>,
}

impl Assembler {
    pub(super) fn finish(self) -> Vec<Instruction> {
        self.reversed.into_iter().rev().collect()
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    pub(super) fn returns(&mut self, value: u32) -> Label {
        if let Some(label) = self.returns.get(&value) {
            return *label;
        }
        let label = self.push(RETURN, 0, 0, value);
        self.returns.insert(value, label);
        label
    }

    /// Loads a word of the call, and goes on.
    pub(super) fn load(&mut self, word: u32, then: Label) -> Label {
        self.follow(then);
        self.push(LOAD, 0, 0, 4 * word)
    }

    /// Masks the accumulator, and goes on.
    pub(super) fn and(&mut self, mask: u32, then: Label) -> Label {
        self.follow(then);
        self.push(AND, 0, 0, mask)
    }

    pub(super) fn branch(&mut self, test: Test, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        // What brings `yes` near moves `no` one further away.
        let no = self.near(no, usize::from(u8::MAX) - 1);
        let yes = self.near(yes, usize::from(u8::MAX));
        let (jt, jf) = (self.distance(yes), self.distance(no));
        self.push(test as u16, jt as u8, jf as u8, k)
    }

    /// Where a number in the accumulator leads to. The pieces are all numbers that it can have, in order.
    pub(super) fn switch(&mut self, pieces: &[Piece]) -> Option<Label> {
        if let Some(label) = self.chain(pieces) {
            return Some(label);
        }
        // In halves, but so that most chains become as long as they may.
        let middle = match pieces.len() {
            0..=16 => pieces.len() / 2,
            many => many.div_ceil(CHAIN - 1).div_ceil(2) * (CHAIN - 1),
        };
        let (low, high) = pieces.split_at(middle);
        let from = high.first()?.first;
        let yes = self.switch(high)?;
        let no = self.switch(low)?;
        Some(self.branch(Test::AtLeast, from, yes, no))
    }

    /// A few single numbers before one background: one comparison each.
    fn chain(&mut self, pieces: &[Piece]) -> Option<Label> {
        let is_single = |piece: &&Piece| piece.first == piece.last;
        for (background, single) in [(0, 1), (1, 0)] {
            let mut all = pieces.iter().skip(background).step_by(2);
            let singles = pieces.iter().skip(single).step_by(2);
            let Some(to) = all.next().map(|piece| piece.to) else {
                continue;
            };
            if pieces.len() <= CHAIN
                && all.all(|piece| piece.to == to)
                && singles.clone().all(|piece| is_single(&piece))
            {
                return Some(singles.rfold(to, |no, piece| {
                    self.branch(Test::Equal, piece.first, piece.to, no)
                }));
            }
        }
        None
    }

    /// Instructions between the one that comes next (before all others) and a label.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - 1 - label.0
    }

    fn follow(&mut self, label: Label) {
        self.near(label, 0);
    }

    /// The same place within reach.
    fn near(&mut self, label: Label, reach: usize) -> Label {
        let newest = self.newest.get(&label).copied().unwrap_or(label);
        let distance = self.distance(newest);
        if distance <= reach {
            return newest;
        }
        let copy = match self.reversed.get(label.0) {
            Some(Instruction {
                code: RETURN, k, ..
            }) => self.push(RETURN, 0, 0, *k),
            _ => self.push(JUMP, 0, 0, low(distance as u64)),
        };
        self.newest.insert(label, copy);
        copy
    }
}
