//! `/docs`: the API for people, generated from its OpenAPI document; and `/docs/errors`, the target
//! of every problem's `type`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use minijinja::value::Value as Html;
use minijinja::{Environment, HtmlEscape, context};
use serde_json::Value;

use crate::api::openapi::Document;
use crate::api::problem::CATALOGUE;
use crate::api::state::ApiState;

/// Registers the templates of these pages.
pub(super) fn fit(templates: &mut Environment<'static>) -> Result<(), minijinja::Error> {
    templates.add_template("docs.html", include_str!("docs.html"))?;
    templates.add_template("errors.html", include_str!("errors.html"))?;
    templates.add_filter("prose", |text: &str| Html::from_safe_string(prose(text)));
    Ok(())
}

/// The API for people
///
/// Every operation with its parameters, bodies and answers, written from the OpenAPI document. It
/// loads nothing else.
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "docs_page",
    tag = "pages",
    responses((status = 200, body = String, content_type = "text/html", description = "The page"))
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    Extension(document): Extension<Arc<Document>>,
) -> Response {
    let document = document.value();
    let values = context! {
        info => it(&document["info"]),
        server => it(&document["servers"][0]["url"]),
        groups => groups(document),
        schemes => schemes(document),
        schemas => schemas(document),
    };
    state.pages.render(StatusCode::OK, "docs.html", values, None)
}

/// What each error code means
///
/// Where the `type` of each problem leads: what it means and what to do.
#[utoipa::path(
    get,
    path = "/docs/errors",
    operation_id = "errors_page",
    tag = "pages",
    responses((status = 200, body = String, content_type = "text/html", description = "The page"))
)]
pub(crate) async fn errors(State(state): State<ApiState>) -> Response {
    let kinds: Vec<Html> = CATALOGUE
        .iter()
        .map(|kind| {
            let status = kind.status.as_u16();
            context! { code => kind.code, status, title => kind.title, advice => kind.advice }
        })
        .collect();
    state.pages.render(StatusCode::OK, "errors.html", context! { kinds }, None)
}

/// The operations, grouped by topic.
fn groups(document: &Value) -> Vec<Html> {
    let tags = document["tags"].as_array().into_iter().flatten();
    tags.map(|tag| {
        let name = tag["name"].as_str().unwrap_or_default();
        let operations: Vec<Html> = members(&document["paths"])
            .flat_map(|(path, item)| members(item).map(move |(method, it)| (path, method, it)))
            .filter(|(_, _, operation)| operation["tags"][0] == name)
            .map(|(path, method, operation)| self::operation(path, method, operation, document))
            .collect();
        context! { name, description => it(&tag["description"]), operations }
    })
    .collect()
}

fn operation(path: &str, method: &str, operation: &Value, document: &Value) -> Html {
    let parameters = operation["parameters"].as_array().into_iter().flatten().map(|parameter| {
        context! {
            name => it(&parameter["name"]),
            place => it(&parameter["in"]),
            required => parameter["required"] == true,
            kind => kind(&parameter["schema"]),
            rules => rules(&parameter["schema"]),
            description => it(&parameter["description"]),
        }
    });
    let bodies = members(&operation["requestBody"]["content"])
        .map(|(media, body)| context! { media, kind => kind(&body["schema"]) });
    let responses = members(&operation["responses"]).map(|(status, response)| {
        let response = match response["$ref"].as_str() {
            Some(path) => document.pointer(&path[1..]).unwrap_or(response),
            None => response,
        };
        let contents = members(&response["content"])
            .map(|(media, body)| context! { media, kind => kind(&body["schema"]) });
        let contents: Vec<Html> = contents.collect();
        context! { status, description => it(&response["description"]), contents }
    });
    let security = operation["security"].as_array().into_iter().flatten();
    let security =
        security.flat_map(members).map(|(name, scopes)| context! { name, scopes => it(scopes) });
    context! {
        id => it(&operation["operationId"]),
        method => method.to_uppercase(),
        path,
        summary => it(&operation["summary"]),
        description => it(&operation["description"]),
        security => security.collect::<Vec<_>>(),
        parameters => parameters.collect::<Vec<_>>(),
        bodies => bodies.collect::<Vec<_>>(),
        responses => responses.collect::<Vec<_>>(),
    }
}

