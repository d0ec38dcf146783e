//! From a profile to a filter.

use super::assemble::{Assembler, Label, Piece, Test};
use super::{Filter, MAX_INSTRUCTIONS, high, library, low, value};
use crate::arch::Arch;
use crate::profile::{Action, Condition, Effect, Op, Profile, Width, X32_BIT, precedence, width};
use std::collections::{BTreeMap, BTreeSet};

/// Why a profile cannot be a filter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// More instructions than the kernel takes.
    #[error(
        "the profile makes a filter of {instructions} instructions, more than the {max} that the kernel takes: list fewer \
         architectures, or allow calls without conditions that have many of them",
        max = MAX_INSTRUCTIONS
    )]
    TooLong {
        /// As many it would have.
        instructions: usize,
    },
    /// More than the kernel takes as libseccomp writes them, by which runtimes compile profiles.
    #[error(
        "libseccomp makes of the profile a filter of at least {instructions} instructions, more than the {max} that the kernel takes, so \
         runtimes cannot load it: allow calls without conditions that have many of them",
        max = MAX_INSTRUCTIONS
    )]
    TooLongForLibrary {
        /// As many it would have at least.
        instructions: usize,
    },
}

/// The words of `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 1;
const ARGUMENTS: u32 = 4;

impl Filter {
    /// The filter of a profile on a machine of this architecture: for each call it answers as [`decide`](crate::profile::decide) does.
    ///
    /// Numbers are found by binary search. Where arguments do not matter, only what the kernel (5.11) can follow without running the
    /// filter is used, so that it keeps the answer.
    ///
    /// # Errors
    /// When it, or the one that libseccomp makes, would be too long for the kernel.
    pub fn compile(profile: &Profile, native: Arch) -> Result<Self, CompileError> {
        let mut program = Program {
            profile,
            native,
            code: Assembler::default(),
        };
        // The native architecture is asked for first, so it is written last.
        let mut tokens: Vec<u32> = vec![native.audit_token()];
        for arch in Arch::ALL {
            let token = arch.audit_token();
            if profile.covers(native, arch) && !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        let mut start = program.action(Action::KillThread);
        for token in tokens.into_iter().rev() {
            let section = program.section(token);
            start = program.code.branch(Test::Equal, token, section, start);
        }
        program.code.load(ARCHITECTURE, start);
        let instructions = program.code.finish();
        if instructions.len() > MAX_INSTRUCTIONS {
            return Err(CompileError::TooLong {
                instructions: instructions.len(),
            });
        }
        // What is tried here has to be what a runtime can load.
        let least = library::least_instructions(profile, native);
        if least > MAX_INSTRUCTIONS {
            return Err(CompileError::TooLongForLibrary {
                instructions: least,
            });
        }
        Ok(Self { instructions })
    }
}

struct Program<'a> {
    profile: &'a Profile,
    native: Arch,
    code: Assembler,
}

