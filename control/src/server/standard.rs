//! The standard services beside ours: health, for whoever watches the daemon, and reflection, for tools that do not
//! know the schema.

use control_api::v1;
use tonic::service::Routes;
use tonic_health::pb;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::Builder;

/// Adds `grpc.health.v1.Health`, and `grpc.reflection` in the two versions that tools speak.
pub(super) fn beside(routes: Routes, health: &HealthReporter) -> Routes {
    let service = HealthService::from_health_reporter(health.clone());
    let mut routes = routes.add_service(HealthServer::new(service));
    let schema = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
    };
    // The descriptors are ours, made when this was built: a test sees that they are right.
    match schema().build_v1() {
        Ok(reflection) => routes = routes.add_service(reflection),
        Err(error) => tracing::error!(%error, "no reflection on the control socket"),
    }
    match schema().build_v1alpha() {
        Ok(reflection) => routes = routes.add_service(reflection),
        Err(error) => tracing::error!(%error, "no reflection (v1alpha) on the control socket"),
    }
    routes
}
