//! The RPCs of the control socket.

use super::authority::root_only;
use super::filter::{Filter, session_id};
use super::follow::follow;
use super::gateway::{AlgView, Gateway, Problem, problems};
use super::scan::{Life, SLICE, stopping};
use super::{convert, diff, scan};
use crate::requests::{Candidate, MOST_SESSIONS, Refused};
use control_api::{MAX_POLICY_BYTES, v1};
use dataplane::policy::ProfileId;
use dataplane::view::{ExpectationState, ExpectationView, SessionView, State};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Streams that may run at once, over all clients.
const STREAMS: usize = 32;
/// Configurations that may be compiled or compared at once, over all clients; others wait.
const COMPILERS: usize = 2;

/// The service: a gateway, and the news that the server stops.
pub(super) struct Service {
    gateway: Arc<dyn Gateway>,
    closing: watch::Receiver<bool>,
    streams: Arc<Semaphore>,
    compilers: Arc<Semaphore>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    pub(super) fn new(gateway: Arc<dyn Gateway>, closing: watch::Receiver<bool>) -> Self {
        let (streams, compilers) = (Semaphore::new(STREAMS), Semaphore::new(COMPILERS));
        Self { gateway, closing, streams: Arc::new(streams), compilers: Arc::new(compilers) }
    }

    /// Room for one more stream.
    fn stream(&self) -> Result<Life, Status> {
        let full =
            |_| Status::resource_exhausted(format!("{STREAMS} lists and followers run already; try again"));
        let place = Arc::clone(&self.streams).try_acquire_owned().map_err(full)?;
        Ok(Life { _place: place, closing: self.closing.clone() })
    }

    fn filter(&self, of: Option<&v1::SessionFilter>) -> Result<Filter, Status> {
        let workers = self.gateway.counters().len();
        let request = of.cloned().unwrap_or_default();
        Filter::read(&request, &self.gateway.names(), workers).map_err(|status| *status)
    }

    /// Works on a configuration, which may take a while; the other clients need not wait for it.
    async fn compiling<T: Send + 'static>(
        &self,
        file_name: &str,
        toml: &str,
        work: impl FnOnce(&dyn Gateway) -> T + Send + 'static,
    ) -> Result<T, Status> {
        if file_name.is_empty() {
            return Err(Status::invalid_argument("file_name: must not be empty"));
        }
        if toml.len() > MAX_POLICY_BYTES {
            let size = toml.len();
            return Err(Status::invalid_argument(format!("toml: {size} bytes, at most {MAX_POLICY_BYTES}")));
        }
        let place = Arc::clone(&self.compilers).acquire_owned().await.map_err(|_| stopping())?;
        let gateway = Arc::clone(&self.gateway);
        let worked = tokio::task::spawn_blocking(move || {
            let _place = place; // until the work is done, also if the client has gone
            work(&*gateway)
        });
        worked.await.map_err(|_| Status::internal("the check ended unexpectedly"))
    }
}

#[tonic::async_trait]
impl v1::postern_server::Postern for Service {
    type ListSessionsStream = ReceiverStream<Result<v1::ListSessionsResponse, Status>>;
    type ListExpectationsStream = ReceiverStream<Result<v1::ListExpectationsResponse, Status>>;
    type FollowEventsStream = ReceiverStream<Result<v1::FollowEventsResponse, Status>>;

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        Ok(Response::new(convert::status(self.gateway.status())))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Answer<Self::ListSessionsStream> {
        let request = request.into_inner();
        let filter = self.filter(request.filter.as_ref())?;
        let range = filter.range(self.gateway.session_capacity());
        let (gateway, names) = (Arc::clone(&self.gateway), self.gateway.names());
        let row = move |index| {
            let (view, now) = (gateway.session(index)?, gateway.now());
            filter.matches(&view, &names, now).then(|| convert::session(&view, &names, now))
        };
        let chunk = |sessions| v1::ListSessionsResponse { sessions };
        let chunks = scan::list(range, request.limit, row, chunk, self.stream()?);
        Ok(Response::new(ReceiverStream::new(chunks)))
    }

    async fn show_session(
        &self,
        request: Request<v1::ShowSessionRequest>,
    ) -> Answer<v1::ShowSessionResponse> {
        let text = request.into_inner().id;
        let id = session_id("id", &text).map_err(|status| *status)?;
        let id = id.ok_or_else(|| Status::invalid_argument("id: must not be empty"))?;
        let (gateway, names) = (&self.gateway, self.gateway.names());
        let view = (id.index < gateway.session_capacity()).then(|| gateway.session(id.index)).flatten();
        let gone = || Status::not_found(format!("there is no session {text}: it has ended, or never was"));
        let view = view.filter(|view| view.id == id).ok_or_else(gone)?;
        let life = self.stream()?;
        let now = gateway.now();
        let mut expectations = Vec::new();
        scan::each(0..gateway.expectation_capacity(), &life, |index| {
            let waits = |e: &ExpectationView| e.parent == id && e.state == ExpectationState::Armed;
            let found = gateway.expectation(index).filter(waits);
            expectations.extend(found.map(|e| convert::expectation(&e, now)));
        })
        .await?;
        Ok(Response::new(v1::ShowSessionResponse {
            session: Some(convert::session(&view, &names, now)),
            expectations,
        }))
    }