fn schemes(document: &Value) -> Vec<Html> {
    members(&document["components"]["securitySchemes"])
        .map(|(name, scheme)| context! { name, description => it(&scheme["description"]) })
        .collect()
}

/// The schemas of requests and answers.
fn schemas(document: &Value) -> Vec<Html> {
    members(&document["components"]["schemas"])
        .map(|(name, schema)| {
            let required = schema["required"].as_array();
            let is_required =
                |name: &str| required.is_some_and(|names| names.iter().any(|one| one == name));
            let parts = schema["allOf"].as_array().into_iter().flatten().chain([schema]);
            let fields =
                parts.flat_map(|part| members(&part["properties"])).map(|(name, field)| {
                    context! {
                        name,
                        required => is_required(name),
                        kind => kind(field),
                        rules => rules(field),
                        description => it(&field["description"]),
                    }
                });
            let fields: Vec<Html> = fields.collect();
            let (kind, rules) = (kind(schema), rules(schema));
            context! { name, description => it(&schema["description"]), kind, rules, fields }
        })
        .collect()
}

/// A part of the document, as templates take it.
fn it(value: &Value) -> Html {
    Html::from(minijinja::value::Serde(value))
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, member)| (name.as_str(), member))
}

/// The type of a value: a word, with a link to its schema if that has a name.
fn kind(schema: &Value) -> Html {
    let name = |schema: &Value| Some(schema["$ref"].as_str()?.rsplit('/').next()?.to_owned());
    let one_of = schema["oneOf"].as_array().into_iter().flatten();
    let named = name(schema).or_else(|| one_of.map(name).find_map(|name| name));
    if let Some(link) = named {
        return context! { link };
    }
    let words: Vec<&str> = match &schema["type"] {
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
        word => word.as_str().into_iter().collect(),
    };
    let is_list = words.contains(&"array");
    let text = words.join(" or ");
    if is_list {
        let items = kind(&schema["items"]);
        return context! { text, items };
    }
    context! { text }
}

/// The constraints of a value, in words.
fn rules(schema: &Value) -> Vec<String> {
    const WORDS: [(&str, &str); 11] = [
        ("format", "format"),
        ("pattern", "pattern"),
        ("minLength", "characters at least"),
        ("maxLength", "characters at most"),
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("minItems", "entries at least"),
        ("maxItems", "entries at most"),
        ("maxProperties", "members at most"),
        ("default", "if absent"),
        ("enum", "one of"),
    ];
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        value => value.to_string(),
    };
    let rule = |(key, words): (&str, &str)| Some(format!("{words} `{}`", shown(schema.get(key)?)));
    WORDS.into_iter().filter_map(rule).collect()
}

/// Renders the minimal Markdown of descriptions as HTML: paragraphs, `code` and **strong**.
fn prose(text: &str) -> String {
    let mut html = String::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let code = |(index, part): (usize, &str)| {
            let part = HtmlEscape(part).to_string();
            if index % 2 == 1 { format!("<code>{part}</code>") } else { strong(&part) }
        };
        let parts: String = paragraph.split('`').enumerate().map(code).collect();
        html.extend(["<p>", &parts, "</p>"]);
    }
    html
}

fn strong(text: &str) -> String {
    let tag = |(index, part): (usize, &str)| {
        if index % 2 == 1 { format!("<strong>{part}</strong>") } else { part.to_owned() }
    };
    text.split("**").enumerate().map(tag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_escaped() {
        assert_eq!(
            prose("**A** `<b>` & c\n\nd"),
            "<p><strong>A</strong> <code>&lt;b&gt;</code> &amp; c</p><p>d</p>"
        );
    }
}
