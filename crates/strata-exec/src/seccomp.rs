//! Docker's default system call filter, compiled here in microseconds, without a C library.
//!
//! What is not on the list fails with EPERM, `clone3` with ENOSYS so that programs fall back to
//! `clone`, whose flags can be checked: no new namespaces. What is newer than the list is answered
//! with ENOSYS, as by runc, so that libraries that try new calls first use old ones. 32-bit
//! programs have their own numbers and their own part of the filter. Any other architecture's
//! calls kill the process.
//!
//! Two things differ from Docker: x32 programs get EPERM, and arguments are compared by the 32
//! bits that the kernel looks at.

use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use serde_json::{Value, json};

mod table;

/// Which numbers a process calls the kernel with; the discriminant is the table's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Abi {
    X86_64 = 0,
    I386 = 1,
    Arm64 = 2,
    Arm = 3,
}

impl Abi {
    /// `AUDIT_ARCH_*` of `linux/audit.h`.
    fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Arm64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// This machine's own and its 32-bit one.
    fn of_this_machine() -> [Self; 2] {
        if cfg!(target_arch = "aarch64") {
            [Self::Arm64, Self::Arm]
        } else {
            [Self::X86_64, Self::I386]
        }
    }
}

/// `CLONE_NEW*` for all namespaces.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// From here on 32-bit ARM has calls of its own, and x86-64 the numbers of x32.
const PRIVATE_NUMBERS: u32 = 0xf_0000;

/// Execution domains: Linux, 32-bit, old time-outs, both, and asking.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Address families below this are allowed,
const FAMILY_LIMIT: u64 = 12;

/// and these. Not: AF_ALG, AF_VSOCK and other ways around the network namespace.
const FAMILIES: [u64; 25] = [
    13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44,
    45,
];

