//! Messages in, messages out; bytes of questions are written by hand (RFC 1035).

use std::fmt::Write as _;

use super::*;

/// A server whose cluster is one headless service with so many backends.
fn server(backends: u32) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut ends = String::new();
    for n in 0..backends {
        write!(ends, "{{ip: 10.9.{}.{}}},", n / 250, n % 250 + 1).unwrap();
    }
    let text = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: db, namespace: a}}, spec: {{clusterIP: None}}}}\n\
         ---\n{{apiVersion: v1, kind: Endpoints, metadata: {{name: db, namespace: a}}, \
         subsets: [{{addresses: [{ends}]}}]}}\n"
    );
    std::fs::write(folder.path().join("a.yaml"), text).unwrap();
    let cluster = Cluster {
        directory: Directory::new(folder.path()),
        snapshot: Arc::default(),
        looked: None,
    };
    (Server { cluster: Mutex::new(cluster), hosts: Hosts::new() }, folder)
}

/// A question of type A, class IN, with recursion desired.
fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

const NAME: &str = "db.a.svc.cluster.local";

/// Id, flags and the four counts of an answer.
fn head(answer: &[u8]) -> [u16; 6] {
    [0, 2, 4, 6, 8, 10].map(|at| u16::from_be_bytes([answer[at], answer[at + 1]]))
}

/// QR, AA and RD.
const AUTHORITATIVE: u16 = 0x8500;
const TRUNCATED: u16 = 0x0200;
const FORM_ERROR: u16 = 1;
const NO_NAME: u16 = 3;
const NOT_IMPLEMENTED: u16 = 4;

#[test]
fn a_question_is_answered_with_its_id_and_what_there_is() {
    let (server, _folder) = server(2);
    let answer = server.reply(&question(NAME), Transport::Datagram).unwrap();
    assert_eq!(head(&answer), [0x1234, AUTHORITATIVE, 1, 2, 0, 0]);
    assert!(answer.windows(4).any(|bytes| bytes == [10, 9, 0, 1]));
    assert!(answer.windows(4).any(|bytes| bytes == [10, 9, 0, 2]));
    // As it was asked: some clients compare letter by letter.
    let loud = server.reply(&question(&NAME.to_uppercase()), Transport::Datagram).unwrap();
    assert_eq!(head(&loud), [0x1234, AUTHORITATIVE, 1, 2, 0, 0]);
    assert!(loud.windows(5).any(|bytes| bytes == b"LOCAL"));
}

#[test]
fn what_does_not_exist_is_said_and_may_be_kept_for_a_moment() {
    let (server, _folder) = server(1);
    let answer = server.reply(&question("no.a.svc.cluster.local"), Transport::Datagram).unwrap();
    assert_eq!(head(&answer), [0x1234, AUTHORITATIVE | NO_NAME, 1, 0, 1, 0]);
}

#[test]
fn what_is_too_long_for_a_datagram_is_asked_again_over_tcp() {
    let (server, _folder) = server(100);
    let short = server.reply(&question(NAME), Transport::Datagram).unwrap();
    assert_eq!(head(&short)[1], AUTHORITATIVE | TRUNCATED);
    assert!(short.len() <= 512, "{}", short.len());
    let whole = server.reply(&question(NAME), Transport::Stream).unwrap();
    assert_eq!(head(&whole), [0x1234, AUTHORITATIVE, 1, 100, 0, 0]);
    // A client that takes more (RFC 6891): 50 addresses of 16 bytes and a head.
    let (server, _folder) = self::server(50);
    let mut more = question(NAME);
    more[11] = 1;
    more.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    let answer = server.reply(&more, Transport::Datagram).unwrap();
    assert_eq!(head(&answer), [0x1234, AUTHORITATIVE, 1, 50, 0, 1]);
    let plain = server.reply(&question(NAME), Transport::Datagram).unwrap();
    assert_eq!(head(&plain)[1], AUTHORITATIVE | TRUNCATED);
}

#[test]
fn what_is_no_question_gets_an_error_or_nothing() {
    let (server, _folder) = server(1);
    let error = |bytes: &[u8]| {
        let answer = server.reply(bytes, Transport::Datagram);
        answer.map(|answer| head(&answer)[1] & 0xf)
    };
    assert_eq!(error(&question(NAME)[..20]), Some(FORM_ERROR));
    assert_eq!(error(&[0x12]), None);
    assert_eq!(error(&[]), None);
    // An answer: two servers must not talk for ever.
    let mut answer = question(NAME);
    answer[2] |= 0x80;
    assert_eq!(error(&answer), None);
    let mut none = question(NAME)[..12].to_vec();
    none[5] = 0;
    assert_eq!(error(&none), Some(FORM_ERROR));
    let mut update = question(NAME);
    update[2] |= 5 << 3;
    assert_eq!(error(&update).map(|code| code != 0), Some(true));
    let mut chaos = question(NAME);
    *chaos.last_mut().unwrap() = 3;
    assert_eq!(error(&chaos), Some(NOT_IMPLEMENTED));
}
