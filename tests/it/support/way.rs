//! The way to a server, which can be closed: what goes over it is held up, or it is cut, as between two machines.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::server::Server;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Way {
    /// Everything gets through.
    Open = 0,
    /// Nothing gets through; it arrives when the way is open again. Nobody is told.
    Held = 1,
    /// What is connected is cut off, and whoever comes is turned away.
    Cut = 2,
    /// The forwarder ends.
    Gone = 3,
}

/// Listens on a loopback port, and leads to a server's socket.
pub struct Forwarder {
    pub port: u16,
    way: Arc<AtomicU8>,
}

const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Forwarder {
    pub fn to(server: &Server) -> Forwarder {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Arc::new(AtomicU8::new(Way::Open as u8));
        let (socket, state) = (server.socket_dir.join(format!(".s.PGSQL.{}", server.port)), Arc::clone(&way));
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            while state.load(Ordering::Relaxed) != Way::Gone as u8 {
                match listener.accept() {
                    Ok((client, _)) if state.load(Ordering::Relaxed) < Way::Cut as u8 => {
                        // A server that is away turns everybody away.
                        if let Ok(server) = UnixStream::connect(&socket) {
                            client.set_nonblocking(false).unwrap();
                            join(client, server, &state);
                        }
                    }
                    Ok(turned_away) => drop(turned_away),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(LOOK_EVERY),
                    Err(error) => panic!("the forwarder takes nobody in: {error}"),
                }
            }
        });
        Forwarder { port, way }
    }

    pub fn set(&self, way: Way) {
        self.way.store(way as u8, Ordering::Relaxed);
    }

    /// A connection URL over this way.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.set(Way::Gone);
    }
}

fn join(client: TcpStream, server: UnixStream, way: &Arc<AtomicU8>) {
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(LOOK_EVERY)).unwrap();
    server.set_read_timeout(Some(LOOK_EVERY)).unwrap();
    let (from_client, from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (there, back) = (Arc::clone(way), Arc::clone(way));
    std::thread::spawn(move || {
        pump(from_client, &server, &there);
        let _ = server.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        pump(from_server, &client, &back);
        let _ = client.shutdown(Shutdown::Both);
    });
}

/// Until one side has ended or the way is cut.
fn pump(mut from: impl Read, mut to: impl Write, way: &AtomicU8) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(_) => return,
        };
        while way.load(Ordering::Relaxed) == Way::Held as u8 {
            std::thread::sleep(LOOK_EVERY);
        }
        if way.load(Ordering::Relaxed) != Way::Open as u8 || to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}
