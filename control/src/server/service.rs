//! The RPCs of the control socket.

use super::filter::Filter;
use super::gateway::Gateway;
use super::{convert, scan};
use control_api::{MAX_POLICY_BYTES, v1};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// The service: a gateway, and the news that the server stops.
pub(super) struct Service {
    pub(super) gateway: Arc<dyn Gateway>,
    pub(super) closing: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl v1::postern_server::Postern for Service {
    type ListSessionsStream = ReceiverStream<Result<v1::ListSessionsResponse, Status>>;
    type ListExpectationsStream = ReceiverStream<Result<v1::ListExpectationsResponse, Status>>;

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        Ok(Response::new(convert::status(self.gateway.status())))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<Self::ListSessionsStream>, Status> {
        let request = request.into_inner();
        let names = self.gateway.names();
        let filter = Filter::read(&request, &names).map_err(|status| *status)?;
        let gateway = self.gateway.clone();
        let row = move |index| {
            let view = gateway.session(index).filter(|view| filter.matches(view))?;
            Some(convert::session(&view, &names, gateway.now()))
        };
        let chunk = |sessions| v1::ListSessionsResponse { sessions };
        let capacity = self.gateway.session_capacity();
        let chunks = scan::list(capacity, request.limit, row, chunk, self.closing.clone());
        Ok(Response::new(ReceiverStream::new(chunks)))
    }

    async fn list_expectations(
        &self,
        request: Request<v1::ListExpectationsRequest>,
    ) -> Result<Response<Self::ListExpectationsStream>, Status> {
        let limit = request.into_inner().limit;
        let gateway = self.gateway.clone();
        let row =
            move |index| gateway.expectation(index).map(|view| convert::expectation(&view, gateway.now()));
        let chunk = |expectations| v1::ListExpectationsResponse { expectations };
        let capacity = self.gateway.expectation_capacity();
        let chunks = scan::list(capacity, limit, row, chunk, self.closing.clone());
        Ok(Response::new(ReceiverStream::new(chunks)))
    }

    async fn show_counters(
        &self,
        request: Request<v1::ShowCountersRequest>,
    ) -> Result<Response<v1::ShowCountersResponse>, Status> {
        let all = request.into_inner().all;
        let workers = self.gateway.counters().into_iter().map(|view| convert::counters(view, all)).collect();
        Ok(Response::new(v1::ShowCountersResponse { workers }))
    }

    async fn check_policy(
        &self,
        request: Request<v1::CheckPolicyRequest>,
    ) -> Result<Response<v1::CheckPolicyResponse>, Status> {
        let v1::CheckPolicyRequest { file_name, toml } = request.into_inner();
        if file_name.is_empty() {
            return Err(Status::invalid_argument("file_name: must not be empty"));
        }
        if toml.len() > MAX_POLICY_BYTES {
            let size = toml.len();
            return Err(Status::invalid_argument(format!("toml: {size} bytes, at most {MAX_POLICY_BYTES}")));
        }
        let gateway = self.gateway.clone();
        // Compiling may take a while; the other clients need not wait for it.
        let checked = tokio::task::spawn_blocking(move || gateway.check(&file_name, &toml))
            .await
            .map_err(|_| Status::internal("the check ended unexpectedly"))?;
        let problems = checked.err().unwrap_or_default().into_iter().map(convert::problem).collect();
        Ok(Response::new(v1::CheckPolicyResponse { problems }))
    }
}
