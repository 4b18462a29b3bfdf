//! Tools: what a model may call, and what a node may run by name.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use agentflow_graph::NodeContext;
use agentflow_models::ToolSpec;
use agentflow_types::{Clock, Error, Result, SystemClock, Timestamp, Value};
use async_trait::async_trait;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::{expression::Expression, shape, variables::Variables};

/// Something that can be called with arguments.
#[async_trait]
pub trait Tool: Send + Sync {
    /// Name: letters, digits, `_` and `-`, up to 64 of them, as model providers demand.
    fn name(&self) -> &str;

    /// What it does, for the model.
    fn description(&self) -> &str;

    /// JSON Schema of the arguments, a map. Calls that do not fit are refused before they reach
    /// [`Tool::call`].
    fn parameters(&self) -> Json;

    /// Runs. The result is text for the model, or a value that becomes JSON text.
    ///
    /// # Errors
    /// Whatever went wrong; the model reads the message.
    async fn call(&self, args: Value, context: ToolContext) -> Result<Value>;

    /// Runs, for tools whose result is one thing for the model and another for the graph.
    ///
    /// # Errors
    /// As [`Tool::call`].
    async fn answer(&self, args: Value, context: ToolContext) -> Result<Answer> {
        Ok(Answer {
            content: self.call(args, context).await?,
            artifact: Value::Null,
        })
    }
}

/// The result of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Text for the model, or a value that becomes JSON text.
    pub content: Value,
    /// The same as a value for the graph; null if it is `content`.
    pub artifact: Value,
}

impl Answer {
    /// What a graph gets.
    #[must_use]
    pub fn value(self) -> Value {
        match self.artifact {
            Value::Null => self.content,
            artifact => artifact,
        }
    }
}

/// A tool that can be shared.
pub type SharedTool = Arc<dyn Tool>;

/// Tools that are known only while a graph runs, for example those of an MCP server.
#[async_trait]
pub trait ToolSource: Send + Sync {
    /// The tools that there are now: each with its name at the source, which its name for models
    /// may differ from.
    ///
    /// # Errors
    /// If the source cannot be asked.
    async fn tools(&self) -> Result<Vec<(String, SharedTool)>>;
}

/// A source that can be shared.
pub type SharedSource = Arc<dyn ToolSource>;

/// What a tool knows about its call.
#[derive(Clone)]
pub struct ToolContext {
    /// Id of the call, as the model gave it; the task's id for a call by name.
    pub call_id: String,
    /// Fires when the run is cancelled.
    pub cancel: CancellationToken,
    /// The node that runs the tool; `None` outside a graph.
    pub node: Option<NodeContext>,
}

impl ToolContext {
    /// The context of a call in a graph.
    #[must_use]
    pub fn of_node(node: &NodeContext, call_id: &str) -> Self {
        let cancel = node.cancelled().clone();
        Self {
            call_id: call_id.to_owned(),
            cancel,
            node: Some(node.clone()),
        }
    }

    fn now(&self) -> Timestamp {
        match &self.node {
            Some(node) => node.clock().now(),
            None => SystemClock.now(),
        }
    }
}

/// Tools by name, and sources of tools by name.
#[derive(Clone, Default)]
pub struct Tools {
    tools: BTreeMap<String, SharedTool>,
    sources: BTreeMap<String, SharedSource>,
}

impl Tools {
    /// No tools.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The tools of this crate: `calculator` and `current_time`.
    #[must_use]
    pub fn builtin() -> Self {
        let mut tools = Self::none();
        tools.add(Arc::new(Calculator)).add(Arc::new(CurrentTime));
        tools
    }

    /// Adds a tool; one of the same name is replaced.
    pub fn add(&mut self, tool: SharedTool) -> &mut Self {
        self.tools.insert(tool.name().to_owned(), tool);
        self
    }

    /// Adds a source. Files name it to use all its tools, or `source.tool` to use one.
    pub fn add_source(&mut self, name: &str, source: SharedSource) -> &mut Self {
        self.sources.insert(name.to_owned(), source);
        self
    }

    /// The source of a name.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&SharedSource> {
        self.sources.get(name)
    }

    /// Adds a tool made of a function.
    ///
    /// ```
    /// use agentflow_declarative::Tools;
    /// use agentflow_types::{Value, value};
    /// use serde_json::json;
    ///
    /// let mut tools = Tools::builtin();
    /// tools.function(
    ///     "double",
    ///     "Doubles a number.",
    ///     json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}),
    ///     |args: Value, _context| async move {
    ///         let n = args.get("n").and_then(Value::as_i64).unwrap_or_default();
    ///         Ok(Value::Int(n * 2))
    ///     },
    /// );
    /// assert!(tools.get("double").is_some());
    /// ```
    pub fn function<F, Fut>(
        &mut self,
        name: &str,
        description: &str,
        parameters: Json,
        body: F,
    ) -> &mut Self
    where
        F: Fn(Value, ToolContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Value>> + Send + 'static,
    {
        self.add(Arc::new(FunctionTool {
            name: name.to_owned(),
            description: description.to_owned(),
            parameters,
            body: Box::new(move |args, context| Box::pin(body(args, context))),
        }))
    }

    /// The tool of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&SharedTool> {
        self.tools.get(name)
    }

    /// The names of tools and sources.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        let sources = self.sources.keys().map(String::as_str);
        self.tools.keys().map(String::as_str).chain(sources)
    }
}

