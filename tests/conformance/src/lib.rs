//! libseccomp as an oracle: the filter that runc and crun make of a profile.
//!
//! [`filter()`] calls the C library in the order in which runc does, and exports the program. Source:
//! `InitSeccomp` and `matchCall` in <https://github.com/opencontainers/runc/blob/v1.3.0/libcontainer/seccomp/seccomp_linux.go>.

use seccast_model::filter::{self, Instruction};
use seccast_model::profile::{Action, Condition, Op, Profile};
use seccast_model::{Arch, syscall};
use std::collections::BTreeSet;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;

/// `struct scmp_arg_cmp`
#[repr(C)]
struct Comparison {
    arg: c_uint,
    op: c_uint,
    datum_a: u64,
    datum_b: u64,
}

#[repr(C)]
struct Version {
    major: c_uint,
    minor: c_uint,
    micro: c_uint,
}

#[link(name = "seccomp")]
unsafe extern "C" {
    fn seccomp_version() -> *const Version;
    fn seccomp_api_set(level: c_uint) -> c_int;
    fn seccomp_init(def_action: u32) -> *mut c_void;
    fn seccomp_release(ctx: *mut c_void);
    fn seccomp_arch_add(ctx: *mut c_void, arch_token: u32) -> c_int;
    fn seccomp_arch_remove(ctx: *mut c_void, arch_token: u32) -> c_int;
    fn seccomp_arch_native() -> u32;
    fn seccomp_attr_set(ctx: *mut c_void, attr: c_uint, value: u32) -> c_int;
    fn seccomp_syscall_resolve_name(name: *const c_char) -> c_int;
    fn seccomp_syscall_resolve_name_arch(arch_token: u32, name: *const c_char) -> c_int;
    fn seccomp_rule_add_array(
        ctx: *mut c_void,
        action: u32,
        syscall: c_int,
        arg_cnt: c_uint,
        arg_array: *const Comparison,
    ) -> c_int;
    fn seccomp_export_bpf(ctx: *mut c_void, fd: c_int) -> c_int;
}

/// `SCMP_FLTATR_CTL_OPTIMIZE`
const OPTIMIZE: c_uint = 8;

/// `__NR_SCMP_ERROR`
const UNKNOWN: c_int = -1;

/// The library's answer where it was not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which of its functions.
    pub function: &'static str,
    /// A negative errno.
    pub code: i32,
}

/// How the program finds a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// The library's default.
    Linear,
    /// What runc asks for where a profile has more than 32 rules.
    Tree,
}

struct Context(*mut c_void);

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by `seccomp_init`, released once.
        unsafe { seccomp_release(self.0) }
    }
}

/// The library's release.
#[must_use]
pub fn version() -> (u32, u32, u32) {
    // SAFETY: the library returns a pointer to its own constant.
    let version = unsafe { &*seccomp_version() };
    (version.major, version.minor, version.micro)
}

/// `SCMP_ARCH_…`: the kernel's numbers, but x32 has one of its own.
fn token(arch: Arch) -> u32 {
    match arch {
        Arch::X32 => 0x4000_003e,
        arch => arch.audit_token(),
    }
}

/// The library's number of a name on an ABI, for x32 with bit 30; `None` where it has none.
///
/// Of calls that i386 can make through a multiplexer the library says only that.
#[must_use]
pub fn nr(arch: Arch, name: &str) -> Option<u32> {
    u32::try_from(pseudo_nr(arch, name)?).ok()
}

fn pseudo_nr(arch: Arch, name: &str) -> Option<c_int> {
    let name = CString::new(name).ok()?;
    // SAFETY: a string that ends with 0, and the library keeps no pointer to it.
    let nr = unsafe { seccomp_syscall_resolve_name_arch(token(arch), name.as_ptr()) };
    (nr != UNKNOWN).then_some(nr)
}

/// Whether i386 can make this call through socketcall(2) or ipc(2): -101 is the first call of the one, -224 the last of the other.
#[must_use]
pub fn is_multiplexed(name: &str) -> bool {
    pseudo_nr(Arch::X86, name).is_some_and(|nr| (-224..=-101).contains(&nr))
}

/// Whether the library has this name at all.
#[must_use]
pub fn knows(name: &str) -> bool {
    resolve(name).is_some()
}

fn resolve(name: &str) -> Option<c_int> {
    let name = CString::new(name).ok()?;
    // SAFETY: as above.
    let nr = unsafe { seccomp_syscall_resolve_name(name.as_ptr()) };
    (nr != UNKNOWN).then_some(nr)
}

