//! The running kernel takes our filters, and answers as `Filter::run` does.
#![cfg(target_arch = "x86_64")]

use seccast_model::Arch;
use seccast_model::filter::{Filter, Instruction};
use seccast_model::profile::{Action, Call, Condition, Op, Profile, Rule};

fn rule(name: &str, action: Action, conditions: Vec<Condition>) -> Rule {
    Rule {
        names: [name.to_owned()].into(),
        action,
        conditions,
    }
}

fn condition(index: u8, op: Op, value: u64, value_two: u64) -> Condition {
    Condition {
        index,
        op,
        value,
        value_two,
    }
}

/// Every call is denied with an errno that tells by which rule, but for what the child needs to end.
fn profile() -> Profile {
    let half = u64::from(u32::MAX);
    let mut rules = vec![rule("exit_group", Action::Allow, vec![])];
    let conditions = [
        condition(0, Op::Eq, 1 << 32 | 5, 0),
        condition(1, Op::Ge, 1 << 33 | 7, 0),
        condition(2, Op::Lt, 9, 0),
        condition(3, Op::MaskedEq, half, 11),
        condition(4, Op::MaskedEq, 0xf0 << 32 | 1, 0x20 << 32),
        condition(5, Op::Gt, 1 << 63, 0),
    ];
    for (nth, condition) in (0..).zip(conditions) {
        rules.push(rule(
            "personality",
            Action::Errno(1000 + nth),
            vec![condition],
        ));
    }
    for (nth, name) in (0..).zip(["getppid", "sync", "mseal", "read", "kcmp"]) {
        rules.push(rule(name, Action::Errno(2000 + nth), vec![]));
    }
    // So many values that jumps become long.
    for value in 0..700 {
        let errno = Action::Errno(3000 + (value % 100) as u16);
        rules.push(rule(
            "ioctl",
            errno,
            vec![condition(1, Op::Eq, 3 * value, 0)],
        ));
    }
    Profile {
        default_action: Action::Errno(99),
        rules,
        ..Profile::allowing([].into(), [].into())
    }
}

fn calls() -> Vec<Call> {
    let call = |nr, args| Call {
        arch: Arch::X86_64,
        nr,
        args,
    };
    // exit_group ends the child; uretprobe and uprobe are no calls for programs, and pass every filter since Linux 6.14.
    let mut calls: Vec<Call> = (0..600)
        .filter(|nr| ![231, 335, 336].contains(nr))
        .map(|nr| call(nr, [0, 1, 20, 3, 4, 5]))
        .collect();
    let edges = [
        0,
        5,
        7,
        8,
        9,
        11,
        1 << 32 | 5,
        1 << 33 | 6,
        1 << 33 | 7,
        7 << 32 | 11,
        0x25 << 32 | 2,
        1 << 63,
        u64::MAX,
    ];
    for edge in edges {
        for at in 0..6 {
            let mut args = [0, 0, 20, 0, 1, 0];
            args[at] = edge;
            calls.push(call(135, args));
        }
    }
    calls.extend((0..2200).map(|value| call(16, [0, value, 0, 0, 0, 0])));
    calls
}

/// What libc's `sock_filter` is.
fn program(instructions: &[Instruction]) -> Vec<libc::sock_filter> {
    instructions
        .iter()
        .map(|Instruction { code, jt, jf, k }| libc::sock_filter {
            code: *code,
            jt: *jt,
            jf: *jf,
            k: *k,
        })
        .collect()
}

#[test]
fn the_kernel_answers_alike() {
    let filter = Filter::compile(&profile(), Arch::X86_64).unwrap();
    let expected: Vec<([u64; 7], i32)> = calls()
        .iter()
        .map(|call| {
            let Action::Errno(errno) = filter.run(call) else {
                panic!("{call:?} would be made");
            };
            let [a, b, c, d, e, f] = call.args;
            ([call.nr.into(), a, b, c, d, e, f], errno.into())
        })
        .collect();
    assert_eq!(expected.len(), 597 + 13 * 6 + 2200);
    let mut program = program(filter.instructions());
    let program = libc::sock_fprog {
        len: program.len().try_into().unwrap(),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the child makes system calls only, and ends itself.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: `program` lives; whatever is called is denied by the filter, but for the exit.
        unsafe {
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::syscall(
                    libc::SYS_seccomp,
                    libc::SECCOMP_SET_MODE_FILTER,
                    0,
                    &program,
                ) != 0
            {
                libc::_exit(2);
            }
            for ([nr, a, b, c, d, e, f], errno) in &expected {
                let result = libc::syscall(*nr as i64, *a, *b, *c, *d, *e, *f);
                if result != -1 || *libc::__errno_location() != *errno {
                    libc::_exit(1);
                }
            }
            libc::_exit(0);
        }
    }
    assert!(child > 0);
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "{status:x}");
    let exit = libc::WEXITSTATUS(status);
    assert_eq!(exit, 0, "1: another answer, 2: the filter was refused");
}