    async fn clear_sessions(
        &self,
        request: Request<v1::ClearSessionsRequest>,
    ) -> Answer<v1::ClearSessionsResponse> {
        root_only(request.extensions(), "clear sessions").map_err(|status| *status)?;
        let v1::ClearSessionsRequest { filter, all } = request.into_inner();
        if !all && filter.as_ref().is_none_or(|filter| *filter == v1::SessionFilter::default()) {
            return Err(Status::invalid_argument("filter: must not be empty unless `all` is set"));
        }
        let filter = self.filter(filter.as_ref())?;
        let _life = self.stream()?;
        let (gateway, names) = (&self.gateway, self.gateway.names());
        let mut cleared = 0;
        let mut batch = Vec::new();
        for index in filter.range(gateway.session_capacity()) {
            if index % SLICE == 0 {
                tokio::task::yield_now().await;
            }
            let open = gateway.session(index).filter(|view| view.state != State::Closed);
            batch.extend(open.filter(|v| filter.matches(v, &names, gateway.now())).map(|v| v.id));
            if batch.len() == MOST_SESSIONS {
                let full = std::mem::take(&mut batch);
                cleared += gateway.requests().clear(full).await.map_err(|_| stopping())?;
            }
        }
        if !batch.is_empty() {
            cleared += gateway.requests().clear(batch).await.map_err(|_| stopping())?;
        }
        Ok(Response::new(v1::ClearSessionsResponse { cleared }))
    }

    async fn list_expectations(
        &self,
        request: Request<v1::ListExpectationsRequest>,
    ) -> Answer<Self::ListExpectationsStream> {
        let limit = request.into_inner().limit;
        let gateway = Arc::clone(&self.gateway);
        let row =
            move |index| gateway.expectation(index).map(|view| convert::expectation(&view, gateway.now()));
        let chunk = |expectations| v1::ListExpectationsResponse { expectations };
        let capacity = self.gateway.expectation_capacity();
        let chunks = scan::list(0..capacity, limit, row, chunk, self.stream()?);
        Ok(Response::new(ReceiverStream::new(chunks)))
    }

    async fn list_interfaces(
        &self,
        _: Request<v1::ListInterfacesRequest>,
    ) -> Answer<v1::ListInterfacesResponse> {
        let interfaces = self.gateway.status().interfaces.into_iter().map(convert::interface).collect();
        Ok(Response::new(v1::ListInterfacesResponse { interfaces }))
    }

    async fn show_interface(
        &self,
        request: Request<v1::ShowInterfaceRequest>,
    ) -> Answer<v1::ShowInterfaceResponse> {
        let name = request.into_inner().name;
        let detail = self.gateway.interface(&name);
        let detail = detail.ok_or_else(|| Status::not_found(format!("no interface \"{name}\"")))?;
        Ok(Response::new(convert::interface_detail(detail)))
    }

    async fn list_algs(&self, _: Request<v1::ListAlgsRequest>) -> Answer<v1::ListAlgsResponse> {
        let life = self.stream()?;
        let (gateway, algs) = (&self.gateway, self.gateway.algs());
        let mut read: HashMap<ProfileId, u64> = HashMap::new();
        // A session that is older than its number's profile has it no more.
        let since: HashMap<ProfileId, u32> = algs.iter().map(|alg| (alg.profile, alg.since)).collect();
        scan::each(0..gateway.session_capacity(), &life, |index| {
            let inspected = |view: &SessionView| view.alg && view.state != State::Closed;
            if let Some(view) = gateway.session(index).filter(inspected)
                && since.get(&view.profile).is_some_and(|since| *since <= view.policy_generation)
            {
                *read.entry(view.profile).or_default() += 1;
            }
        })
        .await?;
        let alg = |view: AlgView| {
            let sessions = read.get(&view.profile).copied().unwrap_or(0);
            convert::alg(view, sessions)
        };
        Ok(Response::new(v1::ListAlgsResponse {
            algs: algs.into_iter().map(alg).collect(),
            counters: convert::alg_counters(gateway.counters()),
        }))
    }

