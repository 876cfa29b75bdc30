//! The routes and the document that describes them, which are made in one go and so can't differ.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{MethodFilter, MethodRouter, get, on};
use utoipa::ToSchema;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, OneOfBuilder, Schema};
use utoipa::openapi::{
    Content, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Paths, Ref, RefOr, Required,
};

use super::{Daemon, answer, metrics};
use crate::failure::{Failed, Failure};
use crate::line;
use crate::operation::check::PoolCheck;
use crate::operation::clone::{CloneCreate, CloneDetach};
use crate::operation::delta::Delta;
use crate::operation::group::{GroupAdd, GroupCreate, GroupDelete, GroupList, GroupRemove, GroupSnapshot};
use crate::operation::pool::{PoolCheckpoint, PoolGrow, PoolShow};
use crate::operation::scrub::PoolScrub;
use crate::operation::snapshot::{
    SnapshotCreate, SnapshotDelete, SnapshotHold, SnapshotList, SnapshotRelease, SnapshotRollback,
    SnapshotShow,
};
use crate::operation::vault::restore::VaultRestore;
use crate::operation::vault::restore_group::VaultRestoreGroup;
use crate::operation::vault::send::VaultSend;
use crate::operation::volume::{
    VolumeCreate, VolumeDelete, VolumeList, VolumeRename, VolumeResize, VolumeShow, VolumeTag,
};
use crate::operation::{LongOperation, Message, Method, Operation, Route};

/// What the document says of the whole.
const ABOUT: &str = "What firn's command line can ask of a daemon, any other client can. Each operation has one path, \
    /v1/NOUN/VERB: what changes something takes POST with a JSON object, what only looks takes GET with a query. Sizes \
    are in bytes. A failure has a body that says what to do next. Long operations answer line by line: any number of \
    events, then either done or error. The access control is the socket's: whoever may open it may do everything.";

