//! Which process a local socket belongs to, as its sender's records said.

use std::collections::HashMap;

use model::Process;

/// Sockets in one generation. Two generations are kept, so at least this many of
/// the latest are known; one entry is about 250 bytes.
const GENERATION: usize = 16_384;

/// Processes by socket cookie. What was not seen for a while is forgotten.
#[derive(Debug, Default)]
pub struct Senders {
    young: HashMap<u64, Process>,
    old: HashMap<u64, Process>,
}

impl Senders {
    /// Remembers a sender; a socket that was passed on belongs to its last user.
    pub fn learn(&mut self, cookie: u64, process: &Process) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(cookie, process.clone());
    }

    /// The process behind a cookie; 0 is no socket.
    pub fn process(&self, cookie: u64) -> Option<&Process> {
        self.young.get(&cookie).or_else(|| self.old.get(&cookie))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> Process {
        Process { pid, ..Process::default() }
    }

    #[test]
    fn a_cookie_means_its_last_user() {
        let mut senders = Senders::default();
        senders.learn(7, &process(1));
        senders.learn(7, &process(2));
        assert_eq!(senders.process(7), Some(&process(2)));
        assert_eq!(senders.process(8), None);
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_known() {
        let mut senders = Senders::default();
        let count = 5 * GENERATION as u64;
        for cookie in 1..=count {
            senders.learn(cookie, &process(1));
        }
        assert!(senders.young.len() + senders.old.len() <= 2 * GENERATION);
        assert!(senders.process(count).is_some());
        assert!(senders.process(count - GENERATION as u64 + 1).is_some());
        assert_eq!(senders.process(1), None);
    }
}
