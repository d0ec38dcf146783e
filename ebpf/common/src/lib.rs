//! The contract between the eBPF programs and user space: sizes, numbers and `#[repr(C)]` values of the maps.
//!
//! Nothing here has padding that the verifier or a reader could trip over: `IntoBytes` does not derive for a type that has.
//! `FromBytes` does not derive for a type that some bits are no value of.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Numbers per ABI. The native maximum was 471 in 2026, x32 ends at 547 (semantics 3.2).
pub const NUMBERS: usize = 1024;
/// Rows of a block: one per ABI, one spare.
pub const ABIS: usize = 4;
/// Bytes of a block: one per number and ABI. A byte, not a bit: a plain store loses no neighbour.
pub const BLOCK: usize = NUMBERS * ABIS;
/// Blocks of a slot: one per phase.
pub const PHASES: u32 = 8;
/// Levels of the cgroup tree that a first sight walks, the root's among them: it sees what lies at level 63 or above.
pub const LEVELS: u32 = 64;
/// Slots that the object declares; user space sets the number it wants at load.
pub const SLOTS: usize = 64;
/// No slot: a cgroup that is not recorded.
pub const NO_SLOT: u32 = u32::MAX;
/// Longest text of an event, in bytes: the file name of an exec, cut.
pub const TEXT: usize = 256;
/// Longest name of a cgroup, in bytes, with its zero: NAME_MAX of linux/limits.h and one.
pub const NAME: usize = 256;

/// ABI rows. On arm64 row 0 is AArch64 and row 1 AArch32.
pub mod abi {
    /// x86_64 or AArch64.
    pub const NATIVE: u32 = 0;
    /// i386 or AArch32.
    pub const COMPAT: u32 = 1;
    /// x32; numbers without bit 30.
    pub const X32: u32 = 2;
}

/// Phases of a process, and so blocks of a slot.
pub mod phase {
    /// Entered before anything started: the runtime, until it executes the application.
    pub const RUNTIME: u32 = 0;
    /// Entered after the application started, nothing executed yet.
    pub const ENTER: u32 = 1;
    /// Executed by a process that entered after the start: exec, probes.
    pub const EXEC: u32 = 2;
    /// What lines called that ended without executing anything; no process has this phase.
    pub const UNDECIDED: u32 = 3;
    /// First of the blocks for programs that the runtime executed: hooks and the application, told apart by their file.
    pub const START: u32 = 4;
    /// How many such blocks there are; later starts share the last.
    pub const STARTS: u32 = super::PHASES - START;
}

/// What a counter above zero means for the set of recorded calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// A call may be missing from the recording.
    Call,
    /// The call that may be missing has a name on arm64 only, where the calls private to 32-bit Arm are out of range.
    ArmCall,
    /// No call is missing, but who made one, or with which arguments, may be.
    Explanation,
}

/// Declares the counters: for each its variant, its name in observation files and its [`Cost`]. Everything else follows.
macro_rules! stats {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $cost:ident;)*) => {
        /// Reasons to have missed something; indices of the `STATS` map.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Stat {
            $($(#[$doc])* $variant,)*
        }

        impl Stat {
            /// Every reason, in the order of the map.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name in observation files.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it costs.
            #[must_use]
            pub const fn cost(self) -> Cost {
                match self {
                    $(Self::$variant => Cost::$cost,)*
                }
            }
        }
    };
}

stats! {
    /// The map of recorded cgroups refused an entry.
    CgroupsFull = "cgroups_full", Call;
    /// No slot was free for a new cgroup.
    SlotsFull = "slots_full", Call;
    /// A call was made deeper than [`LEVELS`] while something was watched that deep: it may have been made below it.
    TooDeep = "too_deep", Call;
    /// A process could not be given a phase; it counted as application.
    NoPhase = "no_phase", Call;
    /// The map of numbers without a name was full.
    UnknownFull = "unknown_full", ArmCall;
    /// The map of denied calls was full.
    DeniedFull = "denied_full", Call;
    /// A map of processes that entered was full: their calls are the runtime's, or they are not named.
    EnteredFull = "entered_full", Call;
    /// The map of arguments was full: values are missing, no call.
    ArgumentsFull = "arguments_full", Explanation;
    /// The ring buffer was full: an explanation is lost, no call.
    RingFull = "ring_full", Explanation;
    /// A thread under a filter left a call, and it is not known whether it had entered it.
    DeniedUnjudged = "denied_unjudged", Explanation;
}