impl Program<'_> {
    fn action(&mut self, action: Action) -> Label {
        self.code.returns(value(action))
    }

    /// What follows when the kernel's architecture is this one.
    fn section(&mut self, token: u32) -> Label {
        let default = self.action(self.profile.default_action);
        let kill = self.action(Action::KillThread);
        let mut numbers = Numbers::new(default);
        for arch in Arch::ALL
            .into_iter()
            .filter(|arch| arch.audit_token() == token)
        {
            if !self.profile.covers(self.native, arch) {
                match arch {
                    // x32 has the same architecture and other numbers; -1 is what a tracer sets to skip a call.
                    Arch::X32 => numbers.set(X32_BIT, u32::MAX - 1, kill),
                    _ => numbers.set(0, X32_BIT - 1, kill),
                }
                continue;
            }
            let mut labels: BTreeMap<Effect, Label> = BTreeMap::new();
            for (nr, effect) in self.profile.effects_by_number(arch) {
                let label = match labels.get(&effect) {
                    Some(label) => *label,
                    None => {
                        let label = self.effect(&effect, width(arch));
                        labels.insert(effect, label);
                        label
                    }
                };
                numbers.set(nr, nr, label);
            }
        }
        let start = self.code.switch(&numbers.pieces()).unwrap_or(kill);
        self.code.load(NUMBER, start)
    }

    fn effect(&mut self, effect: &Effect, width: Width) -> Label {
        match effect {
            Effect::Always(action) => self.action(*action),
            Effect::ByArguments { rules, otherwise } => {
                let mut next = self.action(*otherwise);
                for alternative in alternatives(rules, width) {
                    next = self.alternative(&alternative, width, next);
                }
                next
            }
        }
    }

    fn alternative(&mut self, alternative: &Alternative, width: Width, no: Label) -> Label {
        match alternative {
            Alternative::All(conditions, action) => {
                let yes = self.action(*action);
                conditions.iter().rev().fold(yes, |yes, condition| {
                    self.condition(*condition, width, yes, no)
                })
            }
            Alternative::OneOf {
                index,
                upper,
                lower,
            } => {
                let mut numbers = Numbers::new(no);
                for (value, action) in lower {
                    let yes = self.action(*action);
                    numbers.set(*value, *value, yes);
                }
                let start = self.code.switch(&numbers.pieces()).unwrap_or(no);
                let lower = self.code.load(lower_word(*index), start);
                match upper {
                    Some(upper) => {
                        let start = self.code.branch(Test::Equal, *upper, lower, no);
                        self.code.load(upper_word(*index), start)
                    }
                    None => lower,
                }
            }
        }
    }

    fn condition(&mut self, condition: Condition, width: Width, yes: Label, no: Label) -> Label {
        let Condition {
            index,
            op,
            value,
            value_two,
        } = condition;
        let opposite = match op {
            Op::Ne => Some(Op::Eq),
            Op::Lt => Some(Op::Ge),
            Op::Le => Some(Op::Gt),
            _ => None,
        };
        if let Some(op) = opposite {
            return self.condition(Condition { op, ..condition }, width, no, yes);
        }
        if op == Op::MaskedEq {
            let lower = match low(value) {
                0 => yes,
                mask => self.masked(lower_word(index), mask, low(value_two), yes, no),
            };
            return match high(value) {
                0 => lower,
                mask => self.masked(upper_word(index), mask, high(value_two), lower, no),
            };
        }
        let test = match op {
            Op::Ge => Test::AtLeast,
            Op::Gt => Test::Greater,
            _ => Test::Equal,
        };
        let start = self.code.branch(test, low(value), yes, no);
        let lower = self.code.load(lower_word(index), start);
        if width == Width::Bits32 {
            return lower;
        }
        let equal = self.code.branch(Test::Equal, high(value), lower, no);
        let start = match test {
            Test::Equal => equal,
            _ => self.code.branch(Test::Greater, high(value), yes, equal),
        };
        self.code.load(upper_word(index), start)
    }

    fn masked(&mut self, word: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
        let start = if value == 0 && mask != u32::MAX {
            self.code.branch(Test::AnyBit, mask, no, yes)
        } else {
            let start = self.code.branch(Test::Equal, value, yes, no);
            match mask {
                u32::MAX => start,
                mask => self.code.and(mask, start),
            }
        };
        self.code.load(word, start)
    }
}

fn lower_word(index: u8) -> u32 {
    ARGUMENTS + 2 * u32::from(index)
}

fn upper_word(index: u8) -> u32 {
    lower_word(index) + 1
}

/// What is or-bound.
enum Alternative {
    All(BTreeSet<Condition>, Action),
    /// One argument is one of these values: the usual case, and the loads are shared.
    OneOf {
        index: u8,
        /// `None` where the upper half does not matter.
        upper: Option<u32>,
        lower: BTreeMap<u32, Action>,
    },
}

/// The last first, since code is written backwards.
fn alternatives(rules: &BTreeSet<(BTreeSet<Condition>, Action)>, width: Width) -> Vec<Alternative> {
    let mut sorted: Vec<_> = rules.iter().collect();
    sorted.sort_by(|(one, _), (other, _)| precedence(one, other).reverse());
    let mut all: Vec<Alternative> = Vec::new();
    for (conditions, action) in sorted {
        let mut each = conditions.iter();
        let only = match (each.next(), each.next()) {
            (Some(only), None) => one_value(*only, width),
            _ => None,
        };
        match (only, all.last_mut()) {
            // Different values of one argument do not meet.
            (
                Some((at, half, value)),
                Some(Alternative::OneOf {
                    index,
                    upper,
                    lower,
                }),
            ) if (at, half) == (*index, *upper) => {
                lower.insert(value, *action);
            }
            (Some((index, upper, value)), _) => all.push(Alternative::OneOf {
                index,
                upper,
                lower: [(value, *action)].into(),
            }),
            (None, _) => all.push(Alternative::All(conditions.clone(), *action)),
        }
    }
    all
}

