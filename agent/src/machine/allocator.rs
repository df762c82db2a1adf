//! The C library's allocator, told to keep little for itself.

/// Two arenas, and freed memory goes back to the system: an agent with many short bursts otherwise keeps
/// what the largest of them took. To be called before there is a second thread.
#[expect(unsafe_code, reason = "a call of the C library")]
pub fn tune() {
    for (option, value) in [
        (libc::M_ARENA_MAX, 2),
        (libc::M_MMAP_THRESHOLD, KEPT_BYTES),
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES),
    ] {
        // SAFETY: the call takes two numbers and touches nothing of ours; what it refuses stays as it was.
        let _ = unsafe { libc::mallopt(option, value) };
    }
}

/// Free bytes at an arena's end that are kept, and the size from which blocks are mapped by themselves.
const KEPT_BYTES: libc::c_int = 256 << 10;
