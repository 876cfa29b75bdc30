//! The engine's own reports as parts of an answer: statistics, and what a check found.
//!
//! Which fields they have changes with the engine. So their schema is read off one of them, and can't fall behind.

use std::borrow::Cow;

use firn_engine::check::{CheckReport, Discrepancy, DiscrepancyKind};
use firn_engine::core::Statistics;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// Counters and gauges of a pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PoolStatistics(pub(crate) Statistics);

/// What a check counted, and what does not agree.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Report(pub(crate) CheckReport);

impl PartialSchema for PoolStatistics {
    fn schema() -> RefOr<Schema> {
        read_off(&Statistics::default())
    }
}

impl ToSchema for PoolStatistics {
    fn name() -> Cow<'static, str> {
        "Statistics".into()
    }
}

impl PartialSchema for Report {
    fn schema() -> RefOr<Schema> {
        let (kind, subject, detail) = (DiscrepancyKind::Leaked, String::new(), String::new());
        let discrepancies = vec![Discrepancy { kind, subject, detail }];
        read_off(&CheckReport { discrepancies, ..CheckReport::default() })
    }
}

impl ToSchema for Report {
    fn name() -> Cow<'static, str> {
        "CheckReport".into()
    }
}

/// The schema of an example that has something in every list.
fn read_off(example: &impl Serialize) -> RefOr<Schema> {
    // Numbers, texts and lists always have a form in JSON.
    schema(&serde_json::to_value(example).unwrap_or_default()).into()
}

/// The schema of what looks like this.
fn schema(example: &Value) -> Schema {
    let plain = |kind| ObjectBuilder::new().schema_type(kind);
    match example {
        Value::Object(fields) => {
            let object = ObjectBuilder::new();
            let field = |object: ObjectBuilder, (name, value): (&String, &Value)| {
                object.property(name, schema(value)).required(name)
            };
            fields.iter().fold(object, field).into()
        }
        Value::Array(items) => {
            let item = items.first().map_or_else(|| plain(Type::Object).into(), schema);
            ArrayBuilder::new().items(RefOr::T(item)).into()
        }
        Value::String(_) => plain(Type::String).into(),
        Value::Bool(_) => plain(Type::Boolean).into(),
        Value::Number(_) | Value::Null => {
            let format = SchemaFormat::KnownFormat(KnownFormat::Int64);
            plain(Type::Integer).format(Some(format)).minimum(Some(0)).into()
        }
    }
}
