//! A small client of the replication protocol: the connection. What is said over it stands in `physical::base` and `wal::stream`.
//!
//! Source: PostgreSQL's manual, "Frontend/Backend Protocol" and "Streaming Replication Protocol".

use std::net::IpAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;
use rustls_pki_types::ServerName;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::producer::hint_for;
use crate::domain::check::Broke;
use crate::probe::Endpoint;

/// How long a server may take to let us in.
const LOGIN_AT_MOST: Duration = Duration::from_secs(60);
/// The longest message that is believed; a server sends at most some hundred kilobytes at once.
const MESSAGE_AT_MOST: usize = 64 << 20;
const READ_BYTES: usize = 256 << 10;

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A replication connection.
pub struct Wire {
    stream: Box<dyn Duplex>,
    buffer: BytesMut,
    target: String,
    refused_with: Option<String>,
}

impl Wire {
    /// Connects and logs in.
    pub async fn connect(endpoint: &Endpoint) -> Result<Wire, Broke> {
        let connecting = async {
            let stream = open(endpoint).await?;
            Wire::over(stream, endpoint).await
        };
        tokio::time::timeout(LOGIN_AT_MOST, connecting).await.unwrap_or_else(|_| {
            Err(Broke::hinted(
                format!("{endpoint} did not let lifeboat in within a minute"),
                "check host, port, firewall",
            ))
        })
    }

    /// Logs in over a connection that is open already.
    pub async fn over<S>(stream: S, endpoint: &Endpoint) -> Result<Wire, Broke>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let buffer = BytesMut::with_capacity(READ_BYTES);
        let mut wire = Wire { stream: Box::new(stream), buffer, target: endpoint.to_string(), refused_with: None };
        wire.log_in(endpoint).await?;
        Ok(wire)
    }

    async fn log_in(&mut self, endpoint: &Endpoint) -> Result<(), Broke> {
        let parameters = [
            ("user", endpoint.user.as_str()),
            ("replication", "true"),
            ("application_name", "lifeboat"),
            ("client_encoding", "UTF8"),
        ];
        self.send(|out| frontend::startup_message(parameters, out)).await?;
        let password = || {
            endpoint.password().map(|secret| secret.expose_secret().as_bytes()).ok_or_else(|| {
                Broke::hinted(
                    format!("{endpoint} asks for a password"),
                    "name where it is with passfile, password_file or password_env",
                )
            })
        };
        let mut scram: Option<sasl::ScramSha256> = None;
        loop {
            let (tag, mut body) = self.message().await?;
            if tag == b'Z' {
                return Ok(());
            }
            if tag != b'R' {
                continue;
            }
            let refused = |why: &dyn std::fmt::Display| {
                Broke::hinted(
                    format!("{endpoint} could not be logged in to: {why}"),
                    "check the password and its place",
                )
            };
            match word(&mut body)? {
                0 => {}
                3 => {
                    let secret = password()?;
                    self.send(|out| frontend::password_message(secret, out)).await?;
                }
                5 => {
                    let salt =
                        body.get(..4).and_then(|salt| salt.try_into().ok()).ok_or_else(|| garbled("its salt"))?;
                    let hash = md5_hash(endpoint.user.as_bytes(), password()?, salt);
                    self.send(|out| frontend::password_message(hash.as_bytes(), out)).await?;
                }
                10 => {
                    if !body.split(|byte| *byte == 0).any(|name| name == b"SCRAM-SHA-256") {
                        return Err(refused(&"it offers no SCRAM-SHA-256"));
                    }
                    let begun = sasl::ScramSha256::new(password()?, sasl::ChannelBinding::unsupported());
                    self.send(|out| frontend::sasl_initial_response("SCRAM-SHA-256", begun.message(), out)).await?;
                    scram = Some(begun);
                }
                11 => {
                    let going = scram.as_mut().ok_or_else(|| garbled("its log-in"))?;
                    going.update(&body).map_err(|error| refused(&error))?;
                    let answer = going.message().to_vec();
                    self.send(|out| frontend::sasl_response(&answer, out)).await?;
                }
                12 => {
                    let ending = scram.as_mut().ok_or_else(|| garbled("its log-in"))?;
                    // The server proves that it knows the password too: one that cannot is not ours.
                    ending.finish(&body).map_err(|error| refused(&error))?;
                }
                other => {
                    return Err(refused(&format!(
                        "it wants authentication of kind {other}, which lifeboat does not speak"
                    )));
                }
            }
        }
    }

    pub(super) async fn send(&mut self, write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Result<(), Broke> {
        let mut out = BytesMut::new();
        write(&mut out).map_err(|error| self.lost(&error))?;
        self.stream.write_all(&out).await.map_err(|error| self.lost(&error))?;
        self.stream.flush().await.map_err(|error| self.lost(&error))
    }

    /// The next message: its tag and body. An error that the server reports is an error here.
    pub(super) async fn message(&mut self) -> Result<(u8, Bytes), Broke> {
        loop {
            if let Some((tag, body)) = frame(&mut self.buffer)? {
                if tag == b'E' {
                    let (state, broke) = self.refused(&body);
                    self.refused_with = state;
                    return Err(broke);
                }
                return Ok((tag, body));
            }
            self.buffer.reserve(READ_BYTES);
            let read = self.stream.read_buf(&mut self.buffer).await.map_err(|error| self.lost(&error))?;
            if read == 0 {
                return Err(self.lost(&"the server closed the connection"));
            }
        }
    }

    fn lost(&self, why: &dyn std::fmt::Display) -> Broke {
        Broke::hinted(
            format!("the connection to {} was lost: {why}", self.target),
            "the source went away in the middle; see its log, and run it again",
        )
    }

    /// The SQLSTATE of the error that the server reported last.
    pub fn refused_with(&self) -> Option<&str> {
        self.refused_with.as_deref()
    }

    fn refused(&self, body: &[u8]) -> (Option<String>, Broke) {
        let field = |wanted: u8| {
            body.split(|byte| *byte == 0)
                .find(|field| field.first() == Some(&wanted))
                .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
        };
        let words = field(b'M').unwrap_or_else(|| "an error without words".to_owned());
        let hint = hint_for(&words).map(str::to_owned).or_else(|| field(b'H'));
        let hint = hint.unwrap_or_else(|| "the source's own log says more".to_owned());
        (field(b'C'), Broke::hinted(format!("{} refused: {words}", self.target), hint))
    }
}

