//! Connections: how many, for how long, and how they end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::flow::Arriving;
use crate::front::{self, Rest};
use crate::site::Site;

/// A client that does not finish a request's head, or its TLS hello, in so long is given up.
const HEAD_LIMIT: Duration = Duration::from_secs(20);
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const STREAMS: u32 = 256;
const WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Larger than the usual 16 KiB, for those who send much.
const FRAME_BYTES: u32 = 256 << 10;
const HEADERS_BYTES: u32 = 64 << 10;
const HEADERS: usize = 100;

/// What stands at the port.
pub(crate) struct Door {
    pub(crate) site: Arc<Site>,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) connections: usize,
    pub(crate) stopped: watch::Receiver<bool>,
}

/// Accepts until it is stopped, and then waits for what is under way.
pub(crate) async fn accept(listener: TcpListener, door: Door) {
    let Door { site, tls, connections, mut stopped } = door;
    let places = Arc::new(Semaphore::new(connections));
    let graceful = GracefulShutdown::new();
    loop {
        // One that finds no place waits in the system's queue.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            _ = stopped.changed() => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => break,
        };
        let Ok((stream, peer)) = accepted else {
            // Too many open files, or the like: others may close some.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        // It only makes answers faster.
        drop(stream.set_nodelay(true));
        let (site, tls) = (Arc::clone(&site), tls.clone());
        let ends = Ends { watcher: graceful.watcher(), stopped: stopped.clone() };
        tokio::spawn(async move {
            site.metrics.connections.inc();
            greet(Arc::clone(&site), tls, stream, peer, ends).await;
            site.metrics.connections.dec();
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// How a connection learns that the server stops, which waits until it has none of these.
struct Ends {
    watcher: Watcher,
    stopped: watch::Receiver<bool>,
}

async fn greet(
    site: Arc<Site>,
    tls: Option<TlsAcceptor>,
    stream: TcpStream,
    peer: SocketAddr,
    ends: Ends,
) {
    let Some(tls) = tls else { return serve(site, stream, peer, ends).await };
    if let Ok(Ok(stream)) = tokio::time::timeout(HEAD_LIMIT, tls.accept(stream)).await {
        serve(site, stream, peer, ends).await;
    }
}

/// Answers in front for as long as that can be done; the rest goes through hyper.
async fn serve<S>(site: Arc<Site>, stream: S, peer: SocketAddr, ends: Ends)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Ends { watcher, stopped } = ends;
    if let Some(rest) = front::serve(&site, stream, peer, stopped, HEAD_LIMIT).await {
        through_hyper(site, rest, peer, watcher).await;
    }
}

async fn through_hyper<S>(site: Arc<Site>, rest: Rest<S>, peer: SocketAddr, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Rest { stream, deadline } = rest;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_headers(HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADERS_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(HEAD_LIMIT);
    let has_asked = Arc::new(AtomicBool::new(false));
    let asks = Arc::clone(&has_asked);
    let service = service_fn(move |request| {
        asks.store(true, Ordering::Relaxed);
        let site = Arc::clone(&site);
        async move {
            let request = request.map(Arriving::Body);
            Ok::<_, std::convert::Infallible>(site.answer(request, peer).await)
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    let mut connection = std::pin::pin!(watcher.watch(connection));
    // A client that breaks off, or talks nonsense, is its own loss. One that says nothing at all,
    // or not which protocol it speaks, would keep its place for ever.
    if tokio::time::timeout_at(deadline, &mut connection).await.is_err()
        && has_asked.load(Ordering::Relaxed)
    {
        drop(connection.await);
    }
}
