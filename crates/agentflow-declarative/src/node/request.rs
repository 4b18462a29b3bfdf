//! The kind `http`, and the tools that a file declares with HTTP requests.

use std::{sync::Arc, time::Duration};

use agentflow_types::{Error, Map, Result, Value};
use async_trait::async_trait;
use reqwest::{
    Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde_json::{Value as Json, json};

use super::{Built, Target, assign};
use crate::{
    codes,
    dynamic::Dynamic,
    expression::Expression,
    file::{HttpNode, HttpTool, Method, Request},
    http::{Http, Outgoing, Reach, Rules, header_pair},
    scope::Scope,
    template::{Escape, Template},
    tool::{Tool, ToolContext},
    variables::Variables,
};

/// A request whose parts are not computed yet.
#[derive(Clone)]
pub(crate) struct Compiled {
    method: reqwest::Method,
    url: Template,
    query: Vec<(String, Dynamic)>,
    headers: Vec<(String, Template)>,
    body: Option<Dynamic>,
    rules: Rules,
    accepts_errors: bool,
}

/// Compiles a request that stands at `path`.
pub(crate) fn compile(
    scope: &Scope<'_>,
    path: &[&str],
    request: &Request,
    extras: &[&str],
) -> Option<Compiled> {
    let below = |name: &'static str| -> Vec<&str> { path.iter().copied().chain([name]).collect() };
    check_url(scope, &below("url"), request);
    let url = scope.template(&below("url"), &request.url, Escape::Url, extras);
    let query = request.query.iter().map(|(name, value)| {
        let path: Vec<&str> = below("query").into_iter().chain([name.as_str()]).collect();
        (name.clone(), scope.dynamic(&path, value, extras))
    });
    let query = query.collect();
    let mut headers = Vec::with_capacity(request.headers.len());
    for (name, text) in &request.headers {
        let path: Vec<&str> = below("headers")
            .into_iter()
            .chain([name.as_str()])
            .collect();
        if header_pair(name, "").is_err() {
            let message = format!("`{name}` is not the name of a header");
            scope.error(codes::BAD_URL, scope.key(&path), message, None);
        }
        if let Some(template) = scope.template(&path, text, Escape::None, extras) {
            headers.push((name.clone(), template));
        }
    }
    let body = request
        .body
        .as_ref()
        .map(|body| scope.dynamic(&below("body"), body, extras));
    Some(Compiled {
        method: method(request.method),
        url: url?,
        query,
        headers,
        body,
        rules: rules(request),
        accepts_errors: request.accept_errors,
    })
}

fn method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
        Method::Head => reqwest::Method::HEAD,
    }
}

fn rules(request: &Request) -> Rules {
    let default = Rules::default();
    Rules {
        allow_hosts: request.allow_hosts.clone(),
        deny_hosts: request.deny_hosts.clone(),
        reach: if request.allow_private {
            Reach::Any
        } else {
            Reach::Public
        },
        max_bytes: request.max_bytes.unwrap_or(default.max_bytes),
        max_redirects: request.max_redirects.unwrap_or(default.max_redirects),
        timeout: default.timeout,
    }
}

/// Reports a URL that can never be asked: the part before the first template decides.
fn check_url(scope: &Scope<'_>, path: &[&str], request: &Request) {
    let fixed = request.url.split("{{").next().unwrap_or_default();
    let is_whole = fixed.len() == request.url.len();
    if !fixed.is_empty() && !fixed.starts_with("http://") && !fixed.starts_with("https://") {
        let message = "the url must begin with `http://` or `https://`";
        scope.error(codes::BAD_URL, scope.at(path), message, None);
        return;
    }
    if !is_whole {
        return;
    }
    let parsed = Url::parse(&request.url);
    let refused = match &parsed {
        Ok(url) => rules(request)
            .check(url)
            .err()
            .map(|error| error.to_string()),
        Err(error) => Some(format!("not a url: {error}")),
    };
    if let Some(why) = refused {
        scope.error(codes::BAD_URL, scope.at(path), why, None);
    }
}

