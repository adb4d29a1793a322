//! Work that may be killed on the way.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// Does `work` in a child of this process. True: it was killed; false: it came to its
/// end. Its destructors are the child's own affair.
#[track_caller]
pub fn is_killed_in(work: impl FnOnce()) -> bool {
    // SAFETY: the child runs on the only thread that it has, ends by `_exit` and takes
    // no lock that another thread could have held: the others of this process wait.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let code = i32::from(catch_unwind(AssertUnwindSafe(work)).is_err());
            // SAFETY: ends the child without running anything of its parent's.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
            WaitStatus::Signaled(_, Signal::SIGKILL, _) => true,
            WaitStatus::Exited(_, 0) => false,
            other => panic!("{other:?}"),
        },
    }
}