/// Flags of a slot.
pub mod slot_flag {
    /// Whatever enters is the application (`--pid`).
    pub const ALL_APP: u32 = 1;
    /// What enters after the start is the application, not `exec` (`-- CMD`).
    pub const NO_EXEC: u32 = 2;
    /// The kernel saw a filter on a process when it executed the application.
    pub const FILTERED: u32 = 4;
    /// The kernel saw more filters at a process's exit than at its start.
    pub const OWN_FILTER: u32 = 8;
}

/// Value of `KEYS`, by cgroup id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct Cgroup {
    /// The slot that its calls go to.
    pub slot: u32,
    /// 1 once a program was executed here that is not the runtime.
    pub started: u32,
}

/// Value of `SLOTS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct Slot {
    /// [`slot_flag`].
    pub flags: u32,
    /// Programs that the runtime executed so far.
    pub starts: u32,
    /// Raised when the slot is given back: a process of an earlier recording belongs to nothing ([`Process::epoch`]).
    pub epoch: u32,
    /// Processes of the application that went on in a cgroup of another slot: their later calls are there.
    pub left: u32,
    /// Processes from outside that counted as the application when they came in ([`slot_flag::NO_EXEC`]).
    pub joined: u32,
    /// Programs that processes executed which had entered after the start: `exec`, probes.
    pub execs: u32,
    /// Of these, programs that did not begin under exactly one filter more than their parent.
    pub execs_unlike: u32,
    /// Always 0.
    pub pad: u32,
    /// The mount namespace of what was started last (the kernel's pointer, only compared).
    pub mounts: u64,
    /// What was seen at each start; later ones share the last, which keeps the one with the fewest filters of its own.
    pub at: [Start; phase::STARTS as usize],
}

/// What was seen when the runtime executed a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct Start {
    /// Filters on the process.
    pub filters: u32,
    /// Filters on its parent: what it inherited.
    pub inherited: u32,
    /// 1 if its parent was a process of the runtime in the same slot, as a hook's is.
    pub of_runtime: u32,
}

impl Start {
    /// Filters that were loaded for this program.
    #[must_use]
    pub const fn own(&self) -> u32 {
        self.filters.saturating_sub(self.inherited)
    }
}

/// Value of `TASKS`, by thread group id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct Process {
    /// Whose phase this is.
    pub slot: u32,
    /// [`phase`].
    pub phase: u32,
    /// Filters on the process when its program was executed.
    pub filters: u32,
    /// [`Slot::epoch`] of its slot when it got its phase.
    pub epoch: u32,
    /// When its program was executed (`ktime`), 0 if none was since the recording began.
    pub image: u64,
    /// Key of `ENTERED` until it has executed something, else 0.
    pub entry: u64,
}

/// Value of `ENTERED`: a process that came in from outside, and of whose line nobody has executed anything yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct Entered {
    /// Where it entered.
    pub slot: u32,
    /// Its thread group id.
    pub pid: u32,
    /// Its name.
    pub comm: [u8; 16],
    /// Processes of the line that live.
    pub processes: u64,
    /// [`mod@line`].
    pub state: u64,
    /// What its line has called: a block of its own, joined to the runtime's when the line executes something.
    pub calls: [u8; BLOCK],
}

/// States of a line in `ENTERED`.
pub mod line {
    /// One of it has executed a program while others lived: they are the runtime if they do the same.
    pub const EXECUTED: u64 = 1;
    /// After that, another one of it ended without executing anything: a runtime leaves nobody behind.
    pub const STAYED: u64 = 2;
    /// Who entered has forked.
    pub const SEVERAL: u64 = 4;
}

/// Value of `ENDED`: a line that ended without executing anything, by who entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct Ended {
    /// Where it entered.
    pub slot: u32,
    /// The thread group id of who entered.
    pub pid: u32,
    /// Its name.
    pub comm: [u8; 16],
}

