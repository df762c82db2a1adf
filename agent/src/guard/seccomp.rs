//! seccomp: the calls that a collector has no business with are refused with EPERM.
//!
//! A list of what is refused, not of what is allowed: what glibc, the resolver's modules and the
//! runtime call differs from release to release, and a call that is missed on an allow-list is a
//! node without logs. With no capability but one, and Landlock around files and ports, what remains
//! worth refusing is known: running programs, other processes, namespaces and mounts, kernel
//! interfaces with a history, and what CAP_DAC_READ_SEARCH would open (`open_by_handle_at`).
//!
//! 1. Of bpf(2) the calls on elements remain: look up, update, delete. They need a descriptor.
//! 2. io_uring_enter remains. The rings were made before and are restricted themselves
//!    (`tail/uring.rs`): seccomp does not see what is submitted to them.
//! 3. clone3 is answered with ENOSYS, as container runtimes do: its flags lie in memory that no
//!    filter sees, and the C library then uses clone, whose namespace flags are refused here.
//! 4. Calls by the x32 numbers are refused as a whole: they would pass by the list.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::Mechanism;

const NAME: &str = "seccomp";

/// bpf(2)'s first argument, from linux/bpf.h.
const MAP_LOOKUP_ELEM: u64 = 1;
const MAP_UPDATE_ELEM: u64 = 2;
const MAP_DELETE_ELEM: u64 = 3;

/// Refused whatever the arguments.
const REFUSED: &[c_long] = &[
    // Other programs, and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_personality,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // A descriptor by its inode alone: CAP_DAC_READ_SEARCH would open any file of the node with it.
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // The kernel itself.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    // Interfaces with a history that are not used any more.
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Namespaces by clone(2).
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Applies it.
pub(super) fn refuse() -> Mechanism {
    let filters = match programs() {
        Ok(filters) => filters,
        Err(error) => return Mechanism::lacking(NAME, format!("{error}; every call stays open")),
    };
    for filter in &filters {
        if let Err(error) = apply_filter(filter) {
            return judge(&error);
        }
    }
    let count = REFUSED.len();
    let said = format!("{count} calls are refused; of bpf, map elements alone are left");
    Mechanism::holds(NAME, said)
}

fn judge(error: &seccompiler::Error) -> Mechanism {
    let code = match error {
        seccompiler::Error::Seccomp(error) => error.raw_os_error(),
        _ => None,
    };
    match code {
        Some(libc::ENOSYS | libc::EINVAL) => {
            Mechanism::lacking(NAME, "the kernel has none; every call stays open")
        }
        _ => {
            let cause = io::Error::other(error.to_string());
            Mechanism::refused(NAME, format!("{cause}; every call stays open"))
        }
    }
}

/// The one for clone3, then the list.
fn programs() -> Result<[BpfProgram; 2], BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = |rules, errno: i32| -> Result<BpfProgram, BackendError> {
        let refuse = SeccompAction::Errno(errno.unsigned_abs());
        SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()
    };
    let mut list: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in REFUSED {
        list.insert(*call, Vec::new());
    }
    list.insert(libc::SYS_bpf, vec![unlike_elements()?]);
    list.insert(libc::SYS_clone, namespaces()?);
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let mut list = filter(list, libc::EPERM)?;
    refuse_x32(&mut list);
    Ok([filter(clone3, libc::ENOSYS)?, list])
}

/// Any bpf(2) but on an element of a map.
fn unlike_elements() -> Result<SeccompRule, BackendError> {
    let elements = [MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, MAP_DELETE_ELEM];
    let unlike = |call| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, call);
    SeccompRule::new(elements.into_iter().map(unlike).collect::<Result<_, _>>()?)
}

fn namespaces() -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |flag: libc::c_int| {
        let flag = u64::from(flag.unsigned_abs());
        let has = SeccompCmpOp::MaskedEq(flag);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, has, flag)?;
        SeccompRule::new(vec![condition])
    };
    NAMESPACES.into_iter().map(rule).collect()
}

/// x32 shares x86-64's architecture number and has a bit of its own in the call's.
fn refuse_x32(program: &mut BpfProgram) {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32_BIT: u32 = 0x4000_0000;
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let step = |code, jf, k| seccompiler::sock_filter { code, jt: 0, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let steps = [
        step(LOAD_NUMBER, 0, 0),
        step(JUMP_IF_AT_LEAST, 1, X32_BIT),
        step(RETURN, 0, refuse),
    ];
    program.splice(0..0, steps);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_list_fits_a_filter_and_names_each_call_once() {
        let [clone3, list] = programs().unwrap();
        assert!(!clone3.is_empty() && list.len() < 1024, "{}", list.len());
        let mut calls = REFUSED.to_vec();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), REFUSED.len());
    }
}
