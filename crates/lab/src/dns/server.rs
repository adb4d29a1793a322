//! Questions and answers over UDP and TCP, one socket of each for both families.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use source::{Directory, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::zone::{Data, Kind, Zone};
use super::{PORT, ZONE};
use crate::error::Error;

/// Names of external hosts.
pub type Hosts = BTreeMap<String, Vec<IpAddr>>;

/// Seconds that an answer may be kept: the cluster changes.
const TTL: u32 = 5;
/// What the cluster says is looked at again after this long.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Without EDNS a datagram carries this much (RFC 1035 section 4.2.1).
const DATAGRAM_MIN: u16 = 512;
/// What travels unfragmented everywhere here.
const DATAGRAM_MAX: u16 = 1232;
/// Connections at a time, and how long one may be silent.
const CONNECTIONS: usize = 64;
const SILENCE: Duration = Duration::from_secs(5);

/// The cluster as read last.
struct Cluster {
    directory: Directory,
    snapshot: Arc<Snapshot>,
    looked: Option<Instant>,
}

/// Answers for one cluster.
struct Server {
    cluster: Mutex<Cluster>,
    hosts: Hosts,
}

/// Answers until it is ended.
pub fn serve(cluster: &Path, hosts: Hosts) -> Result<(), Error> {
    let failed = |what: &'static str| Error::file(what, PathBuf::from(format!("port {PORT}")));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::file("start", "the name server"))?;
    let cluster =
        Cluster { directory: Directory::new(cluster), snapshot: Arc::default(), looked: None };
    let server = Arc::new(Server { cluster: Mutex::new(cluster), hosts });
    runtime.block_on(async {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
        let datagrams = UdpSocket::bind(any).await.map_err(failed("bind UDP"))?;
        let connections = TcpListener::bind(any).await.map_err(failed("bind TCP"))?;
        tokio::spawn(accept(connections, Arc::clone(&server)));
        let mut room = vec![0; usize::from(u16::MAX)];
        loop {
            // An error of a datagram that was sent is reported here; it concerns
            // only whoever asked.
            let Ok((length, from)) = datagrams.recv_from(&mut room).await else { continue };
            let question = room.get(..length).unwrap_or_default();
            if let Some(answer) = server.reply(question, Transport::Datagram) {
                let _ = datagrams.send_to(&answer, from).await;
            }
        }
    })
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            // Whoever is cut off or too slow asks again.
            let _ = converse(stream, &server).await;
            drop(permit);
        });
    }
}

/// Questions with their length before them (RFC 1035 section 4.2.2).
async fn converse(mut stream: TcpStream, server: &Server) -> io::Result<()> {
    loop {
        let length = timeout(SILENCE, stream.read_u16()).await??;
        let mut question = vec![0; usize::from(length)];
        timeout(SILENCE, stream.read_exact(&mut question)).await??;
        let Some(answer) = server.reply(&question, Transport::Stream) else { return Ok(()) };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(SILENCE, stream.write_all(&framed)).await??;
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Transport {
    Datagram,
    Stream,
}

impl Server {
    /// The answer to a message; `None` when it deserves none.
    fn reply(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let Ok(asked) = Message::from_vec(question) else {
            let id = question.first_chunk::<2>()?;
            let id = u16::from_be_bytes(*id);
            let refused = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            return refused.to_vec().ok();
        };
        if asked.metadata.message_type != MessageType::Query {
            return None;
        }
        let answer = self.answer(&asked);
        let bytes = answer.to_vec().ok()?;
        let limit = match transport {
            Transport::Stream => usize::from(u16::MAX),
            Transport::Datagram => {
                usize::from(asked.max_payload().clamp(DATAGRAM_MIN, DATAGRAM_MAX))
            }
        };
        if bytes.len() > limit { answer.truncate().to_vec().ok() } else { Some(bytes) }
    }

    fn answer(&self, asked: &Message) -> Message {
        let metadata = &asked.metadata;
        let mut answer = Message::response(metadata.id, metadata.op_code);
        answer.metadata.recursion_desired = metadata.recursion_desired;
        answer.queries.clone_from(&asked.queries);
        if asked.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(DATAGRAM_MAX);
            answer.set_edns(edns);
        }
        let [query] = asked.queries.as_slice() else {
            answer.metadata.response_code = ResponseCode::FormErr;
            return answer;
        };
        if metadata.op_code != OpCode::Query || query.query_class() != DNSClass::IN {
            answer.metadata.response_code = ResponseCode::NotImp;
            return answer;
        }
        answer.metadata.authoritative = true;
        let name = query.name();
        let kind = match query.query_type() {
            RecordType::A => Kind::A,
            RecordType::AAAA => Kind::Aaaa,
            RecordType::SRV => Kind::Srv,
            _ => Kind::Other,
        };
        let text = name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        let snapshot = self.snapshot();
        match (Zone { snapshot: &snapshot, hosts: &self.hosts }).answer(&text, kind) {
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(found) => {
                answer.answers = found.iter().filter_map(|it| record(name, it)).collect()
            }
        }
        if answer.answers.is_empty() {
            // How long that nothing is there may be kept (RFC 2308 section 3).
            answer.authorities.extend(start_of_authority());
        }
        answer
    }

    /// The cluster as it is now, or was a moment ago.
    fn snapshot(&self) -> Arc<Snapshot> {
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        if cluster.looked.is_none_or(|looked| looked.elapsed() > LOOK_EVERY) {
            cluster.looked = Some(Instant::now());
            // What cannot be read stays as it was read last.
            if let Ok(Some(snapshot)) = cluster.directory.scan() {
                cluster.snapshot = snapshot;
            }
        }
        Arc::clone(&cluster.snapshot)
    }
}

fn record(name: &Name, data: &Data) -> Option<Record> {
    let data = match data {
        Data::Address(IpAddr::V4(address)) => RData::A(A(*address)),
        Data::Address(IpAddr::V6(address)) => RData::AAAA(AAAA(*address)),
        Data::Port(port, target) => {
            RData::SRV(SRV::new(0, 100, *port, Name::from_ascii(format!("{target}.")).ok()?))
        }
    };
    Some(Record::from_rdata(name.clone(), TTL, data))
}

fn start_of_authority() -> Option<Record> {
    let name = |text: String| Name::from_ascii(text).ok();
    let (server, contact) = (name(format!("ns.dns.{ZONE}."))?, name(format!("host.{ZONE}."))?);
    let seconds = i32::try_from(TTL).unwrap_or(i32::MAX);
    let soa = SOA::new(server, contact, 1, seconds, seconds, seconds, TTL);
    Some(Record::from_rdata(name(format!("{ZONE}."))?, TTL, RData::SOA(soa)))
}

#[cfg(test)]
mod tests;
