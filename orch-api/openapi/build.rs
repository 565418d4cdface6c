//! Collects the descriptions of the API types and their fields from k8s-openapi's schemas into one compressed table:
//! `{type: {"": description, field: description}}`.

use k8s_openapi::{api, apiextensions_apiserver, apimachinery, kube_aggregator};
use schemars::SchemaGenerator;
use serde_json::{Map, Value};
use std::io::Write;

macro_rules! register {
    ($generator:expr; $($($module:ident)::+::{$($kind:ident),+});+ $(;)?) => {
        $({
            use $($module)::+ as module;
            $(let _ = $generator.subschema_for::<module::$kind>();)+
        })+
    };
}

/// Every served kind; the types that they use come along.
fn register_kinds(generator: &mut SchemaGenerator) {
    register! { generator;
        api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration};
        api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
        api::authentication::v1::{SelfSubjectReview, TokenRequest, TokenReview};
        api::authorization::v1::{LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview,
            SubjectAccessReview};
        api::autoscaling::v1::{HorizontalPodAutoscaler, Scale};
        api::autoscaling::v2::{HorizontalPodAutoscaler};
        api::batch::v1::{CronJob, Job};
        api::certificates::v1::{CertificateSigningRequest};
        api::coordination::v1::{Lease};
        api::core::v1::{Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node,
            PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret,
            Service, ServiceAccount};
        api::discovery::v1::{EndpointSlice};
        api::events::v1::{Event};
        api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
        api::networking::v1::{IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR};
        api::node::v1::{RuntimeClass};
        api::policy::v1::{Eviction, PodDisruptionBudget};
        api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
        api::resource::v1::{DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice};
        api::scheduling::v1::{PriorityClass};
        api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
            VolumeAttributesClass};
        apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition};
        apimachinery::pkg::apis::meta::v1::{DeleteOptions, ListMeta, Status};
        kube_aggregator::pkg::apis::apiregistration::v1::{APIService};
    }
}

fn description(schema: &Value) -> Option<Value> {
    schema.get("description").filter(|d| d.is_string()).cloned()
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut generator = SchemaGenerator::default();
    register_kinds(&mut generator);
    let mut table = Map::new();
    for (name, schema) in generator.take_definitions(true) {
        let mut texts = Map::new();
        texts.extend(description(&schema).map(|d| (String::new(), d)));
        let properties = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        texts.extend(properties.filter_map(|(field, schema)| Some((field.clone(), description(schema)?))));
        table.insert(name, Value::Object(texts));
    }
    assert!(table.len() > 500, "only {} types are described", table.len());
    let json = Value::Object(table).to_string();
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(json.as_bytes()).expect("writing to memory");
    let bytes = encoder.finish().expect("writing to memory");
    let out =
        std::path::Path::new(&std::env::var_os("OUT_DIR").expect("set by cargo")).join("descriptions.z");
    std::fs::write(out, bytes).expect("writing the table");
}