/// Key of `UNKNOWN`: a number out of range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct UnknownKey {
    /// As the tracepoint gave it.
    pub nr: u64,
    /// The slot.
    pub slot: u32,
    /// ABI in the upper 16 bits, phase in the lower.
    pub abi_phase: u32,
}

/// Key of `DENIED`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct DeniedKey {
    /// The slot.
    pub slot: u32,
    /// ABI in the upper 16 bits, phase in the lower.
    pub abi_phase: u32,
    /// The number as `orig_ax` holds it, sign-extended.
    pub nr: u64,
    /// What came back, sign-extended: a negative errno, or the number itself for TRAP and KILL.
    pub result: i64,
}

/// Key of `DENIERS`: a process that was denied a call, with the program that it ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct DenierKey {
    /// The call.
    pub denied: DeniedKey,
    /// [`Process::image`].
    pub image: u64,
    /// Thread group id.
    pub pid: u32,
    /// Always 0.
    pub pad: u32,
}

/// Key of `DENIED_ARGS`: arguments of a call that was denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct DeniedArgs {
    /// The call.
    pub denied: DeniedKey,
    /// Its arguments, by the ABI of the call.
    pub args: [u64; 6],
}

/// Distinct arguments that are kept of a denied call.
pub const DENIED_SAMPLES: u32 = 8;

/// Values of `INSIDE`.
pub mod inside {
    /// Outside of a call.
    pub const NO: u32 = 0;
    /// Inside a call that it entered.
    pub const YES: u32 = 1;
}

/// How the arguments of a call are recorded: one or two scalars, masked, joined to one value.
///
/// The calls and masks are user space's (`recorder::arguments`); 32-bit arguments are masked to what the kernel reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct ArgumentRule {
    /// Index of the argument in the lower half, 0 to 5.
    pub low: u32,
    /// Its mask.
    pub low_mask: u32,
    /// Index of the argument in the upper half.
    pub high: u32,
    /// Its mask; 0 without a second argument.
    pub high_mask: u32,
}

/// Rules that the object has room for.
pub const ARGUMENT_RULES: usize = 32;
/// Distinct values kept of a call; one more is the overflow.
pub const ARGUMENT_VALUES: u32 = 32;

/// A byte of a block: never called.
pub const UNSEEN: u8 = 0;
/// A byte of a block: called.
pub const SEEN: u8 = 1;
/// A byte of a block: called, and its arguments are recorded.
pub const SEEN_ARGUMENTS: u8 = 3;

/// Key of `ARG_COUNTS`: a call whose arguments are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct ArgumentCall {
    /// The slot.
    pub slot: u32,
    /// ABI in the upper 16 bits, phase in the lower.
    pub abi_phase: u32,
    /// The number.
    pub nr: u32,
    /// Always 0.
    pub pad: u32,
}

/// Key of `ARGS`: one value of a call's arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct ArgumentKey {
    /// The call.
    pub call: ArgumentCall,
    /// The value by its [`ArgumentRule`].
    pub value: u64,
}

/// Value of `UNKNOWN`, `DENIED` and `DENIERS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct Counted {
    /// Calls.
    pub count: u64,
    /// `ktime` of the first.
    pub time: u64,
    /// Thread group id of the first caller.
    pub pid: u32,
    /// Arguments that are kept of it; of `DENIED` only.
    pub samples: u32,
    /// Name of the first caller.
    pub comm: [u8; 16],
}

/// What an event of the ring buffer is; its first four bytes.
pub mod event {
    /// [`super::Sighting`].
    pub const SIGHTING: u32 = 1;
    /// [`super::Text`]: a program was executed; the text is the file name given to the execve.
    pub const EXEC: u32 = 2;
    /// [`super::Made`].
    pub const MKDIR: u32 = 3;
}

/// A number's first call in a block.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct Sighting {
    /// [`event::SIGHTING`].
    pub kind: u32,
    /// The slot.
    pub slot: u32,
    /// The phase.
    pub phase: u32,
    /// The ABI.
    pub abi: u32,
    /// The number.
    pub nr: u32,
    /// Thread group id.
    pub pid: u32,
    /// `ktime`.
    pub time: u64,
    /// [`Process::image`] of the caller.
    pub image: u64,
    /// Name of the calling task.
    pub comm: [u8; 16],
    /// The six arguments, by the ABI of the call.
    pub args: [u64; 6],
}

