//! For `fuzz/`: one connection without a listener.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Server;
use super::limits::Limits;
use super::routes::Routes;

/// Serves one connection to its end.
pub async fn serve_connection<S>(stream: S, routes: Arc<Routes>, limits: Limits)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let graceful = GracefulShutdown::new();
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Arc::new(Server::new(routes, limits)).connect(stream, peer, graceful.watcher()).await;
}
