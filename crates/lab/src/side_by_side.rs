//! Work on several things at a time, for steps that mostly wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::error::Error;
use crate::progress::check_interrupt;

/// How many at a time.
const AT_ONCE: usize = 4;

/// Does `work` on each item; the first failure stops what has not begun.
pub fn side_by_side<T: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let workers = AT_ONCE.min(items.len());
    let queue = Mutex::new(items.into_iter());
    let failed = AtomicBool::new(false);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || {
        while !failed.load(Ordering::Relaxed) {
            let Some(item) = take() else { return };
            if let Err(error) = check_interrupt().and_then(|()| work(item)) {
                failed.store(true, Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(worker);
        }
    });
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(()), Err)
}
