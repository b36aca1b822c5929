//! What one method of one address is said to be: the entry of the document, and at once what is mounted and held to it.
//!
//! Owns: the answers that all addresses of a kind have in common. Neighbours: each route describes itself, `openapi` puts the entries
//! together, `rest::endpoint` answers nothing that is not described.

use hyper::{Method, StatusCode};
use utoipa::ToSchema;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{
    Content, HeaderBuilder, KnownFormat, ObjectBuilder, Ref, RefOr, Required, Response, Schema, SchemaFormat, Type,
};

use crate::http::guard::Needed;
use crate::http::problem;

/// The scheme by which callers prove who they are.
pub(super) const BEARER: &str = "bearer";
const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
/// Where everything that callers ask for lies.
const VERSIONED: &str = "/v1/";

/// A schema with its name.
pub(super) type Named = (String, RefOr<Schema>);

/// What one method of one address is said to be.
pub(in crate::http) struct Description {
    pub(in crate::http) method: Method,
    /// With a name in braces where any segment may stand.
    pub(in crate::http) path: &'static str,
    /// What its caller must be; nothing, if anybody may ask.
    pub(in crate::http) needed: Option<Needed>,
    pub(super) operation: Operation,
    pub(super) schemas: Vec<Named>,
}

impl Description {
    /// An address that anybody may ask.
    pub(in crate::http) fn open(method: Method, path: &'static str, summary: &str) -> Self {
        let mut operation = Operation::new();
        operation.operation_id = Some(operation_id(&method, path));
        operation.summary = Some(summary.to_owned());
        operation.security = Some(Vec::new());
        Self { method, path, needed: None, operation, schemas: Vec::new() }
    }