    async fn show_counters(
        &self,
        request: Request<v1::ShowCountersRequest>,
    ) -> Answer<v1::ShowCountersResponse> {
        let all = request.into_inner().all;
        let workers = self.gateway.counters().into_iter().map(|view| convert::counters(view, all)).collect();
        Ok(Response::new(v1::ShowCountersResponse { workers }))
    }

    async fn check_policy(
        &self,
        request: Request<v1::CheckPolicyRequest>,
    ) -> Answer<v1::CheckPolicyResponse> {
        let v1::CheckPolicyRequest { file_name, toml } = request.into_inner();
        let (name, text) = (file_name.clone(), toml.clone());
        let checked = self.compiling(&file_name, &toml, move |gateway| gateway.check(&name, &text)).await?;
        let problems = checked.err().unwrap_or_default().into_iter().map(convert::problem).collect();
        Ok(Response::new(v1::CheckPolicyResponse { problems }))
    }

    async fn show_policy(&self, _: Request<v1::ShowPolicyRequest>) -> Answer<v1::ShowPolicyResponse> {
        let policy = self.gateway.policy();
        fits("the configuration in force", &policy.text)?;
        Ok(Response::new(v1::ShowPolicyResponse {
            generation: policy.generation,
            file_name: policy.name.clone(),
            toml: policy.text.clone(),
        }))
    }

    async fn diff_policy(&self, request: Request<v1::DiffPolicyRequest>) -> Answer<v1::DiffPolicyResponse> {
        let v1::DiffPolicyRequest { file_name, toml } = request.into_inner();
        let policy = self.gateway.policy();
        let generation = policy.generation;
        let (name, text) = (file_name.clone(), toml.clone());
        let work = move |gateway: &dyn Gateway| -> Result<(String, Vec<String>), Vec<Problem>> {
            let candidate = gateway.check(&name, &text)?;
            let old = format!("{} (generation {})", policy.name, policy.generation);
            let diff = diff::unified((&old, &policy.text), (&name, &text));
            Ok((diff, gateway.restart_needed(&candidate)))
        };
        let answer = match self.compiling(&file_name, &toml, work).await? {
            Ok((diff, restart_needed)) => {
                fits("the difference", &diff)?;
                v1::DiffPolicyResponse { generation, diff, restart_needed, problems: Vec::new() }
            }
            Err(problems) => v1::DiffPolicyResponse {
                generation,
                problems: problems.into_iter().map(convert::problem).collect(),
                ..v1::DiffPolicyResponse::default()
            },
        };
        Ok(Response::new(answer))
    }

    async fn commit_policy(
        &self,
        request: Request<v1::CommitPolicyRequest>,
    ) -> Answer<v1::CommitPolicyResponse> {
        root_only(request.extensions(), "commit a policy").map_err(|status| *status)?;
        let v1::CommitPolicyRequest { file_name: name, toml: text } = request.into_inner();
        let (file_name, toml) = (name.clone(), text.clone());
        // Compiled here, so that the control core is not kept by what is broken or long.
        let checked = self.compiling(&name, &text, move |gateway| gateway.check(&file_name, &toml)).await?;
        let outcome = match checked {
            Ok(config) => self.commit(Candidate { name, text, config }).await?,
            Err(problems) => Err(problems),
        };
        Ok(Response::new(match outcome {
            Ok(generation) => v1::CommitPolicyResponse { problems: Vec::new(), generation },
            Err(problems) => v1::CommitPolicyResponse {
                problems: problems.into_iter().map(convert::problem).collect(),
                generation: self.gateway.policy().generation,
            },
        }))
    }

    async fn follow_events(&self, _: Request<v1::FollowEventsRequest>) -> Answer<Self::FollowEventsStream> {
        let life = self.stream()?;
        let chunks = follow(self.gateway.followers().follow(), life);
        Ok(Response::new(ReceiverStream::new(chunks)))
    }
}

impl Service {
    async fn commit(&self, candidate: Candidate) -> Result<Result<u32, Vec<Problem>>, Status> {
        let committed = self.gateway.requests().commit(candidate).await.map_err(|_| stopping())?;
        Ok(committed.map_err(|refused| match refused {
            Refused::Broken(report) => problems(&report),
            Refused::Restart(what) => {
                what.into_iter().map(|what| Problem::from(format!("{what}: that needs a restart"))).collect()
            }
            Refused::Audit(sentence) => vec![Problem::from(sentence)],
        }))
    }
}

/// Refuses an answer that no client would take.
fn fits(what: &str, text: &str) -> Result<(), Status> {
    if text.len() > MAX_POLICY_BYTES {
        let size = text.len();
        let sentence = format!("{what} has {size} bytes: more than the {MAX_POLICY_BYTES} of an answer");
        return Err(Status::resource_exhausted(sentence));
    }
    Ok(())
}