/// An exec.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct Text {
    /// [`event::EXEC`].
    pub kind: u32,
    /// The slot.
    pub slot: u32,
    /// The phase after the exec.
    pub phase: u32,
    /// Thread group id of the process that did it.
    pub pid: u32,
    /// `ktime`.
    pub time: u64,
    /// The cgroup's id.
    pub cgroup: u64,
    /// Name of the task.
    pub comm: [u8; 16],
    /// Zero-terminated.
    pub text: [u8; TEXT],
}

/// Bytes kept of a command line; engines call their runtime with some 500.
pub const ARGUMENTS: usize = 1024;

/// A cgroup was made. Who made it may be gone when this is read: so its command line is here.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct Made {
    /// [`event::MKDIR`].
    pub kind: u32,
    /// Thread group id of the process that made it.
    pub pid: u32,
    /// The cgroup's id.
    pub cgroup: u64,
    /// The id of the cgroup that it was made in. A path could be longer than any event: user space keeps the tree.
    pub parent: u64,
    /// Length of the command line, which may be more than is kept.
    pub length: u64,
    /// Own name of the cgroup, zero-terminated.
    pub name: [u8; NAME],
    /// The command line: arguments, each with a zero.
    pub arguments: [u8; ARGUMENTS],
}

/// One record of the `tasks` iterator: what a task is blocked in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
pub struct Blocked {
    /// Its cgroup's id.
    pub cgroup: u64,
    /// `orig_ax` (x86) or `syscallno` (arm64), sign-extended: negative outside of a system call.
    pub nr: i64,
    /// Thread group id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// [`abi`].
    pub abi: u32,
    /// 1 if it sleeps inside the call. Registers of a task that runs may be those of its last call.
    pub asleep: u32,
    /// Name of the task.
    pub comm: [u8; 16],
}

/// Path of a number's byte: ABI row and number.
#[must_use]
pub const fn position(abi: u32, nr: u32) -> usize {
    (abi as usize * NUMBERS + nr as usize) & (BLOCK - 1)
}

/// Sizes that the documents name, and other loaders rely on.
const _: () = {
    assert!(size_of::<Cgroup>() == 8);
    assert!(size_of::<Start>() == 12);
    assert!(size_of::<Slot>() == 40 + 12 * phase::STARTS as usize);
    assert!(size_of::<Process>() == 32);
    assert!(size_of::<Entered>() == 40 + BLOCK);
    assert!(size_of::<Ended>() == 24);
    assert!(size_of::<UnknownKey>() == 16);
    assert!(size_of::<DeniedKey>() == 24);
    assert!(size_of::<DenierKey>() == 40);
    assert!(size_of::<DeniedArgs>() == 72);
    assert!(size_of::<Counted>() == 40);
    assert!(size_of::<ArgumentRule>() == 16);
    assert!(size_of::<ArgumentCall>() == 16);
    assert!(size_of::<ArgumentKey>() == 24);
    assert!(size_of::<Sighting>() == 104);
    assert!(size_of::<Text>() == 48 + TEXT);
    assert!(size_of::<Blocked>() == 48);
    assert!(size_of::<Made>() == 32 + NAME + ARGUMENTS);
    assert!(BLOCK.is_power_of_two());
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_are_indexed_in_order_and_have_names_of_their_own() {
        for (index, stat) in Stat::ALL.into_iter().enumerate() {
            assert_eq!(stat as usize, index);
            let same = |other: &&Stat| other.name() == stat.name();
            assert_eq!(Stat::ALL.iter().filter(same).count(), 1, "{}", stat.name());
        }
    }

    #[test]
    fn positions_of_neighbours_and_rows_do_not_meet() {
        let mut seen = [false; BLOCK];
        for abi in 0..ABIS as u32 {
            for nr in 0..NUMBERS as u32 {
                assert!(!core::mem::replace(&mut seen[position(abi, nr)], true));
            }
        }
    }
}