/// Index, upper half (where it matters) and lower half of the only value for which a condition holds.
fn one_value(condition: Condition, width: Width) -> Option<(u8, Option<u32>, u32)> {
    let Condition {
        index,
        op,
        value,
        value_two,
    } = condition;
    match (op, width) {
        (Op::Eq, Width::Bits32) => Some((index, None, low(value))),
        (Op::Eq, Width::Bits64) => Some((index, Some(high(value)), low(value))),
        (Op::MaskedEq, _) if value == u64::from(u32::MAX) => Some((index, None, low(value_two))),
        _ => None,
    }
}

/// Where each number leads to.
struct Numbers {
    background: Label,
    /// By first number: last number and label; they do not overlap.
    ranges: BTreeMap<u32, (u32, Label)>,
}

impl Numbers {
    fn new(background: Label) -> Self {
        Self {
            background,
            ranges: BTreeMap::new(),
        }
    }

    fn set(&mut self, first: u32, last: u32, to: Label) {
        self.ranges.insert(first, (last, to));
    }

    /// All numbers, those that lead to one place joined.
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut push = |first: u32, last: u32, to: Label| match pieces.last_mut() {
            Some(piece) if piece.to == to => piece.last = last,
            _ => pieces.push(Piece { first, last, to }),
        };
        let mut next = Some(0_u32);
        for (first, (last, to)) in &self.ranges {
            if let Some(from) = next
                && from < *first
            {
                push(from, first - 1, self.background);
            }
            push(*first, *last, *to);
            next = last.checked_add(1);
        }
        if let Some(from) = next {
            push(from, u32::MAX, self.background);
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Call, OciArch, Rule, decide};
    use crate::syscall;

    fn rule(names: &[&str], action: Action, conditions: Vec<Condition>) -> Rule {
        Rule {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            action,
            conditions,
        }
    }

    fn eq(index: u8, value: u64) -> Condition {
        Condition {
            index,
            op: Op::Eq,
            value,
            value_two: 0,
        }
    }

    fn profile(architectures: &[Arch], rules: Vec<Rule>) -> Profile {
        let architectures = architectures.iter().map(|arch| OciArch::from(*arch));
        Profile {
            rules,
            ..Profile::allowing(BTreeSet::new(), architectures.collect())
        }
    }

    /// Every number that a table has, and some that none has, of every ABI.
    fn numbers() -> Vec<(Arch, u32)> {
        let odd = [
            1023,
            0x3fff_ffff,
            0x4000_0000,
            0x7fff_ffff,
            0x8000_0000,
            u32::MAX,
        ];
        let all = Arch::ALL.into_iter().flat_map(|arch| {
            let known = syscall::table(arch).iter().map(|call| call.nr);
            known.chain(odd).map(move |nr| (arch, nr))
        });
        all.collect()
    }

    /// Answers with these arguments are those of `decide`; the length is returned.
    fn check(profile: &Profile, native: Arch, args: &[[u64; 6]]) -> usize {
        let filter = Filter::compile(profile, native).unwrap();
        for (arch, nr) in numbers() {
            for args in args {
                let call = Call {
                    arch,
                    nr,
                    args: *args,
                };
                assert_eq!(
                    filter.run(&call),
                    decide(profile, native, &call),
                    "{native}: {call:x?}"
                );
            }
        }
        filter.instructions().len()
    }

    #[test]
    fn an_allowlist_needs_no_instruction_for_each_name() {
        let names: Vec<&str> = syscall::table(Arch::X86_64)
            .iter()
            .map(|call| call.name)
            .filter(|name| !name.starts_with('s'))
            .collect();
        let of = |architectures: &[Arch]| {
            let allow = profile(architectures, vec![rule(&names, Action::Allow, vec![])]);
            Arch::ALL.map(|native| check(&allow, native, &[[0; 6]]))
        };
        assert_eq!(names.len(), 311);
        assert_eq!(of(&[]), [91, 137, 142, 71, 127, 72]);
        assert_eq!(of(&Arch::ALL), [618; 6]);
    }

