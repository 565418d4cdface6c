use super::profile::{Action, Condition, Operator, Rule};
use super::*;
use proptest::prelude::*;

const ALLOW: u32 = 0x7fff_0000;
fn errno(n: u32) -> u32 {
    0x0005_0000 | n
}

/// The kernel's machine, as far as filters use it.
fn run(code: &[Instruction], architecture: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend_from_slice(&number.to_le_bytes());
    data.extend_from_slice(&architecture.to_le_bytes());
    data.extend_from_slice(&0_u64.to_le_bytes());
    for arg in args {
        data.extend_from_slice(&arg.to_le_bytes());
    }
    let (mut at, mut a) = (0, 0_u32);
    loop {
        let i = code[at];
        at += 1;
        let mut branch = |taken: bool| at += usize::from(if taken { i.jump_true } else { i.jump_false });
        match i.code {
            0x20 => {
                let from = i.value as usize;
                a = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
            }
            0x54 => a &= i.value,
            0x15 => branch(a == i.value),
            0x25 => branch(a > i.value),
            0x35 => branch(a >= i.value),
            0x06 => return i.value,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn call(profile: &Profile, name: &str, args: [u64; 6]) -> u32 {
    run(
        &compile(profile).unwrap(),
        ARCHITECTURE,
        number(name).unwrap(),
        args,
    )
}

#[test]
fn the_default_refuses_what_needs_privilege() {
    let profile = runtime_default(&["CAP_CHOWN".into()]);
    for name in ["read", "execve", "ptrace", "chroot", "openat", "seccomp"] {
        assert_eq!(call(&profile, name, [0; 6]), ALLOW, "{name}");
    }
    for name in [
        "mount",
        "bpf",
        "keyctl",
        "reboot",
        "init_module",
        "unshare",
        "io_uring_setup",
    ] {
        assert_eq!(call(&profile, name, [0; 6]), errno(1), "{name}");
    }
    assert_eq!(call(&profile, "clone3", [0; 6]), errno(38));
    assert_eq!(
        call(&profile, "clone", [0x0100_0011, 0, 0, 0, 0, 0]),
        ALLOW,
        "threads and forks"
    );
    assert_eq!(
        call(&profile, "clone", [0x1000_0011, 0, 0, 0, 0, 0]),
        errno(1),
        "a user namespace"
    );
    let code = compile(&profile).unwrap();
    assert_eq!(
        run(&code, ARCHITECTURE, 9999, [0; 6]),
        errno(38),
        "a call that nobody knows"
    );
    assert_eq!(
        run(&code, 0x4000_0003, 0, [0; 6]),
        errno(38),
        "another architecture"
    );
    let able = runtime_default(&["CAP_SYS_ADMIN".into()]);
    assert_eq!(call(&able, "mount", [0; 6]), ALLOW);
    assert_eq!(call(&able, "clone3", [0; 6]), ALLOW);
}

#[test]
fn profiles_of_files_are_understood() {
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13, "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["read", "nonsense"], "action": "SCMP_ACT_ALLOW", "args": null},
                     {"names": ["write"], "action": "SCMP_ACT_ALLOW",
                      "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
                     {"names": ["getpid"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
    let profile: Profile = serde_json::from_str(text).unwrap();
    assert_eq!(call(&profile, "read", [0; 6]), ALLOW);
    assert_eq!(call(&profile, "write", [1, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(call(&profile, "write", [2, 0, 0, 0, 0, 0]), errno(13));
    assert_eq!(call(&profile, "getpid", [0; 6]), 0x8000_0000);
    let index = Condition {
        index: 6,
        value: 0,
        value_two: 0,
        op: Operator::Equal,
    };
    let rule = Rule {
        names: vec!["read".into()],
        action: Action::Allow,
        errno_ret: None,
        args: vec![index],
    };
    let bad = Profile {
        default_action: Action::Allow,
        default_errno_ret: None,
        syscalls: vec![rule],
    };
    assert!(compile(&bad).is_err());
}

proptest! {
    #[test]
    fn conditions_mean_what_they_say(
        value in prop_oneof![any::<u64>(), 0_u64..4, Just(u64::from(u32::MAX)), Just(1 << 32)],
        two in prop_oneof![any::<u64>(), 0_u64..4],
        arg in prop_oneof![any::<u64>(), 0_u64..4, Just(u64::from(u32::MAX)), Just(1 << 32)],
        near in any::<bool>(),
        which in 0_usize..7,
    ) {
        let arg = if near { value.wrapping_add(arg % 3).wrapping_sub(1) } else { arg };
        let (op, holds) = [
            (Operator::Equal, arg == value),
            (Operator::NotEqual, arg != value),
            (Operator::Less, arg < value),
            (Operator::LessOrEqual, arg <= value),
            (Operator::Greater, arg > value),
            (Operator::GreaterOrEqual, arg >= value),
            (Operator::MaskedEqual, arg & value == two),
        ][which];
        let args = vec![Condition { index: 3, value, value_two: two, op }];
        let rule = Rule { names: vec!["read".into()], action: Action::Errno, errno_ret: Some(7), args };
        let profile = Profile { default_action: Action::Allow, default_errno_ret: None, syscalls: vec![rule] };
        let result = call(&profile, "read", [9, 9, 9, arg, 9, 9]);
        prop_assert_eq!(result, if holds { errno(7) } else { ALLOW });
        prop_assert_eq!(call(&profile, "close", [9, 9, 9, arg, 9, 9]), ALLOW);
    }
}
