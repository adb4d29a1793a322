//! The real program that tries, where the probe starts.

use std::time::Duration;

use crate::container;
use crate::error::Error;
use crate::lab::Lab;
use crate::launch::Launch;
use crate::netns::Netns;
use crate::probe::end::End;
use crate::probe::file::Client;
use crate::probe::frame::{Mark, Tuple};

/// Much longer than any of the clients waits by itself: an emulated machine may take ten
/// seconds to start one.
const LIMIT: Duration = Duration::from_secs(60);
/// Seconds a client waits for an answer. A second try of TCP falls within.
const PATIENCE: &str = "2";

/// How the client fared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Whether it got through.
    pub success: bool,
    /// Its exit status and last words.
    pub detail: String,
}

/// What a client does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// Program and arguments.
    pub command: Vec<String>,
    /// What it sends, where a program cannot tell by itself that it got through.
    pub datagram: Option<Datagram>,
}

/// What is sent, and how an answer to it begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Datagram {
    sent: Vec<u8>,
    /// So many of its bytes come back first.
    kept: usize,
}

/// Where name servers are asked.
const NAMES: u16 = 53;

impl Datagram {
    /// A random word, which whoever answers sends back; to a name server a question for
    /// the root's address (RFC 1035 section 4.1), whose answer begins with its number.
    fn to(port: u16) -> Result<Self, Error> {
        let word = container::new_id()?.into_bytes();
        if port != NAMES {
            return Ok(Self { kept: word.len(), sent: word });
        }
        let mut sent: Vec<u8> = word.into_iter().take(2).collect();
        sent.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
        Ok(Self { sent, kept: 2 })
    }

    fn is_answered_by(&self, answer: &[u8]) -> bool {
        self.sent.get(..self.kept).is_some_and(|kept| answer.starts_with(kept))
    }
}

impl Attempt {
    /// Of a client that sends exactly the packets of the tuple; with a name, to
    /// whoever has that name.
    pub fn new(client: Client, tuple: &Tuple, name: Option<&str>) -> Result<Self, Error> {
        let datagram = match tuple.mark {
            Mark::Udp(_, port) => Some(Datagram::to(port)?),
            Mark::Tcp(..) | Mark::Sctp(..) | Mark::Echo(_) => None,
        };
        Ok(Self { command: command(client, tuple, name), datagram })
    }
}

fn command(client: Client, tuple: &Tuple, name: Option<&str>) -> Vec<String> {
    let flag = if tuple.source.is_ipv4() { "-4" } else { "-6" };
    let (from, to) = (tuple.source.to_string(), tuple.destination.to_string());
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    match (client, tuple.mark) {
        (Client::Curl, Mark::Tcp(source, port)) => {
            let host = match name {
                Some(name) => name.to_owned(),
                None if tuple.source.is_ipv4() => to,
                None => format!("[{to}]"),
            };
            let (source, url) = (source.to_string(), format!("http://{host}:{port}/"));
            let mut command = own(&["curl", flag, "--silent", "--show-error"]);
            command.extend(own(&["--output", "/dev/null", "--connect-timeout", PATIENCE]));
            command.extend(own(&["--max-time", "5", "--interface", &from]));
            command.extend(own(&["--local-port", &source, &url]));
            command
        }
        (_, Mark::Tcp(source, port)) => {
            let (source, port) = (source.to_string(), port.to_string());
            let mut command = own(&["nc", flag, "-z", "-v", "-w", PATIENCE]);
            if name.is_none() {
                command.push("-n".into());
            }
            command.extend(own(&["-s", &from, "-p", &source, name.unwrap_or(&to), &port]));
            command
        }
        // Ends with the first answer.
        (_, Mark::Udp(source, port)) => {
            let (source, port) = (source.to_string(), port.to_string());
            let mut command = own(&["nc", flag, "-n", "-u", "-w", PATIENCE, "-W", "1"]);
            command.extend(own(&["-s", &from, "-p", &source, &to, &port]));
            command
        }
        // Only the handshake: SCTP has no half-closed state in which to wait for an answer.
        (_, Mark::Sctp(source, port)) => {
            let at = |address: &str, port: u16| match tuple.source.is_ipv4() {
                true => format!("{address}:{port}"),
                false => format!("[{address}]:{port}"),
            };
            let kind = if tuple.source.is_ipv4() { "SCTP4" } else { "SCTP6" };
            let (own_end, there) = (at(&from, source), at(&to, port));
            let association =
                format!("{kind}-CONNECT:{there},bind={own_end},connect-timeout={PATIENCE}");
            own(&["socat", "-u", "/dev/null", &association])
        }
        (_, Mark::Echo(identifier)) => {
            let identifier = identifier.to_string();
            let mut command = own(&["ping", flag, "-n", "-c", "1", "-W", PATIENCE]);
            command.extend(own(&["-I", &from, "-e", &identifier, &to]));
            command
        }
    }
}

