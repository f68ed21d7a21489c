//! The control socket: gRPC over a Unix socket, on a thread of its own.
//!
//! It sees the gateway through [`Gateway`], which the daemon implements over the dataplane's shared state; it never
//! touches the packet path. What changes something is asked of the control core ([`crate::requests`]), and only for
//! root (`authority`). Its memory does not grow with the number of sessions: see `scan`. The thread inherits the CPU
//! affinity of the one that starts it.

mod authority;
mod convert;
mod diff;
mod filter;
mod follow;
pub mod gateway;
mod incoming;
mod scan;
mod service;
mod socket;
mod standard;

pub use crate::audit::Names;
pub use gateway::{
    AlgView, Count, CountersView, Gateway, InterfaceCounters, InterfaceDetail, InterfaceView,
    InterfaceWorker, PolicyView, Problem, Setting, StatusView, WorkerView, problems,
};
pub use socket::StartError;

use control_api::MAX_MESSAGE_BYTES;
use control_api::v1::postern_server::PosternServer;
use incoming::incoming;
use service::Service;
use socket::SocketFile;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

/// How long requests that are under way may go on after the server was told to stop.
const GRACE: Duration = Duration::from_millis(500);
/// Requests of one connection that may be under way at once.
const REQUESTS_PER_CONNECTION: usize = 16;

/// A running server. Dropping it stops it and removes the socket.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Makes the socket (mode 0660, and its directory if there is none) and serves it. When this returns, clients
    /// can connect.
    ///
    /// # Errors
    /// The socket cannot be made, or another daemon answers on it.
    pub fn start(path: &Path, gateway: Arc<dyn Gateway>) -> Result<Self, StartError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let listening = {
            let _inside = runtime.enter();
            socket::listen(path)
        };
        let (listener, file) = match listening {
            Ok(listening) => listening,
            Err(error) => {
                runtime.shutdown_background(); // a plain drop may not happen inside another runtime
                return Err(error);
            }
        };
        let (stop, closing) = watch::channel(false);
        let service = Service::new(gateway, closing.clone());
        let thread = thread::Builder::new()
            .name("control-socket".to_owned())
            .spawn(move || serve(runtime, listener, file, service, closing))
            .map_err(StartError::Thread)?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops: no new connection, half a second for requests that are under way, then the socket is removed.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the control server ended with a panic");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.join();
    }
}

/// The thread.
fn serve(
    runtime: Runtime,
    listener: UnixListener,
    file: SocketFile,
    service: Service,
    closing: watch::Receiver<bool>,
) {
    let stopped = |mut closing: watch::Receiver<bool>| async move {
        let _ = closing.wait_for(|closing| *closing).await; // the sender is gone: stop as well
    };
    let service = PosternServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    runtime.block_on(async {
        let health = HealthReporter::new();
        health.set_serving::<PosternServer<Service>>().await;
        let routes = standard::beside(Routes::new(service), &health);
        let told = closing.clone();
        let server = tonic::transport::Server::builder()
            .concurrency_limit_per_connection(REQUESTS_PER_CONNECTION)
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming(listener), async move {
                stopped(told).await;
                health.set_not_serving::<PosternServer<Service>>().await;
            });
        let patience = async {
            stopped(closing).await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            result = server => if let Err(error) = result {
                tracing::error!(%error, "the control socket failed");
            },
            () = patience => {}
        }
    });
    drop(file);
    runtime.shutdown_background(); // a check that is still compiling is left to end by itself
}