    #[test]
    fn every_comparison_of_every_argument() {
        let edges = [
            0,
            1,
            5,
            (1 << 32) - 1,
            1 << 32,
            (1 << 32) + 5,
            5 << 32,
            u64::MAX,
        ];
        let masks = [1, 0xff, 0xffff_ffff, 0xff << 32, (0xff << 32) | 1, u64::MAX];
        for index in 0..6_u8 {
            let mut args = Vec::new();
            for edge in edges {
                for near in [edge.wrapping_sub(1), edge, edge.wrapping_add(1)] {
                    let mut each = [3; 6];
                    each[usize::from(index)] = near;
                    args.push(each);
                }
            }
            for op in Op::ALL {
                let masks: &[u64] = if op == Op::MaskedEq { &masks } else { &[0] };
                for (edge, mask) in edges
                    .iter()
                    .flat_map(|e| masks.iter().map(move |m| (*e, *m)))
                {
                    let condition = if op == Op::MaskedEq {
                        Condition {
                            index,
                            op,
                            value: mask,
                            value_two: edge,
                        }
                    } else {
                        Condition {
                            index,
                            op,
                            value: edge,
                            value_two: 0,
                        }
                    };
                    let rules = vec![rule(&["personality"], Action::Log, vec![condition])];
                    let profile = profile(&[Arch::X86, Arch::X32], rules);
                    let filter = Filter::compile(&profile, Arch::X86_64).unwrap();
                    for (arch, nr) in [(Arch::X86_64, 135), (Arch::X86, 136), (Arch::X32, 135)] {
                        for args in &args {
                            let call = Call {
                                arch,
                                nr,
                                args: *args,
                            };
                            let expect = decide(&profile, Arch::X86_64, &call);
                            assert_eq!(filter.run(&call), expect, "{condition:x?} {call:x?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_value_of_an_argument_is_little_more_than_an_instruction() {
        let values = |count: u64| {
            let rules = (0..count).map(|nth| {
                // Sparse, so that there are no ranges.
                rule(&["ioctl"], Action::Allow, vec![eq(1, 0x5000 + 3 * nth)])
            });
            profile(&[], rules.collect())
        };
        let args = [
            0x4fff,
            0x5000,
            0x5001,
            0x5003,
            0x53bd,
            0x53c0,
            1 << 32 | 0x5003,
        ];
        let args = args.map(|value| [0, value, 0, 0, 0, 0]);
        let length = |count| {
            let profile = values(count);
            let filter = Filter::compile(&profile, Arch::X86_64).unwrap();
            for args in args {
                let call = Call {
                    arch: Arch::X86_64,
                    nr: 16,
                    args,
                };
                let expect = decide(&profile, Arch::X86_64, &call);
                assert_eq!(filter.run(&call), expect, "{call:x?}");
            }
            filter.instructions().len()
        };
        let base = length(1);
        assert_eq!(length(320), base + 401);
        assert_eq!(length(3000), base + 3784);
        // libseccomp has no room for these, either.
        assert_eq!(
            Filter::compile(&values(4000), Arch::X86_64),
            Err(CompileError::TooLong { instructions: 5067 })
        );
    }

    #[test]
    fn the_first_of_several_rules_decides() {
        let rules = vec![
            rule(&["bpf"], Action::KillProcess, vec![eq(0, 1)]),
            rule(&["bpf"], Action::Notify, vec![eq(0, 1), eq(1, 2)]),
            rule(&["bpf"], Action::Errno(1), vec![eq(1, 2), eq(2, 3)]),
            rule(&["bpf"], Action::Log, vec![eq(2, 3), eq(0, 1)]),
        ];
        let mut args = Vec::new();
        for bits in 0..8_u64 {
            args.push([bits & 1, bits & 2, 3 * (bits >> 2), 0, 0, 0]);
        }
        check(&profile(&[Arch::X86], rules), Arch::X86_64, &args);
    }
}