/// Routes and their document.
pub(super) struct Api {
    router: Router<Arc<Daemon>>,
    paths: Paths,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Api {
    /// Everything that can be asked.
    pub(super) fn all() -> Self {
        Self::metrics_only()
            .page("/openapi.json", "This document", "application/json", get(document))
            .operation::<PoolShow>()
            .operation::<PoolGrow>()
            .operation::<PoolCheckpoint>()
            .long::<PoolCheck>()
            .long::<PoolScrub>()
            .operation::<VolumeCreate>()
            .operation::<VolumeList>()
            .operation::<VolumeShow>()
            .operation::<VolumeResize>()
            .operation::<VolumeRename>()
            .operation::<VolumeDelete>()
            .operation::<VolumeTag>()
            .operation::<SnapshotCreate>()
            .operation::<SnapshotList>()
            .operation::<SnapshotShow>()
            .operation::<SnapshotDelete>()
            .operation::<SnapshotHold>()
            .operation::<SnapshotRelease>()
            .operation::<SnapshotRollback>()
            .operation::<GroupCreate>()
            .operation::<GroupList>()
            .operation::<GroupAdd>()
            .operation::<GroupRemove>()
            .operation::<GroupSnapshot>()
            .operation::<GroupDelete>()
            .operation::<CloneCreate>()
            .long::<CloneDetach>()
            .long::<Delta>()
            .long::<VaultSend>()
            .long::<VaultRestore>()
            .long::<VaultRestoreGroup>()
    }

    /// Only what a monitoring system may ask.
    pub(super) fn metrics_only() -> Self {
        let router =
            Router::new().fallback(answer::nothing).method_not_allowed_fallback(answer::another_method);
        let api = Self { router, paths: Paths::new(), schemas: Vec::new() };
        api.schema::<Failed>().page(
            "/metrics",
            "Metrics for Prometheus",
            metrics::CONTENT_TYPE,
            get(metrics::page),
        )
    }

    /// What answers.
    pub(super) fn router(self, daemon: Arc<Daemon>) -> Router {
        self.router.with_state(daemon)
    }

    /// What describes it.
    pub(super) fn document(self) -> OpenApi {
        let about =
            InfoBuilder::new().title("firn").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT));
        let components = ComponentsBuilder::new().schemas_from_iter(self.schemas).build();
        OpenApiBuilder::new().info(about).paths(self.paths).components(Some(components)).build()
    }

    fn operation<O: Operation>(self) -> Self {
        let answered = Content::new(Some(reference::<O::View>()));
        let handler = on(filter(O::ROUTE.method), answer::operation::<O>);
        self.schema::<O::View>().route::<O>(O::ROUTE, "application/json", answered, handler)
    }

    fn long<O: LongOperation>(self) -> Self {
        let line = OneOfBuilder::new()
            .item(line::<O::Event>("event"))
            .item(line::<O::View>("done"))
            .item(line::<Failure>("error"));
        let answered = ContentBuilder::new().item_schema(Some(Schema::from(line.build()))).build();
        let handler = on(filter(O::ROUTE.method), answer::long::<O>);
        let api = self.schema::<O::Event>().schema::<O::View>();
        api.route::<O>(O::ROUTE, line::CONTENT_TYPE, answered, handler)
    }

    fn route<O: Message>(
        mut self,
        route: Route,
        content_type: &str,
        answered: Content,
        handler: MethodRouter<Arc<Daemon>>,
    ) -> Self {
        let done = ResponseBuilder::new().description("What was asked for").content(content_type, answered);
        let failed = ResponseBuilder::new()
            .description("What went wrong, and what to do next")
            .content("application/json", Content::new(Some(reference::<Failed>())));
        let noun = route.path.split('/').nth(2).unwrap_or_default();
        let mut operation = OperationBuilder::new()
            .tag(noun)
            .summary(Some(route.summary))
            .operation_id(Some(route.path.trim_start_matches("/v1/").replace('/', "_")))
            .response("200", done)
            .response("default", failed);
        let method = match route.method {
            Method::Get => {
                operation = operation.parameters(Some(parameters::<O>()));
                HttpMethod::Get
            }
            Method::Post => {
                self = self.schema::<O>();
                let body = RequestBodyBuilder::new()
                    .required(Some(Required::True))
                    .content("application/json", Content::new(Some(reference::<O>())));
                operation = operation.request_body(Some(body.build()));
                HttpMethod::Post
            }
        };
        self.paths.add_path_operation(route.path, vec![method], operation.build());
        Self { router: self.router.route(route.path, handler), ..self }
    }

    fn page(
        mut self,
        path: &'static str,
        summary: &str,
        content_type: &str,
        handler: MethodRouter<Arc<Daemon>>,
    ) -> Self {
        let content = Content::new(None::<Ref>);
        let page = ResponseBuilder::new().description(summary).content(content_type, content);
        let operation = OperationBuilder::new().summary(Some(summary)).response("200", page).build();
        self.paths.paths.insert(path.to_owned(), PathItem::new(HttpMethod::Get, operation));
        Self { router: self.router.route(path, handler), ..self }
    }

    fn schema<T: ToSchema>(mut self) -> Self {
        self.schemas.push((T::name().into(), T::schema()));
        T::schemas(&mut self.schemas);
        self
    }
}

async fn document() -> impl IntoResponse {
    let json = Api::all().document().to_json().unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], json)
}

fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
    }
}

fn reference<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

/// A line with one key.
fn line<T: ToSchema>(key: &str) -> Schema {
    ObjectBuilder::new().property(key, reference::<T>()).required(key).build().into()
}

/// A request's fields as the parameters of a query.
fn parameters<T: ToSchema>() -> Vec<Parameter> {
    let RefOr::T(Schema::Object(request)) = T::schema() else { return Vec::new() };
    let parameter = |(name, schema): (String, RefOr<Schema>)| {
        let required = if request.required.contains(&name) { Required::True } else { Required::False };
        let described = match &schema {
            RefOr::T(Schema::Object(object)) => object.description.clone(),
            _ => None,
        };
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(required)
            .description(described)
            .schema(Some(schema))
            .build()
    };
    request.properties.clone().into_iter().map(parameter).collect()
}