    /// An address for callers who are known.
    pub(in crate::http) fn guarded(method: Method, path: &'static str, needed: Needed, summary: &str) -> Self {
        let mut described = Self::open(method, path, summary);
        described.needed = Some(needed);
        described.operation.tags = Some(vec![tag(path).to_owned()]);
        described.operation.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, [])]);
        let role = match needed {
            Needed::User => "The page that asks is of a site that is not allowed.",
            Needed::Service => {
                "The role of services is missing (`http.service_role`), or the page that asks is of a foreign site."
            }
            Needed::Admin => "The role of operators is missing (`http.admin_role`), or the page that asks is of a foreign site.",
        };
        if needed == Needed::User && !described.method.is_safe() {
            let more = "The user writes more than `http.writes_burst` and `http.writes_per_second` allow. `Retry-After` says when to send it again.";
            described = described.refuses(StatusCode::TOO_MANY_REQUESTS, more);
        }
        described
            .refuses(StatusCode::BAD_REQUEST, "A parameter that this address does not have, or one that does not read.")
            .refuses(StatusCode::UNAUTHORIZED, "No credentials, or none that are taken.")
            .refuses(StatusCode::FORBIDDEN, role)
            .refuses(
                StatusCode::SERVICE_UNAVAILABLE,
                "The gateway has not begun or drains, or brokers or store are away. `Retry-After` says when to ask again.",
            )
    }

    /// With more than fits in one line.
    pub(in crate::http) fn telling(mut self, description: &str) -> Self {
        self.operation.description = Some(description.to_owned());
        self
    }

    /// With a meaning of the segment that stands at `{name}`.
    pub(in crate::http) fn segment(self, name: &'static str, description: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        self.parameter(ParameterIn::Path, name, description, schema.into())
    }

    /// With a parameter that may stand in the query.
    pub(in crate::http) fn query(self, name: &'static str, description: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        self.parameter(ParameterIn::Query, name, description, schema.into())
    }

    /// With a header that counts.
    pub(in crate::http) fn header(self, name: &'static str, description: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        self.parameter(ParameterIn::Header, name, description, schema.into())
    }

    fn parameter(mut self, place: ParameterIn, name: &str, description: &str, schema: RefOr<Schema>) -> Self {
        let required = if place == ParameterIn::Path { Required::True } else { Required::False };
        let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(required);
        let parameter = parameter.description(Some(description)).schema(Some(schema)).build();
        self.operation.parameters.get_or_insert_default().push(parameter.into());
        self
    }

    /// With a body of this type.
    pub(in crate::http) fn takes<T: ToSchema>(mut self) -> Self {
        let schema = self.reference::<T>();
        self.takes_schema(schema)
    }

    /// With a body of a schema that the document has anyway.
    pub(in crate::http) fn takes_named(self, name: &str) -> Self {
        self.takes_schema(Ref::from_schema_name(name).into())
    }

    fn takes_schema(mut self, schema: RefOr<Schema>) -> Self {
        let body = RequestBodyBuilder::new().content(JSON, Content::new(Some(schema))).required(Some(Required::True));
        self.operation.request_body = Some(body.build().into());
        self.refuses(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than `http.body_bytes`.")
            .refuses(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is not said to be JSON.")
            .refuses(StatusCode::UNPROCESSABLE_ENTITY, "JSON that makes no sense here; `errors` says where.")
    }

    /// Whether a body belongs to the request.
    pub(in crate::http) fn takes_body(&self) -> bool {
        self.operation.request_body.is_some()
    }

    /// With an answer of this type.
    pub(in crate::http) fn gives<T: ToSchema>(mut self, status: StatusCode, description: &str) -> Self {
        let schema = self.reference::<T>();
        self.gives_schema(status, description, (JSON, schema))
    }

    /// With an answer that is text of another kind.
    pub(in crate::http) fn gives_text(self, status: StatusCode, description: &str, media: &str) -> Self {
        self.gives_schema(status, description, (media, text().into()))
    }

    /// With an answer that is JSON of any form.
    pub(in crate::http) fn gives_json(self, status: StatusCode, description: &str) -> Self {
        self.gives_schema(status, description, (JSON, ObjectBuilder::new().build().into()))
    }

    /// With an answer that is a problem.
    pub(in crate::http) fn refuses(mut self, status: StatusCode, description: &str) -> Self {
        let schema = self.reference::<problem::Told>();
        self.gives_schema(status, description, (PROBLEM, schema))
    }

    fn gives_schema(mut self, status: StatusCode, description: &str, (media, schema): (&str, RefOr<Schema>)) -> Self {
        let mut response = Response::new(description);
        response.content.insert(media.to_owned(), Content::new(Some(schema)).into());
        if status == StatusCode::SERVICE_UNAVAILABLE && self.path.starts_with(VERSIONED) {
            let header = HeaderBuilder::new().description(Some("Seconds")).schema(Some(whole(1, 3_600))).build();
            response.headers.insert("Retry-After".to_owned(), header.into());
        }
        self.operation.responses.responses.insert(status.as_str().to_owned(), response.into());
        self
    }

    /// The names of the parameters that may stand in the query.
    pub(in crate::http) fn queries(&self) -> impl Iterator<Item = &str> {
        let parameters = self.operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
            RefOr::T(parameter) => Some(parameter),
            RefOr::Ref(_) => None,
        });
        let of_query = |parameter: &&Parameter| parameter.parameter_in == ParameterIn::Query;
        parameters.filter(of_query).map(|parameter| parameter.name.as_str())
    }

    fn reference<T: ToSchema>(&mut self) -> RefOr<Schema> {
        T::schemas(&mut self.schemas);
        self.schemas.push((T::name().into_owned(), T::schema()));
        Ref::from_schema_name(T::name()).into()
    }
}

/// Any text.
pub(in crate::http) fn text() -> Schema {
    ObjectBuilder::new().schema_type(Type::String).build().into()
}

/// A point in time.
pub(in crate::http) fn instant() -> Schema {
    ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).build().into()
}

/// A UUID.
pub(in crate::http) fn id() -> Schema {
    ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid))).build().into()
}

/// `true` or `false`.
pub(in crate::http) fn truth() -> Schema {
    ObjectBuilder::new().schema_type(Type::Boolean).build().into()
}

/// A whole number within bounds.
pub(in crate::http) fn whole(least: u32, most: u32) -> Schema {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).maximum(Some(most)).build().into()
}

/// A name for generated clients, which follows from method and path: `getUsersByIdConnections`.
fn operation_id(method: &Method, path: &str) -> String {
    let words = path.strip_prefix(VERSIONED).unwrap_or(path).split(['/', '-', '.']).filter(|word| !word.is_empty());
    let word = |word: &str| match word.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        Some(name) => format!("By{}", capital(name)),
        None => capital(word),
    };
    method.as_str().to_lowercase() + &words.map(word).collect::<String>()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// The group that an address is shown in.
fn tag(path: &str) -> &str {
    path.strip_prefix(VERSIONED).unwrap_or(path).split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_a_name_that_follows_from_its_address() {
        assert_eq!(operation_id(&Method::GET, "/v1/users/{id}/connections"), "getUsersByIdConnections");
        assert_eq!(operation_id(&Method::POST, "/v1/me/notifications/read-all"), "postMeNotificationsReadAll");
        assert_eq!(operation_id(&Method::GET, "/openapi.json"), "getOpenapiJson");
    }
}
