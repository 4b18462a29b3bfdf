//! The declaration of an MCP server.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Fields;

/// The tools of an MCP server: a program that is started (`command`), or a URL.
///
/// A list of tools names all of them by the name of this declaration, or one as `name.tool`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct McpTools {
    /// Program that is started and talks over its standard input and output.
    pub command: Option<String>,
    /// Arguments of the program.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment of the program; `${NAME}` is an environment variable, or the file that
    /// `NAME_FILE` names. Nothing else of ours is passed on but `PATH`, `HOME` and the like.
    #[serde(default)]
    pub env: Fields<String>,
    /// Folder of the program, relative to this file; the folder of this file if absent.
    pub cwd: Option<String>,
    /// URL of a server that speaks streamable HTTP.
    pub url: Option<String>,
    /// Headers of each request; `${NAME}` as in `env`.
    #[serde(default)]
    pub headers: Fields<String>,
    /// Tools of the server that may be used, by their names there; all if absent.
    pub tools: Option<Vec<String>>,
    /// Text before the names of the tools, to tell those of several servers apart.
    pub prefix: Option<String>,
    /// Longest time of one call in seconds; 60 if absent.
    #[schemars(range(min = 0.001, max = 86400))]
    pub timeout_seconds: Option<f64>,
    /// Longest time for starting and connecting in seconds; 30 if absent.
    #[schemars(range(min = 0.001, max = 3600))]
    pub start_timeout_seconds: Option<f64>,
    /// Most bytes of a result; 1 MiB if absent.
    #[schemars(range(min = 1, max = 67108864))]
    pub max_bytes: Option<usize>,
    /// Most calls at once; 16 if absent.
    #[schemars(range(min = 1, max = 1024))]
    pub max_calls: Option<usize>,
}
