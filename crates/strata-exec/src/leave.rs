//! The end of the program.

/// Ends the process at once. What is buffered must have been written: nothing runs any more, no
/// destructor and no `atexit` handler. Those of the database's library alone take as long as a
/// tenth of a build that finds everything, and only give memory back.
#[expect(unsafe_code, reason = "std's exit runs handlers")]
pub fn leave(code: u8) -> ! {
    // SAFETY: _exit(2) takes no pointers, and may be called at any moment, from any thread.
    unsafe { libc::_exit(i32::from(code)) }
}
