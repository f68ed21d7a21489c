//! The services that every gRPC tool knows: health and reflection.

#![allow(clippy::unwrap_used, clippy::panic)]

mod server_fake;

use server_fake::{Running, start};
use tokio_stream::{StreamExt, once};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

async fn channel(running: &Running) -> Channel {
    let endpoint = Endpoint::try_from(format!("unix:{}", running.path.display())).unwrap();
    endpoint.connect().await.unwrap()
}

#[tokio::test]
async fn the_daemon_is_healthy_until_it_stops() {
    let running = start(10);
    let mut client = HealthClient::new(channel(&running).await);
    for service in ["", "postern.v1.Postern"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let status = client.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    let unknown = HealthCheckRequest { service: "postern.v9.Postern".to_owned() };
    assert_eq!(client.check(unknown).await.unwrap_err().code(), Code::NotFound);

    let request = HealthCheckRequest { service: "postern.v1.Postern".to_owned() };
    let mut watch = client.watch(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let stopping = tokio::task::spawn_blocking(move || running.server.stop());
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    stopping.await.unwrap();
}

#[tokio::test]
async fn reflection_lists_the_services_and_describes_every_call() {
    use v1::server_reflection_client::ServerReflectionClient;
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let running = start(10);
    let mut client = ServerReflectionClient::new(channel(&running).await);
    let mut ask = async |message| {
        let request = v1::ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let mut answers = client.server_reflection_info(once(request)).await.unwrap().into_inner();
        answers.next().await.unwrap().unwrap().message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list");
    };
    let names: Vec<_> = list.service.iter().map(|s| s.name.as_str()).collect();
    assert!(names.contains(&"postern.v1.Postern") && names.contains(&"grpc.health.v1.Health"), "{names:?}");

    let symbol = MessageRequest::FileContainingSymbol("postern.v1.Postern".to_owned());
    let MessageResponse::FileDescriptorResponse(files) = ask(symbol).await else { panic!("no file") };
    let bytes = files.file_descriptor_proto.concat();
    for call in ["Status", "ListSessions", "CheckPolicy"] {
        assert!(bytes.windows(call.len()).any(|w| w == call.as_bytes()), "{call} is not described");
    }
}

#[tokio::test]
async fn tools_that_speak_the_older_reflection_are_answered() {
    use v1alpha::server_reflection_client::ServerReflectionClient;
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;
    let running = start(10);
    let mut client = ServerReflectionClient::new(channel(&running).await);
    let message_request = Some(MessageRequest::FileContainingSymbol("grpc.health.v1.Health".to_owned()));
    let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request };
    let mut answers = client.server_reflection_info(once(request)).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
}
