// What both pages share.

import { useState } from "react";

const query = new URLSearchParams(location.search);

/** Where the server is, which assistant, and the thread that the address names. */
export const options = {
  apiUrl: query.get("api"),
  assistantId: query.get("assistant"),
  threadId: query.get("thread") ?? undefined,
};

/** Puts the thread into the address, so that a reload finds it. */
export function remember(threadId) {
  query.set("thread", threadId);
  history.replaceState(null, "", `?${query}`);
}

export function Said({ type, text, children }) {
  return (
    <li className="said" data-type={type}>
      <span className="text">{text}</span>
      {children}
    </li>
  );
}

export function Composer({ send }) {
  const [text, setText] = useState("");
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send(text);
      }}
    >
      <input value={text} onChange={(event) => setText(event.target.value)} />
      <button>send</button>
    </form>
  );
}