/// Our names that the library knows on each ABI that has them.
#[must_use]
pub fn shared_names() -> BTreeSet<&'static str> {
    let agrees = |name: &str, arch: Arch| {
        let bit = if arch == Arch::X32 { 0x4000_0000 } else { 0 };
        (arch == Arch::X86 && is_multiplexed(name))
            || syscall::nr(arch, name).map(|nr| nr | bit) == nr(arch, name)
    };
    syscall::infos()
        .iter()
        .map(|info| info.name)
        .filter(|name| knows(name) && Arch::ALL.into_iter().all(|arch| agrees(name, arch)))
        .collect()
}

/// The filter of a profile on a machine of this architecture.
///
/// # Errors
/// What the library refuses; runtimes then do not create the container.
pub fn filter(
    profile: &Profile,
    native: Arch,
    search: Search,
) -> Result<Vec<Instruction>, Refused> {
    // SAFETY: no pointers. All actions count as known, whatever kernel runs here.
    check("seccomp_api_set", unsafe { seccomp_api_set(6) })?;
    // SAFETY: no pointers.
    let context = Context(unsafe { seccomp_init(filter::value(profile.default_action)) });
    if context.0.is_null() {
        return Err(Refused {
            function: "seccomp_init",
            code: 0,
        });
    }
    let add = |token| {
        // SAFETY: the context lives, here and below.
        match unsafe { seccomp_arch_add(context.0, token) } {
            // EEXIST: it is there already.
            -17 => Ok(()),
            code => check("seccomp_arch_add", code),
        }
    };
    add(token(native))?;
    // SAFETY: as above; the second takes no pointers.
    let here = unsafe { seccomp_arch_native() };
    if here != token(native) {
        check("seccomp_arch_remove", unsafe {
            // SAFETY: as above.
            seccomp_arch_remove(context.0, here)
        })?;
    }
    for arch in profile.architectures.iter().filter_map(|arch| arch.arch()) {
        add(token(arch))?;
    }
    if search == Search::Tree {
        // SAFETY: as above.
        let code = unsafe { seccomp_attr_set(context.0, OPTIMIZE, 2) };
        check("seccomp_attr_set", code)?;
    }
    for rule in &profile.rules {
        if rule.action == profile.default_action {
            continue;
        }
        for nr in rule.names.iter().filter_map(|name| resolve(name)) {
            let indices: BTreeSet<u8> = rule.conditions.iter().map(|c| c.index).collect();
            if indices.len() == rule.conditions.len() {
                add_rule(&context, rule.action, nr, &rule.conditions)?;
            } else {
                for condition in &rule.conditions {
                    add_rule(&context, rule.action, nr, &[*condition])?;
                }
            }
        }
    }
    export(&context)
}

fn add_rule(
    context: &Context,
    action: Action,
    nr: c_int,
    conditions: &[Condition],
) -> Result<(), Refused> {
    let comparisons: Vec<Comparison> = conditions.iter().map(comparison).collect();
    // SAFETY: the context lives, and the library reads as many comparisons as it is told.
    check("seccomp_rule_add", unsafe {
        seccomp_rule_add_array(
            context.0,
            filter::value(action),
            nr,
            comparisons.len() as c_uint,
            comparisons.as_ptr(),
        )
    })
}

/// `enum scmp_compare` has the order of `Op::ALL`, from 1.
fn comparison(condition: &Condition) -> Comparison {
    let op = match condition.op {
        Op::Ne => 1,
        Op::Lt => 2,
        Op::Le => 3,
        Op::Eq => 4,
        Op::Ge => 5,
        Op::Gt => 6,
        Op::MaskedEq => 7,
    };
    Comparison {
        arg: condition.index.into(),
        op,
        datum_a: condition.value,
        datum_b: condition.value_two,
    }
}

fn export(context: &Context) -> Result<Vec<Instruction>, Refused> {
    let broken = Refused {
        function: "seccomp_export_bpf",
        code: 0,
    };
    let mut file = tempfile::tempfile().map_err(|_| broken)?;
    // SAFETY: the context and the file live.
    let code = unsafe { seccomp_export_bpf(context.0, file.as_raw_fd()) };
    check("seccomp_export_bpf", code)?;
    let mut bytes = Vec::new();
    file.rewind().map_err(|_| broken)?;
    file.read_to_end(&mut bytes).map_err(|_| broken)?;
    let (instructions, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(broken);
    }
    let instruction = |[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
        code: u16::from_ne_bytes([*c0, *c1]),
        jt: *jt,
        jf: *jf,
        k: u32::from_ne_bytes([*k0, *k1, *k2, *k3]),
    };
    Ok(instructions.iter().map(instruction).collect())
}

fn check(function: &'static str, code: c_int) -> Result<(), Refused> {
    match code {
        0 => Ok(()),
        code => Err(Refused { function, code }),
    }
}
