//! Memory that nobody needs: what the C library's allocator would keep, and code that only the start runs.

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

/// Gives back the pages of the program's code that were read so far: of some 7 MB the start has run
/// two thirds, and nothing will again. What is still run comes back from the page cache. To be called
/// once the threads are about to start.
#[expect(unsafe_code, reason = "the linker's marks, and a call of the kernel")]
pub fn forget_start() {
    // From the first byte of the program to the last of its code there is nothing but pages that are
    // read and run: what is written to (relocated tables too) lies behind.
    let (first, last) = (&raw const __executable_start, &raw const etext);
    let bytes = (last as usize).saturating_sub(first as usize);
    // SAFETY: the pages are mapped from the program's file and never written to, so that each comes
    // back as it was when it is touched; where the kernel refuses, all stays as it is.
    let _ = unsafe { libc::madvise(first.cast_mut().cast(), bytes, libc::MADV_DONTNEED) };
}

#[expect(unsafe_code, reason = "the linker's marks")]
unsafe extern "C" {
    /// Where the program's file begins in memory: GNU ld and lld say so.
    static __executable_start: u8;
    /// Where its code ends.
    static etext: u8;
}
