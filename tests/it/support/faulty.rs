//! A wire to an S3 server that breaks where a script says so.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The wire answers in the server's place, which never hears of it.
    Answer(u16, &'static str),
    /// The server does it, and the wire gives another answer.
    AnswerAfter(u16, &'static str),
    /// Nothing ever comes back.
    Hang,
    /// The connection ends before the server hears of it.
    Reset,
    /// The connection ends in the middle of what is sent.
    ResetInRequest,
    /// The server does it, and the connection ends.
    ResetAfter,
    /// The answer's body ends half-way, and so does the connection.
    CutBody,
    /// One bit of the answer's body is not what it was.
    FlipBody,
}

/// A request as the script sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET`.
    pub method: String,
}

type Script = Box<dyn FnMut(&Asked) -> Option<Fault> + Send>;

/// The wire. It ends with this value.
pub struct Wire {
    /// Where lifeboat is told that the service is.
    pub port: u16,
    script: Arc<Mutex<Script>>,
    over: Arc<AtomicBool>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Wire {
    /// To a server on this port; at first nothing breaks.
    pub fn to(upstream: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(|_: &Asked| None)));
        let over = Arc::new(AtomicBool::new(false));
        let (scripts, ended) = (Arc::clone(&script), Arc::clone(&over));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if ended.load(SeqCst) {
                    return;
                }
                let (script, ended) = (Arc::clone(&scripts), Arc::clone(&ended));
                std::thread::spawn(move || {
                    // A client that goes away is no fault of the wire.
                    let _ = serve(client, upstream, &script, &ended);
                });
            }
        });
        Wire { port, script, over }
    }

    /// What happens from now on.
    pub fn script(&self, script: impl FnMut(&Asked) -> Option<Fault> + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// Nothing breaks from now on.
    pub fn mend(&self) {
        self.script(|_| None);
    }

    /// Where lifeboat is told that the service is.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn serve(mut client: TcpStream, upstream: u16, script: &Mutex<Script>, over: &AtomicBool) -> std::io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(60)))?;
    let (head, mut body) = read_head(&mut client)?;
    let length = header(&head, "content-length").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let asked = Asked { method: head.split(' ').next().unwrap_or_default().to_owned() };
    let fault = (script.lock().unwrap())(&asked);
    if header(&head, "expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let wanted = if fault == Some(Fault::ResetInRequest) { length / 2 } else { length };
    while body.len() < wanted {
        let mut some = vec![0; (wanted - body.len()).min(1 << 20)];
        let count = client.read(&mut some)?;
        if count == 0 {
            return Ok(());
        }
        body.extend_from_slice(&some[..count]);
    }
    match fault {
        Some(Fault::Reset | Fault::ResetInRequest) => return client.shutdown(Shutdown::Both),
        Some(Fault::Hang) => {
            while !over.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
                let mut nothing = [0; 1];
                client.set_read_timeout(Some(Duration::from_millis(1)))?;
                if matches!(client.read(&mut nothing), Ok(0)) {
                    break;
                }
            }
            return Ok(());
        }
        Some(Fault::Answer(status, code)) => return answer(&mut client, status, code, &asked),
        _ => {}
    }
    let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
    server.set_read_timeout(Some(Duration::from_secs(60)))?;
    // One request for each connection: then an answer ends where the connection does.
    let kept = head.lines().filter(|line| {
        let line = line.to_ascii_lowercase();
        !line.is_empty() && !line.starts_with("connection:") && !line.starts_with("expect:")
    });
    let sent: String = kept.map(|line| format!("{line}\r\n")).collect();
    server.write_all(format!("{sent}connection: close\r\n\r\n").as_bytes())?;
    server.write_all(&body)?;
    let mut got = Vec::new();
    server.read_to_end(&mut got)?;
    let start = got.windows(4).position(|four| four == b"\r\n\r\n").map_or(got.len(), |at| at + 4);
    match fault {
        Some(Fault::ResetAfter) => return client.shutdown(Shutdown::Both),
        Some(Fault::AnswerAfter(status, code)) => return answer(&mut client, status, code, &asked),
        Some(Fault::CutBody) if got.len() > start => got.truncate(start + (got.len() - start) / 2),
        Some(Fault::FlipBody) if got.len() > start => {
            let at = start + (got.len() - start) / 2;
            got[at] ^= 0x04;
        }
        _ => {}
    }
    client.write_all(&got)?;
    client.shutdown(Shutdown::Both)
}

fn answer(client: &mut TcpStream, status: u16, code: &str, asked: &Asked) -> std::io::Result<()> {
    let body = if asked.method == "HEAD" {
        String::new()
    } else {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>as scripted</Message></Error>"
        )
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())?;
    client.shutdown(Shutdown::Both)
}

/// The head of a request, and what of its body came with it.
fn read_head(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut got = Vec::new();
    let mut some = [0; 16 << 10];
    loop {
        if let Some(at) = got.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = got.split_off(at + 4);
            return Ok((String::from_utf8_lossy(&got).into_owned(), body));
        }
        match client.read(&mut some)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => got.extend_from_slice(&some[..count]),
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