/// What a model is told about a tool.
pub(crate) fn spec(tool: &dyn Tool) -> ToolSpec {
    ToolSpec {
        name: tool.name().to_owned(),
        description: tool.description().to_owned(),
        parameters: Value::from_json(&tool.parameters()),
    }
}

/// Calls a tool with arguments that were checked.
///
/// # Errors
/// `Invalid` if the arguments do not fit, otherwise the tool's error.
pub(crate) async fn call(tool: &dyn Tool, args: Value, context: ToolContext) -> Result<Answer> {
    let args = if args.is_null() {
        Value::map(agentflow_types::Map::new())
    } else {
        args
    };
    if args.as_map().is_none() {
        return Err(Error::invalid("the arguments are not a map"));
    }
    if let Some(problem) = shape::mismatch(&tool.parameters(), &args) {
        return Err(Error::invalid(format!(
            "the arguments do not fit: {problem}"
        )));
    }
    tool.answer(args, context).await
}

type Body = Box<
    dyn Fn(Value, ToolContext) -> Pin<Box<dyn Future<Output = Result<Value>> + Send>> + Send + Sync,
>;

struct FunctionTool {
    name: String,
    description: String,
    parameters: Json,
    body: Body,
}

#[async_trait]
impl Tool for FunctionTool {
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
        (self.body)(args, context).await
    }
}

/// A tool under another name or description.
pub(crate) struct Renamed {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) tool: SharedTool,
}

#[async_trait]
impl Tool for Renamed {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> &str {
        self.description
            .as_deref()
            .unwrap_or_else(|| self.tool.description())
    }

    fn parameters(&self) -> Json {
        self.tool.parameters()
    }

    async fn call(&self, args: Value, context: ToolContext) -> Result<Value> {
        self.tool.call(args, context).await
    }

    async fn answer(&self, args: Value, context: ToolContext) -> Result<Answer> {
        self.tool.answer(args, context).await
    }
}

/// Computes arithmetic with CEL.
struct Calculator;

#[async_trait]
impl Tool for Calculator {
    fn name(&self) -> &str {
        "calculator"
    }

    fn description(&self) -> &str {
        "Computes an arithmetic expression, for example `(2 + 3) * 4.5` or `math.greatest(1, 7)`."
    }

    fn parameters(&self) -> Json {
        json!({
            "type": "object",
            "properties": {
                "expression": {"type": "string", "description": "The expression, in CEL."},
            },
            "required": ["expression"],
        })
    }

    async fn call(&self, args: Value, _context: ToolContext) -> Result<Value> {
        let text = args
            .get("expression")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let expression = Expression::compile(text, |_| false)
            .map_err(|mistake| Error::invalid(mistake.message))?;
        if let Some(name) = expression.variables().first() {
            return Err(Error::invalid("the expression may hold only numbers").with("found", name));
        }
        let value = expression.value(&Variables::only(Vec::new()))?;
        Ok(Value::from(value.to_string()))
    }
}

/// Tells the time.
struct CurrentTime;

#[async_trait]
impl Tool for CurrentTime {
    fn name(&self) -> &str {
        "current_time"
    }

    fn description(&self) -> &str {
        "Tells the current date and time, in UTC or in a time zone such as Europe/Zurich."
    }

    fn parameters(&self) -> Json {
        json!({
            "type": "object",
            "properties": {
                "timezone": {"type": "string", "description": "IANA name of the time zone."},
            },
        })
    }

    async fn call(&self, args: Value, context: ToolContext) -> Result<Value> {
        let moment = jiff::Timestamp::from_microsecond(context.now().micros())
            .map_err(|error| Error::failed("the clock is wrong").source_err(error))?;
        let zone = args
            .get("timezone")
            .and_then(Value::as_str)
            .unwrap_or("UTC");
        let zoned = moment.in_tz(zone).map_err(|error| {
            Error::invalid("the time zone is not known")
                .with("timezone", zone)
                .source_err(error)
        })?;
        Ok(Value::from(
            zoned.strftime("%A, %Y-%m-%d %H:%M:%S %:z").to_string(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    async fn run(name: &str, args: Value) -> Result<Value> {
        let tools = Tools::builtin();
        let tool = tools.get(name).unwrap().clone();
        let context = ToolContext {
            call_id: "1".into(),
            cancel: CancellationToken::new(),
            node: None,
        };
        call(&*tool, args, context).await.map(Answer::value)
    }

    #[tokio::test]
    async fn the_calculator_computes_and_refuses() {
        let args = value!({"expression": "(2 + 3) * 4"});
        assert_eq!(run("calculator", args).await.unwrap(), value!("20"));
        let args = value!({"expression": "secret + 1"});
        assert!(
            run("calculator", args)
                .await
                .unwrap_err()
                .to_string()
                .contains("secret")
        );
        let error = run("calculator", value!({"expression": 1}))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("expression: expected text"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn the_time_has_a_zone() {
        let utc = run("current_time", Value::Null).await.unwrap();
        assert!(utc.as_str().unwrap().ends_with("+00:00"), "{utc}");
        let error = run("current_time", value!({"timezone": "Mars/Base"}))
            .await
            .unwrap_err();
        assert_eq!(error.message(), "the time zone is not known");
    }
}
