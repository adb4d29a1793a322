//! A pod that takes all it can get, and its neighbour.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::attacks::scene;
use crate::attempt::{self, Connection};

/// The neighbour's connections while the flood runs.
const CONNECTIONS: usize = 200;
const PORT: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(3);

/// Every port of the victim, again and again, from ports of its own.
pub fn of_connections() {
    let scene = scene("flood");
    let victim = scene.address("a.near", 4);
    let target = SocketAddr::new(victim, PORT);
    let mut old = Connection::open(&scene, "a.neighbour", "a.near", 9000, 4);
    let listener = scene.inside("a.near", || TcpListener::bind(target).unwrap());
    let server = thread::spawn(move || {
        // Until the last client, who says so.
        for stream in listener.incoming().flatten() {
            if stream.peer_addr().is_ok_and(|from| from.port() == 1) {
                return;
            }
        }
    });
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                attempt::datagrams(&scene, "a.open", victim, 1024..9000);
            }
        });
        let connect = || TcpStream::connect_timeout(&target, PATIENCE);
        let results: Vec<_> =
            (0..CONNECTIONS).map(|_| scene.inside("a.neighbour", connect)).collect();
        old.carries();
        stop.store(true, Ordering::Relaxed);
        let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert!(failed.is_empty(), "{} of {CONNECTIONS}: {:?}", failed.len(), failed[0]);
    });
    old.carries();
    drop(server);
}
