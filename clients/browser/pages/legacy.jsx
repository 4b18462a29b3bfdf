// A small chat on the legacy `useStream` of @langchain/langgraph-sdk: run streams.

import { useState } from "react";
import { createRoot } from "react-dom/client";
import { useStream } from "@langchain/langgraph-sdk/react";
import { Composer, options, remember, Said } from "./parts.jsx";

function Edit({ stream, message }) {
  const [text, setText] = useState("");
  const checkpoint = stream.getMessagesMetadata(message)?.firstSeenState?.parent_checkpoint;
  if (message.type !== "human" || !checkpoint) return null;
  const edit = () =>
    stream.submit({ messages: [{ type: "human", content: text }] }, { checkpoint });
  return (
    <span className="edit">
      <input value={text} onChange={(event) => setText(event.target.value)} />
      <button onClick={edit}>edit</button>
    </span>
  );
}

function Chat() {
  const [answer, setAnswer] = useState("");
  const [threadId, setThreadId] = useState(options.threadId);
  const stream = useStream({
    ...options,
    threadId,
    onThreadId(created) {
      setThreadId(created);
      remember(created);
    },
    reconnectOnMount: true,
    fetchStateHistory: true,
  });
  const asked = stream.interrupt;
  return (
    <main data-loading={stream.isLoading} data-hydrating={stream.isThreadLoading}>
      <ol>
        {stream.messages.map((message, place) => (
          <Said key={message.id ?? place} type={message.type} text={String(message.content)}>
            <Edit stream={stream} message={message} />
          </Said>
        ))}
      </ol>
      {asked ? (
        <form className="question">
          <p>{JSON.stringify(asked.value)}</p>
          <input value={answer} onChange={(event) => setAnswer(event.target.value)} />
          <button
            type="button"
            onClick={() => stream.submit(undefined, { command: { resume: answer } })}
          >
            answer
          </button>
        </form>
      ) : null}
      {stream.error ? <p className="error">{String(stream.error)}</p> : null}
      <Composer
        send={(text) =>
          stream.submit(
            { messages: [{ type: "human", content: text }] },
            { streamMode: ["messages-tuple"], streamSubgraphs: true },
          )
        }
      />
      <button className="stop" onClick={() => stream.stop()}>
        stop
      </button>
    </main>
  );
}

createRoot(document.getElementById("root")).render(<Chat />);
