//! `/openapi.json`: the contract of HTTP, made of what the routes say of themselves.
//!
//! Owns: the document as a whole. It is the same for every process of a release, whatever its roles, so it is made once. Neighbours:
//! `described` is what one route says, `rest` mounts what it describes.

mod described;
mod lifted;

use std::sync::LazyLock;

use hyper::{Method, StatusCode};
use serde_json::Value;
use utoipa::openapi::path::{HttpMethod, Paths};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, License, OpenApiBuilder};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

pub(super) use self::described::{Description, id, instant, text, truth, whole};
pub(super) use self::lifted::{NotificationSchema, REQUEST_NAME};
use super::{asyncapi, document, health, metrics, rest};

const PATH: &str = "/openapi.json";
const ABOUT: &str = "Notifications of tidings over HTTP. A caller proves who it is by a token, as for a WebSocket; errors are \
    `application/problem+json` (RFC 9457). Where `GET` is, `HEAD` is too; any other method is answered with 405 and `Allow`, and a \
    parameter that an address does not have with 400. What is written is on the log when it is answered; what is read follows it.";

/// The document, or why there is none.
static DOCUMENT: LazyLock<document::Made> = LazyLock::new(|| Ok(document(all())?.to_string()));

/// `GET /openapi.json`.
pub(super) fn routes() -> BoxedFilter<(Response,)> {
    warp::path!("openapi.json").and(warp::get()).map(|| document::answer(&DOCUMENT)).boxed()
}

fn all() -> Vec<Description> {
    let own = Description::open(Method::GET, PATH, "This document").gives_json(StatusCode::OK, "OpenAPI 3.1.");
    health::described().into_iter().chain([metrics::described(), asyncapi::described(), own]).chain(rest::described()).collect()
}

fn document(descriptions: Vec<Description>) -> Result<Value, serde_json::Error> {
    let (mut paths, mut components) = (Paths::new(), ComponentsBuilder::new());
    for Description { method, path, operation, schemas, .. } in descriptions {
        components = components.schemas_from_iter(schemas);
        paths.add_path_operation(path, vec![method_of(&method)], operation);
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
    let bearer =
        bearer.description(Some("Where `auth.mode` is `proxy` or `none`, headers of a proxy or the query take its place."));
    let components = components.security_scheme(described::BEARER, SecurityScheme::Http(bearer.build()));
    let license = License::builder().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new().title("tidings").version("v1").description(Some(ABOUT)).license(Some(license));
    let document = OpenApiBuilder::new().info(info).paths(paths).components(Some(components.build())).build();
    let mut document = serde_json::to_value(document)?;
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        lifted::lift(schemas)?;
    }
    Ok(document)
}

/// Routes take no other methods.
fn method_of(method: &Method) -> HttpMethod {
    match *method {
        Method::POST => HttpMethod::Post,
        Method::DELETE => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}
