//! Methods and their names in both dialects.

/// Generation of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// 0.3: `kind` fields, words in lower case.
    V03,
    /// 1.0: JSON of Protocol Buffers.
    V1,
}

/// What a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Send,
    Stream,
    Get,
    List,
    Cancel,
    Resubscribe,
    Card,
    /// Anything about push notifications.
    Push,
}

const METHODS: [(&str, Method, Dialect); 22] = [
    ("message/send", Method::Send, Dialect::V03),
    ("message/stream", Method::Stream, Dialect::V03),
    ("tasks/get", Method::Get, Dialect::V03),
    ("tasks/list", Method::List, Dialect::V03),
    ("tasks/cancel", Method::Cancel, Dialect::V03),
    ("tasks/resubscribe", Method::Resubscribe, Dialect::V03),
    (
        "agent/getAuthenticatedExtendedCard",
        Method::Card,
        Dialect::V03,
    ),
    (
        "tasks/pushNotificationConfig/set",
        Method::Push,
        Dialect::V03,
    ),
    (
        "tasks/pushNotificationConfig/get",
        Method::Push,
        Dialect::V03,
    ),
    (
        "tasks/pushNotificationConfig/list",
        Method::Push,
        Dialect::V03,
    ),
    (
        "tasks/pushNotificationConfig/delete",
        Method::Push,
        Dialect::V03,
    ),
    ("SendMessage", Method::Send, Dialect::V1),
    ("SendStreamingMessage", Method::Stream, Dialect::V1),
    ("GetTask", Method::Get, Dialect::V1),
    ("ListTasks", Method::List, Dialect::V1),
    ("CancelTask", Method::Cancel, Dialect::V1),
    ("SubscribeToTask", Method::Resubscribe, Dialect::V1),
    ("GetExtendedAgentCard", Method::Card, Dialect::V1),
    (
        "CreateTaskPushNotificationConfig",
        Method::Push,
        Dialect::V1,
    ),
    ("GetTaskPushNotificationConfig", Method::Push, Dialect::V1),
    ("ListTaskPushNotificationConfigs", Method::Push, Dialect::V1),
    (
        "DeleteTaskPushNotificationConfig",
        Method::Push,
        Dialect::V1,
    ),
];

/// The method of a name, and the dialect that the name belongs to.
pub(super) fn find(name: &str) -> Option<(Method, Dialect)> {
    let found = METHODS.iter().find(|(known, ..)| *known == name);
    found.map(|(_, method, dialect)| (*method, *dialect))
}
