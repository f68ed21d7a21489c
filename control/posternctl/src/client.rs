//! The connection to the daemon, and its failures in words.

use crate::Error;
use control_api::v1::postern_client::PosternClient;
use control_api::{MAX_MESSAGE_BYTES, v1};
use hyper_util::rt::TokioIo;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// How long the daemon may take to begin an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connected client.
pub(crate) struct Client {
    path: PathBuf,
    rpc: PosternClient<Channel>,
}

impl Client {
    /// Connects to the socket at `path`.
    pub(crate) async fn connect(path: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(path).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::NoDaemon(path.to_owned()),
            ErrorKind::PermissionDenied => Error::NoPermission(path.to_owned()),
            _ => Error::Connect { path: path.to_owned(), source: error },
        })?;
        // The one connection of this run; the name is a formality of HTTP.
        let mut stream = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_| {
            let stream = stream.take().ok_or_else(|| io::Error::from(ErrorKind::ConnectionAborted));
            async move { stream }
        });
        let channel = Endpoint::from_static("http://postern")
            .timeout(PATIENCE)
            .connect_with_connector(connector)
            .await
            .map_err(|_| Error::Foreign(path.to_owned()))?;
        let rpc = PosternClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { path: path.to_owned(), rpc })
    }

    pub(crate) async fn sessions(
        &mut self,
        request: v1::ListSessionsRequest,
    ) -> Result<Chunks<v1::ListSessionsResponse>, Error> {
        let chunks = self.rpc.list_sessions(request).await.map_err(|s| self.error(&s))?.into_inner();
        Ok(Chunks { path: self.path.clone(), chunks })
    }

    pub(crate) async fn expectations(
        &mut self,
        limit: u64,
    ) -> Result<Chunks<v1::ListExpectationsResponse>, Error> {
        let request = v1::ListExpectationsRequest { limit };
        let chunks = self.rpc.list_expectations(request).await.map_err(|s| self.error(&s))?.into_inner();
        Ok(Chunks { path: self.path.clone(), chunks })
    }

    pub(crate) async fn events(&mut self) -> Result<Chunks<v1::FollowEventsResponse>, Error> {
        let request = v1::FollowEventsRequest {};
        let chunks = self.rpc.follow_events(request).await.map_err(|s| self.error(&s))?.into_inner();
        Ok(Chunks { path: self.path.clone(), chunks })
    }

    fn error(&self, status: &Status) -> Error {
        in_words(status, &self.path)
    }
}

/// The calls with one answer: name, request, answer.
macro_rules! calls {
    ($($call:ident($request:ident) -> $answer:ident;)*) => {
        impl Client {
            $(pub(crate) async fn $call(&mut self, request: v1::$request) -> Result<v1::$answer, Error> {
                self.rpc.$call(request).await.map_err(|s| self.error(&s)).map(tonic::Response::into_inner)
            })*
        }
    };
}

calls! {
    status(StatusRequest) -> StatusResponse;
    show_session(ShowSessionRequest) -> ShowSessionResponse;
    clear_sessions(ClearSessionsRequest) -> ClearSessionsResponse;
    list_interfaces(ListInterfacesRequest) -> ListInterfacesResponse;
    show_interface(ShowInterfaceRequest) -> ShowInterfaceResponse;
    list_algs(ListAlgsRequest) -> ListAlgsResponse;
    show_counters(ShowCountersRequest) -> ShowCountersResponse;
    check_policy(CheckPolicyRequest) -> CheckPolicyResponse;
    show_policy(ShowPolicyRequest) -> ShowPolicyResponse;
    diff_policy(DiffPolicyRequest) -> DiffPolicyResponse;
    commit_policy(CommitPolicyRequest) -> CommitPolicyResponse;
}

/// The chunks of a list.
pub(crate) struct Chunks<C> {
    path: PathBuf,
    chunks: Streaming<C>,
}

impl<C> Chunks<C> {
    /// The next chunk, none after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<C>, Error> {
        self.chunks.message().await.map_err(|status| in_words(&status, &self.path))
    }
}

fn in_words(status: &Status, path: &Path) -> Error {
    let message = || status.message().to_owned();
    match status.code() {
        Code::Unimplemented => Error::Foreign(path.to_owned()),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => {
            Error::Lost(message())
        }
        // The transport says so when what answers does not speak HTTP/2.
        Code::Internal if std::error::Error::source(status).is_some() => Error::Foreign(path.to_owned()),
        _ => Error::Refused(message()),
    }
}
