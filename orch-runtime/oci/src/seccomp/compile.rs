//! From a profile to classic BPF (`seccomp(2)`, `struct seccomp_data`).

use super::profile::{Action, Condition, Operator, Profile};
use super::{ARCHITECTURE, number, table};

/// One instruction of the filter, as the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) jump_true: u8,
    pub(crate) jump_false: u8,
    pub(crate) value: u32,
}

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const GREATER_OR_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// Places in `struct seccomp_data`.
const AT_NUMBER: u32 = 0;
const AT_ARCHITECTURE: u32 = 4;
const AT_ARGS: u32 = 16;

const ENOSYS: u16 = 38;
const EPERM: u16 = 1;
/// The kernel's limit.
const INSTRUCTIONS_MAX: usize = 4096;

fn outcome(action: Action, errno: Option<u16>) -> u32 {
    match action {
        Action::Allow => 0x7fff_0000,
        Action::Errno => 0x0005_0000 | u32::from(errno.unwrap_or(EPERM)),
        Action::KillThread => 0,
        Action::KillProcess => 0x8000_0000,
        Action::Trap => 0x0003_0000,
        Action::Log => 0x7ffc_0000,
        Action::Trace => 0x7ff0_0000 | u32::from(errno.unwrap_or(EPERM)),
    }
}

/// A jump whose false branch leaves the rule; its distance is filled in when the rule is complete.
const LEAVE: u8 = u8::MAX;

fn op(code: u16, value: u32) -> Instruction {
    Instruction {
        code,
        jump_true: 0,
        jump_false: 0,
        value,
    }
}
fn jump(code: u16, value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code,
        jump_true,
        jump_false,
        value,
    }
}

/// Compiles a profile for this architecture. Names that it does not have are passed over.
///
/// # Errors
/// The architecture is not known here, an argument has no such index, or the profile is too long for the kernel.
pub(crate) fn compile(profile: &Profile) -> Result<Vec<Instruction>, String> {
    if ARCHITECTURE == 0 {
        return Err("system call filters are not supported on this architecture".into());
    }
    let default = outcome(profile.default_action, profile.default_errno_ret);
    let mut code = vec![
        op(LOAD, AT_ARCHITECTURE),
        jump(EQUAL, ARCHITECTURE, 1, 0),
        op(RETURN, outcome(Action::Errno, Some(ENOSYS))),
        op(LOAD, AT_NUMBER),
    ];
    for rule in profile.syscalls.iter().filter(|r| !r.args.is_empty()) {
        for number in rule.names.iter().filter_map(|n| number(n)) {
            let start = code.len();
            code.push(jump(EQUAL, number, 0, LEAVE));
            for condition in &rule.args {
                check(condition, &mut code)?;
            }
            code.push(op(RETURN, outcome(rule.action, rule.errno_ret)));
            let end = code.len();
            for (i, instruction) in code.iter_mut().enumerate().skip(start) {
                for target in [&mut instruction.jump_true, &mut instruction.jump_false] {
                    if *target == LEAVE {
                        *target = u8::try_from(end - i - 1)
                            .map_err(|_| "a rule has too many conditions".to_owned())?;
                    }
                }
            }
            code.push(op(LOAD, AT_NUMBER));
        }
    }
    for (first, last, result) in runs(profile) {
        if result == default {
            continue;
        }
        if first == last {
            code.push(jump(EQUAL, first, 0, 1));
        } else {
            code.push(jump(GREATER_OR_EQUAL, first, 0, 2));
            code.push(jump(GREATER, last, 1, 0));
        }
        code.push(op(RETURN, result));
    }
    if profile.default_action == Action::Allow {
        // What is newer than this table nobody has thought about: as if the kernel did not have it.
        let newest = table().map(|(_, n)| n).max().unwrap_or(0);
        code.push(jump(GREATER, newest, 0, 1));
        code.push(op(RETURN, outcome(Action::Errno, Some(ENOSYS))));
    }
    code.push(op(RETURN, default));
    if code.len() > INSTRUCTIONS_MAX {
        return Err(format!(
            "the filter has {} instructions, the kernel takes {INSTRUCTIONS_MAX}",
            code.len()
        ));
    }
    Ok(code)
}

/// The unconditional rules as runs of numbers with one result. The first rule for a number counts.
fn runs(profile: &Profile) -> Vec<(u32, u32, u32)> {
    let mut results = std::collections::BTreeMap::new();
    for rule in profile.syscalls.iter().filter(|r| r.args.is_empty()) {
        for number in rule.names.iter().filter_map(|n| number(n)) {
            results
                .entry(number)
                .or_insert_with(|| outcome(rule.action, rule.errno_ret));
        }
    }
    let mut runs: Vec<(u32, u32, u32)> = Vec::new();
    for (number, result) in results {
        match runs.last_mut() {
            Some((_, last, same)) if *last + 1 == number && *same == result => *last = number,
            _ => runs.push((number, number, result)),
        }
    }
    runs
}

/// Leaves the rule unless the condition holds. Arguments have 64 bits, the machine 32: high half first.
fn check(condition: &Condition, code: &mut Vec<Instruction>) -> Result<(), String> {
    if condition.index > 5 {
        return Err(format!("there is no argument {}", condition.index));
    }
    let low_at = AT_ARGS + 8 * condition.index;
    let high_at = low_at + 4;
    let halves = |v: u64| ((v >> 32) as u32, v as u32);
    let (high, low) = halves(condition.value);
    match condition.op {
        Operator::Equal => code.extend([
            op(LOAD, high_at),
            jump(EQUAL, high, 0, LEAVE),
            op(LOAD, low_at),
            jump(EQUAL, low, 0, LEAVE),
        ]),
        Operator::NotEqual => code.extend([
            op(LOAD, high_at),
            jump(EQUAL, high, 0, 2),
            op(LOAD, low_at),
            jump(EQUAL, low, LEAVE, 0),
        ]),
        Operator::Greater | Operator::GreaterOrEqual => {
            let compare = if condition.op == Operator::Greater {
                GREATER
            } else {
                GREATER_OR_EQUAL
            };
            code.extend([
                op(LOAD, high_at),
                jump(GREATER, high, 3, 0),
                jump(EQUAL, high, 0, LEAVE),
                op(LOAD, low_at),
                jump(compare, low, 0, LEAVE),
            ]);
        }
        Operator::Less | Operator::LessOrEqual => {
            let compare = if condition.op == Operator::Less {
                GREATER_OR_EQUAL
            } else {
                GREATER
            };
            code.extend([
                op(LOAD, high_at),
                jump(GREATER, high, LEAVE, 0),
                jump(EQUAL, high, 0, 2),
                op(LOAD, low_at),
                jump(compare, low, LEAVE, 0),
            ]);
        }
        Operator::MaskedEqual => {
            let (wanted_high, wanted_low) = halves(condition.value_two);
            code.extend([
                op(LOAD, high_at),
                op(AND, high),
                jump(EQUAL, wanted_high, 0, LEAVE),
                op(LOAD, low_at),
                op(AND, low),
                jump(EQUAL, wanted_low, 0, LEAVE),
            ]);
        }
    }
    Ok(())
}
