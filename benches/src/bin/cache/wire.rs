//! What goes over the wire: HTTP/1.1 by hand, so that the client costs little, and gRPC through
//! hyper. Messages are encoded by hand: they have three fields.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection that is asked one thing after the other.
pub(crate) struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Http {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { stream, buffer: vec![0; 64 << 10] })
    }

    /// Sends this, and reads the answer to its end; gives the status and the `Location`.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<(u16, String), String> {
        self.stream.write_all(request).await.map_err(|error| error.to_string())?;
        let mut filled = 0;
        let head = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await;
            match read.map_err(|error| error.to_string())? {
                0 => return Err("the server has closed the connection".to_owned()),
                count => filled += count,
            }
            let all = &self.buffer[..filled];
            if let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let header = |name: &str| {
            let pairs = text.lines().filter_map(|line| line.split_once(": "));
            pairs.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned()).next()
        };
        let length = header("content-length").and_then(|length| length.parse::<usize>().ok());
        let mut left = length.unwrap_or(0).saturating_sub(filled - head);
        while left > 0 {
            let most = left.min(self.buffer.len());
            let read = self.stream.read(&mut self.buffer[..most]).await;
            match read.map_err(|error| error.to_string())? {
                0 => return Err("the answer is cut off".to_owned()),
                count => left -= count,
            }
        }
        let location = header("location").unwrap_or_default();
        status.map(|status| (status, location)).ok_or_else(|| format!("no answer: {text}"))
    }
}

/// The head of a request.
pub(crate) fn head(method: &str, path: &str, length: usize) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n").into_bytes()
}

/// An address that may have a host in it, as a path.
pub(crate) fn path_of(location: &str) -> String {
    match location.split_once("://").and_then(|(_, rest)| rest.split_once('/')) {
        Some((_, path)) => format!("/{path}"),
        None => location.to_owned(),
    }
}

/// A gRPC connection.
pub(crate) struct Grpc {
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

impl Grpc {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let shake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = shake.await.map_err(|error| error.to_string())?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, address })
    }

    /// One message in, one out, which is not looked at.
    pub(crate) async fn call(&mut self, path: &str, message: Bytes) -> Result<(), String> {
        self.sender.ready().await.map_err(|error| error.to_string())?;
        let request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(message))
            .map_err(|error| error.to_string())?;
        let answer = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
        let early = answer.headers().get("grpc-status").cloned();
        let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
        let late = body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
        match early.or(late) {
            Some(status) if status == "0" => Ok(()),
            status => Err(format!("{path}: {status:?}")),
        }
    }
}

/// The SHA-256 of bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn varint(buffer: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        buffer.put_u8(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    buffer.put_u8(u8::try_from(value).unwrap_or_default());
}

/// A field that has a length.
pub(crate) fn bytes_field(buffer: &mut BytesMut, number: u64, bytes: &[u8]) {
    varint(buffer, number << 3 | 2);
    varint(buffer, bytes.len() as u64);
    buffer.put_slice(bytes);
}

pub(crate) fn number_field(buffer: &mut BytesMut, number: u64, value: u64) {
    varint(buffer, number << 3);
    varint(buffer, value);
}

/// `Digest`.
pub(crate) fn digest(hash: &str, size: usize) -> BytesMut {
    let mut message = BytesMut::new();
    bytes_field(&mut message, 1, hash.as_bytes());
    number_field(&mut message, 2, size as u64);
    message
}

/// A message in its frame.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}