async fn open(endpoint: &Endpoint) -> Result<Box<dyn Duplex>, Broke> {
    let failed = |error: std::io::Error| {
        Broke::hinted(
            format!("could not connect to {endpoint}: {error}"),
            "check that the server runs, and its host and port",
        )
    };
    if endpoint.is_socket() {
        let path = format!("{}/.s.PGSQL.{}", endpoint.host, endpoint.port);
        return Ok(Box::new(tokio::net::UnixStream::connect(path).await.map_err(failed)?));
    }
    let mut plain = tokio::net::TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(failed)?;
    plain.set_nodelay(true).map_err(failed)?;
    let Some(tls) = endpoint.tls_config()? else { return Ok(Box::new(plain)) };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    plain.write_all(&request).await.map_err(failed)?;
    if plain.read_u8().await.map_err(failed)? != b'S' {
        return Err(Broke::hinted(
            format!("{endpoint} does not speak TLS"),
            "switch ssl on at the source, or say tls = \"disable\" in the policy (which is drift)",
        ));
    }
    let name = match endpoint.host.parse::<IpAddr>() {
        Ok(address) => ServerName::from(address),
        Err(_) => ServerName::try_from(endpoint.host.clone())
            .map_err(|error| Broke::new(format!("`{}` is not a host name: {error}", endpoint.host)))?,
    };
    let secured = tokio_rustls::TlsConnector::from(tls).connect(name, plain).await.map_err(failed)?;
    Ok(Box::new(secured))
}

/// Takes a whole message off the buffer, if there is one.
fn frame(buffer: &mut BytesMut) -> Result<Option<(u8, Bytes)>, Broke> {
    let Some(head) = buffer.get(..5) else { return Ok(None) };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if !(4..=MESSAGE_AT_MOST).contains(&length) {
        return Err(garbled(&format!("a message of {length} bytes")));
    }
    if buffer.len() < length + 1 {
        return Ok(None);
    }
    let mut message = buffer.split_to(length + 1).freeze();
    let tag = message.get_u8();
    message.advance(4);
    Ok(Some((tag, message)))
}

pub(super) fn word(body: &mut Bytes) -> Result<u32, Broke> {
    if body.len() < 4 { Err(garbled("a message that is too short")) } else { Ok(body.get_u32()) }
}

pub(super) fn garbled(what: &str) -> Broke {
    Broke::hinted(
        format!("the source sent {what}, which is not the replication protocol that lifeboat knows"),
        "check that nothing but PostgreSQL answers there (a connection pooler cannot take base backups)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole_or_not_at_all() {
        let whole = b"d\0\0\0\x07abcZ\0\0\0\x05I";
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for byte in whole {
            buffer.extend_from_slice(&[*byte]);
            while let Some((tag, body)) = frame(&mut buffer).unwrap() {
                seen.push((tag, body.to_vec()));
            }
        }
        assert_eq!(seen, [(b'd', b"abc".to_vec()), (b'Z', b"I".to_vec())]);
        for bad in [b"d\0\0\0\x03".as_slice(), b"d\xff\xff\xff\xff"] {
            assert!(frame(&mut BytesMut::from(bad)).is_err());
        }
    }
}
