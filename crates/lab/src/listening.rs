//! Whether programs listen on the ports that say they are ready: looked up in the
//! kernel's tables, so that no packet is sent and no flow is seen for it.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::journal::Journal;
use crate::places::Places;
use crate::process::Process;
use crate::progress::check_interrupt;

/// A database that is made anew on a busy machine takes seconds.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// `TCP_LISTEN` as `/proc/net/tcp` writes it (proc(5)).
const LISTEN: &str = "0A";

/// A port on which a process should listen.
struct Wanted {
    who: String,
    process: Process,
    port: u16,
}

/// Waits until every port of the journal that says so is listened on.
pub fn wait(places: &Places, journal: &Journal) -> Result<(), Error> {
    let mut wanted = wanted(journal);
    let deadline = Instant::now() + LIMIT;
    loop {
        wanted.retain(|it| !listens(it));
        let Some(first) = wanted.first() else { return Ok(()) };
        check_interrupt()?;
        if Instant::now() > deadline || !first.process.is_alive() {
            let what = format!("{} (nobody listens on port {})", first.who, first.port);
            return Err(Error::NotReady { what, seconds: LIMIT.as_secs(), log: places.logs() });
        }
        thread::sleep(PAUSE);
    }
}

fn wanted(journal: &Journal) -> Vec<Wanted> {
    let pods = journal.pods.iter().flat_map(|pod| {
        pod.containers.iter().filter_map(|container| {
            let (process, port) = (container.process?, container.ready_port?);
            Some(Wanted { who: format!("pod `{}`", pod.full_name()), process, port })
        })
    });
    let hosts = journal.external.iter().flat_map(|host| {
        let process = host.container.process;
        let who = format!("host `{}`", host.name);
        host.listens.iter().filter_map(move |port| {
            Some(Wanted { who: who.clone(), process: process?, port: *port })
        })
    });
    pods.chain(hosts).collect()
}

fn listens(wanted: &Wanted) -> bool {
    let pid = wanted.process.pid;
    ["tcp", "tcp6"].iter().any(|table| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        is_listed(&text, wanted.port)
    })
}

fn is_listed(table: &str, port: u16) -> bool {
    let local = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let at_port = fields.next().is_some_and(|address| address.ends_with(&local));
        at_port && fields.nth(1) == Some(LISTEN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue\n   \
        0: 00000000:1538 00000000:0000 0A 00000000:00000000\n   \
        1: 0100007F:1F90 0100007F:D431 01 00000000:00000000\n";

    #[test]
    fn only_a_listening_socket_on_that_port_counts() {
        assert!(is_listed(TABLE, 5432));
        assert!(!is_listed(TABLE, 8080));
        assert!(!is_listed(TABLE, 1538));
    }
}