impl Compiled {
    /// The request with these variables.
    fn outgoing(&self, variables: &Variables<'_>) -> Result<Outgoing> {
        let text = self.url.render(variables)?;
        let mut url = Url::parse(text.trim()).map_err(|error| {
            Error::invalid("the url is not valid")
                .with("url", text)
                .source_err(error)
        })?;
        if !self.query.is_empty() {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in &self.query {
                match value.value(variables)? {
                    Value::Null => {}
                    Value::Str(text) => drop(pairs.append_pair(name, &text)),
                    other => drop(pairs.append_pair(name, &other.json_text())),
                }
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let (name, value) = header_pair(name, &value.render(variables)?)?;
            headers.insert(name, value);
        }
        let body = match &self.body {
            None => None,
            Some(body) => Some(match body.value(variables)? {
                Value::Str(text) => text.as_bytes().to_vec(),
                other => {
                    let json = HeaderValue::from_static("application/json");
                    headers.entry(CONTENT_TYPE).or_insert(json);
                    other.json_text().into_bytes()
                }
            }),
        };
        Ok(Outgoing {
            method: self.method.clone(),
            url,
            headers,
            body,
        })
    }

    /// Sends the request; the answer as `response` is in expressions, and its content.
    async fn send(
        &self,
        http: &Http,
        variables: &Variables<'_>,
        cancel: &tokio_util::sync::CancellationToken,
    ) -> Result<(Value, Value)> {
        let outgoing = self.outgoing(variables)?;
        let answer = http.send(outgoing, &self.rules, cancel).await?;
        let answer = if self.accepts_errors {
            answer
        } else {
            answer.accepted()?
        };
        Ok((answer.to_value(), answer.content()))
    }
}

/// Compiles an `http` node.
pub(crate) fn build(
    scope: &Scope<'_>,
    name: &str,
    spec: &HttpNode,
    extras: &[&str],
) -> Option<Built> {
    let mut compiled = compile(scope, &["nodes", name], &spec.request, extras);
    if let (Some(compiled), Some(seconds)) = (&mut compiled, spec.options.timeout_seconds) {
        compiled.rules.timeout = Duration::from_secs_f64(seconds);
    }
    let output_path = ["nodes", name, "output"];
    let output = match &spec.output {
        Some(field) => Target::find(scope, &output_path, field).map(Some),
        None => Some(None),
    };
    let with_response: Vec<&str> = extras.iter().copied().chain(["response"]).collect();
    let mapped = scope.assignments(&["nodes", name, "response"], &spec.response, &with_response);
    let (compiled, output) = (Arc::new(compiled?), output?);
    let http = scope.session.environment.http.clone();
    let writes = spec
        .output
        .iter()
        .chain(spec.response.keys())
        .cloned()
        .collect();
    Some(Built::new(writes, move |state, context| {
        let (compiled, http) = (compiled.clone(), http.clone());
        let (output, mapped) = (output.clone(), mapped.clone());
        async move {
            let variables = Variables::of_node(&state, &context);
            let (response, content) = compiled
                .send(&http, &variables, context.cancelled())
                .await?;
            let mut update = Map::new();
            if let Some(output) = &output {
                output.write(content, &mut update);
            }
            assign(&mapped, &variables.with("response", response), &mut update)?;
            Ok(update.into())
        }
    }))
}

/// A tool that sends a request.
struct RequestTool {
    name: String,
    description: String,
    parameters: Json,
    /// Names of the arguments; absent ones are null in templates.
    request: Compiled,
    result: Option<Expression>,
    http: Http,
}

/// Compiles a declared tool that stands at `path`.
pub(crate) fn tool(
    scope: &Scope<'_>,
    path: &[&str],
    name: &str,
    spec: &HttpTool,
) -> Option<Arc<dyn Tool>> {
    let below = |name: &'static str| -> Vec<&str> { path.iter().copied().chain([name]).collect() };
    let parameters = match &spec.args {
        Some(schema) => scope.json_schema(&below("args"), schema),
        None => json!({"type": "object", "properties": {}}),
    };
    let properties = parameters.get("properties").and_then(Json::as_object);
    let args: Vec<&str> = properties
        .into_iter()
        .flat_map(|map| map.keys().map(String::as_str))
        .collect();
    let mut request = compile(scope, path, &spec.request, &args);
    let with_response: Vec<&str> = args.iter().copied().chain(["response"]).collect();
    let result = match &spec.result {
        Some(text) => scope
            .expression(&below("result"), text, &with_response)
            .map(Some),
        None => Some(None),
    };
    if let (Some(request), Some(seconds)) = (&mut request, spec.timeout_seconds) {
        request.rules.timeout = Duration::from_secs_f64(seconds);
    }
    Some(Arc::new(RequestTool {
        name: name.to_owned(),
        description: spec.description.clone(),
        request: request?,
        result: result?,
        http: scope.session.environment.http.clone(),
        parameters,
    }))
}

#[async_trait]
impl Tool for RequestTool {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn parameters(&self) -> Json {
        self.parameters.clone()
    }

    async fn call(&self, args: Value, context: ToolContext) -> Result<Value> {
        // Only the arguments are visible: what the state holds must not leak into a request that
        // the model shapes.
        let map = args.as_map().cloned().unwrap_or_default();
        let extras = map
            .iter()
            .map(|(name, value)| (&**name, value.clone()))
            .collect();
        let variables = Variables::only(extras);
        let (response, content) = self
            .request
            .send(&self.http, &variables, &context.cancel)
            .await?;
        match &self.result {
            Some(result) => result.value(&variables.with("response", response)),
            None => Ok(content),
        }
    }
}