/// The filter could not be made, which no input can cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot compile the system call filter: {0}")]
pub(crate) struct CompileError(#[from] seccompiler::BackendError);

/// The filter for this machine, compiled once by the keeper: what it forks finds it made.
pub(crate) fn compiled() -> Result<BpfProgram, CompileError> {
    static COMPILED: OnceLock<BpfProgram> = OnceLock::new();
    match COMPILED.get() {
        Some(program) => Ok(program.clone()),
        None => {
            let program = compile()?;
            Ok(COMPILED.get_or_init(|| program).clone())
        }
    }
}

/// Compiles the filter for this machine.
fn compile() -> Result<BpfProgram, CompileError> {
    let [native, compat] = Abi::of_this_machine();
    let (native_part, compat_part) = (part(native)?, part(compat)?);
    let mut program = vec![
        // Load the architecture; jump over the native part if it is the 32-bit one.
        statement(0x20, 4),
        jump_if_equal(native.audit(), 3, 0),
        jump_if_equal(compat.audit(), 1, 0),
        statement(0x06, libc::SECCOMP_RET_KILL_PROCESS),
        statement(0x05, u32::try_from(native_part.len()).unwrap_or(u32::MAX)),
    ];
    program.extend(native_part);
    program.extend(compat_part);
    Ok(program)
}

/// The rules for one architecture, without the check for it.
fn part(abi: Abi) -> Result<BpfProgram, CompileError> {
    let number = |row: table::Row| Some((row.0, row.1[abi as usize]?));
    let mut rules = BTreeMap::new();
    let mut clone3 = None;
    for (name, number) in table::rows().filter_map(number) {
        if name == "clone3" {
            clone3 = Some(number);
        } else {
            rules.insert(i64::from(number), conditions(name)?);
        }
    }
    let target = match abi {
        Abi::X86_64 | Abi::I386 => TargetArch::x86_64,
        Abi::Arm64 | Abi::Arm => TargetArch::aarch64,
    };
    let (otherwise, matched) = (errno(libc::EPERM), SeccompAction::Allow);
    let compiled: BpfProgram = SeccompFilter::new(rules, otherwise, matched, target)?.try_into()?;
    let mut program = Vec::new();
    if let Some(clone3) = clone3 {
        program.push(statement(0x20, 0));
        program.push(jump_if_equal(clone3, 0, 1));
        program.push(statement(0x06, u32::from(errno(libc::ENOSYS))));
    }
    program.extend([
        statement(0x20, 0),
        sock_filter { code: 0x25, jt: 0, jf: 2, k: newest(abi) },
        sock_filter { code: 0x35, jt: 1, jf: 0, k: PRIVATE_NUMBERS },
        statement(0x06, u32::from(errno(libc::ENOSYS))),
    ]);
    // The first three instructions check the architecture, which is done already.
    program.extend(compiled.into_iter().skip(3));
    Ok(program)
}

/// The greatest number on the list: what is greater nobody has decided about.
fn newest(abi: Abi) -> u32 {
    let numbers = table::rows().filter_map(|row| row.1[abi as usize]);
    numbers.filter(|number| *number < PRIVATE_NUMBERS).max().unwrap_or(PRIVATE_NUMBERS)
}

fn errno(number: i32) -> SeccompAction {
    SeccompAction::Errno(number.unsigned_abs())
}

/// What a call's first argument must be; without rules, anything.
fn conditions(name: &str) -> Result<Vec<SeccompRule>, CompileError> {
    let equal: Vec<u64> = match name {
        "clone" => return Ok(vec![rule(SeccompCmpOp::MaskedEq(CLONE_NAMESPACES), 0)?]),
        "personality" => PERSONALITIES.to_vec(),
        "socket" => FAMILIES.to_vec(),
        _ => return Ok(Vec::new()),
    };
    let mut rules: Vec<SeccompRule> =
        equal.into_iter().map(|value| rule(SeccompCmpOp::Eq, value)).collect::<Result<_, _>>()?;
    if name == "socket" {
        rules.push(rule(SeccompCmpOp::Lt, FAMILY_LIMIT)?);
    }
    Ok(rules)
}

fn rule(operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, CompileError> {
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn jump_if_equal(k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: 0x15, jt, jf, k }
}

/// Installs a filter for this thread and what it starts. Without `no_new_privs`, that needs
/// CAP_SYS_ADMIN.
#[expect(unsafe_code, reason = "there is no safe door to seccomp(2)")]
pub(crate) fn install(program: &[sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = program.as_ptr().cast_mut().cast::<libc::sock_filter>();
    let program = libc::sock_fprog { len, filter };
    // SAFETY: `program` and the `len` instructions that it points to live until the call returns;
    // the kernel copies them and writes nothing. `seccompiler::sock_filter` is `repr(C)` with
    // the fields of the kernel's `struct sock_filter`.
    let answer = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_usize, &raw const program)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The same filter as an OCI runtime specification has it, for runtimes that compile it.
pub(crate) fn specification() -> Value {
    let mut plain = Vec::new();
    let mut syscalls = Vec::new();
    let mut allow = |name: &str, value: u64, two: u64, op: &str| {
        let argument = json!({ "index": 0, "value": value, "valueTwo": two, "op": op });
        syscalls.push(json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument] }));
    };
    for (name, _) in table::rows() {
        match name {
            "clone" => allow(name, CLONE_NAMESPACES, 0, "SCMP_CMP_MASKED_EQ"),
            "personality" => PERSONALITIES.iter().for_each(|value| {
                allow(name, *value, 0, "SCMP_CMP_EQ");
            }),
            "socket" => {
                allow(name, FAMILY_LIMIT, 0, "SCMP_CMP_LT");
                FAMILIES.iter().for_each(|value| allow(name, *value, 0, "SCMP_CMP_EQ"));
            }
            "clone3" => {}
            name => plain.push(name),
        }
    }
    syscalls.push(json!({ "names": plain, "action": "SCMP_ACT_ALLOW" }));
    let action = "SCMP_ACT_ERRNO";
    syscalls.push(json!({ "names": ["clone3"], "action": action, "errnoRet": libc::ENOSYS }));
    let architectures = match Abi::of_this_machine()[0] {
        Abi::Arm64 => ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    };
    json!({
        "defaultAction": action,
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures,
        "syscalls": syscalls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const ENOSYS: u32 = 0x0005_0026;
    const KILL: u32 = 0x8000_0000;

    /// Runs the filter as the kernel does.
    fn answer(program: &[sock_filter], audit: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let test = match code {
                0x20 => {
                    value = match k {
                        0 => number,
                        4 => audit,
                        16 => argument,
                        _ => 0,
                    };
                    continue;
                }
                0x06 => return k,
                0x54 => {
                    value &= k;
                    continue;
                }
                0x05 => {
                    at += k as usize;
                    continue;
                }
                0x15 => value == k,
                0x25 => value > k,
                0x35 => value >= k,
                code => panic!("unknown instruction {code:#x}"),
            };
            at += usize::from(if test { jt } else { jf });
        }
    }

    fn number(abi: Abi, name: &str) -> u32 {
        let row = table::rows().find(|row| row.0 == name).expect("in the table");
        row.1[abi as usize].expect("the architecture has it")
    }

    #[test]
    fn fits_into_the_kernel() {
        let length = compile().expect("compile").len();
        assert!((1000..4096).contains(&length), "{length}");
    }

    #[test]
    fn answers_as_dockers_profile_for_native_and_32_bit_programs() {
        let program = compile().expect("compile");
        for abi in Abi::of_this_machine() {
            let check = |name: &str, argument: u32, expected: u32| {
                let got = answer(&program, abi.audit(), number(abi, name), argument);
                assert_eq!(got, expected, "{name} {argument:#x} for {abi:?}");
            };
            check("read", 0, ALLOW);
            check("execve", 0, ALLOW);
            check("clone", 0x11, ALLOW);
            check("clone", 0x1000_0000, EPERM);
            check("clone3", 0, ENOSYS);
            check("personality", 0xffff_ffff, ALLOW);
            check("personality", 0x4_0000, EPERM);
            check("socket", 2, ALLOW);
            check("socket", 16, ALLOW);
            check("socket", 38, EPERM);
            check("socket", 40, EPERM);
            assert_eq!(answer(&program, abi.audit(), 9999, 0), ENOSYS);
            assert_eq!(answer(&program, abi.audit(), newest(abi) + 1, 0), ENOSYS);
            assert_eq!(answer(&program, abi.audit(), 0x4000_0001, 0), EPERM);
        }
        let refused = "mount umount2 unshare setns keyctl add_key request_key bpf reboot swapon \
                       init_module kexec_load open_by_handle_at perf_event_open userfaultfd \
                       io_uring_setup fsopen move_mount pidfd_getfd";
        for name in refused.split_ascii_whitespace() {
            assert!(table::rows().all(|row| row.0 != name), "{name}");
        }
        #[cfg(target_arch = "x86_64")]
        for keyctl in [(Abi::X86_64, 250), (Abi::I386, 288)] {
            assert_eq!(answer(&program, keyctl.0.audit(), keyctl.1, 0), EPERM);
        }
        assert_eq!(answer(&program, 0xdead, 0, 0), KILL);
    }

    #[test]
    fn the_table_is_whole_and_names_no_number_twice() {
        for abi in [Abi::X86_64, Abi::I386, Abi::Arm64, Abi::Arm] {
            let mut numbers: Vec<u32> =
                table::rows().filter_map(|row| row.1[abi as usize]).collect();
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert!(count > 250, "{abi:?}: {count}");
            assert!(count - numbers.len() <= 2, "{abi:?}");
        }
    }
}
