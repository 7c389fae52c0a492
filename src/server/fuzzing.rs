//! For `fuzz/`: one connection, over any stream.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::{Routes, connections};

/// Serves a client until its connection ends, with the limits of every connection.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, routes: Arc<Routes>) {
    let stopping = watch::Sender::new(false);
    connections::serve(
        stream,
        Ipv4Addr::LOCALHOST.into(),
        routes,
        Arc::default(),
        Arc::default(),
        stopping.subscribe(),
    )
    .await;
}