/// Runs the client at the end where the probe starts.
pub fn run(lab: &Lab, from: &End<'_>, attempt: &Attempt) -> Result<Outcome, Error> {
    let group = lab.groups()?.probes();
    let netns = Netns::at(lab.places.netns(&from.member()));
    let container = match from {
        End::Pod(pod) => Some(pod.container(None)?),
        End::External(host) => Some(&host.container),
        End::Node(_) => None,
    };
    let what = format!("probe from {}", from.name());
    let launch = match container {
        Some(container) => {
            let command = container::exec(&lab.places, &container.id, false, &attempt.command);
            Launch { what: &what, cgroup: &group, netns: None, command }
        }
        None => {
            let command = attempt.command.clone();
            Launch { what: &what, cgroup: &group, netns: Some(&netns), command }
        }
    };
    let datagram = attempt.datagram.as_ref();
    let sent = datagram.map(|datagram| &*datagram.sent).unwrap_or_default();
    let output = launch.output(&[], sent, LIMIT)?;
    let answered = datagram.is_none_or(|datagram| datagram.is_answered_by(&output.stdout));
    let stdout = String::from_utf8_lossy(&output.stdout);
    let words = if output.stderr.trim().is_empty() { stdout.trim() } else { output.stderr.trim() };
    let last = words.lines().last().unwrap_or("no output");
    let success = output.status.success() && answered;
    Ok(Outcome { success, detail: format!("{}: {last}", output.status) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(client: Client, from: &str, to: &str, mark: Mark, want: &str) {
        let tuple = Tuple { source: from.parse().unwrap(), destination: to.parse().unwrap(), mark };
        assert_eq!(command(client, &tuple, None).join(" "), want);
    }

    #[test]
    fn an_answer_begins_with_what_was_sent_or_with_a_question_s_number() {
        let word = Datagram::to(5353).unwrap();
        assert!(word.is_answered_by(&word.sent));
        assert!(!word.is_answered_by(&word.sent[..2]) && !word.is_answered_by(b""));
        let question = Datagram::to(53).unwrap();
        let answer = [&question.sent[..2], &[0x84, 0, 0, 1]].concat();
        assert!(question.is_answered_by(&answer));
        assert!(!question.is_answered_by(b"") && !question.is_answered_by(&answer[1..]));
        // Header, the root's name, A of the Internet.
        assert_eq!(question.sent[2..], [1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
    }

    #[test]
    fn clients_send_what_the_observer_looks_for() {
        check(
            Client::Nc,
            "10.0.0.1",
            "10.0.0.2",
            Mark::Tcp(20000, 8080),
            "nc -4 -z -v -w 2 -n -s 10.0.0.1 -p 20000 10.0.0.2 8080",
        );
        let tuple = Tuple {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2".parse().unwrap(),
            mark: Mark::Tcp(20000, 8080),
        };
        assert_eq!(
            command(Client::Nc, &tuple, Some("peers.shop")).join(" "),
            "nc -4 -z -v -w 2 -s 10.0.0.1 -p 20000 peers.shop 8080",
        );
        check(
            Client::Nc,
            "10.0.0.1",
            "10.0.0.2",
            Mark::Udp(20000, 53),
            "nc -4 -n -u -w 2 -W 1 -s 10.0.0.1 -p 20000 10.0.0.2 53",
        );
        check(
            Client::Socat,
            "10.0.0.1",
            "10.0.0.2",
            Mark::Sctp(20000, 3868),
            "socat -u /dev/null SCTP4-CONNECT:10.0.0.2:3868,bind=10.0.0.1:20000,connect-timeout=2",
        );
        check(
            Client::Socat,
            "fd00::1",
            "fd00::2",
            Mark::Sctp(20000, 3868),
            "socat -u /dev/null SCTP6-CONNECT:[fd00::2]:3868,bind=[fd00::1]:20000,connect-timeout=2",
        );
        check(
            Client::Ping,
            "fd00::1",
            "fd00::2",
            Mark::Echo(77),
            "ping -6 -n -c 1 -W 2 -I fd00::1 -e 77 fd00::2",
        );
        check(
            Client::Curl,
            "fd00::1",
            "fd00::2",
            Mark::Tcp(20000, 80),
            "curl -6 --silent --show-error --output /dev/null --connect-timeout 2 --max-time 5 \
             --interface fd00::1 --local-port 20000 http://[fd00::2]:80/",
        );
    }
}
