// The README's calls with the client that @hey-api/openapi-ts makes of docs/openapi.yaml.
import { client } from "./api/client.gen.js";
import {
  apiConfigCreate,
  chatCreate,
  conversationsCreate,
  conversationsDestroy,
  conversationsHistoryRetrieve,
  conversationsList,
  conversationsPartialUpdate,
  generationsStopCreate,
} from "./api/index.js";

declare const process: { argv: string[] };

client.setConfig({ baseUrl: process.argv[2], throwOnError: true });
const throwOnError = true;

const { session_id } = (await conversationsCreate({ body: { title: "Stories" }, throwOnError })).data;
const path = { session_id };
let generation_id = "";
for (const message of ["hello", "again"]) {
  const reply = (await chatCreate({ body: { message, session_id, stream: false }, throwOnError })).data;
  if (typeof reply !== "object" || !("assistant_reply" in reply)) throw new Error(String(reply));
  generation_id = reply.generation_id;
}
const { messages } = (await conversationsHistoryRetrieve({ path, throwOnError })).data;
const texts: string[] = messages.map((message) => message.content);

const stopped = (await generationsStopCreate({ path: { generation_id }, throwOnError })).data;
if (stopped.status !== "completed") throw new Error(stopped.status);
await conversationsPartialUpdate({ path, body: { title: "A fox" }, throwOnError });
const listed = (await conversationsList({ query: { search: "fox" }, throwOnError })).data;
if (!listed.conversations.some((item) => item.session_id === session_id)) throw new Error("not listed");
await apiConfigCreate({ body: { model_type: "default", max_tokens: 1000 }, throwOnError });

await conversationsDestroy({ path, throwOnError });
const gone = await conversationsHistoryRetrieve({ path, throwOnError: false });
if (gone.error?.code !== "not_found") throw new Error(JSON.stringify(gone.error));
console.log(texts.join(" | "));
