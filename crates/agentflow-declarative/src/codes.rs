//! Codes of mistakes in graph files; each has a page under `docs/errors/`.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $code;)*
        /// All codes of this crate.
        pub const ALL: &[&str] = &[$($code),*];
    };
}

codes! {
    /// The text is not YAML.
    SYNTAX = "AF0101";
    /// The file is too large, too deep, or has too many parts.
    LIMIT = "AF0102";
    /// A key stands twice in the same map.
    DUPLICATE_KEY = "AF0103";
    /// A field that the format does not have.
    UNKNOWN_FIELD = "AF0104";
    /// A field that the format demands is absent.
    MISSING_FIELD = "AF0105";
    /// A value of the wrong type or out of range.
    WRONG_TYPE = "AF0106";
    /// A word that is not one of those allowed here.
    UNKNOWN_WORD = "AF0107";
    /// A feature of YAML that graph files do not use: aliases, tags, several documents.
    UNSUPPORTED_YAML = "AF0108";
    /// A version of the format that this program does not read.
    VERSION = "AF0109";
    /// A node that does not exist.
    UNKNOWN_NODE = "AF0110";
    /// A node that nothing leads to.
    UNREACHABLE = "AF0111";
    /// Nothing follows START.
    NO_START = "AF0112";
    /// An edge that makes no sense.
    BAD_EDGE = "AF0113";
    /// A name that is reserved or used for something else.
    BAD_NAME = "AF0114";
    /// A field of the state that is not declared.
    UNKNOWN_STATE_FIELD = "AF0115";
    /// Two nodes that run side by side write a field that has no reducer.
    PARALLEL_WRITES = "AF0116";
    /// An expression that does not parse.
    BAD_EXPRESSION = "AF0117";
    /// An expression names a variable or function that does not exist.
    UNKNOWN_IN_EXPRESSION = "AF0118";
    /// A template that does not parse.
    BAD_TEMPLATE = "AF0119";
    /// A template names a variable that does not exist.
    UNKNOWN_IN_TEMPLATE = "AF0120";
    /// A tool that does not exist.
    UNKNOWN_TOOL = "AF0121";
    /// A model that the configuration does not know.
    UNKNOWN_MODEL = "AF0122";
    /// A model or tool node without a field of messages.
    NO_MESSAGES_FIELD = "AF0123";
    /// A graph file inside another cannot be used.
    BAD_SUBGRAPH = "AF0124";
    /// A URL or a rule about hosts that cannot work.
    BAD_URL = "AF0125";
    /// A JSON Schema that is not one.
    BAD_SCHEMA = "AF0126";
    /// A reducer or default that does not fit the type of its field.
    BAD_STATE_FIELD = "AF0127";
    /// Settings that contradict each other.
    CONTRADICTION = "AF0128";
    /// The parts are right, but the graph library refuses the whole.
    REFUSED = "AF0129";
    /// A node needs long-term memory, and the program keeps none.
    NO_MEMORY = "AF0131";
    /// The file cannot be read.
    UNREADABLE = "AF0130";
}
