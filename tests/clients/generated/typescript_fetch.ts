// The README's calls with the types that openapi-typescript makes of docs/openapi.yaml, through openapi-fetch.
import createClient from "openapi-fetch";

import type { components, paths } from "./api.js";

declare const process: { argv: string[] };

// `/chat` answers as JSON or as a stream: a client of JSON alone has the type of that answer.
const headers = { Accept: "application/json" };
const api = createClient<paths, "application/json" | "application/problem+json">({ baseUrl: process.argv[2], headers });
const streams = createClient<paths, "text/event-stream">({ baseUrl: process.argv[2] });

function must<Data>(result: { data?: Data; error?: unknown }): Data {
  if (result.data === undefined) throw new Error(JSON.stringify(result.error));
  return result.data;
}

const { session_id } = must(await api.POST("/conversations", { body: { title: "Stories" } }));
const path = { session_id };
const replies: components["schemas"]["Reply"][] = [];
for (const message of ["hello", "again"]) {
  replies.push(must(await api.POST("/chat", { body: { message, session_id } })));
}
const { messages } = must(await api.GET("/conversations/{session_id}/history", { params: { path } }));
const texts: string[] = messages.map((message) => message.content);

const generation = { params: { path: { generation_id: replies[0].generation_id } } };
const state = must(await api.GET("/generations/{generation_id}", generation));
if (state.status !== "completed" || state.usage === null) throw new Error(JSON.stringify(state));
must(await api.POST("/generations/{generation_id}/stop", generation));

const changed = must(await api.PATCH("/conversations/{session_id}", { params: { path }, body: { title: "A fox" } }));
const listed = must(await api.GET("/conversations", { params: { query: { search: "fox" } } }));
if (!listed.conversations.some((item) => item.title === changed.title)) throw new Error("not listed");
must(await api.POST("/api/config", { body: { model_type: "default", max_tokens: 1000 } }));

// A stream, by hand: its events have a type of their own.
type Data = components["schemas"]["StreamData"];
const streamed = must(await streams.POST("/chat", { body: { message: "again" }, parseAs: "text" }));
const events: Data[] = streamed
  .split("\n")
  .filter((line) => line.startsWith("data: "))
  .map((line) => JSON.parse(line.slice(6)));
const last = events[events.length - 1];
if (!("done" in last) || last.status !== "completed") throw new Error(streamed);

must(await api.DELETE("/conversations/{session_id}", { params: { path } }));
const gone = await api.GET("/conversations/{session_id}/history", { params: { path } });
if (gone.error?.code !== "not_found") throw new Error(JSON.stringify(gone.error));
console.log(texts.join(" | "));
