//! Requests as the tests write them.

use http::{HeaderName, HeaderValue, Method, header};
use orch_core::{
    Status,
    client::{ApiClient, ApiRequest, ApiResponse, ResponseBody},
};
use serde_json::Value;
use std::sync::Arc;

/// A request: method, path with `?a=b&c=d`, body or null.
pub(crate) fn request(method: Method, path: &str, body: Value) -> ApiRequest {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut request = ApiRequest::new(method, path);
    for (k, v) in query.split('&').filter_map(|p| p.split_once('=')) {
        request = request.param(k, v);
    }
    if body.is_null() {
        request
    } else {
        request.value(body)
    }
}

/// The answer to a request.
pub(crate) async fn call(
    client: &Arc<dyn ApiClient>,
    method: Method,
    path: &str,
    body: Value,
) -> Result<ApiResponse, Status> {
    client.call(request(method, path, body)).await
}

/// The answer to a request with one more header.
pub(crate) async fn call_with(
    client: &Arc<dyn ApiClient>,
    method: Method,
    path: &str,
    body: Value,
    name: HeaderName,
    value: &'static str,
) -> Result<ApiResponse, Status> {
    let mut request = request(method, path, body);
    request.headers.insert(name, HeaderValue::from_static(value));
    client.call(request).await
}

/// The object in the answer.
pub(crate) async fn object(
    client: &Arc<dyn ApiClient>,
    method: Method,
    path: &str,
    body: Value,
) -> Result<Value, Status> {
    Ok(call(client, method, path, body)
        .await?
        .into_object()?
        .value()
        .clone())
}

/// A GET of one object.
pub(crate) async fn get(client: &Arc<dyn ApiClient>, path: &str) -> Result<Value, Status> {
    object(client, Method::GET, path, Value::Null).await
}

/// A creation.
pub(crate) async fn post(client: &Arc<dyn ApiClient>, path: &str, body: Value) -> Result<Value, Status> {
    object(client, Method::POST, path, body).await
}

/// A patch of a media type.
pub(crate) async fn patch(
    client: &Arc<dyn ApiClient>,
    path: &str,
    media_type: &'static str,
    body: Value,
) -> Result<Value, Status> {
    let answer = call_with(
        client,
        Method::PATCH,
        path,
        body,
        header::CONTENT_TYPE,
        media_type,
    )
    .await?;
    Ok(answer.into_object()?.value().clone())
}

/// Names, resource version and continue token of a list.
pub(crate) async fn list(
    client: &Arc<dyn ApiClient>,
    path: &str,
) -> Result<(Vec<String>, String, Option<String>), Status> {
    match call(client, Method::GET, path, Value::Null).await?.body {
        ResponseBody::List {
            items,
            resource_version,
            continue_token,
            ..
        } => Ok((
            items.iter().map(|o| o.name().to_owned()).collect(),
            resource_version,
            continue_token,
        )),
        other => panic!("not a list: {other:?}"),
    }
}
