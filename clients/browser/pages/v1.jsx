// A small chat on `useStream` of @langchain/react: event protocol v2 only.

import { useState } from "react";
import { createRoot } from "react-dom/client";
import { useMessageMetadata, useMessages, useStream, useToolCalls } from "@langchain/react";
import { Composer, options, remember, Said } from "./parts.jsx";

function Edit({ stream, message }) {
  const metadata = useMessageMetadata(stream, message.id);
  const parent = metadata?.parentCheckpointId;
  const [text, setText] = useState("");
  if (message.getType() !== "human" || !parent) return null;
  const edit = () =>
    stream.submit({ messages: [{ type: "human", content: text }] }, { forkFrom: parent });
  return (
    <span className="edit">
      <input value={text} onChange={(event) => setText(event.target.value)} />
      <button onClick={edit}>edit</button>
    </span>
  );
}

function Subgraph({ stream, subgraph }) {
  const messages = useMessages(stream, subgraph);
  return (
    <li className="subgraph" data-namespace={subgraph.namespace.join("|")}>
      {messages.map((message) => message.text).join("\n")}
    </li>
  );
}

function Tools({ stream }) {
  return useToolCalls(stream).map((call) => (
    <li className="tool" key={call.id} data-name={call.name} data-status={call.status}>
      {JSON.stringify(call.output ?? null)}
    </li>
  ));
}

function Chat() {
  const [answer, setAnswer] = useState("");
  const stream = useStream({ ...options, onThreadId: remember });
  return (
    <main data-loading={stream.isLoading} data-hydrating={stream.isThreadLoading}>
      <ol>
        {stream.messages.map((message, place) => (
          <Said key={message.id ?? place} type={message.getType()} text={message.text}>
            <Edit stream={stream} message={message} />
          </Said>
        ))}
      </ol>
      <ul>
        <Tools stream={stream} />
        {[...stream.subgraphs.values()].map((subgraph) => (
          <Subgraph key={subgraph.id} stream={stream} subgraph={subgraph} />
        ))}
      </ul>
      {stream.interrupts.map((asked) => (
        <form className="question" key={asked.id}>
          <p>{JSON.stringify(asked.value)}</p>
          <input value={answer} onChange={(event) => setAnswer(event.target.value)} />
          <button type="button" onClick={() => stream.respond(answer, { interruptId: asked.id })}>
            answer
          </button>
        </form>
      ))}
      {stream.error ? <p className="error">{String(stream.error)}</p> : null}
      <Composer send={(text) => stream.submit({ messages: [{ type: "human", content: text }] })} />
      <button className="stop" onClick={() => stream.stop()}>
        stop
      </button>
    </main>
  );
}

createRoot(document.getElementById("root")).render(<Chat />);
